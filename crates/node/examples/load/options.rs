//! What a run was asked for, and the TLS of its clients.
//!
//! Refuses to know what a load does with it.

use crate::Outcome;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sealmq_codec::QoS;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct Options {
    pub mode: String,
    pub address: SocketAddr,
    pub pid: u32,
    pub tls: Arc<ClientConfig>,
    pub id: String,
    certificate: PathBuf,
    ca: PathBuf,
    named: HashMap<String, usize>,
}

impl Options {
    pub fn parse() -> Outcome<Options> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [mode, address, pid, ca, cert, key, id, rest @ ..] = words.as_slice() else {
            return Err("usage: load MODE ADDR PID CA CERT KEY ID [--name number]...".into());
        };
        let mut named = HashMap::new();
        for pair in rest.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} has no value", pair.join(" ")).into());
            };
            let Some(name) = name.strip_prefix("--") else {
                return Err(format!("{name} is not --name").into());
            };
            named.insert(name.to_owned(), value.parse()?);
        }
        let resume = named.get("resume").is_some_and(|&n| n > 0);
        Ok(Options {
            mode: mode.clone(),
            address: address.parse()?,
            pid: pid.parse()?,
            tls: Arc::new(client_config(ca.as_ref(), cert.as_ref(), key.as_ref(), resume)?),
            id: id.clone(),
            certificate: cert.into(),
            ca: ca.into(),
            named,
        })
    }

    /// The same as another device, which the broker has not seen yet: its files are in `FOLDER-NUMBER`, beside the folder of
    /// the first one's.
    pub fn stranger(&self, number: usize) -> Outcome<Options> {
        let folder = self.certificate.parent().ok_or("CERT is in no folder")?;
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or("CERT is in no folder")?;
        let its = folder.with_file_name(format!("{name}-{number}"));
        Ok(Options {
            tls: Arc::new(client_config(
                &self.ca,
                &its.join("cert.pem"),
                &its.join("key.pem"),
                false,
            )?),
            id: format!("{}-{number}", self.id),
            ..self.clone()
        })
    }

    pub fn number(&self, name: &str, default: usize) -> usize {
        self.named.get(name).copied().unwrap_or(default)
    }

    pub fn qos(&self) -> Outcome<QoS> {
        let qos = u8::try_from(self.number("qos", 0)).ok().and_then(QoS::from_bits);
        qos.ok_or_else(|| "--qos is 0, 1 or 2".into())
    }

    /// Whether the other side is the bare relay, which has no CONNECT and no SUBSCRIBE.
    pub fn is_bare(&self) -> bool {
        self.number("bare", 0) > 0
    }

    /// How long any one step may take; a broker that stops answering ends the run with an error.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.number("patience", 120) as u64)
    }
}

fn client_config(ca: &Path, cert: &Path, key: &Path, resume: bool) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The group that every broker has and the suite that it must have (RFC 8446 section 9.1), so that handshakes cost the
    // same mathematics.
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.resumption = if resume {
        Resumption::in_memory_sessions(32)
    } else {
        Resumption::disabled()
    };
    Ok(config)
}
