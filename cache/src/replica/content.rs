//! Reading and writing content: inline in the tables while it is small, in blobs when it is large.

use super::attrs::{clear_setid, has_setid};
use super::base;
use super::op::{Op, known_inode};
use super::{INLINE_BYTES_MAX, Replica};
use crate::blob::ranges;
use crate::error::{Error, Need, Result};
use crate::state::{Inode, Mutation, Place, Tables};
use crate::types::*;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// Where the bytes for a read are, found out under the lock and read after it.
enum Source {
    Ready(Bytes),
    Blob(usize),
}

impl Replica {
    /// Reads up to `length` bytes at `offset`; shorter only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Bytes> {
        self.note_use();
        let _shared = self.stripe(ino).read();
        let source = self.view(|tables| {
            let inode = regular(known_inode(tables, ino)?)?;
            let end = inode.size.min(offset.saturating_add(length as u64));
            if offset >= end {
                return Ok(Source::Ready(Bytes::new()));
            }
            tables.note_read(ino);
            if inode.size > INLINE_BYTES_MAX {
                self.puller.readers.note(ino, self.now_ms());
            }
            match inode.place {
                Place::Nowhere => Err(Error::Need(missing(&inode, offset, end))),
                Place::Inline => {
                    let range = offset as usize..end as usize;
                    let bytes = tables.content(ino, |bytes| bytes.get(range).map(Bytes::copy_from_slice))?;
                    bytes.flatten().map(Source::Ready).ok_or_else(|| torn(ino))
                }
                Place::Blob => match ranges::first_gap(&tables.present(ino)?, offset, end) {
                    Some(gap) => Err(Error::Need(missing(&inode, gap.0, end))),
                    None => Ok(Source::Blob((end - offset) as usize)),
                },
            }
        })?;
        match source {
            Source::Ready(bytes) => Ok(bytes),
            Source::Blob(length) => Ok(Bytes::from(self.blobs.read(ino, offset, length)?)),
        }
    }

    /// Writes all of `data` at `offset`. `clear_setid` as in [`AttrChange`].
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], clear_setid: bool) -> Result<()> {
        let had_setid =
            clear_setid && self.view(|tables| Ok(tables.inode(ino)?.is_some_and(|inode| has_setid(&inode))))?;
        self.write_content(ino, offset, data, clear_setid)?;
        if let Some(observer) = self.observer().filter(|_| had_setid) {
            // After a write a kernel asks for other times and sizes, but not for another mode.
            observer.inode_changed(ino);
        }
        Ok(())
    }

    fn write_content(&self, ino: Ino, offset: u64, data: &[u8], clear_setid: bool) -> Result<()> {
        self.writable()?;
        self.note_use();
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= FILE_SIZE_MAX_BYTES);
        let end = end.ok_or(Error::Posix(libc::EFBIG))?;
        if data.is_empty() {
            return Ok(());
        }
        self.check_dirty_limit(ino, end)?;
        let _exclusive = self.stripe(ino).write();
        if self.write_inline(ino, offset, data, clear_setid)? {
            return Ok(());
        }
        self.check_space(data.len() as u64)?;
        self.to_blob(ino)?;
        self.zero_before(ino, offset)?;
        self.blobs.write(ino, offset, data)?;
        if self.covers_stored(ino, offset, end)? {
            self.blobs.sync_one(ino)?;
        }
        self.change(|op| {
            let mut inode = regular(known_inode(op.tables, ino)?)?;
            let mut present = op.tables.present(ino)?;
            if offset > inode.size {
                ranges::add(&mut present, inode.size, offset);
            }
            ranges::add(&mut present, offset, end);
            op.push(Mutation::PutPresent { ino, ranges: present });
            inode.size = inode.size.max(end);
            content_changed(op, &mut inode, clear_setid);
            Ok(())
        })
    }

    /// Tells whether the content is, and stays, small enough; then it is done.
    fn write_inline(&self, ino: Ino, offset: u64, data: &[u8], clear_setid: bool) -> Result<bool> {
        let end = offset + data.len() as u64;
        self.weigh(data.len() as u64);
        self.grow(|op| {
            let mut inode = regular(known_inode(op.tables, ino)?)?;
            if inode.place == Place::Blob || inode.size.max(end) > INLINE_BYTES_MAX {
                return Ok(false);
            }
            let covered = offset == 0 && end >= inode.size;
            if inode.place == Place::Nowhere && inode.size > 0 && !covered {
                return Err(Error::Need(missing(&inode, 0, inode.size)));
            }
            base::keep(op, ino, None)?;
            op.push(Mutation::WriteContent {
                ino,
                offset,
                bytes: Cow::Owned(data.to_vec()),
            });
            inode.place = Place::Inline;
            inode.size = inode.size.max(end);
            content_changed(op, &mut inode, clear_setid);
            Ok(true)
        })
    }

    /// Makes the content a blob that is known to be dirty *before* its bytes change: should the daemon die in between, the
    /// bucket is brought up to date with whatever is there.
    pub(super) fn to_blob(&self, ino: Ino) -> Result<()> {
        self.keep_base_of_blob(ino)?;
        let (inode, owed) = self.view(|tables| {
            let inode = regular(known_inode(tables, ino)?)?;
            Ok((inode, tables.dirty.contains_key(&ino)))
        })?;
        // A push under way could settle the very version that these bytes are about to change: then there must be a new one.
        if inode.place == Place::Blob && owed && !self.pusher.is_in_flight(ino) {
            return Ok(());
        }
        if inode.place == Place::Nowhere && inode.size > 0 && inode.size <= INLINE_BYTES_MAX {
            return Err(Error::Need(missing(&inode, 0, inode.size)));
        }
        let mut present = self.view(|tables| tables.present(ino))?;
        let is_new = self.is_new(ino)?;
        if inode.place == Place::Inline {
            let bytes = self
                .view(|tables| tables.content(ino, <[u8]>::to_vec))?
                .ok_or_else(|| torn(ino))?;
            self.blobs.set_size(ino, 0)?;
            self.blobs.write(ino, 0, &bytes)?;
            present = vec![(0, bytes.len() as u64)];
            present.retain(|range| range.0 < range.1);
        } else if inode.place == Place::Blob && !owed {
            // Fetched bytes need not be flushed while they can be fetched again; from now on they cannot.
            self.blobs.sync_one(ino)?;
        } else if inode.place == Place::Nowhere {
            self.blobs.set_size(ino, inode.size)?;
        }
        if inode.place != Place::Blob && !is_new {
            // What it holds may be synced or stored: the row that says where that is now must not reach the disk before it, nor before
            // the name of its blob.
            self.blobs.sync_one(ino)?;
        }
        self.change(|op| {
            let mut inode = op.tables.live_inode(ino)?;
            base::keep(op, ino, None)?;
            op.push(Mutation::DropContent(ino));
            op.push(Mutation::PutPresent { ino, ranges: present });
            inode.place = Place::Blob;
            content_changed(op, &mut inode, false);
            Ok(())
        })
    }

    /// Whether nothing of the file was ever synced or stored, so that a power cut may take all of it.
    pub(super) fn is_new(&self, ino: Ino) -> Result<bool> {
        let synced_op = self.synced_op.load(Ordering::Acquire);
        self.view(|tables| {
            let born = tables.dirty.get(&ino).map_or(0, |debt| debt.born);
            Ok(born > synced_op && tables.remotes_of(ino)?.is_empty())
        })
    }

    /// Whether a write replaces bytes that only the bucket holds: a row that says that they are here must not reach the disk before
    /// them, or a power cut would leave zeros in their place.
    fn covers_stored(&self, ino: Ino, offset: u64, end: u64) -> Result<bool> {
        self.view(|tables| {
            let size = tables.live_inode(ino)?.size;
            if offset >= size {
                return Ok(false);
            }
            let present = tables.present(ino)?;
            Ok(ranges::first_gap(&present, offset, end.min(size)).is_some())
        })
    }

    /// Before bytes of a blob go that rows on the disk may still name: flushes the rows that no longer do.
    pub(super) fn flush_rows_first(&self, ino: Ino) -> Result<()> {
        if !self.is_new(ino)? {
            self.state.sync()?;
        }
        Ok(())
    }

    /// Bytes that a crash has left beyond the end of a blob must not show when a write at `offset` leaves a gap there.
    fn zero_before(&self, ino: Ino, offset: u64) -> Result<()> {
        let size = self.view(|tables| Ok(tables.live_inode(ino)?.size))?;
        if offset > size {
            self.blobs.set_size(ino, size)?;
        }
        Ok(())
    }

    /// ENOSPC before any loss: what is acknowledged must fit.
    pub(super) fn check_space(&self, bytes: u64) -> Result<()> {
        if self.free_bytes()? < bytes {
            Err(Error::Posix(libc::ENOSPC))
        } else {
            Ok(())
        }
    }
}

/// The bookkeeping of every change of content.
pub(super) fn content_changed(op: &mut Op<'_>, inode: &mut Inode, drop_setid: bool) {
    if drop_setid {
        clear_setid(inode);
    }
    inode.touch_content(op.now);
    op.put(inode);
    if inode.nlink > 0 {
        op.owe(inode.ino);
        op.written_to(inode.ino);
        op.content_changed(inode.ino);
    }
}

/// Whether the bucket holds this very content.
pub(crate) fn is_stored(tables: &mut Tables, inode: &Inode) -> Result<bool> {
    Ok(tables
        .remotes_of(inode.ino)?
        .iter()
        .any(|remote| remote.content_version == inode.content_version))
}

/// Reads and writes need a regular file.
pub(super) fn regular(inode: Inode) -> Result<Inode> {
    match inode.kind {
        FileKind::File => Ok(inode),
        FileKind::Directory => Err(Error::Posix(libc::EISDIR)),
        _ => Err(Error::Posix(libc::EINVAL)),
    }
}

/// Small contents are fetched whole, large ones from the first missing byte on.
pub(super) fn missing(inode: &Inode, offset: u64, end: u64) -> Need {
    if inode.size <= INLINE_BYTES_MAX && inode.place != Place::Blob {
        return Need::Content {
            ino: inode.ino,
            offset: 0,
            length_bytes: inode.size,
        };
    }
    Need::Content {
        ino: inode.ino,
        offset,
        length_bytes: end - offset,
    }
}

pub(super) fn torn(ino: Ino) -> Error {
    Error::Unusable(format!("The content of inode {ino} is not where state.db says it is"))
}
