//! The same scenarios, with a log that keeps everything and a disk that is done at once: what a client may rely on does not
//! depend on where the broker remembers it.
//!
//! Refuses to know anything else.

mod harness;

/// Everything is kept.
const KEPT: bool = true;

#[path = "scenarios/connect.rs"]
mod connect;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/flow.rs"]
mod flow;
#[path = "scenarios/message.rs"]
mod message;
#[path = "scenarios/qos.rs"]
mod qos;
#[path = "scenarios/retained.rs"]
mod retained;
#[path = "scenarios/rules.rs"]
mod rules;
#[path = "scenarios/runs.rs"]
mod runs;
#[path = "scenarios/session.rs"]
mod session;
#[path = "scenarios/shared.rs"]
mod shared;
#[path = "scenarios/subscribe.rs"]
mod subscribe;
#[path = "scenarios/v311_messages.rs"]
mod v311_messages;
#[path = "scenarios/v311_session.rs"]
mod v311_session;
#[path = "scenarios/will.rs"]
mod will;
