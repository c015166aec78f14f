//! Files that are not what they were: said, never mended in silence, never a panic.
//!
//! Refuses to expect a particular sentence.

use crate::model::Model;
use crate::place::{Place, Running, below};
use crate::script;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sealmq_store::sqlite::check_file;
use sealmq_store::{Health, Log, Order, PageRequest, SessionId, Stored};
use std::fs;

/// Offsets in the first page: SQLite's file format, 1.3.
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

/// A closed store with something of everything, its bytes and its content.
fn sound() -> (Vec<u8>, Model) {
    let place = Place::new();
    let mut running = place.run();
    script::say(&mut running.log, 0, 800, |_, _| ());
    running.close();
    let bytes = fs::read(place.path()).unwrap();
    let (model, running) = Model::of(place.open().unwrap());
    running.close();
    (bytes, model)
}

fn with(bytes: &[u8]) -> Place {
    let place = Place::new();
    fs::write(place.path(), bytes).unwrap();
    place
}

/// What a broker does with a store it was given; whatever comes of it.
fn live(place: &Place) {
    let Ok(mut store) = place.open() else { return };
    let mut sessions = Vec::new();
    let loaded = store.load(&mut |stored| {
        if let Stored::Backlog { session, .. } = stored {
            sessions.push(session);
        }
    });
    if loaded.is_err() {
        return;
    }
    let mut running = Running::start(store);
    for session in sessions {
        running.log.request_page(PageRequest {
            session,
            from: Order(0),
            max_messages: 10_000,
            max_bytes: 1 << 30,
        });
        running.until("a page or an end", |log| {
            log.take_page().is_some() || matches!(log.health(), Health::Failed(_))
        });
    }
    script::say(&mut running.log, 900, 950, |_, _| ());
    let _ = running.store.close(std::time::Duration::from_secs(60));
}

#[test]
fn a_changed_byte_is_told_or_makes_no_difference() {
    let (bytes, model) = sound();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut told = 0;
    for _ in 0..200 {
        let (at, flip) = (below(&mut rng, bytes.len()), 1 + below(&mut rng, 255) as u8);
        let mut bytes = bytes.clone();
        bytes[at] ^= flip;
        let place = with(&bytes);
        if check_file(&place.path()).is_ok_and(|found| found.is_empty()) {
            let (found, running) = Model::of(place.open().unwrap());
            assert_eq!(found, model, "byte {at} xor {flip}");
            running.close();
        } else {
            told += 1;
            live(&place);
        }
    }
    assert!(told > 50, "most bytes matter: {told}");
}

#[test]
fn a_changed_page_is_told() {
    let (bytes, model) = sound();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for page in 0..bytes.len() / 4096 {
        let mut bytes = bytes.clone();
        for byte in &mut bytes[page * 4096..(page + 1) * 4096] {
            *byte = below(&mut rng, 256) as u8;
        }
        let place = with(&bytes);
        if check_file(&place.path()).is_ok_and(|found| found.is_empty()) {
            let (found, running) = Model::of(place.open().unwrap());
            assert_eq!(found, model, "page {page}");
            running.close();
        } else {
            live(&place);
        }
    }
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let (sound, _) = sound();
    let patched = |at: usize, value: u32| {
        let mut bytes = sound.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let cases = [
        (b"listener:\n  port: 8883\n".to_vec(), "store-damaged"),
        (Vec::new(), "store-damaged"),
        (sound[..100].to_vec(), "store-damaged"),
        (vec![0; 8192], "store-damaged"),
        (patched(USER_VERSION, 3), "store-newer"),
        (patched(USER_VERSION, 0), "store-damaged"),
        (patched(APPLICATION_ID, 0), "store-foreign"),
    ];
    for (bytes, code) in cases {
        let place = with(&bytes);
        let error = place.open().err().unwrap();
        assert_eq!(error.code, code, "{error}");
        assert_eq!(fs::read(place.path()).unwrap(), bytes);
    }
}

#[test]
fn a_log_without_its_file_is_not_played_into_a_new_one() {
    let place = Place::new();
    fs::write(place.folder.path().join("store.db-wal"), [1; 100]).unwrap();
    assert_eq!(place.open().err().unwrap().code, "store-damaged");
}

#[test]
fn a_short_file_is_found_even_when_it_was_closed_well() {
    let (bytes, _) = sound();
    let place = with(&bytes[..bytes.len() / 2]);
    assert!(check_file(&place.path()).map_or(true, |found| !found.is_empty()));
    live(&place);
}

#[test]
fn damage_that_is_found_late_ends_the_promises() {
    let place = Place::new();
    let mut running = place.run();
    running.begin(1);
    running.deliver(1, 1, &vec![7; 1 << 20]);
    running.close();
    let mut running = place.run();
    let mut bytes = fs::read(place.path()).unwrap();
    let length = bytes.len();
    bytes[length / 4..].fill(0);
    fs::write(place.path(), bytes).unwrap();
    let session = SessionId(1);
    running.log.request_page(PageRequest {
        session,
        from: Order(0),
        max_messages: 1,
        max_bytes: 1,
    });
    running.until("the store fails", |log| matches!(log.health(), Health::Failed(_)));
    assert!(running.log.take_page().is_none());
    assert_eq!(
        running
            .store
            .close(std::time::Duration::from_secs(60))
            .unwrap_err()
            .code,
        "store-failed"
    );
}
