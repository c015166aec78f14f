//! The client's side of a pre-shared key: an identity and its key become a channel.
//!
//! Refuses to know where they were kept. The handshake proves both sides to each other: a server without the key is
//! nobody, and nothing of MQTT is sent to it.

use super::{MQTT, PskChannel, Secret, context};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslMethod};

/// Who a client is, and how it proves it.
#[derive(Clone, Debug)]
pub struct PskIdentity {
    identity: String,
    key: Secret,
}

impl PskIdentity {
    /// From a line `identity:hexkey`, the last colon parting the two, as in mosquitto's `psk_file` and in `psk.txt`. The
    /// sentence says what is wrong with it and has no key in it.
    pub fn from_line(line: &str) -> Result<PskIdentity, String> {
        let (identity, key) = line
            .trim_end()
            .rsplit_once(':')
            .ok_or("pre-shared key is not identity:hexkey")?;
        // RFC 4279 section 5.3 has all implementations take 128 bytes; the library keeps identities as C strings.
        if identity.is_empty() || identity.len() > 128 || identity.contains('\0') {
            return Err("identity of the pre-shared key does not have 1 to 128 bytes, none of them zero".into());
        }
        let key = Secret::from_hex(key).map_err(|what| format!("pre-shared key of {identity:?} {what}"))?;
        Ok(PskIdentity {
            identity: identity.to_owned(),
            key,
        })
    }

    /// A connection to be; its ClientHello comes out of the first [`PskChannel::decrypt`], with nothing as bytes.
    pub fn connect(&self) -> Result<PskChannel, ErrorStack> {
        let mut builder = context(SslMethod::tls_client())?;
        builder.set_alpn_protos(MQTT)?;
        let own = self.clone();
        builder.set_psk_client_callback(move |_, _, identity, key| {
            let (name, Secret(secret)) = (own.identity.as_bytes(), &own.key);
            match (identity.get_mut(..=name.len()), key.get_mut(..secret.len())) {
                (Some(identity), Some(key)) => {
                    let (text, end) = identity.split_at_mut(name.len());
                    text.copy_from_slice(name);
                    end.fill(0);
                    key.copy_from_slice(secret);
                    Ok(secret.len())
                }
                _ => Ok(0),
            }
        });
        let mut ssl = Ssl::new(&builder.build())?;
        ssl.set_connect_state();
        PskChannel::new(ssl)
    }
}
