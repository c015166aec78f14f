//! How what the engine has to say to a connection leaves, and how a connection that is over goes.
//!
//! Refuses to know what is said.

use super::{COOLING, LEAVING, LINGER, Leaving, Seat, Shard};
use crate::link::{Link, LinkFault};
use mio::{Interest, Registry, Token};
use sealmq_engine::ConnId;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Shard {
    /// The network takes bytes again.
    pub(super) fn resume_writing(&mut self, index: u32) {
        let Some(seat) = self.seat_mut(index) else { return };
        let id = seat.id;
        if seat.link.has_outgoing() || self.engine.output(id).is_some_and(|out| !out.is_empty()) {
            self.flush(id);
        }
    }

    pub(super) fn flush_all(&mut self) {
        while let Some(id) = self.engine.poll_dirty() {
            self.flush(id);
        }
    }

    /// What the engine does not know of: pongs of a WebSocket, key updates of TLS.
    pub(super) fn answer(&mut self) {
        for index in std::mem::take(&mut self.answering) {
            if let Some(id) = self.seat_mut(index).filter(|s| s.link.has_outgoing()).map(|s| s.id) {
                self.flush(id);
            }
        }
    }

    /// Send one connection's output, and close it when it is over.
    fn flush(&mut self, id: ConnId) {
        let now = self.now();
        let Some(seat) = self
            .seats
            .get_mut(id.index as usize)
            .and_then(Option::as_deref_mut)
            .filter(|s| s.id == id)
        else {
            if self.engine.is_closing(id) {
                self.engine.release(id);
            }
            return;
        };
        let Some(out) = self.engine.output(id) else {
            // Nothing may leave yet but what TLS has to say; a network that is gone shows itself on reading.
            let _ = seat.link.flush();
            return await_room(self.poll.registry(), seat);
        };
        let outcome = if out.is_empty() {
            seat.link.flush().map(|_| 0).map_err(LinkFault::Io)
        } else {
            seat.link.write(out, &mut self.scratch)
        };
        match outcome {
            Ok(taken) => {
                await_room(self.poll.registry(), seat);
                // The first answer is on its way: what a recording wanted to see is complete.
                if let Some(tap) = seat.link.tap.take() {
                    let facts = json!({"outcome": "accepted", "peer": seat.peer, "listener": &*seat.listener, "device": seat.device.as_deref()});
                    self.shared.recorder.offer(&tap, seat.device.as_deref(), facts);
                }
                self.shared
                    .counters
                    .bytes_sent
                    .fetch_add(taken as u64, Ordering::Relaxed);
                if taken == out.len() {
                    out.clear();
                    if !seat.is_warm && out.capacity() > 0 {
                        seat.is_warm = true;
                        self.warm.push((id.index, Instant::now()));
                    }
                } else {
                    out.drain(..taken);
                }
                if self.engine.is_closing(id) {
                    return self.unseat(id);
                }
                if taken > 0 {
                    self.engine.handle_taken(now, id);
                }
            }
            Err(fault) => {
                self.engine.handle_closed(now, id, &fault.sentence());
                self.forward_events();
                self.unseat(id);
            }
        }
    }

    /// A connection is over: its last words go out, then the socket closes.
    fn unseat(&mut self, id: ConnId) {
        self.forward_events();
        self.engine.release(id);
        if let Some(slot) = self.seats.get_mut(id.index as usize)
            && let Some(seat) = slot.take_if(|s| s.id == id)
        {
            if let Some(validity) = &seat.validity {
                self.expiries.forget(validity, id);
            }
            self.leave(seat.link);
        }
    }

    pub(super) fn leave(&mut self, mut link: Link) {
        link.shut();
        match link.finish() {
            Ok(true) if link.discard(&mut self.scratch) => {}
            Ok(_) => {
                // Looked at now and then; whoever is dropped at once is out of the poll with his socket.
                let _ = self.poll.registry().deregister(&mut link.stream);
                self.leaving.push(Leaving {
                    link,
                    deadline: Instant::now() + LINGER,
                });
            }
            Err(_) => {}
        }
    }

    /// Deadlines of those who leave, memory of those who rest.
    pub(super) fn tidy(&mut self) {
        let now = Instant::now();
        if !self.leaving.is_empty() && now >= self.leaving_at {
            self.leaving_at = now + LEAVING;
            let scratch = &mut self.scratch;
            self.leaving
                .retain_mut(|l| l.deadline > now && l.link.finish().is_ok() && !l.link.discard(scratch));
        }
        if self.warm.first().is_some_and(|(_, since)| since.elapsed() >= COOLING) {
            for (index, _) in std::mem::take(&mut self.warm) {
                let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_deref_mut) else {
                    continue;
                };
                seat.is_warm = false;
                self.engine.rest(seat.id);
                if seat.partial.is_empty() {
                    seat.partial = Vec::new();
                }
            }
        }
    }
}

/// The poll tells when the network takes bytes again. Asked for by whoever is behind, and not before: a socket that is
/// watched for room has an event at once.
fn await_room(registry: &Registry, seat: &mut Seat) {
    if !seat.link.is_blocked() || seat.awaits_room {
        return;
    }
    let token = Token(seat.id.index as usize);
    let both = Interest::READABLE | Interest::WRITABLE;
    seat.awaits_room = registry.reregister(&mut seat.link.stream, token, both).is_ok();
}
