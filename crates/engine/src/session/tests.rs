//! The queue, the stages and the identifiers of a session.

use super::*;
use crate::delivery::packet_id;
use crate::message::{Content, Held};
use sealmq_store::Slot;

fn pending(session: &mut Session, qos: QoS) -> Pending {
    let content = Content {
        topic: "t",
        properties: &[],
        payload: b"x",
        expires_at: None,
        qos,
        retain: false,
    };
    Pending {
        message: Held::Alone(Box::new(Message::new(&content, session.share.memory()))),
        qos,
        retain: false,
        identifiers: Box::default(),
        order: session.take_order(),
        kept: None,
    }
}

fn session() -> Session {
    Session::new("c".into(), None, SessionId(0), &Memory::new(1 << 30))
}

fn kept(session: &mut Session, seq: u64) -> Pending {
    Pending {
        kept: Some(Kept {
            seq: Seq(seq),
            slot: Slot::default(),
        }),
        ..pending(session, QoS::AtLeastOnce)
    }
}

#[test]
fn a_packet_identifier_still_in_flight_is_not_given_out_again() {
    let mut session = session();
    let first = pending(&mut session, QoS::AtLeastOnce);
    let stuck = packet_id(first.order);
    session.track(first);
    let mut others = 0u64;
    loop {
        let next = pending(&mut session, QoS::AtLeastOnce);
        if !session.is_identifier_free(next.order) {
            break;
        }
        let id = packet_id(next.order);
        session.track(next);
        assert!(id != stuck && id != 0);
        assert!(
            session
                .complete_publish(id, QoS::AtLeastOnce, &mut Spares::default())
                .is_some()
        );
        others += 1;
    }
    assert_eq!(others, IDENTIFIERS - 1, "all the others were used");
    assert!(
        session
            .complete_publish(stuck, QoS::AtLeastOnce, &mut Spares::default())
            .is_some()
    );
    let order = session.take_order();
    assert!(session.is_identifier_free(order));
    assert_eq!(session.inflight(), 0);
}

#[test]
fn the_stages_of_exactly_once_are_not_interchangeable() {
    let mut session = session();
    let next = pending(&mut session, QoS::ExactlyOnce);
    let id = packet_id(next.order);
    session.track(next);
    assert!(
        session
            .complete_publish(id, QoS::AtLeastOnce, &mut Spares::default())
            .is_none(),
        "a PUBACK does not end QoS 2"
    );
    assert!(
        session.complete_pubrel(id, &mut Spares::default()).is_none(),
        "PUBCOMP before PUBREC"
    );
    assert!(session.release(id, &mut Spares::default()).is_some());
    assert!(
        session.release(id, &mut Spares::default()).is_some(),
        "a repeated PUBREC is answered again"
    );
    assert!(
        session
            .complete_publish(id, QoS::ExactlyOnce, &mut Spares::default())
            .is_none(),
        "after PUBREC the message is the receiver's"
    );
    assert!(session.complete_pubrel(id, &mut Spares::default()).is_some());
    assert!(session.complete_pubrel(id, &mut Spares::default()).is_none());
}

#[test]
fn the_queue_keeps_its_bounds() {
    let limits = Limits {
        max_queued_messages: 2,
        ..Limits::default()
    };
    let mut session = session();
    for expected in [Ok(()), Ok(()), Err(QueueFull)] {
        let next = pending(&mut session, QoS::AtLeastOnce);
        assert_eq!(session.enqueue(next, &limits), expected);
    }
    assert!(session.dequeue().is_some());
    let next = pending(&mut session, QoS::AtLeastOnce);
    assert!(session.enqueue(next, &limits).is_ok());
    let bytes = Limits {
        max_queued_bytes: 1,
        ..Limits::default()
    };
    let next = pending(&mut session, QoS::AtLeastOnce);
    assert_eq!(session.enqueue(next, &bytes), Err(QueueFull));
}

#[test]
fn what_is_on_disk_is_bounded_too_and_not_overtaken() {
    let limits = Limits {
        max_queued_messages: 3,
        ..Limits::default()
    };
    let mut session = session();
    for seq in 1..3 {
        let next = kept(&mut session, seq);
        assert!(session.enqueue(next, &limits).is_ok());
    }
    assert_eq!(session.queue.len(), 0, "nobody is connected: memory is for others");
    let only_here = pending(&mut session, QoS::AtLeastOnce);
    assert!(session.enqueue(only_here, &limits).is_ok());
    let next = kept(&mut session, 3);
    assert_eq!(session.enqueue(next, &limits), Err(QueueFull));
    assert!(
        session.wants_page() && session.dequeue().is_none(),
        "the disk comes first"
    );
    let spill = session.spill().unwrap();
    assert_eq!((spill.from, spill.until, spill.count), (Order(0), Seq(2), 2));
    let mut fresh = self::session();
    for _ in 0..2 {
        let next = kept(&mut fresh, 0);
        session.take_in(next, false);
    }
    session.advance_spill(None);
    let orders: alloc::vec::Vec<u64> = core::iter::from_fn(|| session.dequeue()).map(|p| p.order.0).collect();
    assert_eq!(orders, [0, 1, 2]);
    assert_eq!((session.queued(), session.queued_bytes), (0, 0));
}

#[test]
fn a_connection_that_ends_leaves_nothing_in_memory_that_the_log_has() {
    let mut session = session();
    session.conn = Some(1);
    let (first, second) = (kept(&mut session, 1), kept(&mut session, 2));
    session.track(first);
    assert!(session.enqueue(second, &Limits::default()).is_ok());
    let loose = pending(&mut session, QoS::AtLeastOnce);
    session.track(loose);
    session.conn = None;
    session.put_all_aside();
    assert_eq!(
        (session.inflight(), session.queue.len(), session.queued_bytes),
        (1, 0, 0)
    );
    assert_eq!(session.spill().unwrap().from, Order(0));
    assert_eq!(session.sent(), Order(2));
    session.mark_all_unsent();
    assert_eq!(session.unsent(10).count(), 0, "the disk comes first");
}

/// Two restarts with messages in flight leave a gap each: more than a turn of the identifiers together.
#[test]
fn an_acknowledgement_finds_a_message_more_than_a_turn_behind_another() {
    let mut session = session();
    session.restore_sent(Order(70_000));
    let far = Order(3 + IDENTIFIERS);
    for order in [Order(5), far] {
        let pending = Pending {
            order,
            ..kept(&mut session, 1)
        };
        session.take_in(pending, false);
    }
    let done = session.complete_publish(packet_id(far), QoS::AtLeastOnce, &mut Spares::default());
    assert_eq!(done.map(|over| over.order), Some(far));
    let done = session.complete_publish(packet_id(Order(5)), QoS::AtLeastOnce, &mut Spares::default());
    assert_eq!(done.map(|over| over.order), Some(Order(5)));
    assert!(
        session
            .complete_publish(packet_id(Order(6)), QoS::AtLeastOnce, &mut Spares::default())
            .is_none()
    );
}

/// Of two with the same identifier the older one is meant, so that what stands in a row is not enough to tell.
#[test]
fn nothing_is_taken_together_while_an_identifier_is_in_flight_twice() {
    let mut session = session();
    session.restore_sent(Order(70_000));
    let orders = [Order(5), Order(4 + IDENTIFIERS), Order(5 + IDENTIFIERS)];
    for order in orders {
        let pending = Pending {
            order,
            ..kept(&mut session, 1)
        };
        session.take_in(pending, false);
    }
    let ids = [packet_id(orders[1]), packet_id(orders[2])].into_iter();
    let count = session.complete_publishes(ids, &mut Spares::default(), |over| panic!("{over:?}"));
    assert_eq!((count, session.inflight()), (0, 3));
}

#[test]
fn the_window_is_sure_as_far_as_identifiers_bytes_and_memory_go() {
    let limits = Limits {
        max_inflight_bytes: 10_000,
        ..Limits::default()
    };
    let memory = Memory::new(100_000);
    let mut session = Session::new("c".into(), None, SessionId(0), &memory);
    assert_eq!(session.sure_window(100, 9_000, 10_000, &limits), 100);
    assert_eq!(session.sure_window(100, 10_001, 11_000, &limits), 0, "bytes in flight");
    assert_eq!(
        session.sure_window(100, 9_000, 20_000, &limits),
        0,
        "a quarter of the memory"
    );
    let first = pending(&mut session, QoS::AtLeastOnce);
    session.track(first);
    assert_eq!(session.sure_window(100, 0, 0, &limits), 99);
    for _ in 0..IDENTIFIERS - 4 {
        session.take_order();
    }
    assert_eq!(
        session.sure_window(100, 0, 0, &limits),
        3,
        "the identifier of the first is not free"
    );
    for _ in 0..10 {
        session.take_order();
    }
    assert_eq!(session.sure_window(100, 0, 0, &limits), 0);
}

#[test]
fn who_rests_keeps_no_memory_for_what_is_empty() {
    let mut session = session();
    for order in 0..1000 {
        let next = pending(&mut session, QoS::AtLeastOnce);
        session.track(next);
        assert!(session.inbound.take(order));
    }
    session.rest();
    assert_eq!((session.inflight(), session.inbound.len()), (1000, 1000));
    for order in 0..1000 {
        assert!(session.inbound.remove(order).is_some());
        let id = packet_id(Order(u64::from(order)));
        let over = session.complete_publish(id, QoS::AtLeastOnce, &mut Spares::default());
        assert!(over.is_some());
    }
    session.rest();
    assert_eq!((session.inflight.capacity(), session.inbound.capacity()), (0, 0));
}
