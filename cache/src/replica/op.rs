//! One operation on the tables: reads first, then mutations that take effect together.

use super::Replica;
use crate::error::{Error, Need, Result};
use crate::state::{Dentry, Inode, LoggedChange, Marks, Mutation, Place, Tables};
use crate::types::*;
use std::sync::atomic::Ordering;

/// However often a file is written, it is uploaded when it has been owed for this long (if it is small).
const OWED_AT_MOST_MS: u64 = 5_000;

/// An operation under way, with the tables locked.
pub(crate) struct Op<'t> {
    pub(crate) tables: &'t mut Tables,
    mutations: Vec<Mutation<'static>>,
    owed: Vec<Ino>,
    written: Vec<Ino>,
    /// A directory's own attributes changed: nothing but the hints carries them.
    pub(crate) directory_touched: bool,
    /// Some content is in the bucket alone: it may be pinned.
    absent: bool,
    pub(crate) now: Timestamp,
}

impl Replica {
    /// Runs `decide` on the tables, then makes its mutations one durable step. Nothing has changed if it fails.
    pub(crate) fn change<T>(&self, decide: impl FnOnce(&mut Op<'_>) -> Result<T>) -> Result<T> {
        let mut tables = self.state.lock();
        let before = tables.change_seq();
        let mut op = Op {
            tables: &mut tables,
            mutations: Vec::with_capacity(8),
            owed: Vec::new(),
            written: Vec::new(),
            directory_touched: false,
            absent: false,
            now: self.options.clock.now(),
        };
        let value = decide(&mut op)?;
        let (touched, absent) = (op.directory_touched, op.absent);
        let (mutations, owed, written) = (op.mutations, op.owed, op.written);
        let number = tables.write(&mutations)?;
        let now_ms = self.now_ms();
        let write_back = self.options.write_back.as_millis() as u64;
        for ino in &owed {
            let bytes = tables.inode(*ino)?.map_or(0, |inode| inode.size);
            let before = tables.dirty.get(ino).map_or(0, |debt| debt.bytes);
            if let Some(debt) = tables.dirty.get_mut(ino) {
                debt.op = number;
                debt.bytes = bytes;
                debt.first_ms = if debt.first_ms == 0 { now_ms } else { debt.first_ms };
                debt.due_ms = (now_ms + write_back).min(debt.first_ms + OWED_AT_MOST_MS.max(write_back));
                tables.dirty_bytes = tables.dirty_bytes + bytes - before;
            }
        }
        for ino in &written {
            if let Some(debt) = tables.dirty.get_mut(ino) {
                debt.written_ms = now_ms.max(1);
            }
        }
        let logged = tables.change_seq() != before;
        drop(tables);
        if logged {
            self.changed_signal.notify_all();
        }
        if absent {
            self.pins.look_soon();
        }
        if touched {
            self.pusher.hints.owe();
        }
        if !owed.is_empty() {
            self.pusher.owed.store(true, Ordering::Release);
        }
        Ok(value)
    }

    /// The same for what makes the folder grow: ENOSPC before anything acknowledged could be lost.
    pub(super) fn grow<T>(&self, decide: impl FnOnce(&mut Op<'_>) -> Result<T>) -> Result<T> {
        if self.disk_full.load(Ordering::Acquire) {
            return Err(Error::Posix(libc::ENOSPC));
        }
        self.change(decide)
    }

    /// Reads the tables.
    pub(crate) fn view<T>(&self, read: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        read(&mut self.state.lock())
    }
}

impl Op<'_> {
    pub(crate) fn push(&mut self, mutation: Mutation<'static>) {
        self.mutations.push(mutation);
    }

    pub(crate) fn put(&mut self, inode: &Inode) {
        self.absent |= inode.place == Place::Nowhere && inode.size > 0;
        self.mutations.push(Mutation::PutInode(inode.clone()));
    }

    /// The bucket has to be brought up to date with this inode.
    pub(crate) fn owe(&mut self, ino: Ino) {
        self.owe_for(ino, Marks::NONE);
    }

    /// ... and, if `subtree`, with everything below it.
    pub(crate) fn owe_tree(&mut self, ino: Ino, subtree: bool) {
        self.owe_for(ino, if subtree { Marks::SUBTREE } else { Marks::NONE });
    }

    /// ... for a reason that decides what may be done there.
    pub(crate) fn owe_for(&mut self, ino: Ino, marks: Marks) {
        self.owed.push(ino);
        let known = self.tables.dirty.get(&ino).is_some_and(|debt| debt.marks.has(marks));
        if !known {
            let since_ms = (self.now.as_nanos() / 1_000_000).max(0) as u64;
            self.mutations.push(Mutation::MarkDirty { ino, since_ms, marks });
        }
    }

    /// A program has written to this inode.
    pub(crate) fn written_to(&mut self, ino: Ino) {
        self.written.push(ino);
    }

    /// The index has to read this file (again).
    pub(crate) fn content_changed(&mut self, ino: Ino) {
        if !self.tables.unread_changes.contains(&ino) {
            self.log(LoggedChange::Content(ino));
        }
    }

    pub(crate) fn log(&mut self, change: LoggedChange) {
        self.mutations.push(Mutation::Change(change));
    }

    /// A directory whose names are known, and which still has a place.
    pub(crate) fn directory(&mut self, ino: Ino) -> Result<Inode> {
        let inode = self.tables.live_inode(ino)?;
        if !inode.is_dir() {
            return Err(Error::Posix(libc::ENOTDIR));
        }
        if inode.nlink == 0 {
            return Err(Error::Posix(libc::ENOENT));
        }
        Ok(inode)
    }

    /// The dentry of a name, its inode, or the knowledge that there is none.
    pub(crate) fn find(&mut self, parent: &Inode, name: &[u8]) -> Result<Option<(Dentry, Inode)>> {
        let Some(dentry) = self.tables.dentry(parent.ino, name)? else {
            return match parent.known {
                true => Ok(None),
                false => Err(Error::Need(Need::Listing(parent.ino))),
            };
        };
        let inode = known_inode(self.tables, dentry.ino)?;
        Ok(Some((dentry, inode)))
    }
}

/// An inode whose attributes are the true ones.
pub(crate) fn known_inode(tables: &mut Tables, ino: Ino) -> Result<Inode> {
    let inode = tables.live_inode(ino)?;
    if !inode.known && !inode.is_dir() {
        return Err(Error::Need(Need::Metadata(ino)));
    }
    Ok(inode)
}
