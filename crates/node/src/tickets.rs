//! Session tickets: sealed with keys that outlive the process, opened only for somebody who would be let in today.
//!
//! Refuses to know handshakes. What a ticket brings back is the certificate of an earlier handshake, which nobody
//! verifies again; so a ticket is bound to the trust it was given under, and its certificate is looked at when it
//! comes back. One that does not open costs a full handshake, nothing else.

use crate::certificate;
use crate::chain::ChainTooLong;
use crate::config::{TicketKeyConfig, unhex};
use crate::denylist::Denylist;
use crate::event::now_ms;
use crate::tls::ClientCertificate;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use std::fmt;
use std::sync::Arc;

/// Seconds that a client may keep a ticket: a day, so that a device that reports once a day resumes. What ends a ticket
/// for good is that its key goes.
const LIFETIME_S: u32 = 24 * 3600;
const NAME_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// SHA-256 over who is trusted and whether a certificate is asked for: a ticket of another trust does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustDigest([u8; 32]);

impl TrustDigest {
    /// The order of the client CAs means nothing.
    pub fn new(trusted: &[CertificateDer<'_>], certificate: ClientCertificate) -> TrustDigest {
        let mut sorted: Vec<&[u8]> = trusted.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut context = Context::new(&SHA256);
        context.update(&[u8::from(certificate == ClientCertificate::Required)]);
        for der in sorted {
            context.update(&(der.len() as u64).to_be_bytes());
            context.update(der);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(context.finish().as_ref());
        TrustDigest(sum)
    }
}

/// Whose certificate may come back by a ticket.
#[derive(Debug)]
pub struct Admission {
    pub denylist: Arc<Denylist>,
    pub fleet: String,
    /// Asked once more where CRLs are in force.
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Admission {
    fn admits(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return true;
        };
        certificate::facts(leaf, &self.fleet)
            .is_some_and(|facts| facts.ends_ms() > now_ms() && !self.denylist.denies(&facts))
            && self.verifier.as_ref().is_none_or(|verifier| {
                ChainTooLong::check(leaf, intermediates)
                    .and_then(|()| verifier.verify_client_cert(leaf, intermediates, UnixTime::now()))
                    .is_ok()
            })
    }
}

/// The tickets of one configuration.
#[derive(Debug)]
pub struct Tickets {
    seal: Arc<dyn ProducesTickets>,
    trust: TrustDigest,
    admission: Admission,
}

impl Tickets {
    /// Tickets sealed by `keys`, or by `own` when there are none. `Err` is a sentence about a key.
    pub fn new(
        keys: &[TicketKeyConfig],
        own: &Arc<dyn ProducesTickets>,
        trust: TrustDigest,
        admission: Admission,
    ) -> Result<Tickets, String> {
        let seal = if keys.is_empty() {
            Arc::clone(own)
        } else {
            let keys: Result<_, _> = keys.iter().zip(1..).map(Key::new).collect();
            Arc::new(Keys(keys?))
        };
        Ok(Tickets { seal, trust, admission })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.seal.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.seal.encrypt(&[&self.trust.0, session].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.seal.decrypt(ticket)?;
        let session = opened.strip_prefix(&self.trust.0)?;
        let chain = client_chain(session)?;
        self.admission.admits(&chain).then(|| session.to_vec())
    }
}

/// The client's certificates in a session as the TLS library lays it out; empty when it showed none, `None` when the
/// session cannot be read. The layout is the library's own: should it ever change, no ticket opens and nobody resumes,
/// which every test of resumption would tell.
fn client_chain(session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut rest = session;
    let mut take = |count: usize| {
        let (taken, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(taken)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    // the server name, when one was asked for
    if take(1)? == [1] {
        let length = number(take(1)?);
        take(length)?;
    }
    // version and cipher suite, secret, extended master secret
    take(4)?;
    let length = number(take(1)?);
    take(length + 1)?;
    let mut chain = Vec::new();
    if take(1)? == [1] {
        let mut list = number(take(3)?);
        while list > 0 {
            let length = number(take(3)?);
            chain.push(CertificateDer::from(take(length)?));
            list = list.checked_sub(3 + length)?;
        }
    }
    Some(chain)
}

/// AES-256-GCM with a random nonce: safe for 2^32 tickets of one key (NIST SP 800-38D section 8.3), far beyond what is
/// given out before the next key comes.
struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl Key {
    fn new((config, number): (&TicketKeyConfig, usize)) -> Result<Key, String> {
        let (mut name, mut bytes) = ([0; NAME_LEN], [0; KEY_LEN]);
        if !unhex(&config.name, &mut name) || !unhex(&config.key, &mut bytes) {
            return Err(format!("ticket key {number} has not the form it must have"));
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| format!("ticket key {number} cannot be used"))?;
        Ok(Key {
            name,
            key: LessSafeKey::new(key),
        })
    }
}

/// Sealed by the first, opened by each: `name ‖ nonce ‖ ciphertext ‖ tag`.
struct Keys(Vec<Key>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} <redacted>)", self.0.len())
    }
}

impl ProducesTickets for Keys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Key { name, key } = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
            .ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = &self.0.iter().find(|key| key.name == *name)?.key;
        let mut sealed = sealed.to_vec();
        let opened = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut sealed)
            .ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> TicketKeyConfig {
        TicketKeyConfig {
            name: digit.repeat(32),
            key: digit.repeat(64),
        }
    }

    fn tickets(keys: &[TicketKeyConfig], trust: u8) -> Tickets {
        let own = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let admission = Admission {
            denylist: Arc::default(),
            fleet: "f".into(),
            verifier: None,
        };
        Tickets::new(keys, &own, TrustDigest([trust; 32]), admission).unwrap()
    }

    /// A session of somebody without a certificate.
    const ANONYMOUS: &[u8] = &[0, 3, 4, 0x13, 1, 2, 9, 9, 1, 0, 0, 0, 0];

    #[test]
    fn the_newest_key_seals_and_every_key_opens() {
        let old = tickets(&[key("a")], 1);
        let ticket = old.encrypt(ANONYMOUS).unwrap();
        assert!(ticket.starts_with(&[0xaa; NAME_LEN]));
        let rotated = tickets(&[key("b"), key("a")], 1);
        assert_eq!(rotated.decrypt(&ticket).unwrap(), ANONYMOUS);
        assert!(rotated.encrypt(ANONYMOUS).unwrap().starts_with(&[0xbb; NAME_LEN]));
        assert_eq!(tickets(&[key("b")], 1).decrypt(&ticket), None);
    }

    #[test]
    fn another_trust_opens_nothing() {
        for keys in [&[key("a")][..], &[]] {
            let mine = tickets(keys, 1);
            let ticket = mine.encrypt(ANONYMOUS).unwrap();
            assert_eq!(mine.decrypt(&ticket).as_deref(), Some(ANONYMOUS));
            let other = Tickets {
                seal: Arc::clone(&mine.seal),
                ..tickets(keys, 2)
            };
            assert_eq!(other.decrypt(&ticket), None);
        }
    }

    #[test]
    fn what_was_altered_or_cut_does_not_open() {
        let tickets = tickets(&[key("a")], 1);
        let ticket = tickets.encrypt(ANONYMOUS).unwrap();
        for at in 0..ticket.len() {
            let mut altered = ticket.clone();
            altered[at] ^= 1;
            assert_eq!(tickets.decrypt(&altered), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_session_that_cannot_be_read_is_not_resumed() {
        for cut in 0..9 {
            assert!(client_chain(&ANONYMOUS[..cut]).is_none(), "cut at {cut}");
        }
        let with_chain = [&ANONYMOUS[..9], &[1, 0, 0, 9, 0, 0, 1, 7, 0, 0, 2, 8, 8, 0]].concat();
        assert_eq!(client_chain(&with_chain).unwrap(), [vec![7].into(), vec![8, 8].into()]);
        let lying = [&ANONYMOUS[..9], &[1, 0, 0, 3, 0, 0, 1, 7]].concat();
        assert!(client_chain(&lying).is_none());
    }

    #[test]
    fn a_key_of_the_wrong_form_is_told_by_its_place() {
        let mut bad = key("a");
        bad.key.pop();
        let keys: Result<Vec<_>, _> = [key("b"), bad].iter().zip(1..).map(Key::new).collect();
        assert!(keys.err().unwrap().contains("ticket key 2"));
    }

    #[test]
    fn the_trust_is_the_set_of_anchors_and_the_demand() {
        let (a, b) = (CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3]));
        let digest = |set: &[CertificateDer<'_>]| TrustDigest::new(set, ClientCertificate::Required);
        let both = digest(&[a.clone(), b.clone()]);
        assert_eq!(both, digest(&[b.clone(), a.clone(), b.clone()]));
        assert_ne!(both, digest(std::slice::from_ref(&a)));
        assert_ne!(both, TrustDigest::new(&[a, b], ClientCertificate::Optional));
    }
}
