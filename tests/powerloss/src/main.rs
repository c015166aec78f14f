//! A file system in memory whose power can be cut: mounted at the folder that is named, told what to do on standard input.
//!
//! Refuses to know what is kept on it. Lines in: `cut nothing|prefix|some|torn SEED` (from then on the mount answers EIO),
//! `mount` (take that away, and mount what survived), `sync` (everything until now is old, and safe). One line out for each,
//! after one for the first mount; the end of input unmounts.

mod chance;
mod disk;
mod mounted;
mod tree;

use disk::{Disk, Keep};
use fuser::{Config, MountOption};
use mounted::Mounted;
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Error};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tree::{Content, Node};

/// A sync must not hold up who reads.
const THREADS: usize = 4;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, sync_us] = words.as_slice() else {
        return Err(Error::other("usage: sealmq-powerloss FOLDER MICROSECONDS-PER-SYNC"));
    };
    let sync_time = Duration::from_micros(sync_us.parse().map_err(Error::other)?);
    let disk = Arc::new(Mutex::new(Disk::new(Node {
        content: Content::Folder(BTreeMap::new()),
        mode: 0o040_700,
        owner: (0, 0),
        modified: SystemTime::now(),
    })));
    let mount = || mount(Mounted::new(disk.clone(), sync_time), folder.as_ref());
    mount()?;
    println!("mounted");
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["cut", keep, seed] => {
                let keep = Keep::named(keep).ok_or_else(|| Error::other(format!("no way to keep: {keep}")))?;
                let seed = seed.parse().map_err(Error::other)?;
                let cut = disk.lock().unwrap_or_else(PoisonError::into_inner).cut(keep, seed);
                println!("cut {} {}", cut.unsynced, cut.kept);
            }
            ["sync"] => {
                disk.lock().unwrap_or_else(PoisonError::into_inner).sync_all();
                println!("sync");
            }
            ["mount"] => {
                unmount(folder.as_ref())?;
                mount()?;
                println!("mounted");
            }
            _ => return Err(Error::other(format!("no such command: {line}"))),
        }
    }
    unmount(folder.as_ref())
}

/// Gone from the folder at once, whoever still has a file of it open; the kernel ends the mount after the last of them.
fn unmount(folder: &Path) -> io::Result<()> {
    Ok(umount2(folder, MntFlags::MNT_DETACH)?)
}

fn mount(mounted: Mounted, folder: &Path) -> io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("powerloss".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    config.n_threads = Some(THREADS);
    // Left to itself: its end would unmount whatever is mounted at the folder then.
    std::mem::forget(fuser::spawn_mount(mounted, folder, &config)?);
    Ok(())
}
