//! Where bytes meet the network: listeners, handshakes, established connections, and the client.
//!
//! This crate is the only one with sockets, TLS and threads. It refuses to know what MQTT means: packets go to the
//! engine of a shard, and what the engine wants done is carried out here.
//!
//! A connection's way: [`gate`] accepts it, looks at its first bytes, carries out the handshake, waits for its CONNECT;
//! then it moves, once, to the [`shard`] that owns its session and stays there.
#![forbid(unsafe_code)]

pub mod certificate;
mod chain;
mod client;
mod clock;
mod config;
mod denylist;
pub mod describe;
mod event;
mod gate;
pub mod hello;
pub mod http;
mod keep;
mod link;
mod machine;
mod node;
mod psk;
mod recording;
mod refusal;
mod shard;
mod tickets;
mod tls;
mod users;
pub mod ws;

#[cfg(feature = "fuzzing")]
pub use client::session::Session as ClientSession;
pub use client::{Client, ClientConfig, ClientError, Closing, Done, Message, News, Outgoing, Taken};
pub use client::{PeerConfig, PeerState, TlsFailure, TlsPeer};
pub use config::{ListenerKind, NodeConfig, RevokedConfig, default_limits};
pub use event::Facts;
pub use keep::{OtherFleet, store_backup, store_check, store_restore, store_stats};
pub use link::Ended;
pub use node::{Node, NodeError, explain_rule};
pub use recording::Wanted;
pub use sealmq_engine::Retain;
