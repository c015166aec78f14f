//! The verifier of client certificates: the library's own, a memory of what it found, the denylist behind both, and what
//! refusal records ask for.
//!
//! Refuses to know connections.

use super::verified::{self, Verified};
use crate::certificate;
use crate::chain::ChainTooLong;
use crate::denylist::Denylist;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The leaf that the verifier saw last on this thread: a refused certificate is in no connection's state, and the
    /// refusal record has to name it. Handshakes run to their end of a call on one thread, so the last one is theirs.
    static LAST_SEEN: RefCell<Option<CertificateDer<'static>>> = const { RefCell::new(None) };
}

/// Forget what an earlier connection showed; call before each step of a handshake.
pub fn forget_last_seen() {
    LAST_SEEN.with(|cell| cell.borrow_mut().take());
}

/// The client certificate of the handshake step just taken, accepted or not.
pub fn last_seen() -> Option<CertificateDer<'static>> {
    LAST_SEEN.with(|cell| cell.borrow_mut().take())
}

/// Verifies the chain as the library does, then asks whether its bearer was revoked.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub chain: Arc<dyn ClientCertVerifier>,
    pub denylist: Arc<Denylist>,
    pub fleet: String,
    pub verified: Verified,
}

impl ClientVerifier {
    /// The path to a trusted CA: signatures once, validity each time.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        ChainTooLong::check(end_entity, intermediates)?;
        let certificates: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        let chain = verified::digest(&certificates);
        if self.verified.holds(&chain, now) {
            return Ok(ClientCertVerified::assertion());
        }
        match self.chain.verify_client_cert(end_entity, intermediates, now) {
            // An issuer of the right name with another key: the CA was made anew. The client's own signature is checked
            // elsewhere, so this is never about a key that does not fit its certificate.
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
            Ok(found) => {
                if let Some(facts) = certificate::facts(end_entity, &self.fleet) {
                    let validity = (facts.not_before_unix, facts.not_after_unix);
                    self.verified.remember(chain, validity, intermediates);
                }
                Ok(found)
            }
            other => other,
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        LAST_SEEN.with(|cell| cell.borrow_mut().replace(end_entity.clone().into_owned()));
        let verified = self.verify_chain(end_entity, intermediates, now)?;
        match certificate::facts(end_entity, &self.fleet) {
            Some(facts) if self.denylist.denies(&facts) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
