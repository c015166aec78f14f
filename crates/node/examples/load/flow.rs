//! As many messages as the broker takes, within a window: pairs, fan-in, fan-out.
//!
//! Refuses to know rates: that is `sparse`.

use crate::Outcome;
use crate::broker::Broker;
use crate::client::Session;
use crate::crowd::{Crowd, Shape};
use crate::options::Options;
use sealmq_codec::QoS;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Names of the clients that are only there.
const BYSTANDERS: usize = 1_000_000;
/// Filters in one SUBSCRIBE.
const FILTERS: usize = 100;

/// `--count` messages of each sender, or what begins within `--ms` milliseconds. `--window` are under way per sender, in
/// batches of half a window, as a busy gateway would; with `--window 1` each waits for the one before it. `--warm` is as
/// `--ms`, for messages that go before and are not counted.
pub fn run(options: &Options, shape: Shape) -> Outcome<Value> {
    let qos = options.qos()?;
    let broker = Broker::new(options.pid)?;
    let mut crowd = Crowd::new(options)?;
    bystanders(options, &mut crowd)?;
    let first = crowd.clients.len();
    crowd.arrange(options, shape, qos)?;
    let rules = |ms, count| Rules {
        qos,
        window: options.number("window", 1000),
        count: options.number("count", count),
        time: Duration::from_millis(options.number(ms, 0) as u64),
    };
    if options.number("warm", 0) > 0 {
        drive(options, &mut crowd, (first, shape), &rules("warm", usize::MAX))?;
    }
    let (cpu, began) = (broker.cpu()?, Instant::now());
    let default = if options.number("ms", 0) > 0 {
        usize::MAX
    } else {
        50_000
    };
    let sent = drive(options, &mut crowd, (first, shape), &rules("ms", default))?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker.cpu()? - cpu);
    let delivered = crowd.tally.received;
    if delivered == 0 {
        return Err("no message arrived".into());
    }
    Ok(json!({
        "delivered": delivered,
        "lost": (sent * shape.fan()).saturating_sub(delivered),
        "seconds": seconds,
        "cpu_us_per_message": used / delivered as f64,
        "messages_per_second": delivered as f64 / seconds,
        "rss_mib": broker.rss()? / 1_048_576.0,
    }))
}

/// `--idle N` connections and `--filters N` subscriptions that nothing is sent to, `--wildcard 1` with + and #.
fn bystanders(options: &Options, crowd: &mut Crowd) -> Outcome<()> {
    crowd.connect(options, options.number("idle", 0), BYSTANDERS, Session::Clean)?;
    let filters = options.number("filters", 0);
    if filters == 0 {
        return Ok(());
    }
    let each = options.number("filters-each", 1000);
    let is_wild = options.number("wildcard", 0) > 0;
    let first = crowd.clients.len();
    crowd.connect(options, filters.div_ceil(each), 2 * BYSTANDERS, Session::Clean)?;
    for index in 0..filters.div_ceil(each) {
        let mine: Vec<String> = (index * each..filters.min((index + 1) * each))
            .map(|n| {
                if is_wild {
                    format!("shared/+/other/{n}/#")
                } else {
                    format!("shared/other/{n}")
                }
            })
            .collect();
        for part in mine.chunks(FILTERS) {
            let before = crowd.tally.subscribed;
            crowd.clients[first + index].subscribe(part, QoS::AtMostOnce)?;
            crowd.until(|c| Ok(c.tally.subscribed > before))?;
        }
    }
    Ok(())
}

/// What is sent, and when it is enough.
struct Rules {
    qos: QoS,
    window: usize,
    /// Of each sender.
    count: usize,
    /// Nothing is sent after it, unless it is zero.
    time: Duration,
}

/// Send by the rules until everything has arrived; how many messages were sent.
fn drive(options: &Options, crowd: &mut Crowd, (first, shape): (usize, Shape), rules: &Rules) -> Outcome<usize> {
    let &Rules {
        qos,
        window,
        count,
        time,
    } = rules;
    let payload = vec![b'x'; options.number("size", 64)];
    let topics: Vec<_> = (0..shape.senders).map(|sender| shape.topics(options, sender)).collect();
    let mut sent = vec![0usize; shape.senders];
    let mut total = 0;
    let began = Instant::now();
    crowd.reset();
    crowd.until(|crowd| {
        let is_time_left = time.is_zero() || began.elapsed() < time;
        let arrived = crowd.tally.received / shape.fan();
        for sender in 0..if is_time_left { shape.senders } else { 0 } {
            // Where all speak to one, nobody knows whose message arrived: the window is of all together.
            let mut open = if shape.is_paired() {
                let receiver = &crowd.clients[first + shape.senders + sender];
                window.saturating_sub(sent[sender] - receiver.received.min(sent[sender]))
            } else {
                (window * shape.senders).saturating_sub(total - arrived).min(window)
            };
            if qos != QoS::AtMostOnce {
                let client = &crowd.clients[first + sender];
                open = open.min(window.saturating_sub(sent[sender] - client.acknowledged));
            }
            let batch = open.min(count - sent[sender]);
            if batch > 0 && (open >= window.div_ceil(2) || batch == count - sent[sender]) {
                let client = &mut crowd.clients[first + sender];
                match topics[sender].as_slice() {
                    [topic] => client.publish(topic, &payload, qos, batch),
                    topics => (0..batch).for_each(|n| {
                        client.publish(&topics[(sent[sender] + n) % topics.len()], &payload, qos, 1);
                    }),
                }
                client.send()?;
                sent[sender] += batch;
                total += batch;
            }
        }
        let is_sent = !is_time_left || total == shape.senders.saturating_mul(count);
        let is_there = crowd.tally.received >= total * shape.fan();
        let is_acknowledged = qos == QoS::AtMostOnce || crowd.tally.acknowledged >= total;
        Ok((is_sent && is_there && is_acknowledged) || crowd.is_stalled())
    })?;
    Ok(total)
}
