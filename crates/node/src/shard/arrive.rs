//! How a connection from the gate gets its seat, or its refusal.

use super::{Arrival, Seat, Shard};
use crate::refusal::{Refusal, Stage};
use mio::{Interest, Token};
use sealmq_codec::{Connect, Framed, frame};
use sealmq_engine::{ClientIds, ConnId, Peer};
use serde_json::json;

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
            tls,
            ..
        } = arrival;
        let token = Token(id.index as usize);
        if let Err(e) = self
            .poll
            .registry()
            .register(&mut link.stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            let now = self.now();
            self.engine
                .handle_closed(now, id, &format!("socket cannot be watched: {e}"));
            self.engine.release(id);
            return self.leave(link);
        }
        plain.drain(..connect_size);
        let partial = if plain.is_empty() { Vec::new() } else { plain };
        let seat = Seat {
            id,
            link,
            partial,
            need: 0,
            peer,
            listener,
            tls,
            device,
            is_ready: false,
            is_warm: false,
        };
        let index = id.index as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.seats.get_mut(index) {
            *slot = Some(Box::new(seat));
        }
        // The record of the connection needs the seat; and packets may have come together with the CONNECT.
        self.forward_events();
        self.consume_partial(id.index);
        self.mark_ready(id.index);
    }

    /// Ask the engine; `None` after a refusal, whose CONNACK is on its way and whose record is written.
    fn introduce(&mut self, arrival: &mut Arrival) -> Option<ConnId> {
        let settings = self.shared.settings();
        // Only a plaintext listener lets somebody without identity come this far, and it does not start without
        // `anonymous`; while shutting down nobody is seated any more.
        if self.stop_at.is_some() || (arrival.device.is_none() && !settings.dangerous.anonymous) {
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
            device: arrival.device.clone(),
            client_ids,
        };
        let now = self.now();
        let refused = match self.engine.handle_connect(now, &connect, &who) {
            Ok(id) => return Some(id),
            Err(refused) => refused,
        };
        let record = Refusal::new(Stage::Connect, refused.cause, refused.summary, refused.mend).record(
            &arrival.peer,
            &arrival.listener,
            arrival.hello.as_deref(),
            arrival.certificate.as_ref(),
            Some(connect.client_id),
        );
        self.shared.refused(refused.cause, record.clone());
        let _ = arrival.link.write(&refused.bytes, &mut self.scratch);
        if let Some(tap) = arrival.link.tap.take() {
            let facts = json!({"outcome": "refused", "refusal": record});
            self.shared.recorder.offer(&tap, arrival.device.as_deref(), facts);
        }
        None
    }
}
