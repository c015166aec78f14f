//! How many certificates a peer may show. Refuses to verify any.

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// Certificates beside the leaf that are looked at. Whoever builds paths tries every order of those with the same names: eight
/// of a name on each of six levels keep the library busy for seconds, before a single signature is checked.
const MOST_INTERMEDIATES: usize = 5;

/// A peer showed more certificates beside its own than anybody needs.
#[derive(Debug)]
pub struct ChainTooLong {
    intermediates: usize,
}

impl ChainTooLong {
    /// The error of a handshake when there are more intermediates than are looked at.
    pub fn check(intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        let intermediates = intermediates.len();
        if intermediates <= MOST_INTERMEDIATES {
            return Ok(());
        }
        let other = OtherError(Arc::new(ChainTooLong { intermediates }));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }

    pub fn of(fault: &CertificateError) -> Option<&ChainTooLong> {
        match fault {
            CertificateError::Other(other) => other.0.downcast_ref(),
            _ => None,
        }
    }
}

impl Display for ChainTooLong {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let found = self.intermediates;
        write!(f, "comes with {found} others, and {MOST_INTERMEDIATES} are looked at")
    }
}

impl std::error::Error for ChainTooLong {}
