//! Publishes of QoS 1 and 2 on their way: packet identifiers, the server's receive maximum, and what a new connection
//! has to send again.
//!
//! Refuses to know payloads: a packet is bytes with a bit for DUP in the first one.

use std::collections::{HashMap, VecDeque};

/// Of the 65,535 identifiers some stay free for SUBSCRIBE and UNSUBSCRIBE.
const MOST: usize = 65_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Behind the receive maximum of the server.
    Waiting,
    Sent,
    /// PUBREC has come and PUBREL is out (section 4.3.3).
    Released,
}

struct Exchange {
    ticket: u64,
    packet: Vec<u8>,
    stage: Stage,
}

/// What is under way, by packet identifier.
#[derive(Default)]
pub(super) struct Exchanges {
    by_id: HashMap<u16, Exchange>,
    waiting: VecDeque<u16>,
    in_flight: usize,
    last_id: u16,
    bytes: usize,
}

impl Exchanges {
    /// Bytes of packets kept until they are acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= MOST
    }

    /// An identifier that nothing uses (`taken` knows those of other packets) [MQTT-2.2.1-3].
    pub(super) fn fresh_id(&mut self, taken: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.by_id.contains_key(&self.last_id) && !taken(self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Take a packet in, and append it to `out` when the server has room for it.
    pub(super) fn start(&mut self, id: u16, ticket: u64, packet: Vec<u8>, window: usize, out: &mut Vec<u8>) {
        self.bytes += packet.len();
        let stage = if self.in_flight < window {
            out.extend_from_slice(&packet);
            self.in_flight += 1;
            Stage::Sent
        } else {
            self.waiting.push_back(id);
            Stage::Waiting
        };
        self.by_id.insert(id, Exchange { ticket, packet, stage });
    }

    /// PUBREC without failure: whether such a publish is under way.
    pub(super) fn handle_received(&mut self, id: u16) -> bool {
        let Some(exchange) = self.by_id.get_mut(&id) else {
            return false;
        };
        exchange.stage = Stage::Released;
        self.bytes -= exchange.packet.len();
        exchange.packet = Vec::new();
        true
    }

    /// The end of an exchange: its ticket, and the next packets to `out`. `None` when there is no such exchange.
    pub(super) fn handle_end(&mut self, id: u16, window: usize, out: &mut Vec<u8>) -> Option<u64> {
        if self.by_id.get(&id)?.stage == Stage::Waiting {
            return None;
        }
        let exchange = self.by_id.remove(&id)?;
        self.bytes -= exchange.packet.len();
        self.in_flight -= 1;
        self.send_waiting(window, out);
        Some(exchange.ticket)
    }

    fn send_waiting(&mut self, window: usize, out: &mut Vec<u8>) {
        while self.in_flight < window {
            let Some(id) = self.waiting.pop_front() else { return };
            if let Some(exchange) = self.by_id.get_mut(&id) {
                exchange.stage = Stage::Sent;
                out.extend_from_slice(&exchange.packet);
                self.in_flight += 1;
            }
        }
    }

    /// Begin anew on another connection, in the order of the first sending [MQTT-4.6.0-1]. With its session the server
    /// gets what is unacknowledged as duplicates, and the PUBRELs that `release` writes [MQTT-4.4.0-1]; without, it gets
    /// everything as new, and what it had already received in full is over: the tickets of those are the result.
    pub(super) fn resume(
        &mut self,
        is_session_present: bool,
        window: usize,
        release: impl Fn(u16, &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> Vec<u64> {
        let mut order: Vec<(u64, u16)> = self.by_id.iter().map(|(&id, e)| (e.ticket, id)).collect();
        order.sort_unstable();
        self.waiting.clear();
        self.in_flight = 0;
        let mut over = Vec::new();
        for (ticket, id) in order {
            let Some(exchange) = self.by_id.get_mut(&id) else {
                continue;
            };
            match exchange.stage {
                Stage::Released if is_session_present => {
                    release(id, out);
                    self.in_flight += 1;
                }
                Stage::Released => {
                    self.by_id.remove(&id);
                    over.push(ticket);
                }
                Stage::Sent | Stage::Waiting => {
                    if let Some(first) = exchange.packet.first_mut() {
                        // [MQTT-3.3.1-1]
                        let is_again = is_session_present && exchange.stage == Stage::Sent;
                        *first = (*first & !0b1000) | (u8::from(is_again) << 3);
                    }
                    exchange.stage = Stage::Waiting;
                    self.waiting.push_back(id);
                }
            }
        }
        self.send_waiting(window, out);
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(n: u8) -> Vec<u8> {
        vec![0x32, n]
    }

    #[test]
    fn the_window_of_the_server_is_kept_and_filled_again() {
        let (mut exchanges, mut out) = (Exchanges::default(), Vec::new());
        for n in 1..=3u8 {
            exchanges.start(u16::from(n), u64::from(n), packet(n), 2, &mut out);
        }
        assert_eq!(out, [0x32, 1, 0x32, 2]);
        out.clear();
        // The third was not sent: an acknowledgement of it is none.
        assert_eq!(exchanges.handle_end(3, 2, &mut out), None);
        assert_eq!(exchanges.handle_end(1, 2, &mut out), Some(1));
        assert_eq!(out, [0x32, 3]);
        assert_eq!(exchanges.bytes(), 4);
    }

    #[test]
    fn a_present_session_gets_duplicates_and_releases() {
        let (mut exchanges, mut out) = (Exchanges::default(), Vec::new());
        for n in 1..=3u8 {
            exchanges.start(u16::from(n), u64::from(n), packet(n), 2, &mut out);
        }
        assert!(exchanges.handle_received(2));
        out.clear();
        let over = exchanges.resume(true, 10, |id, out| out.push(id as u8), &mut out);
        assert!(over.is_empty());
        // The release, the first as a duplicate, the third for the first time.
        assert_eq!(out, [2, 0x3a, 1, 0x32, 3]);
    }

    #[test]
    fn a_lost_session_gets_everything_as_new_and_nothing_twice() {
        let (mut exchanges, mut out) = (Exchanges::default(), Vec::new());
        for n in 1..=2u8 {
            exchanges.start(u16::from(n), u64::from(n), packet(n), 2, &mut out);
        }
        exchanges.handle_received(2);
        out.clear();
        assert_eq!(exchanges.resume(false, 10, |_, _| (), &mut out), [2]);
        assert_eq!(out, [0x32, 1]);
    }

    #[test]
    fn identifiers_come_round_and_skip_what_is_in_use() {
        let mut exchanges = Exchanges::default();
        exchanges.start(1, 1, packet(1), 10, &mut Vec::new());
        exchanges.last_id = u16::MAX;
        assert_eq!(exchanges.fresh_id(|id| id == 2), 3);
    }
}
