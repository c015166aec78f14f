//! A disk with a cache: what was written, what of it was synced, and what is left when the power is cut.
//!
//! Refuses to know FUSE. The rule is that of POSIX and no more: a sync of a file saves its bytes and size, a sync of a folder
//! its entries, and nothing saves anything else. ext4 saves the name of a new file with the file, and keeps the order of its
//! folders' changes; whoever is safe here is safe there.

use crate::chance::Chance;
use crate::tree::{Change, Content, Ino, Node, Tree};

/// What becomes of changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None of them is there.
    Nothing,
    /// All up to one of them.
    Prefix,
    /// Each by chance.
    Some,
    /// Each by chance, and of those that are there each sector by chance.
    Torn,
}

impl Keep {
    pub fn named(name: &str) -> Option<Keep> {
        Some(match name {
            "nothing" => Keep::Nothing,
            "prefix" => Keep::Prefix,
            "some" => Keep::Some,
            "torn" => Keep::Torn,
            _ => return None,
        })
    }
}

/// What a cut came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Changes that had not been synced.
    pub unsynced: usize,
    /// How many of them are there all the same, in whole or in part.
    pub kept: usize,
}

pub struct Disk {
    /// What programs see.
    live: Tree,
    /// What was synced.
    safe: Tree,
    /// The way from `safe` to `live`.
    unsynced: Vec<Change>,
    next: Ino,
    life: u64,
}

impl Disk {
    pub fn new(root: Node) -> Disk {
        let tree = Tree::new(root);
        Disk {
            live: tree.clone(),
            safe: tree,
            unsynced: Vec::new(),
            next: 2,
            life: 0,
        }
    }

    /// How often the power was cut. A mount serves one life.
    pub fn life(&self) -> u64 {
        self.life
    }

    pub fn live(&self) -> &Tree {
        &self.live
    }

    pub fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.unsynced.push(change);
    }

    /// A new inode, empty and without a name yet.
    pub fn make(&mut self, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.live.add(ino, node.clone());
        self.safe.add(ino, node);
        ino
    }

    /// fsync and fdatasync of a file or a folder.
    pub fn sync(&mut self, ino: Ino) {
        let safe = &mut self.safe;
        self.unsynced.retain(|change| {
            let is_synced = change.is_synced_by(ino);
            if is_synced {
                safe.apply(change);
            }
            !is_synced
        });
    }

    /// sync(2): what is old enough has been written by the kernel, whoever asked.
    pub fn sync_all(&mut self) {
        for change in self.unsynced.drain(..) {
            self.safe.apply(&change);
        }
    }

    /// The power is gone: what was not synced is forgotten as `keep` says, and a new life begins.
    pub fn cut(&mut self, keep: Keep, seed: u64) -> Cut {
        let mut chance = Chance::new(seed);
        let unsynced = std::mem::take(&mut self.unsynced);
        let count = unsynced.len();
        let until = chance.below(count + 1);
        let percent = 10 + chance.below(81);
        let mut kept = 0;
        for (at, change) in unsynced.into_iter().enumerate() {
            let is_kept = match keep {
                Keep::Nothing => false,
                Keep::Prefix => at < until,
                Keep::Some | Keep::Torn => chance.percent(percent),
            };
            if !is_kept {
                continue;
            }
            kept += 1;
            if keep != Keep::Torn {
                self.safe.apply(&change);
                continue;
            }
            for part in change.sectors() {
                if chance.percent(percent) {
                    self.safe.apply(&part);
                }
            }
        }
        self.safe.prune();
        self.live = self.safe.clone();
        self.life += 1;
        Cut { unsynced: count, kept }
    }
}

/// Bytes of a file, characters of a link, 0 of anything else.
pub fn size(node: &Node) -> usize {
    match &node.content {
        Content::File(data) => data.len(),
        Content::Link(target) => target.len(),
        Content::Folder(_) | Content::Other => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ROOT;
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    fn node(content: Content) -> Node {
        Node {
            content,
            mode: 0o700,
            owner: (0, 0),
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    fn disk() -> Disk {
        Disk::new(node(Content::Folder(BTreeMap::new())))
    }

    fn file(disk: &mut Disk, name: &str) -> Ino {
        let ino = disk.make(node(Content::File(Vec::new())));
        let (folder, name) = (ROOT, name.into());
        disk.change(Change::Enter { folder, name, ino });
        ino
    }

    fn write(disk: &mut Disk, ino: Ino, offset: usize, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        disk.change(Change::Write { ino, offset, bytes });
    }

    fn read(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let ino = disk.live().folder(ROOT)?.get(std::ffi::OsStr::new(name))?;
        match &disk.live().node(*ino)?.content {
            Content::File(data) => Some(data.clone()),
            _ => None,
        }
    }

    #[test]
    fn bytes_and_names_are_saved_by_syncs_of_their_own() {
        let mut disk = disk();
        let named = file(&mut disk, "named");
        disk.sync(ROOT);
        write(&mut disk, named, 0, b"lost");
        let synced = file(&mut disk, "synced");
        write(&mut disk, synced, 0, b"kept");
        disk.sync(synced);
        assert_eq!(read(&disk, "named").unwrap(), b"lost");
        let cut = disk.cut(Keep::Nothing, 1);
        assert_eq!((cut.unsynced, cut.kept), (2, 0));
        assert_eq!(read(&disk, "named").unwrap(), b"");
        assert_eq!(read(&disk, "synced"), None, "nobody synced the folder since");
    }

    #[test]
    fn what_was_synced_stays_whatever_else_is_lost() {
        for seed in 0..200 {
            for keep in [Keep::Nothing, Keep::Prefix, Keep::Some, Keep::Torn] {
                let mut disk = disk();
                let ino = file(&mut disk, "a");
                disk.sync(ROOT);
                write(&mut disk, ino, 0, &[1; 3 * 512]);
                disk.sync(ino);
                write(&mut disk, ino, 700, &[2; 1000]);
                disk.cut(keep, seed);
                let data = read(&disk, "a").unwrap();
                assert!(data[..700].iter().all(|&byte| byte == 1));
                for sector in [700..1024, 1024..1536] {
                    assert!(
                        data[sector.clone()].iter().all(|byte| *byte == data[sector.start]),
                        "whole or not"
                    );
                }
            }
        }
    }

    #[test]
    fn a_torn_write_loses_sectors_in_its_middle() {
        let torn = (0..200).any(|seed| {
            let mut disk = disk();
            let ino = file(&mut disk, "a");
            disk.sync(ROOT);
            write(&mut disk, ino, 0, &[7; 3 * 512]);
            disk.cut(Keep::Torn, seed);
            let data = read(&disk, "a").unwrap();
            data.len() == 3 * 512 && data[512] == 0 && data[0] == 7
        });
        assert!(torn);
    }

    #[test]
    fn what_is_old_is_safe() {
        let mut disk = disk();
        let ino = file(&mut disk, "old");
        write(&mut disk, ino, 0, b"kept");
        disk.sync_all();
        write(&mut disk, ino, 0, b"lost");
        disk.cut(Keep::Nothing, 1);
        assert_eq!(read(&disk, "old").unwrap(), b"kept");
    }

    #[test]
    fn a_rename_is_whole() {
        for seed in 0..100 {
            let mut disk = disk();
            let ino = file(&mut disk, "draft");
            write(&mut disk, ino, 0, b"new");
            disk.sync(ino);
            disk.sync(ROOT);
            let (from, to) = ((ROOT, "draft".into()), (ROOT, "name".into()));
            disk.change(Change::Rename { from, to, ino });
            disk.cut(Keep::Some, seed);
            assert!(read(&disk, "draft").is_some() != read(&disk, "name").is_some());
        }
    }
}
