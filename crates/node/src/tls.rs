//! The TLS policy as code, and the only place that builds a TLS configuration.
//!
//! TLS 1.2 and 1.3, AEAD with forward secrecy, X25519MLKEM768 first, client certificates required. Refuses to know
//! connections.

use crate::config::{ListenerKind, TlsConfig};
use crate::hello::Policy;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::cell::RefCell;
use std::sync::Arc;

/// Something in the TLS material cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    pub code: &'static str,
    pub what: String,
    pub mend: &'static str,
}

fn fault(code: &'static str, what: impl Into<String>, mend: &'static str) -> TlsFault {
    TlsFault {
        code,
        what: what.into(),
        mend,
    }
}

const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
const TLS12_SUITES: [u16; 6] = [0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9];
/// X25519MLKEM768, X25519, secp256r1, secp384r1.
const GROUPS: [u16; 4] = [0x11ec, 0x001d, 0x0017, 0x0018];

/// What a ClientHello is held against before the TLS library sees it. Signature algorithms are left to the library,
/// which knows the key of the certificate.
pub fn policy(kind: ListenerKind) -> Policy<'static> {
    Policy {
        tls13_suites: &TLS13_SUITES,
        tls12_suites: &TLS12_SUITES,
        groups: &GROUPS,
        signature_algorithms: &[],
        alpn: if kind == ListenerKind::Wss {
            &[b"http/1.1"]
        } else {
            &[b"mqtt"]
        },
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    Required,
    /// Only `[dangerous] anonymous`.
    Optional,
}

/// The configuration of a listener. Every call makes new ticket keys: a change of trust ends all resumption.
pub fn server_config(
    tls: &TlsConfig,
    kind: ListenerKind,
    certificate: ClientCertificate,
) -> Result<Arc<ServerConfig>, TlsFault> {
    let chain = certificates(
        &tls.certificate_chain_pem,
        "certificate-invalid",
        "the server certificate",
    )?;
    let key = private_key(&tls.private_key_pem, "the server key")?;
    let roots = root_store(&tls.client_ca_pem, "client-ca-invalid", "the client CA")?;
    let provider = provider();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let builder = match certificate {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    let inner = builder.build().map_err(|e| {
        fault(
            "client-ca-invalid",
            format!("client CA cannot be used: {e}"),
            "check the file that tls.client_ca names",
        )
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| fault("config-invalid", format!("TLS versions cannot be set: {e}"), ""))?
        .with_client_cert_verifier(Arc::new(Remembering { inner }))
        .with_single_cert(chain, key)
        .map_err(|e| match e {
            Error::InconsistentKeys(_) => fault(
                "key-mismatch",
                "server key does not belong to the server certificate",
                "use the key that the certificate was issued for, or remove both and let sealmq make them",
            ),
            other => fault(
                "certificate-invalid",
                format!("server certificate cannot be used: {other}"),
                "issue a new one",
            ),
        })?;
    config.alpn_protocols = policy(kind).alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = aws_lc_rs::Ticketer::new()
        .map_err(|e| fault("config-invalid", format!("ticket keys cannot be made: {e}"), ""))?;
    // One ticket is what a device uses; a second one is a kilobyte for nobody.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The configuration of our own client: verified or not at all.
pub fn client_config(ca_pem: &str, identity: Option<(&str, &str)>, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsFault> {
    let roots = root_store(ca_pem, "ca-invalid", "the CA")?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| fault("config-invalid", format!("TLS versions cannot be set: {e}"), ""))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate_pem, key_pem)) => {
            let chain = certificates(certificate_pem, "certificate-invalid", "the client certificate")?;
            let key = private_key(key_pem, "the client key")?;
            builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                Error::InconsistentKeys(_) => fault(
                    "key-mismatch",
                    "client key does not belong to the client certificate",
                    "use the key that the certificate was issued for",
                ),
                other => fault(
                    "certificate-invalid",
                    format!("client certificate cannot be used: {other}"),
                    "issue a new one",
                ),
            })?
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &str, code: &'static str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(fault(
            code,
            format!("{what} has no CERTIFICATE block"),
            "give a PEM file",
        )),
        Err(e) => Err(fault(code, format!("{what} is not valid PEM: {e}"), "give a PEM file")),
    }
}

fn private_key(pem: &str, what: &str) -> Result<PrivateKeyDer<'static>, TlsFault> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| {
        fault(
            "key-invalid",
            format!("{what} is not a readable private key: {e}"),
            "give an unencrypted PEM key (PKCS#8, SEC1 or PKCS#1)",
        )
    })
}

fn root_store(pem: &str, code: &'static str, what: &str) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, code, what)? {
        roots.add(certificate).map_err(|e| {
            fault(
                code,
                format!("{what} cannot be used: {e}"),
                "give a CA certificate in PEM",
            )
        })?;
    }
    Ok(roots)
}

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

/// The library's verifier, with a memory for the record.
#[derive(Debug)]
struct Remembering {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Remembering {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        LAST_SEEN.with(|cell| cell.borrow_mut().replace(end_entity.clone().into_owned()));
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            // An issuer of the right name with another key: the CA was made anew. The client's own signature is checked
            // elsewhere, so this is never about a key that does not fit its certificate.
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
