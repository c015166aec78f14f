//! Where the broker's thread and the store's threads meet: the open batch, the watermark, requests for pages and their answers.
//!
//! Refuses to know files. No lock is held while anybody waits for a disk.

use super::stats::Figures;
use crate::{Batch, Health, Page, PageRequest, Seq, Urgency};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lazy changes wait for company until there are so many bytes of them.
const COMPANY: usize = 1 << 20;
/// Bytes that wait for a disk too slow for them before the log says it is full.
const CROWD: usize = 64 << 20;

const GOOD: u8 = 0;
const FULL: u8 = 1;
const FAILED: u8 = 2;

pub(super) struct Inbox {
    open: Mutex<Open>,
    /// To the writer: there is something to do.
    wake: Condvar,
    watermark: AtomicU64,
    health: AtomicU8,
    /// What the health was when it failed.
    sentence: Mutex<String>,
    pages: Mutex<Pages>,
    /// To the reader: a request came, or the watermark moved.
    asked: Condvar,
    pub figures: Mutex<Figures>,
    progress: Arc<dyn Fn() + Send + Sync>,
}

struct Open {
    batch: Batch,
    /// When the first change of the batch came.
    since: Option<Instant>,
    /// Somebody waits for lazy changes.
    is_hurried: bool,
    is_closing: bool,
    is_writer_waiting: bool,
    /// Changes by urgency: lazy, os, sync.
    changes: [u64; 3],
}

#[derive(Default)]
struct Pages {
    requests: VecDeque<(PageRequest, Seq)>,
    answers: VecDeque<Page>,
    is_closing: bool,
}

/// What the writer finds.
#[derive(Debug)]
pub(super) enum Due {
    Batch(Batch),
    /// Patience ran out with nothing due.
    Nothing,
    /// The last batch, which may be empty.
    Closing(Batch),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody leaves anything half done under a lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub fn new(figures: Figures, progress: Arc<dyn Fn() + Send + Sync>) -> Inbox {
        Inbox {
            open: Mutex::new(Open {
                batch: Batch::default(),
                since: None,
                is_hurried: false,
                is_closing: false,
                is_writer_waiting: false,
                changes: [0; 3],
            }),
            wake: Condvar::new(),
            watermark: AtomicU64::new(0),
            health: AtomicU8::new(GOOD),
            sentence: Mutex::new(String::new()),
            pages: Mutex::default(),
            asked: Condvar::new(),
            figures: Mutex::new(figures),
            progress,
        }
    }

    // The broker's thread.

    /// Put something into the open batch by `put`; wakes the writer when it has to know.
    pub fn put(&self, urgency: Urgency, put: impl FnOnce(&mut Batch) -> Seq) -> Seq {
        let mut open = lock(&self.open);
        let seq = put(&mut open.batch);
        if let Some(count) = open.changes.get_mut(urgency as usize) {
            *count += 1;
        }
        let is_first = open.since.is_none();
        if is_first {
            open.since = Some(Instant::now());
        }
        match self.health.load(Ordering::Acquire) {
            // Nobody will ever take it.
            FAILED => drop(open.take(Vec::new())),
            _ if open.batch.size() > CROWD => self.turn_full(),
            _ => {}
        }
        if open.is_writer_waiting && (is_first || urgency > Urgency::Lazy || open.batch.size() >= COMPANY) {
            open.is_writer_waiting = false;
            drop(open);
            self.wake.notify_one();
        }
        seq
    }

    /// Take a receiver out of the open batch.
    pub fn cancel(&self, slot: crate::Slot) -> bool {
        lock(&self.open).batch.cancel(slot)
    }

    /// Ask for a page that shows everything that was appended until now.
    pub fn ask(&self, request: PageRequest) {
        let mut open = lock(&self.open);
        let seq = open.batch.last();
        if !open.batch.is_empty() {
            open.is_hurried = true;
            self.wake.notify_one();
        }
        drop(open);
        lock(&self.pages).requests.push_back((request, seq));
        self.asked.notify_one();
    }

    pub fn take_page(&self) -> Option<Page> {
        lock(&self.pages).answers.pop_front()
    }

    pub fn watermark(&self) -> Seq {
        Seq(self.watermark.load(Ordering::Acquire))
    }

    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            GOOD => Health::Good,
            FULL => Health::Full,
            _ => Health::Failed(lock(&self.sentence).clone()),
        }
    }

    /// Changes by urgency so far: lazy, os, sync.
    pub fn changes(&self) -> [u64; 3] {
        lock(&self.open).changes
    }

    pub fn close(&self) {
        lock(&self.open).is_closing = true;
        self.wake.notify_one();
    }

    // The writer's thread.

    /// Wait until a batch is due; `patience` for other work, `lazy_after` for lazy changes. `spare` is memory for the next.
    pub fn take(&self, spare: &mut Vec<u8>, lazy_after: Duration, patience: Option<Duration>) -> Due {
        let started = Instant::now();
        let mut open = lock(&self.open);
        loop {
            if open.is_closing {
                return Due::Closing(open.batch.take(core::mem::take(spare)));
            }
            let lazy_due = open.since.map(|since| since + lazy_after);
            let now = Instant::now();
            let is_due = !open.batch.is_empty()
                && (open.batch.urgency() > Urgency::Lazy
                    || open.is_hurried
                    || open.batch.size() >= COMPANY
                    || lazy_due.is_some_and(|due| due <= now));
            if is_due {
                return Due::Batch(open.take(core::mem::take(spare)));
            }
            let idle_due = patience.map(|patience| started + patience);
            if idle_due.is_some_and(|due| due <= now) {
                return Due::Nothing;
            }
            open.is_writer_waiting = true;
            open = self.wait(open, [lazy_due, idle_due].into_iter().flatten().min());
        }
    }

    /// Wait for `pause` or the close, then take what there is.
    pub fn take_after(&self, spare: &mut Vec<u8>, pause: Duration) -> Due {
        let due = Instant::now() + pause;
        let mut open = lock(&self.open);
        while !open.is_closing && Instant::now() < due {
            open = self.wait(open, Some(due));
        }
        let batch = open.take(core::mem::take(spare));
        if open.is_closing {
            Due::Closing(batch)
        } else {
            Due::Batch(batch)
        }
    }

    /// Everything up to `seq` is safe.
    pub fn advance(&self, seq: Seq) {
        self.watermark.store(seq.0, Ordering::Release);
        self.tell();
    }

    /// There is room, or there is none.
    pub fn set_full(&self, is_full: bool) {
        let (before, after) = if is_full { (GOOD, FULL) } else { (FULL, GOOD) };
        let changed = self
            .health
            .compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire);
        if changed.is_ok() {
            self.tell();
        }
    }

    /// Nothing more is promised.
    pub fn fail(&self, sentence: String) {
        let mut kept = lock(&self.sentence);
        if self.health.load(Ordering::Acquire) != FAILED {
            *kept = sentence;
            self.health.store(FAILED, Ordering::Release);
        }
        drop(kept);
        self.tell();
    }

    // The reader's thread.

    /// The next request, and whether everything before it is in the file; `None` when the store is closed.
    pub fn next_request(&self) -> Option<PageRequest> {
        let mut pages = lock(&self.pages);
        loop {
            if pages.is_closing {
                return None;
            }
            if let Some(&(request, seq)) = pages.requests.front() {
                // A writer that is stuck will not get there: what is in the file is better than nothing.
                if self.watermark() >= seq || self.health.load(Ordering::Acquire) != GOOD {
                    pages.requests.pop_front();
                    return Some(request);
                }
            }
            pages = self.asked.wait(pages).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn answer(&self, page: Page) {
        lock(&self.pages).answers.push_back(page);
        (self.progress)();
    }

    /// Nobody will ask any more.
    pub fn close_pages(&self) {
        lock(&self.pages).is_closing = true;
        self.asked.notify_one();
    }

    /// The watermark or the health moved.
    fn tell(&self) {
        // Through the lock, so that a reader that has just looked is asleep when it is woken.
        drop(lock(&self.pages));
        self.asked.notify_one();
        (self.progress)();
    }

    fn turn_full(&self) {
        let _ = self
            .health
            .compare_exchange(GOOD, FULL, Ordering::AcqRel, Ordering::Acquire);
    }

    fn wait<'a>(&self, open: MutexGuard<'a, Open>, until: Option<Instant>) -> MutexGuard<'a, Open> {
        match until {
            None => self.wake.wait(open).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let patience = until.saturating_duration_since(Instant::now());
                self.wake
                    .wait_timeout(open, patience)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }
}

impl Open {
    fn take(&mut self, spare: Vec<u8>) -> Batch {
        self.since = None;
        self.is_hurried = false;
        self.is_writer_waiting = false;
        self.batch.take(spare)
    }
}
