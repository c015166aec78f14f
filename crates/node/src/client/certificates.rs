//! What is wrong with a certificate, in words: the server's by what was found here, the client's by the alert of the server.
//!
//! Refuses to know everything else that can go wrong in TLS.

use super::fault::{ClientError, REFUSAL_RECORD};
use super::trust::PinMismatch;
use crate::certificate::rfc3339;
use crate::chain::ChainTooLong;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

/// What a server finds in the certificate of this side, if that is what it says by an alert (RFC 8446 section 6.2). Whoever
/// holds the device often has no access to the broker: the mend begins with what can be done here.
pub(super) fn of_client(alert: AlertDescription) -> Option<ClientError> {
    let (why, mend) = match alert {
        AlertDescription::CertificateExpired => (
            "by the clock there, the client certificate has expired or is not valid yet",
            "renew it: `sealmq agent` where the device enrolled, `sealmq device renew ID` where its files were made \
             (`sealmq cert show FILE` shows its dates)",
        ),
        AlertDescription::CertificateRevoked => (
            "the client certificate is revoked",
            "no renewal helps: whoever runs the broker has to let the device in again",
        ),
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => (
            "it wants a client certificate and got none",
            "give the certificate of the device and its key (--cert and --key, or --as ID)",
        ),
        AlertDescription::UnknownCA => (
            "it does not know the CA that issued the client certificate",
            "give the certificate that was issued for this broker, with its intermediates (`sealmq cert show FILE` shows who issued it)",
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => (
            "it does not accept the client certificate",
            "look at it with `sealmq cert show FILE`: it has to be for clients, and for this broker",
        ),
        _ => return None,
    };
    Some(ClientError::new(
        "tls-refused",
        format!("server ended the connection with TLS alert {alert:?}: {why}"),
        format!("{mend}; {REFUSAL_RECORD}"),
    ))
}

/// What was found in the certificate of a server that has to be `host`.
pub(super) fn of_server(fault: &CertificateError, host: &str) -> ClientError {
    match fault {
        CertificateError::UnknownIssuer => ClientError::new(
            "tls-untrusted-issuer",
            "server certificate was not issued by the CA that was given",
            "give the CA of this broker: `sealmq ca export` there, --cafile here",
        ),
        // The names match and the key does not: a CA that was made anew, or a stranger that took its name.
        CertificateError::BadSignature => ClientError::new(
            "tls-untrusted-issuer",
            "server certificate names the CA that was given, but another key signed it",
            "give the CA of this broker: `sealmq ca export` there, --cafile here",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => ClientError::new(
            "tls-wrong-name",
            format!("server certificate is not for {host}: {fault}"),
            "connect by a name in the certificate, or add this one to tls.extra_names of the broker",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ClientError::new(
            "tls-expired",
            format!("server certificate has expired{}", dates(fault)),
            "renew it, or check the clock here",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => ClientError::new(
            "tls-not-yet-valid",
            format!("server certificate is not valid yet{}", dates(fault)),
            "check the clock here",
        ),
        CertificateError::Revoked => ClientError::new(
            "tls-revoked",
            "server certificate is on the revocation list that was given",
            "do not connect; the broker needs a new certificate",
        ),
        CertificateError::UnknownRevocationStatus => ClientError::new(
            "tls-revocation-unknown",
            "no revocation list that was given speaks of the server certificate",
            "give the list of the CA that issued it: `sealmq ca export` there, --crl here",
        ),
        CertificateError::Other(other) => match other.0.downcast_ref::<PinMismatch>() {
            Some(mismatch) => ClientError::new(
                "tls-pin-mismatch",
                format!(
                    "no key in the chain of the server is pinned: its own is {}",
                    mismatch.leaf
                ),
                "somebody is in between, or the keys were replaced: `sealmq pin show` on a way that you trust",
            ),
            None => ChainTooLong::of(fault).map_or_else(|| unacceptable(fault), too_long),
        },
        other => unacceptable(other),
    }
}

fn too_long(chain: &ChainTooLong) -> ClientError {
    ClientError::new(
        "tls-chain-too-long",
        format!("server certificate {chain}"),
        "the server should send its certificate and those of the CAs between it and the root, and nothing else",
    )
}

/// The end of its validity that was passed, and the time that it was held against.
fn dates(fault: &CertificateError) -> String {
    let date = |time: UnixTime| rfc3339(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match fault {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                ": it was valid until {}, the clock here says {}",
                date(*not_after),
                date(*time)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                ": it is valid from {}, the clock here says {}",
                date(*not_before),
                date(*time)
            )
        }
        _ => String::new(),
    }
}

fn unacceptable(fault: &CertificateError) -> ClientError {
    ClientError::new(
        "tls-certificate",
        format!("server certificate cannot be accepted: {fault}"),
        "",
    )
}

#[cfg(test)]
mod tests {
    use super::super::fault::{TlsFailure, tls_error};
    use super::*;
    use rustls::Error as TlsError;
    use std::time::Duration;

    #[test]
    fn an_alert_about_the_certificate_of_this_side_is_mended_here_first() {
        let about = [
            (
                AlertDescription::CertificateExpired,
                "expired",
                "`sealmq device renew ID`",
            ),
            (AlertDescription::CertificateRevoked, "revoked", "no renewal helps"),
            (AlertDescription::CertificateRequired, "got none", "--cert and --key"),
            (AlertDescription::NoCertificate, "got none", "--cert and --key"),
            (AlertDescription::UnknownCA, "CA that issued", "`sealmq cert show FILE`"),
            (
                AlertDescription::UnsupportedCertificate,
                "not accept",
                "`sealmq cert show FILE`",
            ),
        ];
        for (alert, why, mend) in about {
            let TlsFailure { error, alert: number } = tls_error(&TlsError::AlertReceived(alert), "h");
            assert_eq!((error.code, number), ("tls-refused", Some(u8::from(alert))));
            assert!(error.what.contains(&format!("TLS alert {alert:?}: ")), "{error:?}");
            assert!(
                error.what.contains("client certificate") && error.what.contains(why),
                "{error:?}"
            );
            let (first, record) = error.mend.rsplit_once("; ").expect("two mends");
            assert!(first.contains(mend) && record.contains("`sealmq status`"), "{error:?}");
        }
        let other = tls_error(&TlsError::AlertReceived(AlertDescription::InternalError), "h").error;
        assert!(
            !other.what.contains("certificate") && !other.mend.contains("certificate"),
            "{other:?}"
        );
    }

    #[test]
    fn a_clock_that_does_not_fit_is_told_in_dates() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let words = |fault| tls_error(&TlsError::InvalidCertificate(fault), "h").error.what;
        let (time, not_after, not_before) = (at(1_811_808_001), at(1_797_857_120), at(1_897_857_120));
        assert_eq!(
            words(CertificateError::ExpiredContext { time, not_after }),
            "server certificate has expired: it was valid until 2026-12-21T12:45:20Z, the clock here says 2027-06-01T00:00:01Z"
        );
        assert_eq!(
            words(CertificateError::NotValidYetContext { time, not_before }),
            "server certificate is not valid yet: it is valid from 2030-02-20T22:32:00Z, the clock here says 2027-06-01T00:00:01Z"
        );
    }
}
