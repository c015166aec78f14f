//! The file's surroundings: its folder, its lock, its mode, its neighbours' names.
//!
//! Refuses to know what is in the file.

use super::fault::{StoreError, of_system};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `path` with something behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The log that SQLite keeps beside the file.
pub(super) fn wal_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// Bytes of a file; 0 when there is none.
pub(super) fn bytes_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// Make the folder of `path` (0700) when it is missing, and refuse one that another machine serves.
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| of_system(path, &error))?;
    match network_kind(&folder).map_err(|error| of_system(path, &error))? {
        None => Ok(()),
        Some(kind) => Err(StoreError {
            code: "network-file-system",
            message: format!(
                "store {} lies on {kind}, where locks and syncs do not hold what they promise",
                path.display()
            ),
            mend: "name a folder on a local disk".into(),
        }),
    }
}

/// The lock of a store, for the one process that writes it.
pub(super) struct Lock(File);

impl Lock {
    /// The file that is locked, on the same file system as the store.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file would not be enough while somebody else has it open: a child between fork and exec.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The lock of the store at `path`, or `store-locked`.
pub(super) fn take_lock(path: &Path) -> Result<Lock, StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(path, ".lock"))
        .map_err(|error| of_system(path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError {
            code: "store-locked",
            message: format!("store {} is in use by another process", path.display()),
            mend: "stop the other broker, or give this one a folder of its own".into(),
        }),
        Err(error) => Err(of_system(path, &error.into())),
    }
}

/// Whether nothing but the file itself is there: SQLite keeps a log and its index beside it as long as anybody uses it, and
/// after an end in the middle of something.
pub(super) fn is_still(path: &Path) -> bool {
    bytes_of(&wal_of(path)) == 0 && !beside(path, "-shm").exists()
}

/// An empty file (0600) that was not there before.
pub(super) fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Take group and others off a file that has them.
pub(super) fn tighten(path: &Path) -> io::Result<()> {
    let mode = path.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
}

/// Sync a finished file and give it its name, unless that is taken.
pub(super) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    // A link, because a rename would replace what is there.
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)?;
    File::open(folder_of(to))?.sync_all()
}

/// Bytes that the file system of `file` has for us, and in all.
pub(super) fn space(file: &File) -> io::Result<(u64, u64)> {
    let found = rustix::fs::fstatvfs(file)?;
    let block = found.f_frsize;
    Ok((
        found.f_bavail.saturating_mul(block),
        found.f_blocks.saturating_mul(block),
    ))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

/// The numbers of Linux' include/uapi/linux/magic.h, statfs(2).
#[cfg(target_os = "linux")]
fn network_kind(folder: &Path) -> io::Result<Option<&'static str>> {
    // Some of them are negative where the type is signed; 32 bits say it all.
    Ok(match rustix::fs::statfs(folder)?.f_type as u32 {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f => Some("AFS"),
        _ => None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}
