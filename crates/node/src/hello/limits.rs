//! How large a record may be that a client is sent (RFC 6066 section 4, RFC 8449). Refuses to know who keeps to it.

use super::{ClientHello, TlsVersion};

impl ClientHello {
    /// Bytes of plaintext that the client takes in one record; None when it takes what TLS allows. The newer extension
    /// counts, when there are both (RFC 8449 section 5), and in TLS 1.3 the content type counts with it (section 4).
    pub fn record_limit(&self) -> Option<usize> {
        let newer = self.record_size_limit.map(|limit| {
            let is_tls13 = self.highest_version() == Some(TlsVersion::Tls13);
            usize::from(limit) - usize::from(is_tls13 && limit > 0)
        });
        newer.or(self.max_fragment_length.map(usize::from))
    }

    /// The same for the records of a handshake. RFC 6066 demands that messages are cut for it, and mbedTLS up to 3.6.2,
    /// which asks for it most, cannot put them together: a limit that no certificate fits in is taken for one on data.
    pub fn handshake_record_limit(&self) -> Option<usize> {
        let limit = self.record_limit()?;
        Some(match self.record_size_limit {
            Some(_) => limit,
            None => limit.max(2048),
        })
    }
}
