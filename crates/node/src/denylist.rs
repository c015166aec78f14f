//! Who is refused although the certificate verifies: revoked devices and revoked certificates.
//!
//! Refuses to know why somebody was revoked, and what is done about live connections.
//!
//! Whoever adds to it and then asks a shard to close what it denies leaves no gap: a connection that was looked at
//! before is seated before that question arrives, or finds the addition when it asks for its seat.

use crate::certificate::{CertificateFacts, Fingerprint};
use crate::config::RevokedConfig;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Devices and certificates that stand revoked.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    devices: HashSet<String>,
    certificates: HashSet<Fingerprint>,
}

impl Revocation {
    /// `Err` holds what is no SHA-256 digest in 64 hexadecimal digits.
    pub fn new(config: &RevokedConfig) -> Result<Revocation, String> {
        let certificates = config.certificates.iter();
        Ok(Revocation {
            devices: config.devices.iter().cloned().collect(),
            certificates: certificates
                .map(|text| fingerprint(text).ok_or_else(|| text.clone()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether it names this device or this certificate.
    pub fn names(&self, device: Option<&str>, certificate: Option<&Fingerprint>) -> bool {
        device.is_some_and(|id| self.devices.contains(id))
            || certificate.is_some_and(|digest| self.certificates.contains(digest))
    }
}

fn fingerprint(hex: &str) -> Option<Fingerprint> {
    let mut digest = Fingerprint::default();
    crate::config::unhex(hex, &mut digest).then_some(digest)
}

/// The revocations in force, seen by every thread of a node.
#[derive(Debug, Default)]
pub struct Denylist {
    revoked: RwLock<Revocation>,
}

impl Denylist {
    /// Whether the bearer of this certificate is refused.
    pub fn denies(&self, certificate: &CertificateFacts) -> bool {
        self.names(certificate.device_id().map(|id| &**id), Some(&certificate.sha256))
    }

    /// Whether this device or this certificate is refused.
    pub fn names(&self, device: Option<&str>, certificate: Option<&Fingerprint>) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        revoked.names(device, certificate)
    }

    /// Refuse these from now on, and all that were refused before.
    pub fn add(&self, more: &Revocation) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.devices.extend(more.devices.iter().cloned());
        revoked.certificates.extend(more.certificates.iter().copied());
    }

    /// Refuse these from now on, and nobody else.
    pub fn replace(&self, all: Revocation) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(devices: &[&str], certificates: &[&str]) -> Result<Revocation, String> {
        let owned = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect();
        Revocation::new(&RevokedConfig {
            devices: owned(devices),
            certificates: owned(certificates),
        })
    }

    #[test]
    fn one_name_is_enough() {
        let denylist = Denylist::default();
        denylist.add(&revocation(&["a"], &[]).unwrap());
        denylist.add(&revocation(&[], &[&"0F".repeat(32)]).unwrap());
        assert!(denylist.names(Some("a"), Some(&[0; 32])));
        assert!(denylist.names(Some("b"), Some(&[0x0f; 32])));
        assert!(!denylist.names(Some("b"), Some(&[0; 32])));
        assert!(!denylist.names(None, None));
        denylist.replace(Revocation::default());
        assert!(!denylist.names(Some("a"), Some(&[0x0f; 32])));
    }

    #[test]
    fn what_is_no_digest_is_named() {
        for bad in ["", "0f", &"0g".repeat(32), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(revocation(&[], &[bad]).unwrap_err(), bad);
        }
    }
}
