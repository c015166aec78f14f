//! Reading a client certificate: the device it names, and what a refusal record says about it.
//!
//! Refuses to know whether the certificate is trusted; that was decided before, or was the reason to refuse.

use crate::chain::MOST_BYTES;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, Serializer};
use std::cell::RefCell;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};

/// Bytes of a name that is put into words, DER.
const LONGEST_NAME: usize = 1024;
/// Bytes of a serial number that are shown; RFC 5280 allows 20.
const LONGEST_NUMBER: usize = 64;

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// The fields of a certificate that people need to find it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    pub subject: String,
    pub issuer: String,
    /// Lower-case hexadecimal, two digits a byte, no separators.
    pub serial: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// The device id, when the certificate names one.
    #[serde(serialize_with = "named")]
    pub device: Result<Arc<str>, IdentityFault>,
    #[serde(skip)]
    pub not_before_unix: i64,
    #[serde(skip)]
    pub not_after_unix: i64,
    #[serde(skip)]
    pub sha256: Fingerprint,
    /// The key identifier of its issuer (RFC 5280 section 4.2.1.1), when it states one.
    #[serde(skip)]
    pub issuer_key_id: Option<String>,
}

/// What a registry finds a certificate by.
#[derive(Serialize)]
pub struct RegistryEntry<'a> {
    pub sha256: String,
    serial: &'a str,
    /// Seconds since the Unix epoch.
    not_before: i64,
    not_after: i64,
    issuer_key_id: Option<&'a str>,
}

impl CertificateFacts {
    pub fn registry_entry(&self) -> RegistryEntry<'_> {
        RegistryEntry {
            sha256: hex(&self.sha256),
            serial: &self.serial,
            not_before: self.not_before_unix,
            not_after: self.not_after_unix,
            issuer_key_id: self.issuer_key_id.as_deref(),
        }
    }

    /// The device it names.
    pub fn device_id(&self) -> Option<&Arc<str>> {
        self.device.as_ref().ok()
    }

    /// Milliseconds since the Unix epoch from which on it is not valid: the second of notAfter still counts (RFC 5280
    /// section 4.1.2.5).
    pub fn ends_ms(&self) -> u64 {
        u64::try_from(self.not_after_unix).map_or(0, |last| (last + 1) * 1000)
    }
}

/// Why a certificate names no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// Not X.509.
    Unreadable,
    /// A SPIFFE URI of another fleet.
    ForeignFleet(String),
    /// Neither a device URI nor a common name.
    Missing,
    /// The name has characters that mean something in a topic filter, or is too long.
    Unfit(String),
}

impl IdentityFault {
    pub fn slug(&self) -> &'static str {
        match self {
            IdentityFault::Unreadable => "certificate-unreadable",
            IdentityFault::ForeignFleet(_) => "certificate-foreign-fleet",
            IdentityFault::Missing => "certificate-without-identity",
            IdentityFault::Unfit(_) => "certificate-unfit-identity",
        }
    }

    pub fn sentence(&self, fleet: &str) -> String {
        match self {
            IdentityFault::Unreadable => "client certificate cannot be read as X.509".into(),
            IdentityFault::ForeignFleet(uri) => {
                format!("client certificate belongs to {uri}, this broker serves spiffe://{fleet}/device/<id>")
            }
            IdentityFault::Missing => "client certificate names no device: no spiffe URI and no common name".into(),
            IdentityFault::Unfit(name) => {
                format!("client certificate names {name:?}, which cannot be a device id")
            }
        }
    }

    pub fn mend(&self, fleet: &str) -> String {
        match self {
            IdentityFault::Unfit(_) => {
                "use 1 to 64 letters, digits, '-', '_', '.' or '@' as the device id, without : / + #, and not anonymous or user"
                    .into()
            }
            _ => format!(
                "issue it with `sealmq device add ID`, or put the URI spiffe://{fleet}/device/<id> into its SAN"
            ),
        }
    }
}

fn named<S: Serializer>(device: &Result<Arc<str>, IdentityFault>, serializer: S) -> Result<S::Ok, S::Error> {
    device.as_deref().ok().serialize(serializer)
}

/// A certificate as it was read, and for which fleet.
struct Read {
    der: Box<[u8]>,
    fleet: String,
    facts: Arc<CertificateFacts>,
}

thread_local! {
    /// A handshake asks for its certificate several times: when it verifies it or opens a ticket, and when it is over.
    static LAST_READ: RefCell<Option<Read>> = const { RefCell::new(None) };
}

/// The fields of a DER certificate; `None` when it is not X.509.
pub fn facts(der: &[u8], fleet: &str) -> Option<Arc<CertificateFacts>> {
    LAST_READ.with_borrow_mut(|last| {
        if let Some(read) = last.as_ref().filter(|read| *read.der == *der && read.fleet == fleet) {
            return Some(Arc::clone(&read.facts));
        }
        let facts = Arc::new(read(der, fleet)?);
        *last = Some(Read {
            der: der.into(),
            fleet: fleet.to_owned(),
            facts: Arc::clone(&facts),
        });
        Some(facts)
    })
}

fn read(der: &[u8], fleet: &str) -> Option<CertificateFacts> {
    if der.len() > MOST_BYTES {
        return None;
    }
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(CertificateFacts {
        subject: words(certificate.subject()),
        issuer: words(certificate.issuer()),
        serial: hex(certificate.raw_serial()),
        not_before: rfc3339(validity.not_before.timestamp()),
        not_after: rfc3339(validity.not_after.timestamp()),
        device: device_of(&certificate, fleet).map(Arc::from),
        not_before_unix: validity.not_before.timestamp(),
        not_after_unix: validity.not_after.timestamp(),
        sha256: fingerprint(der),
        issuer_key_id: certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(issuer) => Some(hex(issuer.key_identifier.as_ref()?.0)),
                _ => None,
            }),
    })
}

/// A name as people read it. One that is longer than any of theirs goes unread: the number of an attribute type, say, takes
/// time by the square of its length.
fn words(name: &X509Name<'_>) -> String {
    match name.as_raw().len() {
        bytes if bytes > LONGEST_NAME => format!("(a name of {bytes} bytes)"),
        _ => name.to_string(),
    }
}

/// First and last second of a certificate's validity, since the Unix epoch; `None` when it is not X.509.
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn fingerprint(der: &[u8]) -> Fingerprint {
    let mut sha256 = Fingerprint::default();
    sha256.copy_from_slice(digest(&SHA256, der).as_ref());
    sha256
}

/// Hexadecimal; of what is longer than any serial number or key identifier, the beginning.
fn hex(bytes: &[u8]) -> String {
    let bytes = bytes.get(..LONGEST_NUMBER).unwrap_or(bytes);
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    bytes.iter().flat_map(|&b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// The device that a verified certificate stands for: the URI SAN `spiffe://<fleet>/device/<id>`, or, without any URI
/// SAN, the common name.
fn device_of(certificate: &X509Certificate<'_>, fleet: &str) -> Result<String, IdentityFault> {
    let mut foreign = None;
    if let Ok(Some(san)) = certificate.subject_alternative_name() {
        for name in &san.value.general_names {
            if let GeneralName::URI(uri) = name {
                match uri
                    .strip_prefix("spiffe://")
                    .and_then(|rest| rest.split_once("/device/"))
                {
                    Some((host, id)) if host == fleet => return fit(id),
                    _ => foreign = Some((*uri).to_owned()),
                }
            }
        }
    }
    // A certificate that says in so many words whose it is does not get a second guess from its common name.
    if let Some(uri) = foreign {
        return Err(IdentityFault::ForeignFleet(uri));
    }
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|cn| cn.as_str().ok());
    name.map_or(Err(IdentityFault::Missing), fit)
}

fn fit(id: &str) -> Result<String, IdentityFault> {
    if is_fit(id) {
        Ok(id.to_owned())
    } else {
        Err(IdentityFault::Unfit(id.chars().take(80).collect()))
    }
}

/// Whether a device or a user may have this name. It becomes part of topic filters and client identifiers, so it must not
/// be able to mean more than itself: `:` parts it from the rest of a client identifier, and a device `a:b` would share
/// those of device `a`, a device `user` those of every user.
pub fn is_fit(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id != "anonymous"
        && id != "user"
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ' '))
}

/// Seconds since 1970 as `2026-11-20T12:00:00Z` (civil-from-days, proleptic Gregorian).
pub fn rfc3339(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_219_199), "2026-11-20T23:59:59Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn an_identity_cannot_reach_beyond_itself() {
        for bad in [
            "",
            "a/b",
            "+",
            "#",
            "anonymous",
            "user",
            "a:b",
            "a\u{0}",
            "é",
            &"x".repeat(65),
        ] {
            assert!(fit(bad).is_err(), "{bad:?}");
        }
        for good in ["sensor-9", "plant_7", "a.b", "Pump 3", "a@b"] {
            assert!(fit(good).is_ok(), "{good:?}");
        }
    }
}
