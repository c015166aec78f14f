//! A million messages for one session cost neither memory nor a pause.
//!
//! Refuses to measure time: what it waits for has to come before what it must not wait for.

use crate::child;
use crate::place::{Place, Running, delivery, receiver};
use sealmq_store::sqlite::{Settings, Store};
use sealmq_store::{Change, Log, Seq, SessionId, Stored, Urgency};
use std::path::Path;
use std::time::Duration;

const MESSAGES: u64 = 1_000_000;
/// For the store, the page and the test itself, in KiB; the messages are 120 MB.
const MEMORY: u64 = 48 * 1024;

#[test]
fn a_million_messages_cost_neither_memory_nor_a_pause() {
    if let Some((folder, step)) = child::role() {
        let store = open(&folder.join("store.db"));
        return if step == 0 { fill(store) } else { use_and_end(store) };
    }
    let place = Place::new();
    for step in 0..2 {
        let name = "million::a_million_messages_cost_neither_memory_nor_a_pause";
        let status = child::command(name, "", place.folder.path().as_os_str(), step)
            .status()
            .unwrap();
        assert!(status.success());
    }
    assert_eq!(place.open().unwrap().check().unwrap(), Vec::<String>::new());
}

fn open(path: &Path) -> Store {
    Store::open(Settings {
        path: path.into(),
        max_bytes: 1 << 40,
        lazy_after: Duration::from_millis(250),
    })
    .unwrap()
}

fn fill(store: Store) {
    let mut running = Running::start(store);
    running.begin(1);
    let mut seq = Seq(0);
    for order in 0..MESSAGES {
        let mut receivers = [receiver(1, order)];
        seq = running.log.deliver(&delivery(&[7; 64]), &mut receivers, Urgency::Os);
        if order % 10_000 == 0 {
            running.until_safe(seq);
        }
    }
    running.until_safe(seq);
    // No close: the next one finds it as after a crash.
}

fn use_and_end(mut store: Store) {
    let mut found = 0;
    store
        .load(&mut |stored| {
            if let Stored::Backlog { count, .. } = stored {
                found = count;
            }
        })
        .unwrap();
    assert_eq!(found, MESSAGES);
    let mut running = Running::start(store);
    for from in [0, MESSAGES / 2, MESSAGES - 50] {
        let page = running.page(1, from, 100, 1 << 20);
        assert_eq!(page.messages.len() as u64, 100.min(MESSAGES - from));
        assert_eq!(page.is_last, from + 100 >= MESSAGES);
    }
    running.begin(2);
    running
        .log
        .append(&Change::End { session: SessionId(1) }, Urgency::Sync);
    let (seq, _) = running.deliver(2, 1, b"not after a million others");
    running.until_safe(seq);
    assert!(
        running.store.stats().queued_messages > MESSAGES / 2,
        "most of the old are still there"
    );
    let peak = peak_kib();
    assert!(peak < MEMORY, "{peak} KiB");
    // Each turn of the writer takes a part away, however much else comes.
    while running.store.stats().queued_messages > 1 {
        let seq = running.log.append(&Change::Unretain { topic: "none" }, Urgency::Os);
        running.until_safe(seq);
    }
    running.close();
}

/// The most that this process ever had in memory.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
