//! Copies: one moment of a running store, put back elsewhere.
//!
//! Refuses to know how they are made.

use crate::model::Model;
use crate::place::Place;
use crate::script;
use sealmq_store::sqlite::{OtherFleet, check_file, restore, stats_file};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const FLEET: &str = "fleet-1";

#[test]
fn a_store_belongs_to_one_fleet_and_so_do_its_backups() {
    let place = Place::new();
    let store = place.open().unwrap();
    store.claim(FLEET).unwrap();
    store.claim(FLEET).unwrap();
    assert_eq!(store.claim("fleet-2").unwrap_err().code, "store-other-fleet");
    let backup = place.folder.path().join("backup");
    store.backup(&backup).unwrap();
    let other = Place::new();
    let refused = restore(&backup, &other.path(), "fleet-2", OtherFleet::Refuse).unwrap_err();
    assert_eq!(refused.code, "store-other-fleet");
    assert!(!other.path().exists());
    restore(&backup, &other.path(), "fleet-2", OtherFleet::TakeOver).unwrap();
    let taken_over = other.open().unwrap();
    taken_over.claim("fleet-2").unwrap();
    assert_eq!(taken_over.claim(FLEET).unwrap_err().code, "store-other-fleet");
    drop(taken_over);
    // A store that no broker has had belongs to whoever takes it.
    let (blank, mine) = (Place::new(), Place::new());
    let unclaimed = blank.folder.path().join("backup");
    blank.open().unwrap().backup(&unclaimed).unwrap();
    restore(&unclaimed, &mine.path(), FLEET, OtherFleet::Refuse).unwrap();
    assert_eq!(
        mine.open().unwrap().claim("fleet-2").unwrap_err().code,
        "store-other-fleet"
    );
}

#[test]
fn a_backup_under_load_is_one_moment_with_all_that_was_safe() {
    let place = Place::new();
    let mut running = place.run();
    let backup = place.folder.path().join("backup ü?#%.db");
    let mut last = sealmq_store::Seq(0);
    script::say(&mut running.log, 0, 5000, |_, seq| last = last.max(seq));
    running.until_safe(last);
    let is_done = AtomicBool::new(false);
    let (report, end) = thread::scope(|scope| {
        let (store, log) = (&running.store, &mut running.log);
        let copy = scope.spawn(|| {
            let report = store.backup(&backup);
            is_done.store(true, Ordering::Release);
            report
        });
        let mut at = 5000;
        while !is_done.load(Ordering::Acquire) {
            script::say(log, at, at + 10, |_, _| ());
            at += 10;
        }
        (copy.join().unwrap().unwrap(), at)
    });
    assert!(end > 5000, "there was load");
    assert_eq!(report.bytes, backup.metadata().unwrap().len());
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(running.store.backup(&backup).unwrap_err().code, "store-exists");
    running.close();

    let other = Place::new();
    assert_eq!(
        restore(&backup, &other.path(), FLEET, OtherFleet::Refuse)
            .unwrap()
            .messages,
        report.messages
    );
    let (found, running) = Model::of(other.open().unwrap());
    assert_eq!(found.queue.len() as u64, report.messages);
    assert!(script::changes_in(&found, 5000) <= end);
    running.close();
}

#[test]
fn nothing_is_ever_overwritten() {
    let place = Place::new();
    let mut running = place.run();
    running.begin(1);
    running.deliver(1, 1, b"mine");
    let taken = place.folder.path().join("taken");
    std::fs::write(&taken, "precious").unwrap();
    assert_eq!(running.store.backup(&taken).unwrap_err().code, "store-exists");
    let backup = place.folder.path().join("backup");
    running.page(1, 0, 1, 1);
    running.store.backup(&backup).unwrap();
    assert_eq!(
        restore(&backup, &place.path(), FLEET, OtherFleet::Refuse)
            .unwrap_err()
            .code,
        "store-locked"
    );
    running.close();
    assert_eq!(
        restore(&backup, &place.path(), FLEET, OtherFleet::Refuse)
            .unwrap_err()
            .code,
        "store-exists"
    );
    assert_eq!(
        restore(&taken, &place.folder.path().join("new"), FLEET, OtherFleet::Refuse)
            .unwrap_err()
            .code,
        "store-damaged"
    );
    assert_eq!(std::fs::read(&taken).unwrap(), b"precious");
    let names: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().ends_with(".part")),
        "{names:?}"
    );
}

#[test]
fn looking_at_a_store_leaves_no_trace() {
    let place = Place::new();
    let mut running = place.run();
    let (seq, _) = running.deliver(1, 1, b"12345");
    running.until_safe(seq);
    assert_eq!(
        stats_file(&place.path()).unwrap().queued_messages,
        1,
        "beside a running one"
    );
    assert_eq!(
        check_file(&place.path()).unwrap(),
        ["messages that wait for no session: 1"]
    );
    running.close();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(place.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["store.db", "store.db.lock"]);
    assert_eq!(stats_file(&place.path()).unwrap().queued_bytes, 24);
    assert_eq!(check_file(&place.path()).unwrap().len(), 1);
    assert_eq!(names(), ["store.db", "store.db.lock"]);
    assert_eq!(
        check_file(&place.folder.path().join("none")).unwrap_err().code,
        "store-missing"
    );
    assert_eq!(names(), ["store.db", "store.db.lock"]);
}
