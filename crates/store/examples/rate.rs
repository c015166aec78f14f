//! Durable deliveries per second: 64-byte messages that are stored, then done, with 1, 10, 100 and 1000 on their way at once;
//! beside them how often the same folder syncs in the same minute. Then how long a large store takes to open after a crash.
//!
//! `cargo run --release -p sealmq-store --features sqlite --example rate [FOLDER [SECONDS]]`

use sealmq_store::sqlite::{Handle, Settings, Store};
use sealmq_store::{Body, Change, Delivery, Log, Order, Origin, Receiver, Seq, SessionId, Slot, Urgency};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Signals, sync_channel};
use std::time::{Duration, Instant};

const PAYLOAD: [u8; 64] = [b'7'; 64];
const OUTSTANDING: [usize; 4] = [1, 10, 100, 1000];
const SESSIONS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let folder = folder.join(format!("sealmq-rate-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder, Duration::from_secs(seconds));
    std::fs::remove_dir_all(&folder)?;
    result
}

fn measure(folder: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    println!(
        "outstanding  deliveries/s  ack p50 us  ack p99 us  commit p50 us  commit p99 us  per commit  bytes each  syncs/s here"
    );
    for outstanding in OUTSTANDING {
        let syncs = raw_syncs(&folder.join("raw"), time / 3)?;
        let path = folder.join(format!("{outstanding}.db"));
        let mut store = Store::open(Settings {
            path,
            max_bytes: 1 << 40,
            lazy_after: Duration::from_millis(250),
        })?;
        let (progress, signals) = sync_channel(1);
        let log = store.start(Arc::new(move || {
            // A signal that has not been taken yet stands for this one too.
            let _ = progress.try_send(());
        }));
        let (count, mut waits) = run(log, &signals, outstanding, time)?;
        waits.sort_unstable();
        let stats = store.stats();
        let at = |percent: usize| {
            waits
                .get(waits.len() * percent / 100)
                .copied()
                .unwrap_or_default()
                .as_micros()
        };
        println!(
            "{outstanding:11} {:13.0} {:11} {:11} {:14} {:14} {:11.1} {:11} {syncs:13.0}",
            count as f64 / time.as_secs_f64(),
            at(50),
            at(99),
            stats.commit_p50_us,
            stats.commit_p99_us,
            count as f64 / stats.commits.max(1) as f64,
            stats.written_bytes / count.max(1),
        );
        store.close(Duration::from_secs(60))?;
    }
    start(&folder.join("start.db"))
}

/// Time to open and load what was never closed.
fn start(path: &Path) -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        path: path.into(),
        max_bytes: 1 << 40,
        lazy_after: Duration::from_millis(250),
    };
    let mut store = Store::open(settings.clone())?;
    let (progress, signals) = sync_channel(1);
    let mut log = store.start(Arc::new(move || {
        let _ = progress.try_send(());
    }));
    let mut last = Seq(0);
    for number in 1..=10_000 {
        let (session, client_id) = (SessionId(number), format!("client-{number}"));
        log.append(
            &Change::Begin {
                session,
                client_id: &client_id,
                device: None,
                expiry_s: 3600,
            },
            Urgency::Os,
        );
        let filter = format!("factory/{number}/#");
        log.append(
            &Change::Subscribe {
                session,
                filter: &filter,
                options: 1,
                identifier: 0,
            },
            Urgency::Os,
        );
    }
    for number in 0..100_000 {
        let topic = format!("factory/line-12/sensor-{number}/reading");
        last = log.append(
            &Change::Retain {
                body: Body {
                    topic: &topic,
                    ..DELIVERY.body
                },
            },
            Urgency::Os,
        );
    }
    while log.watermark().proves(last).is_none() {
        signals.recv()?;
    }
    // As it stands at this moment, which is what a crash leaves.
    let crashed = path.with_extension("crashed");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(path), name(&crashed))?;
    }
    store.close(Duration::from_secs(60))?;
    let started = Instant::now();
    let mut store = Store::open(Settings {
        path: crashed,
        ..settings
    })?;
    let opened = started.elapsed();
    let mut count = 0;
    store.load(&mut |_| count += 1)?;
    let all = started.elapsed();
    println!(
        "10,000 sessions, as many subscriptions, 100,000 retained: opened after {opened:?}, {count} things loaded after {all:?}"
    );
    Ok(())
}

/// Keep `outstanding` deliveries on their way; each is done when it is safe.
fn run(
    mut log: Handle,
    signals: &Signals<()>,
    outstanding: usize,
    time: Duration,
) -> Result<(u64, Vec<Duration>), Box<dyn Error>> {
    let until = Instant::now() + time;
    let mut waits = Vec::new();
    let mut waiting = VecDeque::new();
    let mut count = 0;
    while Instant::now() < until {
        while waiting.len() < outstanding {
            count += 1;
            let mut receivers = [Receiver {
                session: SessionId(count % SESSIONS),
                order: Order(count),
                qos: 1,
                retain: false,
                identifiers: Cow::Borrowed(&[]),
                slot: Slot::default(),
            }];
            let seq = log.deliver(&DELIVERY, &mut receivers, Urgency::Sync);
            waiting.push_back((seq, count, Instant::now()));
        }
        signals.recv()?;
        let watermark = log.watermark();
        while let Some(&(seq, order, since)) = waiting.front() {
            if watermark.proves(seq).is_none() {
                break;
            }
            waiting.pop_front();
            waits.push(since.elapsed());
            log.done(SessionId(order % SESSIONS), Order(order), Slot::default());
        }
    }
    Ok((waits.len() as u64, waits))
}

const DELIVERY: Delivery<'static> = Delivery {
    origin: Origin::Nothing,
    body: Body {
        topic: "factory/line-12/sensor-7/reading",
        properties: &[],
        payload: &PAYLOAD,
        expires_at: None,
        qos: 1,
        retain: false,
    },
};

/// Appends of 4 KiB, each synced, per second.
fn raw_syncs(path: &Path, time: Duration) -> Result<f64, Box<dyn Error>> {
    let mut file = File::create(path)?;
    let until = Instant::now() + time;
    let mut count = 0u32;
    while Instant::now() < until {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / time.as_secs_f64())
}
