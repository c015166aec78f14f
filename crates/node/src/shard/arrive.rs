//! How a connection from the gate gets its seat, or its refusal.

use super::{Seat, Shard, Validity};
use crate::certificate::CertificateFacts;
use crate::event::now_ms;
use crate::gate::TlsFacts;
use crate::hello::ClientHello;
use crate::link::Link;
use crate::node::{Settings, Shared};
use crate::refusal::{Refusal, Stage};
use mio::{Interest, Token};
use sealmq_codec::{Connect, Framed, ReasonCode, frame};
use sealmq_engine::{ClientIds, ConnId, Peer, refusal_bytes};
use serde_json::json;
use std::sync::Arc;

/// A connection with its CONNECT, from the gate.
pub struct Arrival {
    pub link: Link,
    /// Decoded bytes, beginning with the CONNECT.
    pub plain: Vec<u8>,
    pub connect_size: usize,
    pub peer: String,
    pub listener: Arc<str>,
    pub device: Option<Arc<str>>,
    /// Who has shown a password in place of a certificate.
    pub user: Option<Arc<str>>,
    pub certificate: Option<Arc<CertificateFacts>>,
    /// For the record, should the engine refuse the CONNECT.
    pub hello: Option<Box<ClientHello>>,
    pub tls: Option<TlsFacts>,
}

impl Arrival {
    /// As rules and sessions know him: the device id, or `user:NAME`.
    fn identity(&self) -> Option<Arc<str>> {
        let user = || self.user.as_deref().map(|name| format!("user:{name}").into());
        self.device.clone().or_else(user)
    }

    /// What changed while he was on his way from the gate, where he was looked at first.
    fn outdated(&self, shared: &Shared, settings: &Settings) -> Option<Refusal> {
        match (&self.certificate, &self.user) {
            (Some(certificate), _) if shared.standing.denylist.denies(certificate) => {
                Some(Refusal::revoked(certificate))
            }
            (Some(certificate), _) if certificate.ends_ms() <= now_ms() => Some(Refusal::expired(certificate)),
            (None, Some(user)) if !settings.users.knows(user) => Some(Refusal::bad_credentials()),
            (None, None) => {
                let may_stay = |id: &str| settings.has_key(id) && !shared.standing.denylist.names(Some(id), None);
                let device = self.device.as_deref().filter(|id| !may_stay(id));
                device.map(Refusal::revoked_key)
            }
            _ => None,
        }
    }
}

impl Shard {
    /// A newcomer: its CONNECT goes to the engine.
    pub(super) fn seat(&mut self, mut arrival: Arrival) {
        let Some(id) = self.introduce(&mut arrival) else {
            return self.leave(arrival.link);
        };
        let Arrival {
            mut link,
            mut plain,
            connect_size,
            peer,
            listener,
            device,
            user,
            certificate,
            tls,
            ..
        } = arrival;
        let token = Token(id.index as usize);
        if let Err(e) = self
            .poll
            .registry()
            .register(&mut link.stream, token, Interest::READABLE)
        {
            let now = self.now();
            self.engine
                .handle_closed(now, id, &format!("socket cannot be watched: {e}"));
            self.engine.release(id);
            return self.leave(link);
        }
        plain.drain(..connect_size);
        let partial = if plain.is_empty() { Vec::new() } else { plain };
        let validity = certificate.as_deref().map(Validity::of);
        if let Some(validity) = &validity {
            self.expiries.await_end(validity, id);
        }
        let seat = Seat {
            id,
            link,
            partial,
            need: 0,
            is_cut_short: false,
            peer,
            listener,
            tls,
            device,
            user,
            certificate,
            validity,
            is_ready: false,
            is_warm: false,
            awaits_room: false,
        };
        let index = id.index as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.seats.get_mut(index) {
            *slot = Some(Box::new(seat));
        }
        // The record of the connection needs the seat; and packets may have come together with the CONNECT. What is still in
        // the socket is told by the poll, which looks when it takes a socket in.
        self.forward_events();
        self.consume_partial(id.index);
        if self.seat_mut(id.index).is_some_and(|seat| seat.is_cut_short) {
            self.mark_ready(id.index);
        }
    }

    /// Ask the engine; `None` after a refusal, whose CONNACK is on its way and whose record is written. The connection is
    /// closed behind it, and what came behind the CONNECT is not read [MQTT-3.1.4-6], [MQTT-3.2.2-7].
    fn introduce(&mut self, arrival: &mut Arrival) -> Option<ConnId> {
        let settings = self.shared.settings();
        // Nobody without identity comes this far, except where `anonymous` lets him, and that may have ended since; while
        // shutting down nobody is seated any more.
        let has_identity = arrival.device.is_some() || arrival.user.is_some();
        if self.stop_at.is_some() || (!has_identity && !settings.dangerous.anonymous) {
            return None;
        }
        let Ok(Framed::Whole(whole)) = frame(&arrival.plain, u32::MAX) else {
            return None;
        };
        let connect = Connect::decode(whole.body).ok()?;
        let client_ids = if settings.dangerous.any_client_id {
            ClientIds::Any
        } else {
            ClientIds::OwnOnly
        };
        let who = Peer {
            device: arrival.identity(),
            client_ids,
        };
        let now = self.now();
        let (refusal, bytes) = match arrival.outdated(&self.shared, &settings) {
            Some(refusal) => {
                let bytes = refusal_bytes(&connect, ReasonCode::NotAuthorized, &refusal.summary);
                (refusal, bytes)
            }
            None => match self.engine.handle_connect(now, &connect, &who) {
                Ok(id) => return Some(id),
                Err(refused) => (
                    Refusal::new(Stage::Connect, refused.cause, refused.summary, refused.mend),
                    refused.bytes,
                ),
            },
        };
        let record = refusal.record(
            &arrival.peer,
            &arrival.listener,
            arrival.hello.as_deref(),
            arrival.certificate.as_deref(),
            Some(connect.client_id),
        );
        self.shared.refused(refusal.cause, record.clone());
        let _ = arrival.link.write(&bytes, &mut self.scratch);
        if let Some(tap) = arrival.link.tap.take() {
            let facts = json!({"outcome": "refused", "refusal": record});
            self.shared.recorder.offer(&tap, arrival.device.as_deref(), facts);
        }
        None
    }
}
