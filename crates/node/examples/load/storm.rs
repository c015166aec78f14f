//! A pair that is already in, while a crowd connects: what the others' handshakes do to its latency.
//!
//! Refuses to know why they all come at once.

use crate::Outcome;
use crate::broker::Broker;
use crate::client::Session;
use crate::crowd::{Crowd, Shape};
use crate::options::Options;
use crate::sparse::{pace, percentiles, send_stamped};
use sealmq_codec::QoS;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const PAIR: Shape = Shape {
    senders: 1,
    receivers: 1,
};
/// Names of the crowd.
const FIRST: usize = 1000;

/// `--count N` clients connect as fast as they are let in, while one pair exchanges `--rate R` messages a second. The
/// pair has a thread of its own.
pub fn run(options: &Options) -> Outcome<Value> {
    let broker = Broker::new(options.pid)?;
    let count = options.number("count", 1000);
    let is_over = AtomicBool::new(false);
    let (ready, is_ready) = channel();
    thread::scope(|scope| {
        let pair = scope.spawn(|| quiet_pair(options, ready, &is_over).map_err(|e| e.to_string()));
        let mut crowd = Crowd::new(options)?;
        let stormed = is_ready
            .recv()
            .map_err(|_| "the pair did not connect".into())
            .and_then(|()| {
                let (cpu, began) = (broker.cpu()?, Instant::now());
                crowd.connect(options, count, FIRST, Session::Clean)?;
                Ok((broker.cpu()? - cpu, began.elapsed().as_secs_f64()))
            });
        is_over.store(true, Ordering::Relaxed);
        let latencies = pair.join().map_err(|_| "the pair's thread failed")??;
        let (used, seconds): (f64, f64) = match stormed {
            Ok(found) => found,
            Err(e) => return Err::<Value, Box<dyn std::error::Error>>(e),
        };
        let mut found = percentiles(latencies);
        found["connections"] = json!(count);
        found["seconds"] = json!(seconds);
        found["cpu_ms_per_connect"] = json!(used / 1e3 / count as f64);
        Ok(found)
    })
}

/// Latencies of the pair's messages until `is_over`, nanoseconds.
fn quiet_pair(options: &Options, ready: Sender<()>, is_over: &AtomicBool) -> Outcome<Vec<u64>> {
    let mut crowd = Crowd::new(options)?;
    crowd.arrange(options, PAIR, QoS::AtMostOnce)?;
    crowd.tally.latencies = Some(Vec::new());
    let topics = [PAIR.topic(0)];
    let mut payload = vec![b'x'; 64];
    let interval = Duration::from_secs(1) / u32::try_from(options.number("rate", 1000))?;
    ready.send(())?;
    let count = (usize::MAX, || is_over.load(Ordering::Relaxed));
    let sent = pace(&mut crowd, interval, count, |crowd, number, due| {
        send_stamped(crowd, (PAIR, &topics), (number, due), (&mut payload, QoS::AtMostOnce))
    })?;
    crowd.until(|crowd| Ok(crowd.tally.received >= sent || crowd.is_stalled()))?;
    Ok(crowd.tally.latencies.take().unwrap_or_default())
}
