//! Fills the replies to READDIR and READDIRPLUS.
//!
//! `.` and `..` are at offsets 1 and 2, every other entry at its cookie, so a reader goes on rightly whatever appears or
//! vanishes meanwhile, and a directory is read in one pass however large it is.

use super::convert;
use super::reply::Answers;
use crate::filesystem::{Errno, Filesystem};
use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use notefs_cache::{Attr, DirEntry, FileKind, Ino};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Entries asked of the replica at once: about what a buffer of 32 KiB takes with attributes.
const BATCH: usize = 128;

const DOT_OFFSET: u64 = 1;
const DOT_DOT_OFFSET: u64 = 2;

/// Where to go on after an offset that the kernel was given.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    dot: bool,
    dot_dot: bool,
    cookie: u64,
}

fn position(offset: u64) -> Position {
    Position {
        dot: offset < DOT_OFFSET,
        dot_dot: offset < DOT_DOT_OFFSET,
        cookie: if offset <= DOT_DOT_OFFSET { 0 } else { offset },
    }
}

/// A reply that takes entries until it is full.
pub(super) trait Listing: Send + 'static {
    /// Adds `.` or `..`; false if there is no room.
    fn add_dot(&mut self, ino: Ino, offset: u64, name: &str) -> bool;
    /// Adds an entry; false if there is no room.
    fn add(&mut self, filesystem: &Filesystem, entry: &DirEntry) -> bool;
    fn finish(self);
    fn fail(self, errno: Errno);
}

/// Names and types only.
pub(super) struct Plain(pub(super) ReplyDirectory);

impl Listing for Plain {
    fn add_dot(&mut self, ino: Ino, offset: u64, name: &str) -> bool {
        !self
            .0
            .add(INodeNo(ino), offset, convert::file_type(FileKind::Directory), name)
    }

    fn add(&mut self, _filesystem: &Filesystem, entry: &DirEntry) -> bool {
        let Attr { ino, kind, .. } = entry.attr;
        !self.0.add(
            INodeNo(ino),
            entry.cookie,
            convert::file_type(kind),
            OsStr::from_bytes(&entry.name),
        )
    }

    fn finish(self) {
        self.0.ok();
    }

    fn fail(self, errno: Errno) {
        self.0.error(convert::errno(errno));
    }
}

/// Entries that count as looked up.
pub(super) struct Plus(pub(super) ReplyDirectoryPlus, pub(super) Answers);

impl Listing for Plus {
    /// The kernel reads no attributes of these two, and does not count them as looked up.
    fn add_dot(&mut self, ino: Ino, offset: u64, name: &str) -> bool {
        !self.0.add(
            INodeNo(ino),
            offset,
            name,
            &self.1.ttl,
            &convert::bare_attr(ino),
            Generation(0),
        )
    }

    fn add(&mut self, filesystem: &Filesystem, entry: &DirEntry) -> bool {
        let ino = entry.attr.ino;
        filesystem.retain(ino);
        let ttl = self.1.remembered(ino);
        let (attr, generation) = (convert::file_attr(&entry.attr), Generation(entry.attr.generation));
        let name = OsStr::from_bytes(&entry.name);
        let added = !self.0.add(INodeNo(ino), entry.cookie, name, &ttl, &attr, generation);
        if !added {
            filesystem.forget(ino, 1);
        }
        added
    }

    fn finish(self) {
        self.0.ok();
    }

    fn fail(self, errno: Errno) {
        self.0.error(convert::errno(errno));
    }
}

/// Fills `listing` with the entries of `dir` after `offset` and answers it.
pub(super) fn fill(filesystem: &Arc<Filesystem>, dir: Ino, offset: u64, mut listing: impl Listing) {
    let Position { dot, dot_dot, cookie } = position(offset);
    if dot && !listing.add_dot(dir, DOT_OFFSET, ".") {
        return listing.finish();
    }
    if !dot_dot {
        return fill_entries(Arc::clone(filesystem), dir, cookie, listing, false);
    }
    let next = Arc::clone(filesystem);
    filesystem.parent_of(dir, move |parent| {
        // A directory that has just been removed has no parent, but can still be open.
        if listing.add_dot(parent.unwrap_or(dir), DOT_DOT_OFFSET, "..") {
            fill_entries(next, dir, cookie, listing, false);
        } else {
            listing.finish();
        }
    });
}

/// `begun`: the reply holds entries already, so that an error is left for the next call.
fn fill_entries(filesystem: Arc<Filesystem>, dir: Ino, cookie: u64, mut listing: impl Listing, begun: bool) {
    let next = Arc::clone(&filesystem);
    filesystem.read_dir(dir, cookie, BATCH, move |result| {
        let entries = match result {
            Ok(entries) => entries,
            Err(errno) if !begun => return listing.fail(errno),
            Err(_) => return listing.finish(),
        };
        let full = entries.iter().any(|entry| !listing.add(&next, entry));
        match entries.last() {
            Some(last) if !full && entries.len() == BATCH => fill_entries(next, dir, last.cookie, listing, true),
            _ => listing.finish(),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_say_where_to_go_on() {
        assert_eq!(
            position(0),
            Position {
                dot: true,
                dot_dot: true,
                cookie: 0
            }
        );
        assert_eq!(
            position(1),
            Position {
                dot: false,
                dot_dot: true,
                cookie: 0
            }
        );
        assert_eq!(
            position(2),
            Position {
                dot: false,
                dot_dot: false,
                cookie: 0
            }
        );
        assert_eq!(
            position(16),
            Position {
                dot: false,
                dot_dot: false,
                cookie: 16
            }
        );
    }
}
