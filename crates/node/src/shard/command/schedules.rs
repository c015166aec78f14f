//! Every schedule of a shard that lies down and of others that give it something to do, with all that the memory model
//! allows each of them to see.
//!
//! Refuses to know the line itself: it is a number here, of which nothing is promised but that it is whole.

use loom::sync::atomic;
use loom::sync::{Arc, Notify};
use loom::thread;

/// The same source as the shard's, over atomics that are watched.
#[allow(clippy::duplicate_mod)]
#[path = "sleep.rs"]
mod sleep;

use sleep::Sleep;

#[derive(Default)]
struct Line {
    sleep: Sleep,
    given: atomic::AtomicUsize,
}

/// All that `givers` threads give, each `each` times, is done: else the shard sleeps for ever, which the model tells.
fn all_is_done(givers: usize, each: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let (line, waker) = (Arc::new(Line::default()), Arc::new(Notify::new()));
        for _ in 0..givers {
            let (line, waker) = (Arc::clone(&line), Arc::clone(&waker));
            thread::spawn(move || {
                for _ in 0..each {
                    line.given.fetch_add(1, atomic::Ordering::Relaxed);
                    if line.sleep.is_over() {
                        waker.notify();
                    }
                }
            });
        }
        let mut done = 0;
        while done < givers * each {
            line.sleep.begin();
            if line.given.load(atomic::Ordering::Relaxed) == done {
                waker.wait();
            }
            line.sleep.end();
            done = line.given.load(atomic::Ordering::Relaxed);
        }
    });
}

#[test]
fn two_who_come_at_once_are_both_seen() {
    all_is_done(2, 1);
}

#[test]
fn who_comes_again_is_seen_again() {
    all_is_done(1, 3);
}

#[test]
fn neither_of_two_who_come_again_is_overlooked() {
    all_is_done(2, 2);
}
