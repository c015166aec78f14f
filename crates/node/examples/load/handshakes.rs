//! Connections: what one costs when it comes, and what it costs while it is there.
//!
//! Refuses to know messages.

use crate::Outcome;
use crate::broker::Broker;
use crate::client::{Client, Session};
use crate::crowd::{Crowd, NOBODY};
use crate::options::Options;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `--count N` connections from TCP to CONNACK, `--parallel P` at a time; `--resume 1` with the ticket of an earlier one,
/// `--strangers 1` each with a certificate that the broker has not seen.
/// As many as are under way at a time go before and are not counted.
pub fn run(options: &Options) -> Outcome<Value> {
    let (count, parallel) = (options.number("count", 500), options.number("parallel", 1));
    let broker = Broker::new(options.pid)?;
    let mut crowd = Crowd::new(options)?;
    crowd.connect(options, parallel, 0, Session::Clean)?;
    for client in &mut crowd.clients {
        client.leave()?;
    }
    let strangers = options.number("strangers", 0) * count;
    let strangers: Vec<_> = (0..strangers).map(|n| options.stranger(n)).collect::<Outcome<_>>()?;
    let who = |number: usize| strangers.get(number).unwrap_or(options);
    let (cpu, began) = (broker.cpu()?, Instant::now());
    let (mut dialled, mut finished, mut resumed) = (0, 0, 0);
    for slot in 0..parallel.min(count) {
        redial(who(dialled), &mut crowd, slot, dialled)?;
        dialled += 1;
    }
    crowd.until(|crowd| {
        for slot in 0..parallel.min(count) {
            if !crowd.clients[slot].connected {
                continue;
            }
            finished += 1;
            resumed += usize::from(crowd.clients[slot].is_resumed());
            crowd.clients[slot].leave()?;
            crowd.clients[slot].connected = false;
            if dialled < count {
                redial(who(dialled), crowd, slot, dialled)?;
                dialled += 1;
            }
        }
        Ok(finished == count)
    })?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker.cpu()? - cpu);
    Ok(json!({
        "count": count,
        "resumed": resumed,
        "cpu_ms_per_connect": used / 1e3 / count as f64,
        "connects_per_second": count as f64 / seconds,
    }))
}

fn redial(options: &Options, crowd: &mut Crowd, slot: usize, number: usize) -> Outcome<()> {
    let at = (crowd.poll.registry(), slot);
    crowd.clients[slot] = Client::dial(options, (number, Session::Clean), NOBODY, at)?;
    Ok(())
}

/// `--count N` connections that say nothing: resident memory after `--settle` milliseconds in which nobody speaks.
pub fn idle(options: &Options) -> Outcome<Value> {
    let count = options.number("count", 1000);
    let broker = Broker::new(options.pid)?;
    let mut crowd = Crowd::new(options)?;
    // A few first, and time to think about them, so that what the broker allocates once is not counted for each.
    crowd.connect(options, 10, 0, Session::Clean)?;
    rest(options, &mut crowd)?;
    let (before, cpu, began) = (broker.rss()?, broker.cpu()?, Instant::now());
    crowd.connect(options, count, 10, Session::Clean)?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), broker.cpu()? - cpu);
    rest(options, &mut crowd)?;
    Ok(json!({
        "connections": count,
        "kib_per_connection": (broker.rss()? - before) / 1024.0 / count as f64,
        "cpu_ms_per_connect": used / 1e3 / count as f64,
        "connects_per_second": count as f64 / seconds,
    }))
}

/// `--settle` milliseconds in which nobody says anything.
fn rest(options: &Options, crowd: &mut Crowd) -> Outcome<()> {
    let quiet = Instant::now() + Duration::from_millis(options.number("settle", 2500) as u64);
    crowd.until(|_| Ok(Instant::now() >= quiet))
}
