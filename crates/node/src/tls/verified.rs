//! What was verified before: chains of certificates whose signatures held, and when they are valid.
//!
//! Refuses to know revocation, which is asked each time, and trust: it belongs to one set of trusted CAs and revocation
//! lists, and goes with them.

use crate::certificate::{self, Fingerprint};
use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

/// Chains remembered before the older half is forgotten: a fleet of twice as many that reconnects in turn verifies
/// nothing twice, for less than 4 MiB.
const REMEMBERED: usize = 16_384;
/// Certificates of a chain worth remembering: whoever adds others to his own does not crowd out the fleet.
const LONGEST: usize = 3;

/// First and last second of validity, since the Unix epoch.
pub(super) type Validity = (i64, i64);

/// Verified chains by SHA-256 of all their certificates. A device that keeps no ticket shows the same one at each
/// connection, and to verify an ECDSA signature costs a sixth of a handshake.
#[derive(Debug, Default)]
pub(super) struct Verified {
    halves: Mutex<Halves>,
    /// The intermediate that was read last, and when it is valid: most devices of a fleet have the same.
    issuer: Mutex<Option<(Box<[u8]>, Validity)>>,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Fingerprint, Validity>,
    old: HashMap<Fingerprint, Validity>,
}

impl Verified {
    /// Whether just these certificates were verified before, and all of them are valid `now`.
    pub fn holds(&self, chain: &Fingerprint, now: UnixTime) -> bool {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let found = halves.young.get(chain).copied();
        let Some((first, last)) = found.or_else(|| {
            let validity = halves.old.remove(chain)?;
            halves.remember(*chain, validity);
            Some(validity)
        }) else {
            return false;
        };
        i64::try_from(now.as_secs()).is_ok_and(|now| (first..=last).contains(&now))
    }

    /// A leaf with that validity and these intermediates have been verified.
    pub fn remember(&self, chain: Fingerprint, leaf: Validity, intermediates: &[CertificateDer<'_>]) {
        if intermediates.len() >= LONGEST {
            return;
        }
        let validity = intermediates.iter().try_fold(leaf, |(first, last), der| {
            let (from, to) = self.validity(der)?;
            Some((first.max(from), last.min(to)))
        });
        if let Some(validity) = validity {
            let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
            halves.remember(chain, validity);
        }
    }

    fn validity(&self, intermediate: &[u8]) -> Option<Validity> {
        let mut issuer = self.issuer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, validity)) = issuer.as_ref().filter(|(der, _)| **der == *intermediate) {
            return Some(*validity);
        }
        let validity = certificate::validity(intermediate)?;
        *issuer = Some((intermediate.into(), validity));
        Some(validity)
    }
}

impl Halves {
    fn remember(&mut self, chain: Fingerprint, validity: Validity) {
        if self.young.len() >= REMEMBERED {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(chain, validity);
    }
}

/// SHA-256 over the certificates, each with its length: no other list of certificates has it.
pub(super) fn digest(certificates: &[&CertificateDer<'_>]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for der in certificates {
        context.update(&(der.len() as u64).to_be_bytes());
        context.update(der);
    }
    let mut digest = Fingerprint::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::{Duration, SystemTime};

    fn at(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(second))
    }

    fn chain(number: u32) -> Fingerprint {
        let mut chain = [7; 32];
        chain[..4].copy_from_slice(&number.to_be_bytes());
        chain
    }

    fn note(verified: &Verified, number: u32, validity: Validity) {
        let mut halves = verified.halves.lock().unwrap();
        halves.remember(chain(number), validity);
    }

    #[test]
    fn a_chain_holds_from_its_first_to_its_last_second() {
        let verified = Verified::default();
        note(&verified, 1, (100, 200));
        let held = [99, 100, 200, 201].map(|second| verified.holds(&chain(1), at(second)));
        assert_eq!(held, [false, true, true, false]);
        assert!(!verified.holds(&chain(2), at(150)), "another one was never verified");
        assert!(!verified.holds(&chain(1), at(u64::MAX)));
    }

    #[test]
    fn those_who_come_again_are_remembered_and_there_is_an_end_to_it() {
        let verified = Verified::default();
        for number in 0..10 * REMEMBERED as u32 {
            note(&verified, number, (0, 10));
            assert!(verified.holds(&chain(0), at(5)), "it came again all the time");
        }
        let halves = verified.halves.lock().unwrap();
        assert!(halves.young.len() + halves.old.len() <= 2 * REMEMBERED);
    }

    #[test]
    fn no_two_lists_of_certificates_are_taken_for_each_other() {
        let certificates = [b"ab".to_vec(), b"c".to_vec(), b"a".to_vec(), b"bc".to_vec()];
        let [ab, c, a, bc] = certificates.map(CertificateDer::from);
        assert_eq!(digest(&[&ab, &c]), digest(&[&ab, &c]));
        for other in [vec![&a, &bc], vec![&c, &ab], vec![&ab], vec![&ab, &c, &c]] {
            assert_ne!(digest(&[&ab, &c]), digest(&other));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        let verified = Verified::default();
        verified.remember(chain(1), (0, 10), &[CertificateDer::from(b"no certificate".to_vec())]);
        assert!(!verified.holds(&chain(1), at(5)));
    }

    fn intermediate(first: u64, last: u64) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::default();
        parameters.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(first)).into();
        parameters.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(last)).into();
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_chain_is_valid_while_all_of_its_certificates_are() {
        let verified = Verified::default();
        let (one, other) = (intermediate(100, 200), intermediate(120, 180));
        // The first once more, when another has been read in between.
        let cases = [
            (vec![], [50, 250]),
            (vec![one.clone()], [100, 200]),
            (vec![other.clone()], [120, 180]),
            (vec![one.clone(), other], [120, 180]),
            (vec![one], [100, 200]),
        ];
        for (number, (intermediates, [first, last])) in (0..).zip(cases) {
            verified.remember(chain(number), (50, 250), &intermediates);
            let held = [first - 1, first, last, last + 1].map(|second| verified.holds(&chain(number), at(second)));
            assert_eq!(held, [false, true, true, false], "{number}");
        }
    }

    #[test]
    fn a_chain_longer_than_a_fleet_needs_is_verified_each_time() {
        let verified = Verified::default();
        for (number, count) in [(0, LONGEST - 1), (1, LONGEST)] {
            verified.remember(chain(number), (0, 500), &vec![intermediate(100, 200); count]);
        }
        assert!(verified.holds(&chain(0), at(150)));
        assert!(!verified.holds(&chain(1), at(150)));
    }
}
