//! QoS 1 messages for sessions that the broker has to keep: how many it acknowledges in a second, and how long each waits.
//!
//! Refuses to know what the broker does for it.

use crate::Outcome;
use crate::broker::Broker;
use crate::client::Session;
use crate::crowd::Crowd;
use crate::options::Options;
use crate::sparse::percentiles;
use sealmq_codec::QoS;
use serde_json::{Value, json};
use std::time::Instant;

/// Names of the kept sessions are numbered from here.
const KEPT: usize = 100_000;

/// `--publishers`, each `--count` messages with `--window` under way, for `--sessions` that are away, or there with
/// `--attend 1`.
pub fn run(options: &Options) -> Outcome<Value> {
    let (publishers, count) = (options.number("publishers", 10), options.number("count", 1000));
    let (window, sessions) = (options.number("window", 1), options.number("sessions", 1));
    let broker = Broker::new(options.pid)?;
    let mut keepers = Crowd::new(options)?;
    keepers.connect(options, sessions, KEPT, Session::Kept)?;
    for keeper in &mut keepers.clients {
        keeper.subscribe(&["shared/bench/#".to_owned()], QoS::AtLeastOnce)?;
    }
    keepers.until(|crowd| Ok(crowd.tally.subscribed == sessions))?;
    let mut crowd = if options.number("attend", 0) == 1 {
        keepers
    } else {
        drop(keepers);
        Crowd::new(options)?
    };
    let first = crowd.clients.len();
    crowd.connect(options, publishers, 0, Session::Clean)?;
    let payload = vec![b'x'; options.number("size", 64)];
    let mut sent = vec![0usize; publishers];
    let (cpu, began) = (broker.cpu()?, Instant::now());
    crowd.until(|crowd| {
        let mut is_done = true;
        for (number, client) in crowd.clients[first..].iter_mut().enumerate() {
            let room = (window + client.acknowledged - sent[number]).min(count - sent[number]);
            if room > 0 {
                let now = Instant::now();
                client.waiting.extend(std::iter::repeat_n(now, room));
                client.publish(&format!("shared/bench/{number}"), &payload, QoS::AtLeastOnce, room);
                client.send()?;
                sent[number] += room;
            }
            is_done &= client.acknowledged >= count;
        }
        Ok(is_done)
    })?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker.cpu()? - cpu);
    let waited = crowd.clients[first..].iter().flat_map(|client| &client.waited);
    let mut found = percentiles(waited.map(|time| time.as_nanos() as u64).collect());
    let messages = publishers * count;
    found["messages"] = json!(messages);
    found["messages_per_second"] = json!(messages as f64 / seconds);
    found["cpu_us_per_message"] = json!(used / messages as f64);
    Ok(found)
}
