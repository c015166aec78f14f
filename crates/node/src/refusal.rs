//! Why a connection was refused: one record each, with the cause in plain words and the mend.
//!
//! Refuses to know how the offence was noticed. Slugs are stable; sentences are for people.

use crate::certificate::CertificateFacts;
use crate::chain::ChainTooLong;
use crate::hello::{ClientHello, cipher_name, group_name, named, version_name};
use rustls::{AlertDescription, CertificateError, Error as TlsError, PeerIncompatible};
use serde_json::{Value, json};

/// Items of a list in a record, and characters of a protocol's name: the client chose how many there are.
const LONGEST_LIST: usize = 64;
const LONGEST_PROTOCOL: usize = 48;

/// How far the connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Tcp,
    ClientHello,
    Handshake,
    Certificate,
    Http,
    Connect,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Tcp => "tcp",
            Stage::ClientHello => "client-hello",
            Stage::Handshake => "handshake",
            Stage::Certificate => "certificate",
            Stage::Http => "http",
            Stage::Connect => "connect",
        }
    }
}

/// One refused connection.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub stage: Stage,
    pub cause: &'static str,
    pub summary: String,
    pub mend: String,
}

impl Refusal {
    pub fn new(stage: Stage, cause: &'static str, summary: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal {
            stage,
            cause,
            summary: summary.into(),
            mend: mend.into(),
        }
    }

    /// The record, with what is known of the peer.
    pub fn record(
        &self,
        peer: &str,
        listener: &str,
        hello: Option<&ClientHello>,
        certificate: Option<&CertificateFacts>,
        client_id: Option<&str>,
    ) -> Value {
        json!({
            "peer": peer,
            "listener": listener,
            "stage": self.stage.name(),
            "cause": self.cause,
            "summary": self.summary,
            "mend": self.mend,
            "certificate": certificate,
            "hello": hello.map(hello_facts),
            "client_id": client_id,
        })
    }

    /// What a TLS library error during the handshake means; `certificate` is the one the client showed, if any.
    pub fn from_tls(error: &TlsError, certificate: Option<&CertificateFacts>) -> Refusal {
        let who = certificate.map_or_else(
            || "client certificate".to_owned(),
            |c| {
                format!(
                    "client certificate {} (serial {}, issued by {})",
                    c.subject, c.serial, c.issuer
                )
            },
        );
        let at_certificate =
            |cause, summary: String, mend: &str| Refusal::new(Stage::Certificate, cause, summary, mend);
        match error {
            TlsError::NoCertificatesPresented => at_certificate(
                "no-client-certificate",
                "client showed no certificate, and this listener admits only devices that do".into(),
                "create one with `sealmq device add ID` and give the client its cert.pem and key.pem",
            ),
            TlsError::InvalidCertificate(fault) => Refusal::from_certificate_error(fault, &who, certificate),
            TlsError::AlertReceived(alert) => Refusal::from_alert(*alert),
            TlsError::NoApplicationProtocol => Refusal::new(
                Stage::Handshake,
                "no-common-alpn",
                "client offers application protocols by ALPN, and none is MQTT",
                "offer `mqtt`, or no ALPN at all",
            ),
            TlsError::PeerIncompatible(
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
            ) => Refusal::new(
                Stage::Handshake,
                "no-common-cipher",
                "client and broker have no cipher suite in common",
                "enable an AEAD suite with ECDHE in the client, such as TLS_AES_128_GCM_SHA256",
            ),
            TlsError::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => Refusal::new(
                Stage::Handshake,
                "no-common-group",
                "client and broker have no key exchange group in common",
                "enable X25519 or P-256 (secp256r1) in the client",
            ),
            other => Refusal::new(
                Stage::Handshake,
                "handshake-broken",
                format!("client broke the TLS handshake: {other}"),
                "check what speaks on the other side; a proxy that alters TLS looks like this",
            ),
        }
    }

    /// Revoked since the certificate was verified.
    pub fn revoked(certificate: &CertificateFacts) -> Refusal {
        let revoked = TlsError::InvalidCertificate(CertificateError::Revoked);
        Refusal::from_tls(&revoked, Some(certificate))
    }

    /// A device with a pre-shared key that may not come in any more.
    pub fn revoked_key(device: &str) -> Refusal {
        Refusal::new(
            Stage::Handshake,
            "revoked",
            format!("device {device} was revoked"),
            "enrol the device again if it should come back",
        )
    }

    /// Expired since the certificate was verified.
    pub fn expired(certificate: &CertificateFacts) -> Refusal {
        let expired = TlsError::InvalidCertificate(CertificateError::Expired);
        Refusal::from_tls(&expired, Some(certificate))
    }

    /// A user name that is not known, or a password that is not his: which of both is for nobody to know.
    pub fn bad_credentials() -> Refusal {
        Refusal::new(
            Stage::Connect,
            "bad-credentials",
            "user name or password is wrong",
            "check both in the client; `sealmq user list` shows the users, `sealmq user add NAME` sets a password",
        )
    }

    fn from_certificate_error(fault: &CertificateError, who: &str, certificate: Option<&CertificateFacts>) -> Refusal {
        let refuse = |cause, summary: String, mend: &str| Refusal::new(Stage::Certificate, cause, summary, mend);
        let dates = certificate.map_or_else(String::new, |c| {
            format!(": valid from {} to {}", c.not_before, c.not_after)
        });
        if let Some(chain) = ChainTooLong::of(fault) {
            return refuse(
                "certificate-chain-too-long",
                format!("{who} {chain}"),
                "send the certificate of the device and those of the CAs between it and the root, and nothing else",
            );
        }
        match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => refuse(
                "certificate-expired",
                format!("{who} has expired{dates}"),
                "issue a new certificate for the device; if its dates look right, the clock of this broker is wrong",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => refuse(
                "certificate-not-yet-valid",
                format!("{who} is not valid yet{dates}"),
                "check the clock of this broker and of the machine that issued the certificate",
            ),
            CertificateError::UnknownIssuer => refuse(
                "untrusted-issuer",
                format!(
                    "{who} was not issued by a CA that this broker trusts, or its intermediate certificate is missing"
                ),
                "issue it with `sealmq device add ID`, or set tls.client_ca to the CA that issued it; send the leaf with its intermediates",
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => refuse(
                "certificate-wrong-purpose",
                format!("{who} may not be used as a client certificate (extended key usage lacks clientAuth)"),
                "issue a certificate with extended key usage clientAuth; a server certificate does not serve as a device's",
            ),
            CertificateError::Revoked => refuse(
                "revoked",
                format!("{who} was revoked"),
                "enrol the device again if it should come back",
            ),
            CertificateError::BadSignature => refuse(
                "certificate-bad-signature",
                format!("{who} or a signature made with its key does not verify"),
                "check that certificate and key of the device belong together, and that neither was altered",
            ),
            other => refuse(
                "certificate-invalid",
                format!("{who} cannot be accepted: {other}"),
                "look at it with `sealmq cert show FILE`, issue a new one",
            ),
        }
    }

    /// The client ended the handshake with an alert: nearly always it does not like our certificate.
    fn from_alert(alert: AlertDescription) -> Refusal {
        match alert {
            AlertDescription::UnknownCA => Refusal::new(
                Stage::Handshake,
                "client-distrusts-broker",
                "client does not know the CA of this broker's certificate (alert unknown_ca)",
                "give the client the CA: `sealmq ca export`, or the ca.pem of its bundle",
            ),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked => Refusal::new(
                Stage::Handshake,
                "client-refused-broker-certificate",
                format!("client refused this broker's certificate (alert {alert:?})"),
                "connect by a name in the certificate (tls.extra_names adds one), with the right CA, and check the client's clock",
            ),
            // What OpenSSL sends for a verdict of the program's own: mosquitto's look at the host name ends so.
            AlertDescription::InternalError => Refusal::new(
                Stage::Handshake,
                "client-refused-broker-certificate",
                "client refused this broker's certificate by a check of its own, most likely the host name (alert InternalError)",
                "connect by a name in the certificate (tls.extra_names adds one), and look at the client's own error",
            ),
            other => Refusal::new(
                Stage::Handshake,
                "client-ended-handshake",
                format!("client ended the handshake with alert {other:?}"),
                "look at the client's own error: it knows why",
            ),
        }
    }
}

/// What a ClientHello offered, by name.
fn hello_facts(hello: &ClientHello) -> Value {
    let first =
        |ids: &[u16], name: fn(u16) -> Option<&'static str>| named(ids.get(..LONGEST_LIST).unwrap_or(ids), name);
    let alpn = hello.alpn_text().into_iter().take(LONGEST_LIST);
    json!({
        "versions": first(&hello.versions, version_name),
        "ciphers": first(&hello.cipher_suites, cipher_name),
        "groups": first(&hello.groups, group_name),
        "alpn": alpn.map(|name| name.chars().take(LONGEST_PROTOCOL).collect()).collect::<Vec<String>>(),
        "server_name": hello.server_name,
    })
}
