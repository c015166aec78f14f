//! SQLite behind the seam: one file, one thread that writes it, one that reads what waits.
//!
//! Refuses to know MQTT, and who is connected. What the tables hold, and what each fault does, is told in docs/store.md.
//!
//! A batch is one transaction. `synchronous` is FULL when somebody waits for the device, NORMAL otherwise; the watermark moves
//! after `COMMIT` has returned. There is no artificial wait: while one batch is committed the next one forms.

mod backup;
mod check;
mod checksum;
mod fault;
mod file;
mod folder;
mod handle;
mod inbox;
mod ledger;
mod pages;
mod pen;
mod read;
mod rows;
mod statements;
mod stats;
mod survey;
mod writer;

pub use backup::{BackupReport, OtherFleet, restore};
pub use fault::StoreError;
pub use handle::Handle;
pub use stats::Stats;

use crate::{Health, Stored};
use fault::{damaged, of_sqlite};
use inbox::{Inbox, lock};
use ledger::{Counts, Ledger};
use read::Stop;
use rusqlite::{Connection, Error};
use stats::Figures;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use survey::{Backlog, Survey};
use writer::Writer;

/// Where a store is, and how much it may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file; `-wal`, `-shm` and `.lock` stand beside it. Made, with its folder, when it is missing.
    pub path: PathBuf,
    /// Bytes of the file and its log before the log of changes says [`crate::Health::Full`].
    pub max_bytes: u64,
    /// How long changes nobody waits for may stay in memory.
    pub lazy_after: Duration,
}

/// A store of this process. It is opened, read once with [`Store::load`], then started.
///
/// Dropped without [`Store::close`] it commits what it was given and closes in the background.
pub struct Store {
    path: PathBuf,
    max_bytes: u64,
    lazy_after: Duration,
    state: State,
    next_session: u64,
    /// One process at a time; the writer's thread holds it too, so that it ends with the last write.
    lock: Arc<folder::Lock>,
}

enum State {
    Opened(Box<Mutex<Opened>>),
    Started(Started),
}

struct Opened {
    writer: Connection,
    reader: Connection,
    ledger: Ledger,
    backlogs: Vec<Backlog>,
}

struct Started {
    inbox: Arc<Inbox>,
    ended: Mutex<Ended>,
}

/// Each thread says once that it has ended; the writer also, whether everything is in the file.
struct Ended {
    reader: Receiver<()>,
    writer: Receiver<bool>,
}

impl Store {
    /// Open a store, make it when there is none, bring an older one up to date (the file as it was stays as `NAME.vN`), and
    /// look whether it is sound when it was not closed the last time.
    ///
    /// # Errors
    /// Every code of [`StoreError`] but `store-older`, `store-exists` and `store-missing`. The file is as it was then.
    pub fn open(settings: Settings) -> Result<Store, StoreError> {
        let path = settings.path;
        let of_sqlite = |error: Error| of_sqlite(&path, &error);
        folder::prepare(&path)?;
        let lock = folder::take_lock(&path)?;
        let writer = file::open(&path)?;
        let was_closed = file::begin_use(&writer).map_err(of_sqlite)?;
        if !was_closed {
            check::quick(&writer)
                .map_err(of_sqlite)?
                .map_or(Ok(()), |said| Err(damaged(&path, said)))?;
        }
        let Survey {
            backlogs,
            ledger,
            next_session,
        } = survey::survey(&writer).map_err(of_sqlite)?;
        let opened = Opened {
            reader: file::open_beside(&path)?,
            writer,
            ledger,
            backlogs,
        };
        Ok(Store {
            max_bytes: settings.max_bytes,
            lazy_after: settings.lazy_after,
            state: State::Opened(Box::new(Mutex::new(opened))),
            next_session,
            lock: Arc::new(lock),
            path,
        })
    }

    /// Note that it is the store of `fleet`, for good. Before [`Store::start`].
    ///
    /// # Errors
    /// `store-other-fleet` when another is noted.
    pub fn claim(&self, fleet: &str) -> Result<(), StoreError> {
        let State::Opened(opened) = &self.state else {
            return Ok(());
        };
        let opened = lock(opened);
        let of_sqlite = |error: Error| of_sqlite(&self.path, &error);
        match file::fleet(&opened.writer).map_err(of_sqlite)? {
            None => file::set_fleet(&opened.writer, fleet).map_err(of_sqlite),
            Some(owner) if owner == fleet => Ok(()),
            Some(owner) => {
                let mend = "put this fleet's own store in its place; or take it over: `sealmq store backup FILE`, then `sealmq \
                            store restore FILE --replace --other-fleet`";
                Err(file::of_another_fleet(&self.path, &owner, fleet, mend))
            }
        }
    }

    /// Above the number of every session that was ever written.
    pub fn next_session(&self) -> u64 {
        self.next_session
    }

    /// Everything that survived, in the order that [`Stored`] tells. Before [`Store::start`].
    ///
    /// # Errors
    /// `store-damaged` when a row is not what was written; what was visited before is not all there was.
    pub fn load(&mut self, visit: &mut dyn FnMut(Stored<'_>)) -> Result<(), StoreError> {
        let State::Opened(opened) = &mut self.state else {
            return Err(StoreError {
                code: "store-started",
                message: format!("store {} is being written already", self.path.display()),
                mend: "load before start".into(),
            });
        };
        let opened = opened.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut load = || {
            read::sessions(&opened.writer, &mut |row| row.map(&mut *visit))?;
            read::of_sessions(&opened.writer, &mut |row| row.map(&mut *visit))?;
            for backlog in &opened.backlogs {
                visit(Stored::Backlog {
                    session: backlog.session,
                    first: backlog.first,
                    last: backlog.last,
                    count: backlog.count,
                    bytes: backlog.bytes,
                });
            }
            read::others(&opened.writer, &mut |row| row.map(&mut *visit))
        };
        load().map_err(|stop| match stop {
            Stop::Sql(error) => of_sqlite(&self.path, &error),
            Stop::Bent(said) => damaged(&self.path, said),
        })
    }

    /// Start the threads. `progress` is called from them when the watermark or the health moved or a page is ready; it must
    /// not wait. Started again, the store gives another handle on the same log.
    pub fn start(&mut self, progress: Arc<dyn Fn() + Send + Sync>) -> Handle {
        if let State::Started(started) = &self.state {
            return Handle(Arc::clone(&started.inbox));
        }
        let figures = Figures {
            counts: self.counts(),
            ..Figures::default()
        };
        let inbox = Arc::new(Inbox::new(figures, progress));
        let (writer_ended, writer) = sync_channel(1);
        let (reader_ended, reader) = sync_channel(1);
        let started = State::Started(Started {
            inbox: Arc::clone(&inbox),
            ended: Mutex::new(Ended { reader, writer }),
        });
        if let State::Opened(opened) = std::mem::replace(&mut self.state, started) {
            let Opened {
                writer: conn,
                reader,
                ledger,
                ..
            } = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
            let pages = Arc::clone(&inbox);
            spawn("store-pages", &inbox, move || {
                pages::run(reader, &pages);
                // Nobody listens when the store was dropped.
                let _ = reader_ended.send(());
            });
            let writer = Writer {
                conn,
                ledger,
                inbox: Arc::clone(&inbox),
                max_bytes: self.max_bytes,
                lazy_after: self.lazy_after,
                lock: Arc::clone(&self.lock),
            };
            spawn("store-commits", &inbox, move || {
                let _ = writer_ended.send(writer::run(writer));
            });
        }
        Handle(inbox)
    }

    pub fn stats(&self) -> Stats {
        let mut stats = match &self.state {
            State::Opened(opened) => stats_of(&Figures {
                counts: lock(opened).ledger.counts,
                ..Figures::default()
            }),
            State::Started(started) => {
                let stats = stats_of(&lock(&started.inbox.figures));
                let [changes_lazy, changes_os, changes_sync] = started.inbox.changes();
                Stats {
                    changes_lazy,
                    changes_os,
                    changes_sync,
                    health: started.inbox.health(),
                    ..stats
                }
            }
        };
        stats.file_bytes = folder::bytes_of(&self.path);
        stats.wal_bytes = folder::bytes_of(&folder::wal_of(&self.path));
        stats
    }

    /// A compact copy of one moment, beside the running writer; synced, 0600, and looked through once.
    ///
    /// # Errors
    /// `store-exists` when there is a file of that name; `store-full`, `store-unreadable`, `store-damaged`.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, StoreError> {
        backup::copy(&file::open_beside(&self.path)?, &self.path, to)
    }

    /// What is wrong with the file, a sentence each; nothing when all is well. Reads all of it.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        check::check(&file::open_beside(&self.path)?, &self.path)
    }

    /// Commit everything that was appended, empty the log into the file, and mark it as closed. `false` when that took longer
    /// than `within`, or there was no room: what was not safe before may be lost, nothing else is.
    ///
    /// # Errors
    /// `store-failed` when the health is [`crate::Health::Failed`].
    pub fn close(mut self, within: Duration) -> Result<bool, StoreError> {
        let until = Instant::now() + within;
        drop(self.start(Arc::new(|| ())));
        let State::Started(started) = &self.state else {
            return Ok(false);
        };
        let left = || until.saturating_duration_since(Instant::now());
        // The reader first: the file's last user empties the log.
        started.inbox.close_pages();
        let ended = lock(&started.ended);
        let is_quiet = ended.reader.recv_timeout(left()).is_ok();
        started.inbox.close();
        let is_closed = ended.writer.recv_timeout(left()).unwrap_or(false);
        match started.inbox.health() {
            Health::Failed(sentence) => Err(StoreError {
                code: "store-failed",
                message: format!("store {}: {sentence}", self.path.display()),
                mend: "look at the disk and the system's log, then run `sealmq store check`".into(),
            }),
            _ => Ok(is_quiet && is_closed),
        }
    }

    fn counts(&self) -> Counts {
        match &self.state {
            State::Opened(opened) => lock(opened).ledger.counts,
            State::Started(started) => lock(&started.inbox.figures).counts,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let State::Started(started) = &self.state {
            started.inbox.close_pages();
            started.inbox.close();
        }
    }
}

/// What is wrong with the store in `path`, a sentence each. Writes nothing; a broker may be running on it.
///
/// # Errors
/// `store-missing`, `store-foreign`, `store-newer`, `store-older`, `store-unreadable`; `store-damaged` when not even the
/// first page is sound.
pub fn check_file(path: &Path) -> Result<Vec<String>, StoreError> {
    check::check(&file::open_read_only(path)?, path)
}

/// What the store in `path` holds. Writes nothing; a broker may be running on it.
///
/// # Errors
/// As [`check_file`].
pub fn stats_file(path: &Path) -> Result<Stats, StoreError> {
    let conn = file::open_read_only(path)?;
    let of_sqlite = |error: Error| of_sqlite(path, &error);
    let read = |pragma| {
        conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
    };
    let figures = Figures {
        counts: survey::survey(&conn).map_err(of_sqlite)?.ledger.counts,
        pages: read("page_count").map_err(of_sqlite)?,
        free_pages: read("freelist_count").map_err(of_sqlite)?,
        ..Figures::default()
    };
    Ok(Stats {
        file_bytes: folder::bytes_of(path),
        wal_bytes: folder::bytes_of(&folder::wal_of(path)),
        ..stats_of(&figures)
    })
}

fn stats_of(figures: &Figures) -> Stats {
    Stats {
        sessions: figures.counts.sessions,
        queued_messages: figures.counts.messages,
        queued_bytes: figures.counts.bytes,
        retained: figures.counts.retained,
        pages: figures.pages,
        free_pages: figures.free_pages,
        commits: figures.commits,
        syncs: figures.syncs,
        written_bytes: figures.written_bytes,
        commit_p50_us: figures.commit_us.percentile(50),
        commit_p99_us: figures.commit_us.percentile(99),
        commit_max_us: figures.commit_us.max(),
        ..Stats::default()
    }
}

fn spawn(name: &str, inbox: &Inbox, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(work) {
        inbox.fail(format!("thread {name} cannot start: {error}"));
    }
}
