//! A folder with a store in it, and the few moves every test makes.
//!
//! Refuses to sleep: what it waits for, the store says.

use proptest::prelude::RngCore;
use proptest::test_runner::TestRng;
use sealmq_store::sqlite::{Handle, Settings, Store, StoreError};
use sealmq_store::{
    Body, Change, Delivery, Health, Log, Order, Origin, Page, PageRequest, Receiver, Seq, SessionId, Slot, Urgency,
};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver as Signals, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any of this takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Place {
    pub folder: TempDir,
    pub max_bytes: u64,
}

impl Place {
    pub fn new() -> Place {
        Place {
            folder: TempDir::new().unwrap(),
            max_bytes: 1 << 40,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub fn settings(&self) -> Settings {
        Settings {
            path: self.path(),
            max_bytes: self.max_bytes,
            lazy_after: Duration::from_millis(20),
        }
    }

    pub fn open(&self) -> Result<Store, StoreError> {
        Store::open(self.settings())
    }

    pub fn run(&self) -> Running {
        Running::start(self.open().unwrap())
    }
}

/// A started store and its log.
pub struct Running {
    pub store: Store,
    pub log: Handle,
    signals: Signals<()>,
}

impl Running {
    pub fn start(mut store: Store) -> Running {
        let (sender, signals) = channel::<()>();
        let sender: Mutex<Sender<()>> = Mutex::new(sender);
        let log = store.start(Arc::new(move || {
            // Nobody listens any more when the test has ended.
            let _ = sender.lock().unwrap().send(());
        }));
        Running { store, log, signals }
    }

    /// Wait until `is_so` says so; it is asked after each progress.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Handle) -> bool) {
        while !is_so(&mut self.log) {
            if self.signals.recv_timeout(PATIENCE).is_err() {
                panic!("{what}: nothing happened; health {:?}", self.log.health());
            }
        }
    }

    pub fn until_safe(&mut self, seq: Seq) {
        self.until("a change becomes safe", |log| {
            assert!(!matches!(log.health(), Health::Failed(_)), "{:?}", log.health());
            log.watermark().proves(seq).is_some()
        });
    }

    pub fn page(&mut self, session: u64, from: u64, max_messages: u32, max_bytes: u64) -> Page {
        self.log.request_page(PageRequest {
            session: SessionId(session),
            from: Order(from),
            max_messages,
            max_bytes,
        });
        let mut found = None;
        self.until("a page comes", |log| {
            found = log.take_page();
            found.is_some()
        });
        found.unwrap()
    }

    pub fn close(self) {
        assert_eq!(self.store.close(PATIENCE), Ok(true));
    }

    pub fn begin(&mut self, session: u64) -> Seq {
        let (session, client_id) = (SessionId(session), &format!("client-{session}"));
        let change = Change::Begin {
            session,
            client_id,
            device: None,
            expiry_s: u32::MAX,
        };
        self.log.append(&change, Urgency::Sync)
    }

    /// One message for one session.
    pub fn deliver(&mut self, session: u64, order: u64, payload: &[u8]) -> (Seq, Slot) {
        let mut receivers = [receiver(session, order)];
        let seq = self.log.deliver(&delivery(payload), &mut receivers, Urgency::Sync);
        (seq, receivers[0].slot)
    }
}

pub fn delivery(payload: &[u8]) -> Delivery<'_> {
    Delivery {
        origin: Origin::Nothing,
        body: Body {
            topic: "plant/7/temperature",
            properties: &[],
            payload,
            expires_at: None,
            qos: 1,
            retain: false,
        },
    }
}

pub fn receiver(session: u64, order: u64) -> Receiver<'static> {
    Receiver {
        session: SessionId(session),
        order: Order(order),
        qos: 1,
        retain: false,
        identifiers: Cow::Borrowed(&[]),
        slot: Slot::default(),
    }
}

/// A number below `bound`.
pub fn below(rng: &mut TestRng, bound: usize) -> usize {
    rng.next_u64() as usize % bound
}
