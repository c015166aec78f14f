//! The client's TLS configuration: whom it believes, what it shows, and the tickets it got.
//!
//! Verified or not at all: a chain to a given anchor, the host in the subject alternative names, revocation lists where
//! they are given, then the pins; all of it in the handshake, before anything of MQTT leaves. Refuses to know sockets.
//!
//! A pin holds when the leaf has that key, or when a path to a certificate with that key verifies: a certificate that is
//! merely sent along pins nothing.

use super::config::{TlsVersions, TrustConfig};
use super::fault::{ClientError, misuse};
use crate::chain::ChainTooLong;
use crate::psk::KeyLogging;
use crate::recording::ThreadKeyLog;
use crate::tls;
use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig as TlsConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use x509_parser::prelude::{FromDer, X509Certificate};

type Spki = [u8; 32];

/// Why the pins refused: the SHA-256 of the leaf's public key, hexadecimal.
#[derive(Debug)]
pub(super) struct PinMismatch {
    pub leaf: String,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no pinned key; the leaf has {}", self.leaf)
    }
}

impl std::error::Error for PinMismatch {}

/// The configuration of the last connection with the tickets in it, for the next one that trusts and shows the same. A
/// resumed handshake verifies no certificate: with anything changed the tickets are left behind.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<Option<Known>>>);

/// What went into a configuration, and the configuration.
type Known = (digest::Digest, Arc<TlsConfig>);

/// What goes into a TLS configuration.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub trust: &'a TrustConfig,
    pub certificate_pem: Option<&'a str>,
    pub key_pem: Option<&'a str>,
    /// ALPN protocols (RFC 7301).
    pub alpn: &'a [&'a str],
    pub versions: TlsVersions,
    /// By their names in the registry of TLS groups, the first with a key share; none: the library's.
    pub groups: &'a [String],
    pub logging: KeyLogging,
}

impl Tickets {
    pub(super) fn tls_config(&self, offer: &Offer<'_>) -> Result<Arc<TlsConfig>, ClientError> {
        let inputs = offer.fingerprint();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, tls)) = &*known {
            if same.as_ref() == inputs.as_ref() {
                return Ok(Arc::clone(tls));
            }
        }
        let tls = Arc::new(offer.tls_config()?);
        *known = Some((inputs, Arc::clone(&tls)));
        Ok(tls)
    }
}

impl Offer<'_> {
    fn fingerprint(&self) -> digest::Digest {
        let trust = self.trust;
        let mut context = digest::Context::new(&digest::SHA256);
        for text in [
            trust.ca_pem.as_str(),
            &trust.crls_pem,
            &trust.pins.join(","),
            &self.alpn.join(","),
            self.certificate_pem.unwrap_or_default(),
            self.key_pem.unwrap_or_default(),
            &self.groups.join(","),
            &format!("{:?}{:?}", self.versions, self.logging),
        ] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        context.update(&[u8::from(trust.is_system_store), u8::from(trust.dangerous_unverified)]);
        context.finish()
    }

    fn tls_config(&self) -> Result<TlsConfig, ClientError> {
        let verifier = verifier(self.trust)?;
        let versions: &[_] = match self.versions {
            TlsVersions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersions::Tls12 => &[&rustls::version::TLS12],
            TlsVersions::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = TlsConfig::builder_with_provider(self.provider()?)
            .with_protocol_versions(versions)
            .map_err(|e| misuse(&format!("TLS versions cannot be set: {e}")))?
            .dangerous() // the name of the door for verifiers of one's own; this one adds to the library's
            .with_custom_certificate_verifier(verifier);
        let mut made = match self.certificate_pem.zip(self.key_pem) {
            None => builder.with_no_client_auth(),
            Some((certificate_pem, key_pem)) => {
                let chain = tls::certificates(certificate_pem, "certificate-invalid", "the client certificate")?;
                let key = tls::private_key(key_pem, "the client key")?;
                builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                    Error::InconsistentKeys(_) => ClientError::new(
                        "key-mismatch",
                        "client key does not belong to the client certificate",
                        "use the key that the certificate was issued for",
                    ),
                    other => ClientError::new(
                        "certificate-invalid",
                        format!("client certificate cannot be used: {other}"),
                        "issue a new one",
                    ),
                })?
            }
        };
        made.alpn_protocols = self.alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        if self.logging == KeyLogging::Recorded {
            made.key_log = Arc::new(ThreadKeyLog);
        }
        Ok(made)
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, ClientError> {
        if self.groups.is_empty() {
            return Ok(tls::provider());
        }
        let known = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
        let mut wanted = Vec::new();
        for name in self.groups {
            let group = known.iter().find(|group| format!("{:?}", group.name()) == *name);
            wanted.push(*group.ok_or_else(|| misuse(&format!("group {name} is not known")))?);
        }
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = wanted;
        Ok(Arc::new(provider))
    }
}

impl From<tls::TlsFault> for ClientError {
    fn from(fault: tls::TlsFault) -> ClientError {
        ClientError::new(fault.code, fault.what, fault.mend)
    }
}

fn verifier(trust: &TrustConfig) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    let provider = tls::provider();
    if trust.dangerous_unverified {
        return Ok(Arc::new(Credulous { provider }));
    }
    let anchors = tls::certificates(&trust.ca_pem, "ca-invalid", "the CA")?;
    let roots = Arc::new(if trust.is_system_store {
        let mut roots = RootCertStore::empty();
        let _ = roots.add_parsable_certificates(anchors.iter().cloned());
        roots
    } else {
        tls::root_store(anchors.clone(), "ca-invalid", "the CA")?
    });
    let crls = tls::revocation_lists(&trust.crls_pem)?;
    let unusable = |e| ClientError::new("ca-invalid", format!("the CA or its CRL cannot be used: {e}"), "");
    let has_crls = !crls.is_empty();
    let build = || WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    // Whatever a list says about any certificate of the path counts, ...
    let chain = build()
        .with_crls(crls.clone())
        .allow_unknown_revocation_status()
        .build()
        .map_err(unusable)?;
    // ... and about the leaf one has to speak.
    let listed = if has_crls {
        let strict = build().with_crls(crls).only_check_end_entity_revocation();
        Some(strict.build().map_err(unusable)?)
    } else {
        None
    };
    let pins = trust.pins.iter().map(|text| pin(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Verifier {
        chain,
        listed,
        pins,
        anchors,
        provider,
    }))
}

fn pin(text: &str) -> Result<Spki, ClientError> {
    super::properties::hex(text)
        .ok()
        .and_then(|bytes| Spki::try_from(bytes).ok())
        .ok_or_else(|| {
            ClientError::new(
                "config-invalid",
                format!("pin {text} is not a SHA-256 in hexadecimal"),
                "`sealmq pin show` prints pins",
            )
        })
}

fn spki_of(certificate: &CertificateDer<'_>) -> Option<Spki> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = digest::digest(&digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
    Spki::try_from(hash.as_ref()).ok()
}

#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    /// Where revocation lists are given.
    listed: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<Spki>,
    anchors: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        spki_of(certificate).is_some_and(|key| self.pins.contains(&key))
    }

    fn check_pins(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pins.is_empty() || self.is_pinned(leaf) {
            return Ok(());
        }
        let mut pinned = RootCertStore::empty();
        let candidates = self.anchors.iter().chain(intermediates);
        pinned.add_parsable_certificates(candidates.filter(|c| self.is_pinned(c)).map(|c| c.clone().into_owned()));
        let leads_to_a_pin = !pinned.is_empty()
            && WebPkiServerVerifier::builder_with_provider(Arc::new(pinned), Arc::clone(&self.provider))
                .build()
                .is_ok_and(|path| path.verify_server_cert(leaf, intermediates, name, &[], now).is_ok());
        if leads_to_a_pin {
            return Ok(());
        }
        let leaf = spki_of(leaf).unwrap_or_default();
        let mismatch = PinMismatch {
            leaf: leaf.iter().map(|b| format!("{b:02x}")).collect(),
        };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(
            Arc::new(mismatch),
        ))))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        ChainTooLong::check(leaf, intermediates)?;
        let verified = self.chain.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        if let Some(listed) = &self.listed {
            listed.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        }
        self.check_pins(leaf, intermediates, name, now)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Believes every certificate; reached through `sealmq.dangerous` alone.
#[derive(Debug)]
struct Credulous {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
