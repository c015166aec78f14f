//! What the engine tells whoever watches it: facts with fields, never on the path of a message that went well.

use crate::ConnId;
use crate::rules::Action;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use sealmq_codec::Version;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndCause {
    /// DISCONNECT from the client.
    ClientDisconnect,
    /// The network connection went away without a DISCONNECT; the sentence says how.
    NetworkClosed(String),
    KeepAliveTimeout,
    SessionTakenOver,
    /// The client broke the protocol; slug and sentence of the offence.
    PeerFault(&'static str, String),
    /// What it asked for cannot be kept; slug and sentence of the reason.
    Store(&'static str, String),
    /// An operator ended it.
    Administrative(String),
    /// Its device, its certificate or its user was revoked; the sentence says which.
    Revoked(String),
    /// Its certificate reached the end of its validity.
    CertificateExpired,
    /// The client is asked to stay away for so long.
    ServerShutdown {
        retry_after_s: u32,
    },
}

impl EndCause {
    /// A stable slug for records.
    pub fn slug(&self) -> &'static str {
        match self {
            EndCause::ClientDisconnect => "client-disconnect",
            EndCause::NetworkClosed(_) => "network-closed",
            EndCause::KeepAliveTimeout => "keep-alive-timeout",
            EndCause::SessionTakenOver => "session-taken-over",
            EndCause::PeerFault(slug, _) | EndCause::Store(slug, _) => slug,
            EndCause::Administrative(_) => "administrative",
            EndCause::Revoked(_) => "revoked",
            EndCause::CertificateExpired => "certificate-expired",
            EndCause::ServerShutdown { .. } => "server-shutdown",
        }
    }

    /// One sentence for people.
    pub fn sentence(&self) -> Cow<'_, str> {
        match self {
            EndCause::ClientDisconnect => "client said DISCONNECT".into(),
            EndCause::NetworkClosed(how) => how.into(),
            EndCause::KeepAliveTimeout => "client sent nothing for one and a half keep-alive intervals".into(),
            EndCause::SessionTakenOver => "a newer connection took over the client identifier".into(),
            EndCause::PeerFault(_, sentence)
            | EndCause::Store(_, sentence)
            | EndCause::Administrative(sentence)
            | EndCause::Revoked(sentence) => sentence.into(),
            EndCause::CertificateExpired => "client certificate has reached the end of its validity".into(),
            EndCause::ServerShutdown { .. } => "broker is shutting down".into(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    Connected {
        conn: ConnId,
        client_id: Arc<str>,
        version: Version,
        keep_alive_s: u16,
        clean_start: bool,
        session_present: bool,
    },
    Disconnected {
        conn: ConnId,
        client_id: Arc<str>,
        cause: EndCause,
    },
    /// An action that no rule allows. At most one a second for each connection; `suppressed` counts the others.
    Denied {
        conn: ConnId,
        client_id: Arc<str>,
        action: Action,
        topic: String,
        why: String,
        suppressed: u32,
    },
    /// Messages lost at a budget.
    Dropped {
        client_id: Arc<str>,
        cause: &'static str,
        count: u64,
    },
}
