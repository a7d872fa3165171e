//! Giving an inode the metadata and the content of its object.

use super::Theirs;
use crate::error::Result;
use crate::replica::metadata::fill;
use crate::replica::op::Op;
use crate::replica::{INLINE_BYTES_MAX, Replica};
use crate::state::{Inode, LoggedChange, Mutation, Place};
use crate::store::PartialMetadata;
use crate::types::*;
use bytes::Bytes;
use std::borrow::Cow;

impl Replica {
    /// Content that is too large for the tables, after its rows are there; the caller holds the stripe.
    pub(super) fn put_large_content(&self, inode: &Inode, theirs: &Theirs) -> Result<()> {
        let large = |bytes: &&Bytes| bytes.len() as u64 > INLINE_BYTES_MAX && inode.place == Place::Nowhere;
        let Some(bytes) = theirs.content(inode).filter(large) else {
            return Ok(());
        };
        // Should there be no room, it is fetched when it is read.
        if self.check_space(bytes.len() as u64).is_err() {
            return Ok(());
        }
        self.blobs.set_size(inode.ino, 0)?;
        self.blobs.write(inode.ino, 0, bytes)?;
        self.change(|op| {
            let now = op.tables.inode(inode.ino)?;
            let same = |now: &Inode| now.content_version == inode.content_version && now.place == Place::Nowhere;
            if let Some(mut now) = now.filter(same) {
                now.place = Place::Blob;
                op.push(Mutation::PutPresent {
                    ino: now.ino,
                    ranges: vec![(0, bytes.len() as u64)],
                });
                op.put(&now);
            }
            Ok(())
        })
    }
}

/// Gives an inode the metadata of its object.
pub(super) fn describe(op: &mut Op<'_>, inode: &mut Inode, theirs: &Theirs, bears_metadata: bool) -> Result<()> {
    inode.size = theirs.info.size;
    inode.mtime = theirs.info.last_modified;
    inode.atime = inode.mtime;
    inode.known = !bears_metadata;
    if let Some(meta) = &theirs.meta {
        fill(inode, meta);
        put_xattrs(op, inode.ino, meta)?;
    }
    inode.ctime = op.now;
    Ok(())
}

pub(in crate::replica) fn put_xattrs(op: &mut Op<'_>, ino: Ino, meta: &PartialMetadata) -> Result<()> {
    let wanted = meta.xattrs.as_deref().unwrap_or_default();
    for (name, _) in op.tables.xattrs(ino)? {
        if !wanted.iter().any(|(other, _)| *other == name) {
            op.push(Mutation::DropXattr { ino, name });
        }
    }
    for (name, value) in wanted.iter().cloned() {
        op.push(Mutation::PutXattr { ino, name, value });
    }
    Ok(())
}

/// Puts the object's version into an inode that had an older one; answers whether its blob is of no use any more.
pub(super) fn replace(
    op: &mut Op<'_>,
    inode: &mut Inode,
    etag: &str,
    theirs: &Theirs,
    bears_metadata: bool,
) -> Result<bool> {
    let same_content = theirs.info.etag.0 == etag || held_elsewhere(op, inode, theirs)?;
    inode.meta_version += 1;
    if same_content {
        let (size, atime) = (inode.size, inode.atime);
        if theirs.meta.is_some() {
            describe(op, inode, theirs, bears_metadata)?;
        }
        (inode.size, inode.atime) = (size, atime);
        return Ok(false);
    }
    let had_blob = inode.place == Place::Blob;
    if had_blob {
        op.push(Mutation::DropPresent(inode.ino));
    }
    inode.content_version += 1;
    inode.base_version = inode.content_version;
    describe(op, inode, theirs, bears_metadata)?;
    put_content(op, inode, theirs);
    op.log(LoggedChange::Content(inode.ino));
    Ok(had_blob)
}

/// Another name of a file with hard links has brought this content already.
fn held_elsewhere(op: &mut Op<'_>, inode: &Inode, theirs: &Theirs) -> Result<bool> {
    let held = op.tables.remotes_of(inode.ino)?;
    Ok(held.iter().any(|remote| {
        remote.key != theirs.key && remote.etag == theirs.info.etag.0 && remote.content_version == inode.content_version
    }))
}

pub(super) fn put_content(op: &mut Op<'_>, inode: &mut Inode, theirs: &Theirs) {
    inode.place = Place::Nowhere;
    let small = |bytes: &&Bytes| !bytes.is_empty() && bytes.len() as u64 <= INLINE_BYTES_MAX;
    match theirs.content(inode).filter(small) {
        Some(bytes) => {
            op.push(Mutation::PutContent {
                ino: inode.ino,
                bytes: Cow::Owned(bytes.to_vec()),
            });
            inode.place = Place::Inline;
        }
        None => op.push(Mutation::DropContent(inode.ino)),
    }
}
