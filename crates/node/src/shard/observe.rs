//! Facts from the engine on their way to the ring, with what only the shard knows about the connection.

use super::Shard;
use crate::certificate::{CertificateFacts, RegistryEntry};
use crate::event::Outline;
use crate::gate::TlsFacts;
use sealmq_engine::Event;
use serde::Serialize;
use serde_json::json;

#[derive(Serialize)]
struct Connected<'a> {
    peer: Option<&'a str>,
    listener: Option<&'a str>,
    client_id: &'a str,
    device: Option<&'a str>,
    user: Option<&'a str>,
    certificate: Option<RegistryEntry<'a>>,
    protocol: &'static str,
    keep_alive: u16,
    clean_start: bool,
    session_present: bool,
    tls: Option<&'a TlsFacts>,
}

#[derive(Serialize)]
struct Disconnected<'a> {
    peer: Option<&'a str>,
    client_id: &'a str,
    device: Option<&'a str>,
    cause: &'static str,
    summary: &'a str,
}

impl Shard {
    /// Facts from the engine, with what only the shard knows about the connection.
    pub(super) fn forward_events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Connected {
                    conn,
                    client_id,
                    version,
                    keep_alive_s,
                    clean_start,
                    session_present,
                } => {
                    let seat = self.seats.get_mut(conn.index as usize).and_then(Option::as_deref_mut);
                    let certificate = seat.and_then(|s| s.certificate.take());
                    let seat = self.seats.get(conn.index as usize).and_then(Option::as_deref);
                    let connected = Connected {
                        peer: seat.map(|s| &*s.peer),
                        listener: seat.map(|s| &*s.listener),
                        client_id: &client_id,
                        device: seat.and_then(|s| s.device.as_deref()),
                        user: seat.and_then(|s| s.user.as_deref()),
                        certificate: certificate.as_deref().map(CertificateFacts::registry_entry),
                        protocol: version.name(),
                        keep_alive: keep_alive_s,
                        clean_start,
                        session_present,
                        tls: seat.and_then(|s| s.tls.as_ref()),
                    };
                    let outline = Outline {
                        client_id: &client_id,
                        device: connected.device.unwrap_or_default(),
                        peer: connected.peer.unwrap_or_default(),
                        certificate: connected.certificate.as_ref().map_or("", |c| &c.sha256),
                    };
                    self.shared.events.push_about(outline, "connected", &connected);
                }
                Event::Disconnected { conn, client_id, cause } => {
                    let seat = self.seats.get(conn.index as usize).and_then(Option::as_deref);
                    let disconnected = Disconnected {
                        peer: seat.map(|s| &*s.peer),
                        client_id: &client_id,
                        device: seat.and_then(|s| s.device.as_deref()),
                        cause: cause.slug(),
                        summary: &cause.sentence(),
                    };
                    let outline = Outline {
                        client_id: &client_id,
                        device: disconnected.device.unwrap_or_default(),
                        peer: disconnected.peer.unwrap_or_default(),
                        certificate: "",
                    };
                    self.shared.events.push_about(outline, "disconnected", &disconnected);
                }
                Event::Denied {
                    conn,
                    client_id,
                    action,
                    topic,
                    why,
                    suppressed,
                } => {
                    let seat = self.seats.get(conn.index as usize).and_then(Option::as_deref);
                    let (device, user) = (
                        seat.and_then(|s| s.device.as_deref()),
                        seat.and_then(|s| s.user.as_deref()),
                    );
                    let who = device.or(user).unwrap_or("anonymous");
                    self.shared.events.push("denied", &json!({
                        "client_id": &*client_id,
                        "device": device,
                        "action": action.name(),
                        "topic": topic,
                        "rule": why,
                        "suppressed": suppressed,
                        "mend": format!("if {who} should be allowed to, add a rule with actions = [\"{}\"] and a topic that covers {topic} to the rule file", action.name()),
                    }));
                }
                Event::Dropped {
                    client_id,
                    cause,
                    count,
                } => {
                    self.shared.events.push(
                        "dropped",
                        &json!({"client_id": &*client_id, "cause": cause, "count": count}),
                    );
                }
            }
        }
    }
}
