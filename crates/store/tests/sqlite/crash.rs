//! `kill -9` in the middle of commits: what was said to be safe is there, and what is there is a prefix.
//!
//! Refuses to know the power switch; `power` does.

use crate::child;
use crate::model::Model;
use crate::place::{Place, Running};
use crate::script;
use sealmq_store::Log;
use sealmq_store::sqlite::{Settings, Store};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

const ROUNDS: u64 = 24;

#[test]
fn a_killed_process_loses_nothing_that_was_safe() {
    if let Some((folder, from)) = child::role() {
        return live_until_killed(&folder.join("store.db"), from);
    }
    let place = Place::new();
    let mut done = 0;
    for round in 0..ROUNDS {
        let mut command = child::command(
            "crash::a_killed_process_loses_nothing_that_was_safe",
            "",
            place.folder.path().as_os_str(),
            done,
        );
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut safe = done;
        let mut note = |line: String| {
            if let Some(count) = line.strip_prefix("safe ") {
                safe = count.parse().unwrap();
            }
        };
        // Another moment each round; the rest of what it said before it died counts too.
        for _ in 0..20 + round * 17 % 90 {
            note(lines.next().expect("the child lives").unwrap());
        }
        process.kill().unwrap();
        lines.map_while(Result::ok).for_each(note);
        process.wait().unwrap();
        assert!(safe > done, "the child has done something");

        let store = place.open().unwrap();
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        let (found, running) = Model::of(store);
        done = script::changes_in(&found, safe);
        running.close();
    }
}

/// Say changes without end, and on standard output what is safe.
fn live_until_killed(path: &std::path::Path, from: u64) {
    let settings = Settings {
        path: path.into(),
        max_bytes: 1 << 40,
        lazy_after: Duration::from_millis(1),
    };
    let mut running = Running::start(Store::open(settings).unwrap());
    let mut out = std::io::stdout();
    let mut seqs = std::collections::VecDeque::new();
    for at in from.. {
        script::say(&mut running.log, at, at + 1, |i, seq| seqs.push_back((i + 1, seq)));
        if seqs.len() > 64 {
            let (_, oldest) = seqs[seqs.len() - 32];
            running.until_safe(oldest);
        }
        let watermark = running.log.watermark();
        let mut safe = None;
        while let Some(&(count, seq)) = seqs.front() {
            if watermark.proves(seq).is_none() {
                break;
            }
            safe = Some(count);
            seqs.pop_front();
        }
        if let Some(count) = safe {
            writeln!(out, "safe {count}").unwrap();
        }
    }
}
