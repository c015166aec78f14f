//! Which certificate the server shows: the one for the name that the client asks for, else the first.
//!
//! Refuses to know where certificates come from, and whom a client trusts.

use super::{TlsFault, certificates, fault, private_key};
use crate::config::TlsConfig;
use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The identities of a listener by the DNS names in their certificates (RFC 6066 section 3, RFC 9525 section 6.3).
#[derive(Debug)]
pub(super) struct Identities {
    default: Arc<CertifiedKey>,
    /// Lower case; a wildcard stands as `*.parent`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Identities {
    /// The first identity of a name keeps it.
    pub fn new(tls: &TlsConfig, provider: &CryptoProvider) -> Result<Identities, TlsFault> {
        let default = identity(&tls.certificate_chain_pem, &tls.private_key_pem, "server", provider)?;
        let mut by_name = HashMap::new();
        let mut add = |identity: &Arc<CertifiedKey>| {
            for name in identity.cert.first().map(dns_names).unwrap_or_default() {
                by_name.entry(name).or_insert_with(|| Arc::clone(identity));
            }
        };
        add(&default);
        for (further, number) in tls.also.iter().zip(1..) {
            let what = format!("further server (number {number} of tls.also)");
            add(&identity(
                &further.certificate_chain_pem,
                &further.private_key_pem,
                &what,
                provider,
            )?);
        }
        Ok(Identities { default, by_name })
    }

    /// The identity for `name`, which is in lower case; the default when there is no name or nobody has it.
    fn choose(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let find = |name: &str| {
            self.by_name.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            })
        };
        name.and_then(find).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(Arc::clone(self.choose(name.as_deref())))
    }
}

fn identity(chain: &str, key: &str, what: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsFault> {
    let chain = certificates(chain, "certificate-invalid", &format!("the {what} certificate"))?;
    let key = private_key(key, &format!("the {what} key"))?;
    let identity = CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        Error::InconsistentKeys(_) => fault(
            "key-mismatch",
            format!("{what} key does not belong to the {what} certificate"),
            "use the key that the certificate was issued for, or remove both and let sealmq make them",
        ),
        Error::InvalidCertificate(_) => fault(
            "certificate-invalid",
            format!("{what} certificate cannot be used: {e}"),
            "issue a new one",
        ),
        e => fault(
            "key-invalid",
            format!("{what} key cannot be used: {e}"),
            "use a P-256, P-384, P-521, RSA (2048 bits or more) or Ed25519 key",
        ),
    })?;
    Ok(Arc::new(identity))
}

fn dns_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}
