//! Messages at a set pace, each with the time it was due in it: processor time and latency when nobody is in a hurry.
//!
//! Refuses to wait for anybody: a broker that falls behind shows it as latency, as it would to devices.

use crate::Outcome;
use crate::broker::Broker;
use crate::client::Session;
use crate::crowd::{Crowd, Shape};
use crate::options::Options;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use sealmq_codec::QoS;
use serde_json::{Value, json};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

const TIMER: Token = Token(usize::MAX);
/// After the last message was due.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// Send number 0, 1, 2 … every `interval`, until `count` or until `is_over`; when the first was due.
pub fn pace(
    crowd: &mut Crowd,
    interval: Duration,
    (count, is_over): (usize, impl Fn() -> bool),
    mut send: impl FnMut(&mut Crowd, usize, Duration) -> Outcome<()>,
) -> Outcome<usize> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    let fd = timer.as_fd().as_raw_fd();
    crowd
        .poll
        .registry()
        .register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
    crowd.tally.began = Instant::now();
    let mut sent = 0;
    while sent < count && !is_over() {
        let due = Duration::from_nanos((interval.as_nanos() * sent as u128) as u64);
        let now = crowd.tally.began.elapsed();
        if due <= now {
            send(crowd, sent, due)?;
            sent += 1;
            continue;
        }
        timer.set(
            Expiration::OneShot(TimeSpec::from_duration(due - now)),
            TimerSetTimeFlags::empty(),
        )?;
        crowd.turn(due - now)?;
    }
    crowd.poll.registry().deregister(&mut SourceFd(&fd))?;
    Ok(sent)
}

/// A message of sender `number` modulo all senders, with the time it was due.
pub fn send_stamped(
    crowd: &mut Crowd,
    (shape, topics): (Shape, &[String]),
    (number, due): (usize, Duration),
    (payload, qos): (&mut [u8], QoS),
) -> Outcome<()> {
    let sender = number % shape.senders;
    let stamp = (due.as_nanos() as u64).to_be_bytes();
    payload[..stamp.len()].copy_from_slice(&stamp);
    let client = &mut crowd.clients[sender];
    client.publish(&topics[sender], payload, qos, 1);
    client.send()
}

/// `--pairs N`, each `--rate R` messages a second for `--seconds S`.
pub fn run(options: &Options) -> Outcome<Value> {
    let (pairs, rate) = (options.number("pairs", 500), options.number("rate", 10));
    let count = pairs * rate * options.number("seconds", 5);
    let shape = Shape {
        senders: pairs,
        receivers: pairs,
    };
    let qos = options.qos()?;
    let broker = Broker::new(options.pid)?;
    let mut crowd = Crowd::new(options)?;
    crowd.arrange(options, shape, qos)?;
    let topics: Vec<String> = (0..pairs).map(|sender| shape.topic(sender)).collect();
    let mut payload = vec![b'x'; options.number("size", 64).max(8)];
    crowd.tally.latencies = Some(Vec::with_capacity(count));
    let cpu = broker.cpu()?;
    let interval = Duration::from_secs(1) / u32::try_from(pairs * rate)?;
    pace(&mut crowd, interval, (count, || false), |crowd, number, due| {
        send_stamped(crowd, (shape, &topics), (number, due), (&mut payload, qos))
    })?;
    let late = Instant::now() + STRAGGLERS;
    crowd.until(|crowd| Ok(crowd.tally.received >= count || Instant::now() > late))?;
    let used = broker.cpu()? - cpu;
    let delivered = crowd.tally.received;
    let mut found = percentiles(crowd.tally.latencies.take().unwrap_or_default());
    found["delivered"] = json!(delivered);
    found["lost"] = json!(count.saturating_sub(delivered));
    found["cpu_us_per_message"] = json!(used / delivered.max(1) as f64);
    Ok(found)
}

/// Microseconds; `null` where nothing arrived.
pub fn percentiles(mut nanoseconds: Vec<u64>) -> Value {
    nanoseconds.sort_unstable();
    let at = |per_mille: usize| {
        let index = (nanoseconds.len() * per_mille / 1000).min(nanoseconds.len().saturating_sub(1));
        nanoseconds.get(index).map(|&n| n as f64 / 1e3)
    };
    json!({"p50_us": at(500), "p99_us": at(990), "p999_us": at(999), "max_us": at(1000)})
}

/// `--count N` connections that say PINGREQ every `--every S` seconds, for `--seconds`: what it costs that they are alive.
pub fn alive(options: &Options) -> Outcome<Value> {
    let (count, every) = (options.number("count", 1000), options.number("every", 10));
    let seconds = options.number("seconds", 10);
    let broker = Broker::new(options.pid)?;
    let mut crowd = Crowd::new(options)?;
    crowd.connect(options, count, 0, Session::Clean)?;
    let (cpu, began) = (broker.cpu()?, Instant::now());
    let interval = Duration::from_secs(every as u64) / u32::try_from(count)?;
    let pings = count * seconds / every;
    pace(&mut crowd, interval, (pings, || false), |crowd, number, _| {
        crowd.clients[number % count].ping()
    })?;
    crowd.until(|crowd| Ok(crowd.tally.pongs >= pings || crowd.is_stalled()))?;
    let used = broker.cpu()? - cpu;
    Ok(json!({
        "connections": count,
        "pings": crowd.tally.pongs,
        "cpu_us_per_ping": used / pings as f64,
        "cpu_share": used / 1e6 / began.elapsed().as_secs_f64(),
        "rss_mib": broker.rss()? / 1_048_576.0,
    }))
}
