//! The store of a node: opened before anybody is served, watched while it runs, closed at the end.
//!
//! Refuses to know tables and files beyond their path, and what is kept.

use crate::config::StoreConfig;
use crate::node::NodeError;
use sealmq_engine::{Config, Durability, Engine, Millis};
pub use sealmq_store::sqlite::OtherFleet;
use sealmq_store::sqlite::{self, BackupReport, Settings, Stats, Store, StoreError};
use sealmq_store::{Health, MemoryLog};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long changes that nobody waits for stay in memory.
const LAZY_AFTER: Duration = Duration::from_millis(250);

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> NodeError {
        NodeError::new(error.code, error.message, error.mend)
    }
}

/// Wakes the shard when the store has news; the shard's poll is made after the store.
#[derive(Clone, Default)]
pub struct News(Arc<NewsInside>);

#[derive(Default)]
struct NewsInside {
    has_come: AtomicBool,
    waker: OnceLock<Arc<mio::Waker>>,
}

impl News {
    pub fn wake_with(&self, waker: Arc<mio::Waker>) {
        let _ = self.0.waker.set(waker);
    }

    fn tell(&self) {
        if !self.0.has_come.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.0.waker.get()
        {
            let _ = waker.wake();
        }
    }

    /// Whether there was news since the last call.
    pub fn take(&self) -> bool {
        self.0.has_come.swap(false, Ordering::AcqRel)
    }
}

/// What a node keeps its promises with.
pub struct Keep {
    config: Option<StoreConfig>,
    store: Mutex<Option<Store>>,
    pub durability: Durability,
    pub news: News,
}

impl Keep {
    /// Open the store, if there is to be one.
    pub fn open(config: Option<&StoreConfig>) -> Result<Keep, NodeError> {
        let news = News::default();
        let durability = match config {
            None => Durability::in_memory(),
            Some(config) => config.modes().map_err(|sentence| {
                NodeError::new(
                    "config-invalid",
                    sentence,
                    "see `sealmq config explain` for [durability]",
                )
            })?,
        };
        let config = config.filter(|_| durability.keeps_anything());
        let store = match config {
            None => None,
            Some(config) => Some(Store::open(Settings {
                path: config.path.clone(),
                max_bytes: config.max_bytes,
                lazy_after: LAZY_AFTER,
            })?),
        };
        if let (Some(store), Some(fleet)) = (&store, config.and_then(|config| config.fleet.as_deref())) {
            store.claim(fleet)?;
        }
        Ok(Keep {
            config: config.cloned(),
            store: Mutex::new(store),
            durability,
            news,
        })
    }

    /// An engine that goes on where the last one ended.
    pub fn revive(&self, config: Config, now: Millis) -> Result<Engine, NodeError> {
        let mut engine = Engine::new(config, Box::new(MemoryLog));
        if let Some(store) = &mut *self.lock() {
            let mut restorer = engine.restore();
            store.load(&mut |stored| restorer.take(now, &stored))?;
            let (news, next_session) = (self.news.clone(), store.next_session());
            let log = store.start(Arc::new(move || news.tell()));
            restorer.finish(now, next_session, Box::new(log));
        }
        Ok(engine)
    }

    /// What the store holds and costs, with the mode in force; null without one.
    pub fn stats(&self) -> Value {
        match (&*self.lock(), &self.config) {
            (Some(store), Some(config)) => {
                let mut stats = to_json(&store.stats());
                stats["durability"] = json!(config.durability);
                stats["max_bytes"] = json!(config.max_bytes);
                stats["path"] = json!(config.path);
                stats
            }
            _ => Value::Null,
        }
    }

    /// A record of the store's health; `None` while it is as it was.
    pub fn record(&self, health: &Health) -> Value {
        let is_fatal = self.config.as_ref().is_some_and(|c| c.stop_when_failed);
        match health {
            Health::Good => json!({"health": "good", "summary": "store has room again", "fatal": false}),
            Health::Full => json!({
                "health": "full", "fatal": false,
                "summary": "store has no room: messages that need it are refused",
                "mend": "free space on its disk, raise durability.max_bytes, or end sessions that nobody needs",
            }),
            Health::Failed(why) => json!({
                "health": "failed", "fatal": is_fatal,
                "summary": format!("store has failed, nothing more is acknowledged that needs it: {why}"),
                "mend": "look at the disk and the system's log, then `sealmq store check`, and restart the broker",
            }),
        }
    }

    pub fn backup(&self, to: &Path) -> Result<Value, NodeError> {
        Ok(copied(&self.with_store(|store| store.backup(to))?))
    }

    /// What is wrong with the file, a sentence each.
    pub fn check(&self) -> Result<Vec<String>, NodeError> {
        self.with_store(Store::check)
    }

    /// Commit and close; says what went wrong.
    pub fn close(&self, within: Duration) -> Option<Value> {
        let store = self.lock().take()?;
        match store.close(within) {
            Ok(true) => None,
            Ok(false) => Some(json!({
                "fatal": false,
                "summary": "store was not closed in time: what was not acknowledged may be lost, nothing else is",
            })),
            Err(error) => Some(json!({"fatal": false, "summary": error.message, "mend": error.mend})),
        }
    }

    fn with_store<T>(&self, ask: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, NodeError> {
        match &*self.lock() {
            Some(store) => Ok(ask(store)?),
            None => Err(NodeError::new(
                "store-none",
                "broker keeps everything in memory",
                "set durability.default to sync or os, and restart it",
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_json(stats: &Stats) -> Value {
    let (health, why) = match &stats.health {
        Health::Good => ("good", None),
        Health::Full => ("full", None),
        Health::Failed(why) => ("failed", Some(why)),
    };
    json!({
        "sessions": stats.sessions,
        "queued_messages": stats.queued_messages,
        "queued_bytes": stats.queued_bytes,
        "retained": stats.retained,
        "file_bytes": stats.file_bytes,
        "wal_bytes": stats.wal_bytes,
        "pages": stats.pages,
        "free_pages": stats.free_pages,
        "commits": stats.commits,
        "syncs": stats.syncs,
        "changes": {"lazy": stats.changes_lazy, "os": stats.changes_os, "sync": stats.changes_sync},
        "written_bytes": stats.written_bytes,
        "commit_us": {"p50": stats.commit_p50_us, "p99": stats.commit_p99_us, "max": stats.commit_max_us},
        "health": health,
        "why": why,
    })
}

// on a file, with no broker

/// What is wrong with the store in `path`, a sentence each. Writes nothing.
pub fn store_check(path: &Path) -> Result<Vec<String>, NodeError> {
    Ok(sqlite::check_file(path)?)
}

/// What the store in `path` holds. Writes nothing.
pub fn store_stats(path: &Path) -> Result<Value, NodeError> {
    Ok(to_json(&sqlite::stats_file(path)?))
}

/// Make `to`, the store of `fleet`, of the backup `from`, which is looked through first; nothing is overwritten.
pub fn store_restore(from: &Path, to: &Path, fleet: &str, other: OtherFleet) -> Result<Value, NodeError> {
    Ok(copied(&sqlite::restore(from, to, fleet, other)?))
}

/// A copy of the store in `from`, which no broker uses.
pub fn store_backup(from: &Path, to: &Path) -> Result<Value, NodeError> {
    let settings = Settings {
        path: from.into(),
        max_bytes: u64::MAX,
        lazy_after: LAZY_AFTER,
    };
    Ok(copied(&Store::open(settings)?.backup(to)?))
}

fn copied(report: &BackupReport) -> Value {
    json!({
        "bytes": report.bytes, "sessions": report.sessions, "messages": report.messages, "retained": report.retained,
    })
}
