//! What is kept is what was said: every change, any order of them, and through each start.
//!
//! Refuses to know files.

use crate::model::Model;
use crate::place::{Place, Running, delivery, receiver};
use proptest::prelude::*;
use sealmq_store::{
    Body, Change, Delivery, Entry, Log, Order, Origin, Receiver, Seq, SessionId, Slot, StoredWill, Urgency,
};
use std::borrow::Cow;

/// One move of a broker, with its own memory.
#[derive(Clone, Debug)]
enum Move {
    Begin(bool, u32),
    Attach(usize),
    Detach(usize, u64),
    End(usize),
    Subscribe(usize, u8, u8, u32),
    Unsubscribe(usize, u8),
    Deliver {
        to: Vec<(usize, u8)>,
        size: usize,
        origin: u8,
        expires_at: Option<u64>,
        identifiers: Vec<u32>,
    },
    Release(usize),
    Done(usize),
    Completed(usize, u16),
    Will(u64, Option<u32>),
    WillGone(u64),
    Retain(u8, usize),
    Unretain(u8),
    /// Wait until all of it is safe.
    Settle,
    /// Close and open.
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let at = || any::<usize>();
    let to = proptest::collection::vec((at(), 0..3u8), 1..5);
    let identifiers = proptest::collection::vec(1..268_435_456u32, 0..3);
    let size = prop_oneof![0..300usize, 200..300usize, 5000..9000usize];
    let one = prop_oneof![
        3 => (any::<bool>(), any::<u32>()).prop_map(|(device, expiry)| Move::Begin(device, expiry)),
        1 => at().prop_map(Move::Attach),
        1 => (at(), 0..1u64 << 42).prop_map(|(s, t)| Move::Detach(s, t)),
        1 => at().prop_map(Move::End),
        2 => (at(), 0..5u8, 0..64u8, 0..1000u32).prop_map(|(s, f, o, i)| Move::Subscribe(s, f, o, i)),
        1 => (at(), 0..5u8).prop_map(|(s, f)| Move::Unsubscribe(s, f)),
        9 => (to, size.clone(), 0..5u8, proptest::option::of(0..1u64 << 42), identifiers).prop_map(
            |(to, size, origin, expires_at, identifiers)| Move::Deliver { to, size, origin, expires_at, identifiers }),
        2 => at().prop_map(Move::Release),
        5 => at().prop_map(Move::Done),
        1 => (at(), 0..4u16).prop_map(|(s, p)| Move::Completed(s, p)),
        1 => (0..6u64, proptest::option::of(any::<u32>())).prop_map(|(s, e)| Move::Will(s, e)),
        1 => (0..6u64).prop_map(Move::WillGone),
        3 => (0..6u8, size).prop_map(|(t, s)| Move::Retain(t, s)),
        1 => (0..6u8).prop_map(Move::Unretain),
        2 => Just(Move::Settle),
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(one, 1..60)
}

/// What the broker remembers while it makes its moves.
#[derive(Default)]
struct Broker {
    model: Model,
    sessions: Vec<u64>,
    /// With the slots of the open batch.
    waiting: Vec<(u64, u64, Slot)>,
    next_session: u64,
    next_order: u64,
    last: Seq,
}

impl Broker {
    fn session(&self, at: usize) -> Option<SessionId> {
        (!self.sessions.is_empty()).then(|| SessionId(self.sessions[at % self.sessions.len()]))
    }

    fn say(&mut self, running: &mut Running, change: Change<'_>) {
        let urgency = [Urgency::Lazy, Urgency::Os, Urgency::Sync][self.last.0 as usize % 3];
        self.last = running.log.append(&change, urgency);
        self.model.apply(&Entry::Change(change));
    }

    fn deliver(&mut self, running: &mut Running, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>]) {
        self.last = running.log.deliver(delivery, receivers, Urgency::Sync);
        for receiver in receivers.iter() {
            self.waiting.push((receiver.session.0, receiver.order.0, receiver.slot));
        }
        self.model.apply(&Entry::Delivery(*delivery, receivers.to_vec()));
    }

    fn make(&mut self, running: &mut Running, one: &Move) {
        match one {
            Move::Begin(has_device, expiry_s) => {
                let session = SessionId(self.next_session);
                self.next_session += 1;
                let client_id = format!("client-{}", session.0);
                let device = has_device.then_some("device");
                self.say(
                    running,
                    Change::Begin {
                        session,
                        client_id: &client_id,
                        device,
                        expiry_s: *expiry_s,
                    },
                );
                self.sessions.push(session.0);
            }
            Move::Attach(at) => {
                if let Some(session) = self.session(*at) {
                    self.say(running, Change::Attach { session, expiry_s: 7 });
                }
            }
            Move::Detach(at, when) => {
                if let Some(session) = self.session(*at) {
                    let change = Change::Detach {
                        session,
                        at: *when,
                        expiry_s: 9,
                        sent: Order(*when / 2),
                    };
                    self.say(running, change);
                }
            }
            Move::End(at) => {
                if let Some(session) = self.session(*at) {
                    self.say(running, Change::End { session });
                    self.sessions.retain(|&one| one != session.0);
                    self.waiting.retain(|&(one, ..)| one != session.0);
                }
            }
            Move::Subscribe(at, filter, options, identifier) => {
                if let Some(session) = self.session(*at) {
                    let filter = format!("$share/ü/{filter}/#");
                    let change = Change::Subscribe {
                        session,
                        filter: &filter,
                        options: *options,
                        identifier: *identifier,
                    };
                    self.say(running, change);
                    match identifier % 3 {
                        0 => self.say(
                            running,
                            Change::Owe {
                                session,
                                filter: &filter,
                            },
                        ),
                        1 => self.say(
                            running,
                            Change::Paid {
                                session,
                                filter: &filter,
                            },
                        ),
                        _ => {}
                    }
                }
            }
            Move::Unsubscribe(at, filter) => {
                if let Some(session) = self.session(*at) {
                    self.say(
                        running,
                        Change::Unsubscribe {
                            session,
                            filter: &format!("$share/ü/{filter}/#"),
                        },
                    );
                }
            }
            Move::Deliver {
                to,
                size,
                origin,
                expires_at,
                identifiers,
            } => {
                let payload = vec![self.next_order as u8; *size];
                let mut receivers = Vec::new();
                for &(at, qos) in to {
                    let Some(session) = self.session(at) else { return };
                    self.next_order += 1;
                    receivers.push(Receiver {
                        qos,
                        retain: qos == 1,
                        identifiers: Cow::Borrowed(identifiers),
                        ..receiver(session.0, self.next_order)
                    });
                }
                let origin = match origin {
                    0 => Origin::Received {
                        session: receivers[0].session,
                        packet_id: *size as u16 % 4,
                    },
                    1 => Origin::Will {
                        session: SessionId(*size as u64 % 6),
                    },
                    2 => Origin::Owed {
                        session: receivers[0].session,
                        filter: "$share/ü/1/#",
                    },
                    _ => Origin::Nothing,
                };
                let plain = delivery(&payload);
                let body = Body {
                    expires_at: *expires_at,
                    properties: &payload[..*size / 3],
                    ..plain.body
                };
                self.deliver(running, &Delivery { origin, body }, &mut receivers);
            }
            Move::Release(_) | Move::Done(_) if self.waiting.is_empty() => {}
            Move::Release(at) => {
                let (session, order, _) = self.waiting[at % self.waiting.len()];
                self.say(
                    running,
                    Change::Release {
                        session: SessionId(session),
                        order: Order(order),
                    },
                );
            }
            Move::Done(at) => {
                let (session, order, slot) = self.waiting.swap_remove(at % self.waiting.len());
                running.log.done(SessionId(session), Order(order), slot);
                self.model.apply(&Entry::Change(Change::Done {
                    session: SessionId(session),
                    order: Order(order),
                }));
            }
            Move::Completed(at, packet_id) => {
                if let Some(session) = self.session(*at) {
                    self.say(
                        running,
                        Change::Completed {
                            session,
                            packet_id: *packet_id,
                        },
                    );
                }
            }
            Move::Will(session, expiry_s) => {
                let body = Body {
                    qos: 2,
                    retain: true,
                    ..delivery(b"gone").body
                };
                let will = StoredWill {
                    body,
                    delay_s: 30,
                    expiry_s: *expiry_s,
                };
                self.say(
                    running,
                    Change::Will {
                        session: SessionId(*session),
                        client_id: "c",
                        will,
                    },
                );
            }
            Move::WillGone(session) => self.say(
                running,
                Change::WillGone {
                    session: SessionId(*session),
                },
            ),
            Move::Retain(topic, size) => {
                let (topic, payload) = (format!("retained/{topic}"), vec![*topic; *size]);
                let body = Body {
                    topic: &topic,
                    qos: topic.len() as u8 % 3,
                    retain: true,
                    ..delivery(&payload).body
                };
                self.say(running, Change::Retain { body });
            }
            Move::Unretain(topic) => self.say(
                running,
                Change::Unretain {
                    topic: &format!("retained/{topic}"),
                },
            ),
            Move::Settle => running.until_safe(self.last),
            Move::Restart => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_is_there_after_each_start(moves in moves()) {
        let place = Place::new();
        let mut running = place.run();
        let mut broker = Broker { next_session: running.store.next_session(), ..Broker::default() };
        for one in moves.iter().chain([&Move::Restart]) {
            broker.make(&mut running, one);
            if matches!(one, Move::Restart) {
                running.close();
                let store = place.open().unwrap();
                prop_assert!(store.next_session() >= broker.next_session);
                // Ended sessions are taken away in the end, not at once.
                prop_assert!(store.stats().queued_messages >= broker.model.queue.len() as u64);
                prop_assert_eq!(store.stats().retained, broker.model.retained.len() as u64);
                prop_assert_eq!(store.stats().sessions, broker.model.sessions.len() as u64);
                prop_assert_eq!(store.check().unwrap(), Vec::<String>::new());
                let (found, started) = Model::of(store);
                prop_assert_eq!(&found, &broker.model);
                running = started;
                // Sequences and slots begin anew.
                broker.last = Seq(0);
                for (_, _, slot) in &mut broker.waiting {
                    *slot = Slot::default();
                }
            }
        }
    }
}

#[test]
fn numbers_of_sessions_never_come_again() {
    let place = Place::new();
    let mut running = place.run();
    assert_eq!(running.store.next_session(), 1);
    let session = SessionId(41);
    running.log.append(
        &Change::Begin {
            session,
            client_id: "a",
            device: None,
            expiry_s: 1,
        },
        Urgency::Lazy,
    );
    running.log.append(&Change::End { session }, Urgency::Lazy);
    running.close();
    assert_eq!(place.open().unwrap().next_session(), 42);
}

#[test]
fn what_is_done_in_time_costs_no_transaction() {
    let place = Place::new();
    let mut running = place.run();
    // A page as a fence: the batch before it is on its way.
    running.page(1, 0, 1, 1);
    let before = running.store.stats().commits;
    let mut last = Seq(0);
    let mut kept = 0;
    for order in 0..200 {
        // Lazy, so that the batch stays open until the fence.
        let mut receivers = [receiver(1, order)];
        last = running.log.deliver(&delivery(b"short"), &mut receivers, Urgency::Lazy);
        running.log.done(SessionId(1), Order(order), receivers[0].slot);
        kept += 1;
    }
    running.until_safe(last);
    let stats = running.store.stats();
    assert_eq!(kept, 200);
    // The clock may cut a batch between a delivery and its end; never as often as there are messages.
    assert!(stats.commits - before < 20, "{stats:?}");
    running.page(1, 0, 1, 1);
    assert_eq!(running.store.stats().queued_messages, 0);
    running.close();
}

#[test]
fn a_quiet_message_waits_for_one_sync_and_a_lazy_one_for_none() {
    let place = Place::new();
    let mut running = place.run();
    let (seq, _) = running.deliver(1, 1, b"now");
    running.until_safe(seq);
    running.page(1, 0, 1, 1);
    let first = running.store.stats();
    let seq = running.log.append(&Change::Unretain { topic: "none" }, Urgency::Lazy);
    running.until_safe(seq);
    running.page(1, 0, 1, 1);
    let second = running.store.stats();
    assert_eq!((first.commits, first.syncs), (1, 1));
    assert_eq!((second.commits, second.syncs), (2, 1));
    assert_eq!((second.changes_lazy, second.changes_os, second.changes_sync), (1, 0, 1));
    running.close();
}

#[test]
fn a_body_is_there_once_for_all_and_goes_with_the_last() {
    let place = Place::new();
    let mut running = place.run();
    let payload = vec![7; 100_000];
    let mut receivers: Vec<_> = (1..=50).map(|session| receiver(session, 1)).collect();
    let seq = running.log.deliver(&delivery(&payload), &mut receivers, Urgency::Sync);
    running.until_safe(seq);
    let written = running.store.stats().written_bytes;
    assert!(written < 300_000, "{written} bytes for a body of 100,000");
    for session in 1..=50 {
        assert_eq!(running.page(session, 0, 10, 1).messages[0].payload, payload);
        running.log.done(SessionId(session), Order(1), Slot::default());
    }
    running.close();
    let store = place.open().unwrap();
    assert_eq!(store.stats().queued_messages, 0);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn figures_are_shown_soon() {
    let place = Place::new();
    let mut running = place.run();
    let (seq, _) = running.deliver(3, 9, b"12345");
    running.until_safe(seq);
    running.page(3, 0, 1, 1);
    let stats = running.store.stats();
    assert_eq!((stats.queued_messages, stats.queued_bytes), (1, 5 + 19));
    assert!(stats.commit_max_us >= stats.commit_p50_us && stats.commit_p50_us > 0);
    assert!(stats.file_bytes > 0 && stats.wal_bytes > 0);
    running.close();
}

#[test]
fn a_session_that_is_over_stays_over() {
    let place = Place::new();
    let mut running = place.run();
    running.begin(1);
    for order in 0..5000 {
        running.deliver(1, order, &[7; 400]);
    }
    let session = SessionId(1);
    running.log.append(
        &Change::Subscribe {
            session,
            filter: "a",
            options: 1,
            identifier: 0,
        },
        Urgency::Sync,
    );
    running.log.append(&Change::End { session }, Urgency::Sync);
    running.close();
    let store = place.open().unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let (found, mut running) = Model::of(store);
    assert_eq!(found, Model::default());
    while running.store.stats().queued_messages > 0 {
        let seq = running.log.append(&Change::Unretain { topic: "none" }, Urgency::Os);
        running.until_safe(seq);
    }
    running.close();
    assert_eq!(place.open().unwrap().check().unwrap(), Vec::<String>::new());
}
