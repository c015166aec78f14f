//! Which lists of certificates are looked at: those that nobody can make dear.
//!
//! Whoever looks for a path tries every order of certificates with the same names, and reads all of them at each step,
//! before a single signature is checked. Refuses to verify.

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates beside the peer's own. A device of ours has one, a broker of ours two at most.
const MOST_INTERMEDIATES: usize = 5;
/// Of these with one subject: two while a CA has a new key or is certified by two others.
const MOST_ALIKE: usize = 2;
/// Bytes of all together, DER; of RSA with 4,096 bits eight certificates have as many.
pub const MOST_BYTES: usize = 16 * 1024;

/// A list of certificates that is not looked at.
#[derive(Debug)]
pub enum ChainTooLong {
    Intermediates(usize),
    Bytes(usize),
    Alike,
}

impl ChainTooLong {
    /// The error of a handshake in which a peer shows these.
    pub fn check(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        match ChainTooLong::find(leaf, intermediates) {
            None => Ok(()),
            Some(found) => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(
                Arc::new(found),
            )))),
        }
    }

    /// What is behind the error of a handshake, if it is this.
    pub fn of(fault: &CertificateError) -> Option<&ChainTooLong> {
        match fault {
            CertificateError::Other(other) => other.0.downcast_ref(),
            _ => None,
        }
    }

    fn find(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<ChainTooLong> {
        let bytes = intermediates.iter().fold(leaf.len(), |sum, der| sum + der.len());
        if intermediates.len() > MOST_INTERMEDIATES {
            return Some(ChainTooLong::Intermediates(intermediates.len()));
        }
        if bytes > MOST_BYTES {
            return Some(ChainTooLong::Bytes(bytes));
        }
        if intermediates.len() <= MOST_ALIKE {
            return None;
        }
        // One that cannot be read is refused by whoever looks for the path.
        let read = |der| X509Certificate::from_der(der).ok().map(|(_, found)| found);
        let read: Vec<_> = intermediates.iter().filter_map(|der| read(der)).collect();
        let alike = |one: &X509Certificate<'_>| {
            let subject = one.subject().as_raw();
            read.iter().filter(|other| other.subject().as_raw() == subject).count()
        };
        read.iter()
            .any(|one| alike(one) > MOST_ALIKE)
            .then_some(ChainTooLong::Alike)
    }
}

impl Display for ChainTooLong {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ChainTooLong::Intermediates(count) => {
                write!(f, "comes with {count} others, {MOST_INTERMEDIATES} are allowed")
            }
            ChainTooLong::Bytes(count) => {
                write!(f, "and those with it have {count} bytes, {MOST_BYTES} are allowed")
            }
            ChainTooLong::Alike => {
                write!(f, "comes with more than {MOST_ALIKE} certificates of the same subject")
            }
        }
    }
}

impl std::error::Error for ChainTooLong {}
