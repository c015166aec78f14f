//! The disk as Linux sees it: requests of FUSE in, changes of the disk out.
//!
//! Refuses to know what is synced and what is lost. A mount whose disk has lost its power since answers EIO to everything.

use crate::disk::{Disk, size};
use crate::tree::{Change, Content, Ino, Node};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Nobody changes the disk but through the kernel, so it may remember.
const TTL: Duration = Duration::from_secs(3600);
const BLOCK: u32 = 4096;
/// Blocks of a disk that is never full.
const BLOCKS: u64 = 1 << 20;
const TYPE: u32 = 0o170_000;

pub struct Mounted {
    disk: Arc<Mutex<Disk>>,
    life: u64,
    /// How long a sync takes: the power may go in the middle of it.
    sync_time: Duration,
}

impl Mounted {
    pub fn new(disk: Arc<Mutex<Disk>>, sync_time: Duration) -> Mounted {
        let life = lock(&disk).life();
        Mounted { disk, life, sync_time }
    }

    /// The disk, as long as it has power.
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, Errno> {
        let disk = lock(&self.disk);
        if disk.life() == self.life {
            Ok(disk)
        } else {
            Err(Errno::EIO)
        }
    }

    fn attributes(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let disk = self.disk()?;
        attributes(ino, disk.live().node(ino).ok_or(Errno::ENOENT)?)
    }

    fn enter(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, content: Content) -> Entered {
        let mut disk = self.disk()?;
        if entry(&disk, parent.0, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let node = Node {
            content,
            mode,
            owner: (request.uid(), request.gid()),
            modified: SystemTime::now(),
        };
        let attributes = |ino| attributes(ino, &node);
        let ino = disk.make(node.clone());
        disk.change(Change::Enter {
            folder: parent.0,
            name: name.into(),
            ino,
        });
        attributes(ino)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let mut disk = self.disk()?;
        let ino = entry(&disk, parent.0, name)?;
        if disk.live().folder(ino).is_some_and(|entries| !entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let (folder, name) = (parent.0, name.into());
        disk.change(Change::Remove { folder, name });
        Ok(())
    }

    fn sync(&self, ino: INodeNo) -> Result<(), Errno> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the time that a device takes is what is played here"
        )]
        std::thread::sleep(self.sync_time);
        self.disk()?.sync(ino.0);
        Ok(())
    }
}

type Entered = Result<FileAttr, Errno>;

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry(disk: &Disk, folder: Ino, name: &OsStr) -> Result<Ino, Errno> {
    let entries = disk.live().folder(folder).ok_or(Errno::ENOTDIR)?;
    entries.get(name).copied().ok_or(Errno::ENOENT)
}

fn attributes(ino: Ino, node: &Node) -> Result<FileAttr, Errno> {
    let size = size(node) as u64;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind: kind(node.mode)?,
        perm: (node.mode & 0o7777) as u16,
        nlink: 1,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

/// By the numbers of stat(2).
fn kind(mode: u32) -> Result<FileType, Errno> {
    Ok(match mode & TYPE {
        0o100_000 => FileType::RegularFile,
        0o040_000 => FileType::Directory,
        0o120_000 => FileType::Symlink,
        0o140_000 => FileType::Socket,
        0o010_000 => FileType::NamedPipe,
        _ => return Err(Errno::EPERM),
    })
}

fn answer(reply: ReplyEntry, entered: Entered) {
    match entered {
        Ok(found) => reply.entry(&TTL, &found, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn finish(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disk().and_then(|disk| entry(&disk, parent.0, name));
        answer(reply, found.and_then(|ino| self.attributes(ino)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(found) => reply.attr(&TTL, &found),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.disk().and_then(|mut disk| {
            let old = disk.live().node(ino.0).ok_or(Errno::ENOENT)?.mode;
            if let Some(mode) = mode {
                let mode = old & TYPE | mode & 0o7777;
                disk.change(Change::Mode { ino: ino.0, mode });
            }
            if let Some(size) = size {
                let size = size as usize;
                disk.change(Change::Resize { ino: ino.0, size });
            }
            Ok(())
        });
        match changed.and_then(|()| self.attributes(ino.0)) {
            Ok(found) => reply.attr(&TTL, &found),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.disk() {
            Ok(disk) => match disk.live().node(ino.0).map(|node| &node.content) {
                Some(Content::Link(target)) => reply.data(target),
                _ => reply.error(Errno::EINVAL),
            },
            Err(error) => reply.error(error),
        }
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        let content = match kind(mode) {
            Ok(FileType::RegularFile) => Content::File(Vec::new()),
            _ => Content::Other,
        };
        answer(reply, self.enter(request, parent, name, mode, content));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let content = Content::Folder(BTreeMap::new());
        answer(
            reply,
            self.enter(request, parent, name, 0o040_000 | mode & 0o7777, content),
        );
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let content = Content::Link(target.as_os_str().as_bytes().to_vec());
        answer(reply, self.enter(request, parent, name, 0o120_777, content));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, self.remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, self.remove(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.disk().and_then(|mut disk| {
            let ino = entry(&disk, parent.0, name)?;
            if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
                return Err(Errno::EINVAL);
            }
            if !flags.is_empty() && entry(&disk, new_parent.0, new_name).is_ok() {
                return Err(Errno::EEXIST);
            }
            let (from, to) = ((parent.0, name.into()), (new_parent.0, new_name.into()));
            disk.change(Change::Rename { from, to, ino });
            Ok(())
        });
        finish(reply, renamed);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.disk().and_then(|mut disk| {
            if entry(&disk, parent.0, name).is_ok() {
                return Err(Errno::EEXIST);
            }
            let (folder, name, ino) = (parent.0, name.into(), ino.0);
            disk.change(Change::Enter { folder, name, ino });
            Ok(())
        });
        answer(reply, linked.and_then(|()| self.attributes(ino.0)));
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let content = Content::File(Vec::new());
        match self.enter(request, parent, name, 0o100_000 | mode & 0o7777, content) {
            Ok(found) => reply.created(&TTL, &found, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        count: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk() {
            Ok(disk) => match disk.live().node(ino.0).map(|node| &node.content) {
                Some(Content::File(data)) => {
                    let from = data.len().min(offset as usize);
                    let until = data.len().min(from + count as usize);
                    reply.data(&data[from..until]);
                }
                _ => reply.error(Errno::EISDIR),
            },
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk() {
            Ok(mut disk) => {
                let (ino, offset, bytes) = (ino.0, offset as usize, data.to_vec());
                disk.change(Change::Write { ino, offset, bytes });
                reply.written(data.len() as u32);
            }
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        finish(reply, self.sync(ino));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        finish(reply, self.sync(ino));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = match self.disk() {
            Ok(disk) => disk,
            Err(error) => return reply.error(error),
        };
        let Some(entries) = disk.live().folder(ino.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (at, (name, &child)) in (1..).zip(entries).skip(offset as usize) {
            let kind = disk.live().node(child).and_then(|node| kind(node.mode).ok());
            if reply.add(INodeNo(child), at, kind.unwrap_or(FileType::RegularFile), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }
}
