//! Scenarios: what a client may rely on, one conversation each, on a virtual clock.
//!
//! Refuses to know the inside of the engine; everything here goes through its public doors.

#[path = "../harness/mod.rs"]
mod harness;

/// Nothing is kept beyond the engine.
const KEPT: bool = false;

mod budgets;
mod connect;
mod durable;
mod durable_restart;
mod faults;
mod flow;
mod message;
mod qos;
mod retained;
mod rules;
mod runs;
mod session;
mod shared;
mod subscribe;
mod v311_messages;
mod v311_session;
mod will;
