//! Truncating and extending.

use super::base;
use super::content::{content_changed, missing, regular};
use super::op::known_inode;
use super::{INLINE_BYTES_MAX, Replica};
use crate::blob::ranges;
use crate::error::{Error, Result};
use crate::state::{Marks, Mutation, Place};
use crate::types::*;
use std::borrow::Cow;

impl Replica {
    /// Sets the size. Bytes beyond the old size are zeros; nothing need be local that is cut off.
    pub(super) fn resize(&self, ino: Ino, size: u64, clear_setid: bool) -> Result<()> {
        if size > FILE_SIZE_MAX_BYTES {
            return Err(Error::Posix(libc::EFBIG));
        }
        let _exclusive = self.stripe(ino).write();
        self.keep_base_of_blob(ino)?;
        if self.resize_inline(ino, size, clear_setid)? {
            return Ok(());
        }
        self.to_blob(ino)?;
        let old_size = self.view(|tables| Ok(tables.live_inode(ino)?.size))?;
        if size > old_size {
            self.blobs.set_size(ino, old_size)?;
            self.blobs.set_size(ino, size)?;
        }
        self.change(|op| {
            let mut inode = regular(known_inode(op.tables, ino)?)?;
            let mut present = op.tables.present(ino)?;
            ranges::truncate(&mut present, size);
            ranges::add(&mut present, inode.size, size);
            op.push(Mutation::PutPresent { ino, ranges: present });
            inode.size = size;
            content_changed(op, &mut inode, clear_setid);
            Ok(())
        })?;
        // Bytes are cut off last: a crash before the row above would show zeros in their place. Where the rows cannot be flushed,
        // the bytes stay, unseen.
        if size < old_size && self.flush_rows_first(ino).is_ok() {
            self.blobs.set_size(ino, size)?;
        }
        Ok(())
    }

    fn resize_inline(&self, ino: Ino, size: u64, clear_setid: bool) -> Result<bool> {
        let emptied_blob = self.change(|op| {
            let mut inode = regular(known_inode(op.tables, ino)?)?;
            base::keep(op, ino, None)?;
            if size == 0 {
                let blob = inode.place == Place::Blob;
                op.push(Mutation::DropContent(ino));
                if blob {
                    op.push(Mutation::DropPresent(ino));
                }
                inode.place = Place::Nowhere;
                inode.size = 0;
                content_changed(op, &mut inode, clear_setid);
                if inode.nlink > 0 {
                    op.owe_for(ino, Marks::EMPTIED);
                }
                return Ok(Some(blob));
            }
            if inode.place == Place::Blob || inode.size.max(size) > INLINE_BYTES_MAX {
                return Ok(None);
            }
            match inode.place {
                Place::Nowhere if inode.size > 0 => return Err(Error::Need(missing(&inode, 0, inode.size))),
                Place::Nowhere => op.push(Mutation::PutContent {
                    ino,
                    bytes: Cow::Owned(vec![0; size as usize]),
                }),
                _ => op.push(Mutation::ResizeContent { ino, size }),
            }
            inode.place = Place::Inline;
            inode.size = size;
            content_changed(op, &mut inode, clear_setid);
            Ok(Some(false))
        })?;
        if emptied_blob == Some(true) && self.flush_rows_first(ino).is_ok() {
            self.blobs.remove(ino);
        }
        Ok(emptied_blob.is_some())
    }
}
