//! What can go wrong for a client, in words: a stable code, a sentence, the mend.
//!
//! Refuses to know where the fault was found.

use super::certificates;
use crate::psk::PskFault;
use rustls::{AlertDescription, Error as TlsError, PeerIncompatible};
use std::io;

/// Alerts of RFC 8446 section 6 by which a server says that there is nothing in common.
const HANDSHAKE_FAILURE: u8 = 40;
const INSUFFICIENT_SECURITY: u8 = 71;
const PROTOCOL_VERSION: u8 = 70;
/// bad_record_mac, illegal_parameter, decrypt_error, unknown_psk_identity: how servers refuse a key or an identity.
const KEY_REFUSED: [u8; 4] = [20, 47, 51, 115];
/// What the library says of bytes that are no TLS records.
const NOT_TLS: [&str; 3] = ["wrong version number", "http request", "packet length too long"];
/// Where the broker says more than the protocol does.
pub(super) const REFUSAL_RECORD: &str =
    "the refusal record of the broker says why: `sealmq status` there shows the last ones";

/// A stable code, a sentence, the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    pub code: &'static str,
    pub what: String,
    pub mend: String,
}

impl ClientError {
    pub(super) fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> ClientError {
        ClientError {
            code,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// The caller broke the contract.
pub(super) fn misuse(what: &str) -> ClientError {
    ClientError::new("config-invalid", what, "")
}

/// The server broke MQTT.
pub(super) fn peer_fault(what: impl Into<String>) -> ClientError {
    ClientError::new("peer-fault", what, "")
}

/// The network ended a connection.
pub(super) fn gone(error: &io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::new(
            "closed",
            "server closed the connection without a word",
            "look at its log",
        ),
        _ => ClientError::new("closed", format!("connection failed: {error}"), ""),
    }
}

/// A handshake or a channel that failed, and the alert with which the server ended it, if it did (RFC 8446 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    pub error: ClientError,
    pub alert: Option<u8>,
}

impl From<TlsFailure> for ClientError {
    fn from(failure: TlsFailure) -> ClientError {
        failure.error
    }
}

/// What a TLS error means for somebody who wants to connect to `host`.
pub(super) fn tls_error(error: &TlsError, host: &str) -> TlsFailure {
    let alert = match error {
        TlsError::AlertReceived(alert) => Some(u8::from(*alert)),
        _ => None,
    };
    TlsFailure {
        error: words(error, host),
        alert,
    }
}

/// What the failure of a pre-shared key means for somebody who is `identity`.
pub(super) fn psk_error(fault: &PskFault, identity: &str) -> TlsFailure {
    let alert = match fault {
        PskFault::Alert(number) => Some(*number),
        _ => None,
    };
    let error = match fault {
        PskFault::Alert(PROTOCOL_VERSION) => other_version(),
        PskFault::Alert(HANDSHAKE_FAILURE | INSUFFICIENT_SECURITY) => ClientError::new(
            "tls-refused",
            format!(
                "server agrees to nothing that a pre-shared key allows (TLS alert {})",
                alert.unwrap_or_default()
            ),
            "name its port for pre-shared keys (`sealmq up --psk` prints it); some servers say this of an identity too",
        ),
        PskFault::Alert(number) if KEY_REFUSED.contains(number) => ClientError::new(
            "tls-psk-refused",
            format!(
                "server does not take the pre-shared key of {identity} (TLS alert {number}): \
                 it knows no such identity, or has another key for it"
            ),
            "which of the two is in the log of the broker alone; compare the line of psk.txt with what it was given",
        ),
        PskFault::Alert(number) => ClientError::new(
            "tls-refused",
            format!("server ended the connection with TLS alert {number}"),
            REFUSAL_RECORD,
        ),
        PskFault::DifferentKeys(_) | PskFault::Impostor => ClientError::new(
            "tls-psk-unproven",
            format!("server does not have the pre-shared key of {identity}"),
            "this is not the broker that the key was made for, or its key was made anew: compare psk.txt with it",
        ),
        PskFault::Certificate => ClientError::new(
            "tls-psk-certificate",
            "server shows a certificate instead of proving the pre-shared key",
            "name its port for pre-shared keys (`sealmq up --psk` prints it), or use mqtts:// and a certificate",
        ),
        PskFault::Broken(reason) if NOT_TLS.iter().any(|words| reason.contains(words)) => not_tls(),
        PskFault::Broken(reason) => ClientError::new("tls-broken", format!("TLS failed: {reason}"), ""),
    };
    TlsFailure { error, alert }
}

fn not_tls() -> ClientError {
    ClientError::new(
        "tls-not-tls",
        "server does not speak TLS on this port",
        "check host and port",
    )
}

fn other_version() -> ClientError {
    ClientError::new(
        "tls-version",
        "server speaks no version of TLS that is offered to it",
        "leave --tls-version out; a server that has neither TLS 1.3 nor 1.2 needs a newer TLS library",
    )
}

fn words(error: &TlsError, host: &str) -> ClientError {
    match error {
        TlsError::InvalidCertificate(fault) => certificates::of_server(fault, host),
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => other_version(),
        TlsError::AlertReceived(alert) => certificates::of_client(*alert).unwrap_or_else(|| {
            let what = format!("server ended the connection with TLS alert {alert:?}");
            ClientError::new("tls-refused", what, REFUSAL_RECORD)
        }),
        TlsError::InvalidMessage(_) => not_tls(),
        other => ClientError::new("tls-broken", format!("TLS failed: {other}"), ""),
    }
}
