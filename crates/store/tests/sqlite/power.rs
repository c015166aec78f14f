//! The power goes: of the log every length may be on disk, and anything after the last sync; of the file under a checkpoint
//! any page may be torn.
//!
//! Refuses to switch a machine off. A log grows at its end until it is moved, so one log cut short is all its earlier selves.

use crate::model::Model;
use crate::place::{Place, below};
use crate::script;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::fs;

const HEADER: usize = 32;
const FRAME: usize = 4096 + 24;

struct Scene {
    file: Vec<u8>,
    log: Vec<u8>,
    /// Bytes of the log when so many changes were safe.
    safe: Vec<(usize, u64)>,
}

/// A store that was never checkpointed since `file`, and its log.
fn scene() -> Scene {
    for _ in 0..20 {
        let place = Place::new();
        place.run().close();
        let path = place.path();
        let log_path = path.with_extension("db-wal");
        let file = fs::read(&path).unwrap();
        let mut running = place.run();
        let mut safe = Vec::new();
        let mut at = 0;
        for step in 0..30 {
            let mut last = sealmq_store::Seq(0);
            let end = at + 1 + step * 7 % 23;
            script::say(&mut running.log, at, end, |_, seq| last = last.max(seq));
            at = end;
            running.until_safe(last);
            safe.push((fs::metadata(&log_path).unwrap().len() as usize, at));
        }
        let log = fs::read(&log_path).unwrap();
        let is_untouched = fs::read(&path).unwrap() == file;
        running.close();
        // On a machine that stood still for a second the log may have been moved: then it tells nothing.
        if is_untouched {
            return Scene { file, log, safe };
        }
    }
    panic!("twenty times the log was moved in the middle of a test of milliseconds");
}

/// How many changes are found; panics unless they are a prefix that has what is safe.
fn recover(file: &[u8], log: &[u8], safe: u64) -> u64 {
    let place = Place::new();
    fs::write(place.path(), file).unwrap();
    fs::write(place.path().with_extension("db-wal"), log).unwrap();
    let store = place.open().unwrap();
    let (found, running) = Model::of(store);
    running.close();
    script::changes_in(&found, safe)
}

fn safe_at(scene: &Scene, length: usize) -> u64 {
    scene
        .safe
        .iter()
        .filter(|(bytes, _)| *bytes <= length)
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
}

#[test]
fn a_log_cut_at_any_length_gives_a_prefix_with_all_that_was_safe() {
    let scene = scene();
    let mut cuts: Vec<usize> = (0..=HEADER).step_by(8).collect();
    for frame in (HEADER..=scene.log.len()).step_by(FRAME) {
        cuts.extend([
            frame,
            frame + 1,
            frame + 23,
            frame + 24,
            frame + 2000,
            frame + FRAME - 1,
        ]);
    }
    let mut last = 0;
    for cut in cuts.into_iter().filter(|cut| *cut <= scene.log.len()) {
        let found = recover(&scene.file, &scene.log[..cut], safe_at(&scene, cut));
        assert!(found >= last, "more log, fewer changes");
        last = found;
    }
    assert_eq!(last, scene.safe.last().unwrap().1);
}

#[test]
fn whatever_follows_the_last_sync_does_no_harm() {
    let scene = scene();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..100 {
        let (length, count) = scene.safe[below(&mut rng, scene.safe.len() - 1)];
        let mut log = scene.log.clone();
        for _ in 0..1 + below(&mut rng, 5) {
            let at = length + below(&mut rng, log.len() - length);
            log[at] ^= 1 << below(&mut rng, 8);
        }
        recover(&scene.file, &log, count);
    }
}

#[test]
fn a_checkpoint_cut_in_the_middle_is_made_again() {
    let scene = scene();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let pages: Vec<usize> = scene.log[HEADER..]
        .chunks_exact(FRAME)
        .map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize)
        .collect();
    let all = scene.safe.last().unwrap().1;
    for _ in 0..30 {
        let mut file = scene.file.clone();
        for &page in &pages {
            let from = (page - 1) * 4096 + below(&mut rng, 4096);
            let to = (page * 4096).min(file.len());
            if below(&mut rng, 2) == 0 && page > 1 && from < to {
                file[from..to].fill(below(&mut rng, 256) as u8);
            }
        }
        assert_eq!(recover(&file, &scene.log, all), all);
    }
}
