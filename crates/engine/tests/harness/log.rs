//! A log whose watermark is moved by hand: what it says is safe survives a crash, the rest does not.
//!
//! Refuses to know what the changes mean; that is the disk's.

use super::disk::Disk;
use sealmq_store::{
    Batch, Change, Delivery, Health, Keeping, Log, Order, Page, PageRequest, Receiver, Seq, SessionId, Slot, Urgency,
    Watermark,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    open: Batch,
    /// Taken, and safe up to `safe`.
    under_way: VecDeque<Batch>,
    safe: u64,
    disk: Disk,
    health: Health,
    requests: Vec<PageRequest>,
    pages: VecDeque<Page>,
}

/// Both ends of the log: one goes into the engine, a clone stays with the test.
#[derive(Clone, Default)]
pub struct HandLog {
    state: Arc<Mutex<State>>,
}

impl HandLog {
    /// The log of a broker that starts on `disk`.
    pub fn on(disk: Disk) -> HandLog {
        let log = HandLog::default();
        log.state.lock().unwrap().disk = disk;
        log
    }

    /// The number of changes appended.
    pub fn appended(&self) -> u64 {
        self.state.lock().unwrap().open.last().0
    }

    pub fn safe(&self) -> u64 {
        self.state.lock().unwrap().safe
    }

    /// The open batch is under way: what is done from now on comes too late to be left out.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        let batch = state.open.take(Vec::new());
        if !batch.is_empty() {
            state.under_way.push_back(batch);
        }
    }

    /// Everything up to the change number `safe` is on disk now.
    pub fn sync_to(&self, safe: u64) {
        self.cut();
        let mut state = self.state.lock().unwrap();
        assert!(safe >= state.safe, "a watermark never goes back");
        let State {
            under_way,
            safe: old,
            disk,
            ..
        } = &mut *state;
        let mut seq = 0;
        for batch in under_way.iter() {
            let entries: Vec<_> = batch.entries().collect();
            seq = batch.last().0 - entries.len() as u64;
            for entry in entries {
                seq += 1;
                if seq > *old && seq <= safe {
                    disk.apply(entry.expect("a batch that can be read"));
                }
            }
        }
        let _ = seq;
        under_way.retain(|batch| batch.last().0 > safe);
        *old = safe;
    }

    /// Everything appended is on disk now.
    pub fn sync(&self) {
        self.sync_to(self.appended());
    }

    /// Whether there is something to sync, or a page to read.
    pub fn has_news(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.open.last().0 > state.safe || !state.requests.is_empty()
    }

    pub fn fail(&self, why: &str) {
        self.state.lock().unwrap().health = Health::Failed(why.into());
    }

    pub fn set_health(&self, health: Health) {
        self.state.lock().unwrap().health = health;
    }

    /// What somebody who looks after the power went would find.
    pub fn disk(&self) -> Disk {
        self.state.lock().unwrap().disk.clone()
    }

    /// Read the pages that were asked for; how many.
    pub fn read_pages(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        let requests = std::mem::take(&mut state.requests);
        let count = requests.len();
        for request in requests {
            let page = state.disk.page(request, Seq(state.safe));
            state.pages.push_back(page);
        }
        count
    }
}

impl Log for HandLog {
    fn keeping(&self) -> Keeping {
        Keeping::Changes
    }

    fn health(&self) -> Health {
        self.state.lock().unwrap().health.clone()
    }

    fn append(&mut self, change: &Change<'_>, urgency: Urgency) -> Seq {
        self.state.lock().unwrap().open.append(change, urgency)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>], urgency: Urgency) -> Seq {
        self.state.lock().unwrap().open.deliver(delivery, receivers, urgency)
    }

    fn done(&mut self, session: SessionId, order: Order, slot: Slot) {
        let mut state = self.state.lock().unwrap();
        if !state.open.cancel(slot) {
            state.open.append(&Change::Done { session, order }, Urgency::Lazy);
        }
    }

    fn watermark(&self) -> Watermark {
        Watermark(Seq(self.state.lock().unwrap().safe))
    }

    fn request_page(&mut self, request: PageRequest) {
        self.state.lock().unwrap().requests.push(request);
    }

    fn take_page(&mut self) -> Option<Page> {
        self.state.lock().unwrap().pages.pop_front()
    }
}
