//! Pages: what waits for a session, in its order, within the bounds, up to the moment of asking.
//!
//! Refuses to know files.

use crate::place::{Place, Running, delivery, receiver};
use sealmq_store::{Change, Log, Order, SessionId, Slot, Urgency};

fn orders(running: &mut Running, from: u64, max_messages: u32, max_bytes: u64) -> (Vec<u64>, bool) {
    let page = running.page(1, from, max_messages, max_bytes);
    (
        page.messages.iter().map(|message| message.order.0).collect(),
        page.is_last,
    )
}

#[test]
fn a_page_is_in_order_within_bounds_and_never_empty_before_the_end() {
    let place = Place::new();
    let mut running = place.run();
    // Not in the order of other sessions, with holes.
    for order in [2, 3, 5, 8, 13] {
        running.deliver(2, order, b"other");
        running.deliver(1, order, &[0; 81]);
    }
    assert_eq!(orders(&mut running, 0, 100, 1 << 20), (vec![2, 3, 5, 8, 13], true));
    assert_eq!(orders(&mut running, 3, 2, 1 << 20), (vec![3, 5], false));
    assert_eq!(
        orders(&mut running, 4, 3, 1 << 20),
        (vec![5, 8, 13], true),
        "the bound is the end"
    );
    assert_eq!(orders(&mut running, 0, 100, 200), (vec![2, 3], false), "100 bytes each");
    assert_eq!(orders(&mut running, 0, 100, 0), (vec![2], false), "at least one");
    assert_eq!(orders(&mut running, 0, 0, 1), (vec![2], false), "at least one");
    assert_eq!(orders(&mut running, 14, 100, 1), (vec![], true));
    running.close();
}

#[test]
fn a_page_shows_all_that_came_before_it_was_asked_for() {
    let place = Place::new();
    let mut running = place.run();
    let mut receivers = [receiver(1, 1), receiver(1, 2), receiver(1, 3)];
    let seq = running.log.deliver(&delivery(b"lazy"), &mut receivers, Urgency::Lazy);
    let page = running.page(1, 0, 10, 1000);
    assert!(page.as_of >= seq && page.is_last);
    assert_eq!(page.messages.len(), 3);
    // Nobody forces these; still the page has to know.
    let (session, order) = (SessionId(1), Order(2));
    running.log.append(&Change::Release { session, order }, Urgency::Lazy);
    running.log.done(session, Order(1), Slot::default());
    let page = running.page(1, 0, 10, 1000);
    let found: Vec<_> = page
        .messages
        .iter()
        .map(|message| (message.order.0, message.is_released))
        .collect();
    assert_eq!(found, [(2, true), (3, false)]);
    running.close();
}

#[test]
fn while_messages_pour_in_a_last_page_ends_at_or_after_its_moment() {
    let place = Place::new();
    let mut running = place.run();
    let mut safe_by = Vec::new();
    for round in 0..50u64 {
        for order in round * 20..round * 20 + 20 {
            safe_by.push(running.deliver(1, order, b"tail").0);
        }
        let page = running.page(1, round * 10, 10_000, 1 << 20);
        assert!(page.is_last);
        let expected = safe_by.iter().filter(|seq| **seq <= page.as_of).count() as u64;
        let found: Vec<_> = page.messages.iter().map(|message| message.order.0).collect();
        let end = round * 10 + found.len() as u64;
        assert_eq!(found, (round * 10..end).collect::<Vec<_>>(), "no hole");
        assert!(end >= expected, "{end} {expected}");
        assert!(expected >= round * 20 + 20);
    }
    running.close();
}

#[test]
fn requests_are_answered_in_their_order() {
    let place = Place::new();
    let mut running = place.run();
    running.deliver(1, 1, b"a");
    running.deliver(2, 1, b"b");
    for session in [2, 1, 2] {
        let request = sealmq_store::PageRequest {
            session: SessionId(session),
            from: Order(0),
            max_messages: 1,
            max_bytes: 1,
        };
        running.log.request_page(request);
    }
    let mut found = Vec::new();
    running.until("three pages", |log| {
        while let Some(page) = log.take_page() {
            found.push((page.session.0, page.messages[0].payload.clone()));
        }
        found.len() == 3
    });
    assert_eq!(found, [(2, b"b".to_vec()), (1, b"a".to_vec()), (2, b"b".to_vec())]);
    running.close();
}
