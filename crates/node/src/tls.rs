//! The TLS policy as code, and the only place that builds a TLS configuration.
//!
//! TLS 1.2 and 1.3, AEAD with forward secrecy, X25519MLKEM768 first, client certificates required. Refuses to know
//! connections.

use crate::config::{ListenerConfig, ListenerKind, TlsConfig};
use crate::denylist::Denylist;
use crate::hello::{ClientHello, Policy};
use crate::psk::Decoys;
use crate::tickets::{Admission, Tickets, TrustDigest};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

mod identities;
mod verified;
mod verifier;

pub use verifier::{forget_last_seen, last_seen};

/// Something in the TLS material cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    pub code: &'static str,
    pub what: String,
    pub mend: &'static str,
}

pub(crate) fn fault(code: &'static str, what: impl Into<String>, mend: &'static str) -> TlsFault {
    TlsFault {
        code,
        what: what.into(),
        mend,
    }
}

/// The best first. AES-128-GCM and SHA-256 come before AES-256-GCM and SHA-384: the same practical strength for half the
/// hashing of a handshake and three quarters of the rounds, here and on the device.
const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
const TLS12_SUITES: [u16; 6] = [0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8];
/// Whoever begins with one of these has no AES in hardware.
const CHACHA_SUITES: [u16; 3] = [0x1303, 0xcca8, 0xcca9];
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

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The suites in our order, for configurations that do not follow the client's.
fn ordered_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let place = |id: u16| TLS13_SUITES.iter().chain(&TLS12_SUITES).position(|&suite| suite == id);
    provider.cipher_suites.sort_by_key(|suite| place(suite.suite().into()));
    Arc::new(provider)
}

/// Whose order of suites counts: ours, except for a client that begins with ChaCha20, because it has no AES in hardware.
pub fn follows_client(hello: &ClientHello) -> bool {
    let spoken = |id: &&u16| TLS13_SUITES.contains(id) || TLS12_SUITES.contains(id);
    let first = hello.cipher_suites.iter().find(spoken);
    first.is_some_and(|id| CHACHA_SUITES.contains(id))
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    Required,
    /// Only where users with passwords are configured, or `[dangerous] anonymous`.
    Optional,
}

/// What outlives one configuration: it stays when certificates, trust and keys are replaced.
pub struct Standing {
    pub denylist: Arc<Denylist>,
    /// Where a listener asks for pre-shared keys: those that nobody has.
    pub decoys: Option<Arc<Decoys>>,
    /// Seals tickets where no keys are configured.
    own_tickets: Arc<dyn ProducesTickets>,
}

impl Standing {
    pub fn new(listeners: &[ListenerConfig]) -> Result<Standing, TlsFault> {
        let asks_for_psk = listeners.iter().any(|l| l.kind == ListenerKind::Psk);
        Ok(Standing {
            denylist: Arc::default(),
            decoys: asks_for_psk.then(Decoys::new).transpose()?.map(Arc::new),
            own_tickets: aws_lc_rs::Ticketer::new()
                .map_err(|e| fault("config-invalid", format!("ticket keys cannot be made: {e}"), ""))?,
        })
    }
}

/// The configuration of the certificate listeners; what is left to set is ALPN, see [`alpn`].
pub fn server_config(
    tls: &TlsConfig,
    fleet: &str,
    certificate: ClientCertificate,
    standing: &Standing,
) -> Result<ServerConfig, TlsFault> {
    let provider = ordered_provider();
    let identities = identities::Identities::new(tls, &provider)?;
    let trusted = certificates(&tls.client_ca_pem, "client-ca-invalid", "the client CA")?;
    let crls = revocation_lists(&tls.client_crls_pem)?;
    let has_crls = !crls.is_empty();
    let chain = chain_verifier(&trusted, crls, certificate, &provider)?;
    let verifier = Arc::new(verifier::ClientVerifier {
        chain: Arc::clone(&chain),
        denylist: Arc::clone(&standing.denylist),
        fleet: fleet.to_owned(),
        verified: verified::Verified::default(),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| fault("config-invalid", format!("TLS versions cannot be set: {e}"), ""))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identities));
    let admission = Admission {
        denylist: Arc::clone(&standing.denylist),
        fleet: fleet.to_owned(),
        // What a new CRL says about an old certificate is found out by verifying it again.
        verifier: has_crls.then_some(chain),
    };
    let trust = TrustDigest::new(&trusted, certificate);
    let tickets = Tickets::new(&tls.ticket_keys, &standing.own_tickets, trust, admission);
    config.ticketer = Arc::new(tickets.map_err(|what| {
        fault(
            "ticket-key-invalid",
            what,
            "give each key a name of 32 and a key of 64 hexadecimal digits",
        )
    })?);
    // One ticket is what a device uses; a second one is a kilobyte for nobody.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The application protocols of a listener (RFC 7301).
pub fn alpn(kind: ListenerKind) -> Vec<Vec<u8>> {
    policy(kind).alpn.iter().map(|name| name.to_vec()).collect()
}

/// A certificate on a CRL is refused; one that no CRL speaks of is not, and a CRL past its nextUpdate still counts: a
/// list that nobody renewed must not lock out a fleet.
fn chain_verifier(
    trusted: &[CertificateDer<'static>],
    crls: Vec<CertificateRevocationListDer<'static>>,
    certificate: ClientCertificate,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    let roots = root_store(trusted.to_vec(), "client-ca-invalid", "the client CA")?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(crls)
        .allow_unknown_revocation_status();
    let builder = match certificate {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|e| match e {
        VerifierBuilderError::InvalidCrl(e) => fault(
            "client-crl-invalid",
            format!("CRL of a client CA cannot be used: {e:?}"),
            "check the file that tls.client_crl names: `sealmq cert show FILE`",
        ),
        e => fault(
            "client-ca-invalid",
            format!("client CA cannot be used: {e}"),
            "check the file that tls.client_ca names",
        ),
    })
}

pub fn revocation_lists(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFault> {
    let unreadable = |why: &str| {
        fault(
            "client-crl-invalid",
            format!("the CRL of a client CA {why}"),
            "give a PEM file with X509 CRL blocks",
        )
    };
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect();
    match lists {
        Ok(lists) if lists.is_empty() && !pem.trim().is_empty() => Err(unreadable("has no X509 CRL block")),
        Ok(lists) => Ok(lists),
        Err(e) => Err(unreadable(&format!("is not valid PEM: {e}"))),
    }
}

pub fn certificates(pem: &str, code: &'static str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
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

pub fn private_key(pem: &str, what: &str) -> Result<PrivateKeyDer<'static>, TlsFault> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| {
        fault(
            "key-invalid",
            format!("{what} is not a readable private key: {e}"),
            "give an unencrypted PEM key (PKCS#8, SEC1 or PKCS#1)",
        )
    })
}

pub fn root_store(
    trusted: Vec<CertificateDer<'static>>,
    code: &'static str,
    what: &str,
) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
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
