//! Inodes and the changes to them: what a file system holds at one moment.
//!
//! Refuses to know which moment that is, and whether it would survive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::time::SystemTime;

pub type Ino = u64;

/// The folder at the top.
pub const ROOT: Ino = 1;
/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// What an inode is; of sockets and the like only the name and the type of `mode` count.
#[derive(Clone, Debug)]
pub enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, Ino>),
    Link(Vec<u8>),
    Other,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub content: Content,
    /// Type and permissions, as in `stat`.
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: SystemTime,
}

/// One step of what happens to a tree.
#[derive(Clone, Debug)]
pub enum Change {
    Write {
        ino: Ino,
        offset: usize,
        bytes: Vec<u8>,
    },
    Resize {
        ino: Ino,
        size: usize,
    },
    Mode {
        ino: Ino,
        mode: u32,
    },
    /// A name for `ino`, in place of what had it.
    Enter {
        folder: Ino,
        name: OsString,
        ino: Ino,
    },
    Remove {
        folder: Ino,
        name: OsString,
    },
    Rename {
        from: (Ino, OsString),
        to: (Ino, OsString),
        ino: Ino,
    },
}

impl Change {
    /// Whether a sync of this inode makes the change safe: of a file its bytes, size and mode, of a folder its entries. A
    /// rename is whole: the sync of either folder is enough.
    pub fn is_synced_by(&self, synced: Ino) -> bool {
        match self {
            Change::Write { ino, .. } | Change::Resize { ino, .. } | Change::Mode { ino, .. } => *ino == synced,
            Change::Enter { folder, .. } | Change::Remove { folder, .. } => *folder == synced,
            Change::Rename { from, to, .. } => from.0 == synced || to.0 == synced,
        }
    }

    /// The change cut at the sectors of the file; whole when it is none of bytes.
    pub fn sectors(self) -> Vec<Change> {
        let Change::Write { ino, offset, bytes } = self else {
            return vec![self];
        };
        let mut parts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let until = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
            let part = bytes[at..until].to_vec();
            parts.push(Change::Write {
                ino,
                offset: offset + at,
                bytes: part,
            });
            at = until;
        }
        parts
    }
}

#[derive(Clone, Debug)]
pub struct Tree {
    nodes: HashMap<Ino, Node>,
}

impl Tree {
    pub fn new(root: Node) -> Tree {
        Tree {
            nodes: HashMap::from([(ROOT, root)]),
        }
    }

    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// An inode without a name.
    pub fn add(&mut self, ino: Ino, node: Node) {
        self.nodes.insert(ino, node);
    }

    pub fn folder(&self, ino: Ino) -> Option<&BTreeMap<OsString, Ino>> {
        match &self.nodes.get(&ino)?.content {
            Content::Folder(entries) => Some(entries),
            _ => None,
        }
    }

    /// A change to what is not there any more changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { ino, offset, bytes } => {
                if let Some(data) = self.file(*ino) {
                    let end = offset + bytes.len();
                    if data.len() < end {
                        data.resize(end, 0);
                    }
                    data[*offset..end].copy_from_slice(bytes);
                }
            }
            Change::Resize { ino, size } => {
                if let Some(data) = self.file(*ino) {
                    data.resize(*size, 0);
                }
            }
            Change::Mode { ino, mode } => {
                if let Some(node) = self.nodes.get_mut(ino) {
                    node.mode = *mode;
                }
            }
            Change::Enter { folder, name, ino } => self.enter(*folder, name, *ino),
            Change::Remove { folder, name } => self.remove(*folder, name),
            Change::Rename { from, to, ino } => {
                if self.folder(from.0).and_then(|entries| entries.get(&from.1)) == Some(ino) {
                    self.remove(from.0, &from.1);
                }
                self.enter(to.0, &to.1, *ino);
            }
        }
    }

    /// Forget every inode that no name leads to.
    pub fn prune(&mut self) {
        let mut reached = HashSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(ino) = left.pop() {
            for &child in self.folder(ino).into_iter().flat_map(BTreeMap::values) {
                if reached.insert(child) {
                    left.push(child);
                }
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
    }

    fn file(&mut self, ino: Ino) -> Option<&mut Vec<u8>> {
        let node = self.nodes.get_mut(&ino)?;
        node.modified = SystemTime::now();
        match &mut node.content {
            Content::File(data) => Some(data),
            _ => None,
        }
    }

    fn entries(&mut self, ino: Ino) -> Option<&mut BTreeMap<OsString, Ino>> {
        let node = self.nodes.get_mut(&ino)?;
        node.modified = SystemTime::now();
        match &mut node.content {
            Content::Folder(entries) => Some(entries),
            _ => None,
        }
    }

    fn enter(&mut self, folder: Ino, name: &OsString, ino: Ino) {
        if let Some(entries) = self.entries(folder) {
            entries.insert(name.clone(), ino);
        }
    }

    fn remove(&mut self, folder: Ino, name: &OsString) {
        if let Some(entries) = self.entries(folder) {
            entries.remove(name);
        }
    }
}
