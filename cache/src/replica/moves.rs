//! Moves of notes and folders that programs of this machine make, recorded with the move itself, so that whoever rewrites the links to them
//! finds them after any stop; and the change of a text that is made only if nobody else has changed it meanwhile.
//!
//! Nothing is recorded unless it is asked for ([`Replica::record_moves`]). What comes from the bucket is no move here: the machine that made
//! it rewrites. A file that takes another's place is a save, not a move. Does not own links (`notefs_indexer`), nor when they are rewritten
//! (the front end's business).

use super::content::{content_changed, regular};
use super::op::{Op, known_inode};
use super::{Offer, RemoteChange, RemoteChangeKind, Replica, base};
use crate::error::{Error, Result};
use crate::litter::is_litter;
use crate::merge::MERGE_BYTES_MAX;
use crate::state::{Dentry, Inode, Moved, Mutation, Place};
use crate::types::*;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Moves that wait to be worked off; of more, none is recorded until some are.
pub const MOVES_MAX: u64 = 2_000;

/// Texts up to this size are rewritten.
pub const REWRITE_BYTES_MAX: u64 = MERGE_BYTES_MAX as u64;

/// How often a text is read anew that changes while it is read.
const READ_TRIES_MAX: usize = 4;

/// A move that a program of this machine has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMove {
    /// Grows with each.
    pub id: u64,
    /// The old path.
    pub from: Vec<u8>,
    /// The new path.
    pub to: Vec<u8>,
    /// When (milliseconds since 1970).
    pub at_ms: u64,
}

/// The content of a file, with the version that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedText {
    /// The content.
    pub bytes: Bytes,
    /// To be named to [`Replica::rewrite`].
    pub version: u64,
    /// When it was last changed.
    pub mtime: Timestamp,
}

/// Tells which paths are notes.
pub type NotePredicate = fn(&[u8]) -> bool;

impl Replica {
    /// From now on, moves of folders and of files that `is_note` knows are recorded; `None`: none are.
    pub fn record_moves(&self, is_note: Option<NotePredicate>) {
        *self.move_filter.write() = is_note;
    }

    /// What was moved and not worked off, in its order.
    pub fn recorded_moves(&self) -> Result<Vec<LocalMove>> {
        let moves = self.view(|tables| tables.moves())?;
        let public = |moved: Moved| LocalMove {
            id: moved.id,
            from: moved.from,
            to: moved.to,
            at_ms: moved.at_ms,
        };
        Ok(moves.into_iter().map(public).collect())
    }

    /// How many moves are recorded.
    pub fn recorded_move_count(&self) -> Result<u64> {
        self.view(|tables| tables.count("moved"))
    }

    /// A move is worked off.
    pub fn forget_move(&self, id: u64) -> Result<()> {
        self.change(|op| {
            op.push(Mutation::DropMoved(id));
            Ok(())
        })
    }

    /// Records a move, if it is one, together with the rename that `op` makes; `is_save`: it takes a file's place.
    pub(super) fn note_move(
        &self,
        op: &mut Op<'_>,
        (inode, is_save): (&Inode, bool),
        (from, to): (&Dentry, &Dentry),
    ) -> Result<()> {
        let is_movable = matches!(inode.kind, FileKind::File | FileKind::Directory);
        let Some(is_note) = self.move_filter.read().filter(|_| is_movable && !is_save) else {
            return Ok(());
        };
        let from = op.tables.path_of(from.parent, &from.name)?;
        let to = op.tables.path_of(to.parent, &to.name)?;
        let counts = |path: &[u8]| match inode.is_dir() {
            true => path
                .split(|byte| *byte == b'/')
                .all(|name| !name.starts_with(b".") && !is_litter(name)),
            false => is_note(path),
        };
        if !counts(&from) || !counts(&to) {
            return Ok(());
        }
        let (id, count) = op.tables.next_move()?;
        if count >= MOVES_MAX {
            let path = String::from_utf8_lossy(&to).into_owned();
            tracing::warn!(path, "Too many moves at once: the links to this one are not rewritten");
            return Ok(());
        }
        let at_ms = (op.now.as_nanos() / 1_000_000).max(0) as u64;
        op.push(Mutation::PutMoved(Moved { id, from, to, at_ms }));
        Ok(())
    }

    /// The whole content of a file of at most [`REWRITE_BYTES_MAX`], and its version; `None` if it is larger, or changes while it is read.
    pub fn read_versioned(&self, ino: Ino) -> Result<Option<VersionedText>> {
        let look = || self.view(|tables| regular(known_inode(tables, ino)?));
        let mut before = look()?;
        for _ in 0..READ_TRIES_MAX {
            if before.size > REWRITE_BYTES_MAX {
                return Ok(None);
            }
            let bytes = self.read(ino, 0, before.size as usize)?;
            let after = look()?;
            if (after.content_version, after.size) == (before.content_version, bytes.len() as u64) {
                return Ok(Some(VersionedText {
                    bytes,
                    version: after.content_version,
                    mtime: after.mtime,
                }));
            }
            before = after;
        }
        Ok(None)
    }

    /// Whether a program has the file open for writing, as far as can be known.
    pub fn is_open_for_writing(&self, ino: Ino) -> bool {
        self.is_being_written(ino)
    }

    /// Gives a file other content if it still has the version that was read, in one step, and lets watchers feel it as they feel a change
    /// of the bucket. `false`: it has changed, or is gone.
    pub async fn rewrite(&self, ino: Ino, version: u64, bytes: Vec<u8>) -> Result<bool> {
        self.writable()?;
        let name = self.view(|tables| Ok(tables.names_of(ino)?.into_iter().next()))?;
        let Some(name) = name else { return Ok(false) };
        let change = RemoteChange {
            id: 0,
            kind: RemoteChangeKind::Modified,
            parent: name.parent,
            name: name.name,
            ino,
            is_dir: false,
            origin: self.writer_id.clone(),
        };
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let effect = move |replica: &Replica| {
            if !replica.replace_text(ino, version, bytes)? {
                return Ok(None);
            }
            told.store(true, Ordering::Release);
            replica.attr(ino).map(Some)
        };
        let effect = Box::new(effect);
        self.offer(vec![Offer { change, effect }], false).await;
        Ok(done.load(Ordering::Acquire))
    }

    fn replace_text(&self, ino: Ino, version: u64, bytes: Vec<u8>) -> Result<bool> {
        self.check_space(bytes.len() as u64)?;
        let _exclusive = self.stripe(ino).write();
        self.keep_base_of_blob(ino)?;
        self.weigh(bytes.len() as u64);
        let was_blob = self.grow(|op| {
            let now = op.tables.inode(ino)?.filter(|now| now.nlink > 0);
            let Some(mut now) = now.filter(|now| now.kind == FileKind::File && now.content_version == version) else {
                return Ok(None);
            };
            base::keep(op, ino, None)?;
            let was_blob = now.place == Place::Blob;
            op.push(Mutation::DropContent(ino));
            if was_blob {
                op.push(Mutation::DropPresent(ino));
            }
            now.size = bytes.len() as u64;
            now.place = Place::Nowhere;
            if !bytes.is_empty() {
                // Whole and in the tables, so that no crash can leave half of it; it becomes a blob when it is next written to.
                op.push(Mutation::PutContent {
                    ino,
                    bytes: Cow::Owned(bytes),
                });
                now.place = Place::Inline;
            }
            content_changed(op, &mut now, false);
            Ok(Some(was_blob))
        })?;
        if was_blob == Some(true) {
            self.remove_blob(Some(ino));
        }
        Ok(was_blob.is_some())
    }
}

/// Whether a failure of [`Replica::rewrite`] or [`Replica::read_versioned`] means that the file is gone.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Posix(libc::ENOENT | libc::ESTALE))
}
