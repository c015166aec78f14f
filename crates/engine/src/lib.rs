//! The broker as a deterministic machine: bytes and time go in, bytes and facts come out.
//!
//! This crate refuses to know sockets, files, threads, clocks and randomness. The same inputs at the same times give the
//! same outputs, so a test owns time and an incident can be replayed.
//!
//! # Calling order
//! [`Engine`]'s methods come in four kinds. *Getters* look. `handle_*` tell it that something happened. *Commands*
//! ask it to do something. `poll_*` take what it wants done. After any `handle_*` or command, drain [`Engine::poll_dirty`]
//! (send each connection's [`Engine::output`], close it when [`Engine::is_closing`], then [`Engine::handle_taken`] or
//! [`Engine::release`]) and [`Engine::poll_event`]; call [`Engine::handle_tick`] no later than [`Engine::poll_deadline`].
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

extern crate alloc;

mod acks;
mod administer;
mod budgets;
mod conn;
mod connack;
mod connect;
mod delivery;
mod durability;
mod engine;
mod event;
mod feed;
mod inbound;
mod intake;
mod lifecycle;
mod limits;
mod memory;
mod message;
mod outgoing;
mod paging;
mod publish;
mod restore;
mod retained;
mod roster;
mod route;
mod router;
pub mod rules;
mod run;
mod session;
mod spares;
mod stats;
mod subscribe;
mod sys;
mod time;
mod tree;

pub use administer::{Purged, Retain};
pub use conn::ConnId;
pub use connack::{Refusal, refusal_bytes};
pub use connect::{ClientIds, Peer};
pub use durability::{Durability, DurabilityFault, Mode};
pub use engine::{Config, Engine, SessionView};
pub use event::{EndCause, Event};
pub use intake::Intake;
pub use limits::Limits;
pub use memory::Memory;
pub use stats::{Counters, Gauges};
pub use time::Millis;
