//! Whatever a server sends, and whatever the program asks for in between, the client keeps its bounds, says only whole packets
//! and ends at most once.
//!
//! Refuses to know TLS and sockets.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealmq_codec::{Framed, Packet, QoS, SubscribeOptions, Version, frame};
use sealmq_node::{ClientConfig, ClientSession};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(Arbitrary, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Publish { topic: String, payload: Vec<u8>, qos: u8 },
    Subscribe(String),
    Unsubscribe(String),
    Take(u8),
    Wait(u16),
    Reconnect,
    Leave,
}

const INBOX: usize = 20;

fn begin(is_v5: bool, now: Instant) -> ClientSession {
    let config: ClientConfig = serde_json::from_value(json!({
        "scheme": "mqtts", "host": "h", "port": 1, "version": if is_v5 { "5.0" } else { "3.1.1" }, "client_id": "c",
        "keep_alive": 60, "clean_start": false, "timeout_ms": 1000,
        "bounds": {"max_packet": 4096, "inbox_messages": INBOX, "inbox_bytes": 4096, "outbox_bytes": 4096,
                   "receive_maximum": 4, "topic_aliases": 2},
    }))
    .expect("a configuration");
    let mut session = ClientSession::new(&config, now).expect("a session");
    session.begin(Value::Null, now);
    session
}

/// What the client says is whole packets that decode.
fn said(session: &mut ClientSession, version: Version, now: Instant) {
    let mut out = Vec::new();
    session.output(now, &mut out);
    let mut rest = &out[..];
    while !rest.is_empty() {
        let Ok(Framed::Whole(whole)) = frame(rest, u32::MAX) else {
            panic!("half a packet: {rest:02x?}");
        };
        Packet::decode(version, whole).expect("a packet that decodes");
        rest = &rest[whole.size..];
    }
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (is_v5, steps) = input;
    let version = if is_v5 { Version::V5 } else { Version::V311 };
    let mut now = Instant::now();
    let mut session = begin(is_v5, now);
    said(&mut session, version, now);
    let connack: &[u8] = if is_v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
    session.handle_bytes(now, connack);
    for step in steps {
        let was_over = session.closing().is_some();
        match step {
            Step::Bytes(bytes) if session.wants_bytes() => session.handle_bytes(now, &bytes),
            Step::Bytes(_) => {}
            Step::Publish { topic, payload, qos } => {
                let qos = QoS::from_bits(qos % 3).expect("a QoS");
                let _ = session.publish(&topic, &payload, qos, false, &Value::Null);
            }
            Step::Subscribe(filter) => {
                let filters = [(filter, SubscribeOptions::plain(QoS::AtLeastOnce))];
                let _ = session.subscribe(&filters, &Value::Null);
            }
            Step::Unsubscribe(filter) => drop(session.unsubscribe(&[filter])),
            Step::Take(count) => {
                assert!(session.take_messages(usize::from(count)).len() <= usize::from(count));
                session.take_results();
            }
            Step::Wait(ms) => {
                now += Duration::from_millis(u64::from(ms) * 10);
                session.handle_time(now);
            }
            Step::Reconnect => {
                let mut fresh = begin(is_v5, now);
                fresh.resume_from(&mut session);
                session = fresh;
                said(&mut session, version, now);
                session.handle_bytes(now, connack);
                continue;
            }
            Step::Leave => session.leave(),
        }
        assert!(!was_over || session.closing().is_some(), "it is open again");
        said(&mut session, version, now);
        // One call may bring the packets of its bytes beyond the bound, and no more.
        assert!(session.pending() == 0);
    }
});
