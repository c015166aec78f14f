//! The session on a virtual clock: keep alive, bounds, and what goes over from one connection to the next.

use super::config::ClientConfig;
use super::news::Taken;
use super::session::Session;
use sealmq_codec::{Framed, Packet, QoS, Version, frame};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn config(more: Value) -> ClientConfig {
    let mut all = json!({
        "scheme": "mqtts", "host": "h", "port": 1, "version": "5.0", "client_id": "c", "keep_alive": 60,
        "clean_start": false, "timeout_ms": 1000,
    });
    for (key, value) in more.as_object().expect("an object") {
        all[key] = value.clone();
    }
    serde_json::from_value(all).expect("a configuration")
}

fn begun(more: Value, now: Instant) -> Session {
    let mut session = Session::new(&config(more), now).expect("a session");
    session.begin(Value::Null, now);
    said(&mut session, now);
    session
}

fn open(more: Value, now: Instant) -> Session {
    let mut session = begun(more, now);
    session.handle_bytes(now, &[0x20, 3, 0, 0, 0]);
    assert!(session.connack().is_some());
    session
}

/// What the session sends, by packet: the names.
fn said(session: &mut Session, now: Instant) -> Vec<String> {
    let mut out = Vec::new();
    session.output(now, &mut out);
    let mut names = Vec::new();
    let mut rest = out.as_slice();
    while let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) {
        let packet = Packet::decode(Version::V5, whole).expect("a packet");
        names.push(match &packet {
            Packet::Publish(publish) if publish.dup => "PUBLISH again".to_owned(),
            other => other.kind().name().to_owned(),
        });
        rest = &rest[whole.size..];
    }
    assert!(rest.is_empty());
    names
}

fn publish(session: &mut Session, qos: QoS) -> u64 {
    match session.publish("t", b"x", qos, false, &Value::Null) {
        Ok(Taken::Under(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_server_is_pinged_and_then_given_up() {
    let start = Instant::now();
    let mut session = open(json!({}), start);
    let due = session.deadline().expect("a deadline");
    assert_eq!(due, start + Duration::from_secs(45));
    session.handle_time(due);
    assert_eq!(said(&mut session, due), ["PINGREQ"]);
    let last = session.deadline().expect("a deadline");
    assert_eq!(last, due + Duration::from_secs(1));
    session.handle_time(last);
    assert_eq!(session.closing().expect("an end").error.code, "timeout");
}

#[test]
fn a_server_that_never_answers_connect_is_given_up() {
    let start = Instant::now();
    let mut session = begun(json!({}), start);
    session.handle_time(start + Duration::from_millis(999));
    assert!(session.closing().is_none());
    session.handle_time(start + Duration::from_secs(1));
    assert_eq!(session.closing().expect("an end").error.code, "timeout");
}

#[test]
fn what_was_under_way_goes_over_to_the_next_connection() {
    let now = Instant::now();
    let mut first = open(json!({}), now);
    let once = publish(&mut first, QoS::AtLeastOnce);
    let twice = publish(&mut first, QoS::ExactlyOnce);
    said(&mut first, now);
    first.handle_bytes(now, &[0x50, 2, 0, 2]); // PUBREC of the second
    assert_eq!(said(&mut first, now), ["PUBREL"]);
    let mut next = begun(json!({}), now);
    next.resume_from(&mut first);
    next.handle_bytes(now, &[0x20, 3, 1, 0, 0]); // session present
    assert_eq!(said(&mut next, now), ["PUBREL", "PUBLISH again"]);
    next.handle_bytes(now, &[0x40, 2, 0, 1, 0x70, 2, 0, 2]);
    let tickets: Vec<u64> = next.take_results().iter().map(|done| done.ticket).collect();
    assert_eq!(tickets, [once, twice]);
}

#[test]
fn a_message_is_acknowledged_when_it_is_taken_and_not_before() {
    let now = Instant::now();
    let mut session = open(json!({}), now);
    session.handle_bytes(now, &[0x32, 7, 0, 1, b't', 0, 9, 0, b'x']);
    assert!(said(&mut session, now).is_empty());
    assert_eq!(session.take_messages(10).len(), 1);
    assert_eq!(said(&mut session, now), ["PUBACK"]);
}

#[test]
fn more_than_the_receive_maximum_is_a_fault() {
    let now = Instant::now();
    let mut session = open(json!({"bounds": {"receive_maximum": 1}}), now);
    for id in 1..=2 {
        session.handle_bytes(now, &[0x32, 6, 0, 1, b't', 0, id, 0]);
    }
    assert_eq!(session.closing().expect("an end").error.code, "peer-fault");
    assert_eq!(said(&mut session, now), ["DISCONNECT"]);
}

#[test]
fn exactly_once_is_given_once() {
    let now = Instant::now();
    let mut session = open(json!({}), now);
    let message = [0x34, 6, 0, 1, b't', 0, 5, 0];
    session.handle_bytes(now, &message);
    session.handle_bytes(now, &[0x3c, 6, 0, 1, b't', 0, 5, 0]);
    assert_eq!(session.take_messages(10).len(), 1);
    session.handle_bytes(now, &[0x3c, 6, 0, 1, b't', 0, 5, 0]);
    assert_eq!(session.take_messages(10).len(), 0);
    session.handle_bytes(now, &[0x62, 2, 0, 5]);
    assert_eq!(said(&mut session, now), ["PUBREC", "PUBREC", "PUBCOMP"]);
}

#[test]
fn a_server_that_says_when_to_return_is_heard() {
    let now = Instant::now();
    let mut session = open(json!({}), now);
    let mut goodbye = vec![0xe0, 0, 0x8b, 0, 0x26, 0, 11];
    goodbye.extend_from_slice(b"retry-after\0\x0242");
    goodbye[1] = (goodbye.len() - 2) as u8;
    goodbye[3] = (goodbye.len() - 4) as u8;
    session.handle_bytes(now, &goodbye);
    let closing = session.closing().expect("an end");
    assert_eq!((closing.reason_code, closing.retry_after), (Some(0x8b), Some(42)));
}

#[test]
fn a_full_inbox_and_a_full_outbox_say_so() {
    let now = Instant::now();
    let mut session = open(json!({"bounds": {"inbox_messages": 1, "outbox_bytes": 1}}), now);
    assert_eq!(
        session.publish("t", b"x", QoS::AtMostOnce, false, &Value::Null),
        Ok(Taken::Sent)
    );
    assert_eq!(
        session.publish("t", b"x", QoS::AtMostOnce, false, &Value::Null),
        Ok(Taken::NoRoom)
    );
    assert!(session.wants_bytes());
    session.handle_bytes(now, &[0x30, 5, 0, 1, b't', 0, b'x']);
    assert!(!session.wants_bytes());
}
