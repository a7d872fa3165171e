//! Keeping what the bucket holds of a file before it is changed here: what a merge begins from.
//!
//! A base belongs to a key and the version there, not to an inode: an editor that writes a new file and renames it over the old one has
//! edited the note all the same. It is kept with the first change of a stored file, in the same operation, and goes by itself when
//! the ledger learns of another version. A text that may be in the bucket without our having heard of it is kept in the same way.

use super::Replica;
use super::op::Op;
use crate::error::Result;
use crate::merge::{MERGE_BYTES_MAX, is_text};
use crate::push::resolve_key;
use crate::state::{Base, BaseMetadata, Inode, Mutation, Place, Tables};
use crate::types::{FileKind, Ino};

/// Whether the bucket holds this very content. Cheap, and false at worst for a content that it happens to hold.
fn is_clean(inode: &Inode) -> bool {
    inode.kind == FileKind::File && inode.base_version == inode.content_version
}

/// Keeps the bases of an inode that is about to change, as it stands in the tables; `text` is its content where that is in a blob.
/// Costs nothing for an inode that has changed already.
pub(super) fn keep(op: &mut Op<'_>, ino: Ino, text: Option<&[u8]>) -> Result<()> {
    let Some(inode) = op.tables.inode(ino)? else {
        return Ok(());
    };
    keep_tried(op, &inode, text)?;
    if !is_clean(&inode) {
        return Ok(());
    }
    for remote in op.tables.remotes_of(ino)? {
        if remote.content_version != inode.content_version || remote.etag.is_empty() {
            continue;
        }
        let known = op.tables.base(&remote.key)?;
        if known.as_ref().is_some_and(|base| base.bytes.is_some()) {
            continue;
        }
        let bytes = text_of(op, &inode, text)?.filter(|bytes| op.tables.has_room_for_base(bytes.len() as u64));
        if known.is_some() && bytes.is_none() || !op.tables.has_room_for_base(0) {
            continue;
        }
        let metadata = match known {
            Some(base) => base.metadata,
            None => BaseMetadata::of(&inode, op.tables.xattrs(ino)?),
        };
        op.push(Mutation::PutBase(Base {
            key: remote.key,
            etag: remote.etag,
            metadata,
            bytes: bytes.map(Into::into),
        }));
    }
    Ok(())
}

/// The text of an inode as it stands in the tables; `blob` is its content where that is in a blob.
fn text_of(op: &mut Op<'_>, inode: &Inode, blob: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
    Ok(match (inode.place, blob) {
        (Place::Nowhere, _) if inode.size == 0 => Some(Vec::new()),
        (Place::Inline, _) => op
            .tables
            .content(inode.ino, |bytes| is_text(bytes).then(|| bytes.to_vec()))?
            .flatten(),
        (_, Some(text)) => is_text(text).then(|| text.to_vec()),
        _ => None,
    })
}

/// What is about to change may have been stored without our having heard of it: others may build upon it. What is stored under its own name by
/// now may have been under that of another file before.
fn keep_tried(op: &mut Op<'_>, inode: &Inode, blob: Option<&[u8]>) -> Result<()> {
    let keys = match op.tables.was_sent(inode.ino, inode.content_version) {
        true => op.tables.keys_tried(inode.ino)?,
        false if is_clean(inode) => op.tables.keys_of_others_tried(inode.ino),
        false => return Ok(()),
    };
    if inode.kind != FileKind::File || keys.is_empty() {
        return Ok(());
    }
    let Some(text) = text_of(op, inode, blob)? else {
        return Ok(());
    };
    let metadata = BaseMetadata::of(inode, op.tables.xattrs(inode.ino)?);
    let mut bytes = 0;
    for key in keys {
        bytes += text.len() as u64;
        if !op.tables.has_room_for_tried(bytes) {
            break;
        }
        if let Some(remote) = op.tables.remote(&key)? {
            op.push(Mutation::PutTriedText(Base {
                key,
                etag: remote.etag,
                metadata: metadata.clone(),
                bytes: Some(text.clone().into()),
            }));
        }
    }
    Ok(())
}

/// Keeps the metadata alone, for a change of metadata: chmod of a whole vault must not copy it.
pub(super) fn keep_metadata(op: &mut Op<'_>, inode: &Inode) -> Result<()> {
    if !is_clean(inode) {
        return Ok(());
    }
    for remote in op.tables.remotes_of(inode.ino)? {
        let clean = (remote.content_version, remote.meta_version) == (inode.content_version, inode.meta_version);
        if clean && !remote.etag.is_empty() && op.tables.base(&remote.key)?.is_none() && op.tables.has_room_for_base(0)
        {
            let metadata = BaseMetadata::of(inode, op.tables.xattrs(inode.ino)?);
            op.push(Mutation::PutBase(Base {
                key: remote.key,
                etag: remote.etag,
                metadata,
                bytes: None,
            }));
        }
    }
    Ok(())
}

/// The same for a file that goes while another one has taken its place: that is an edit of the note. A file that is simply deleted needs no
/// base, but what was sent of it may be in the bucket, and others may build upon it before another file gets its name.
pub(super) fn keep_if_replaced(op: &mut Op<'_>, ino: Ino) -> Result<()> {
    for key in op.tables.keys_tried(ino)? {
        if resolve_key(op.tables, &key)?.is_some_and(|other| other != ino) {
            return keep(op, ino, None);
        }
    }
    match op.tables.inode(ino)? {
        Some(inode) => keep_tried(op, &inode, None),
        None => Ok(()),
    }
}

impl Replica {
    /// For a content in a blob: reads and keeps it, while it is still whole. The caller holds the inode's stripe.
    pub(super) fn keep_base_of_blob(&self, ino: Ino) -> Result<()> {
        self.keep_blob(ino, |tables, inode| match is_clean(inode) {
            true => lacks_base(tables, inode),
            false => Ok(tables.was_sent(ino, inode.content_version)),
        })
    }

    /// The same for a file that is about to be deleted: what was sent of it.
    pub(super) fn keep_tried_of_blob(&self, ino: Ino) -> Result<()> {
        self.keep_blob(ino, |tables, inode| {
            Ok(!is_clean(inode) && tables.was_sent(ino, inode.content_version))
        })
    }

    fn keep_blob(&self, ino: Ino, is_wanted: impl Fn(&mut Tables, &Inode) -> Result<bool>) -> Result<()> {
        let wanted = self.view(|tables| {
            let Some(inode) = tables
                .inode(ino)?
                .filter(|inode| inode.place == Place::Blob && inode.size <= MERGE_BYTES_MAX as u64)
            else {
                return Ok(None);
            };
            let whole = crate::blob::ranges::first_gap(&tables.present(ino)?, 0, inode.size).is_none();
            Ok((whole && is_wanted(tables, &inode)?).then_some(inode.size))
        })?;
        if let Some(size) = wanted {
            // A blob that is damaged must not keep its file from being replaced or removed.
            match self.blobs.read(ino, 0, size as usize) {
                Ok(text) => self.change(|op| keep(op, ino, Some(&text)))?,
                Err(error) => tracing::warn!(ino, %error, "The text of this file cannot be kept for a merge"),
            }
        }
        Ok(())
    }

    /// What the bucket holds under a key as far as we know, if that is still here: kept, or in the file itself.
    pub(crate) fn base_of(&self, key: &str) -> Result<Option<Base>> {
        let (kept, clean) = self.view(|tables| {
            let Some(remote) = tables.remote(key)? else {
                return Ok((None, None));
            };
            let kept = tables.base(key)?.filter(|base| base.etag == remote.etag);
            let inode = tables.inode(remote.ino)?.filter(is_clean);
            let clean =
                inode.filter(|inode| remote.content_version == inode.content_version && !remote.etag.is_empty());
            Ok((kept, clean.map(|inode| (remote, inode))))
        })?;
        let Some((remote, inode)) = clean.filter(|_| kept.as_ref().is_none_or(|base| base.bytes.is_none())) else {
            return Ok(kept);
        };
        let fits = inode.size <= MERGE_BYTES_MAX as u64;
        // What is not local is no base: asking for it would bring the newest version, not that one.
        let bytes = if fits {
            self.read(inode.ino, 0, inode.size as usize).ok()
        } else {
            None
        };
        let same = self.view(|tables| {
            Ok(tables
                .inode(inode.ino)?
                .is_some_and(|now| now.content_version == inode.content_version))
        })?;
        let bytes = bytes
            .filter(|bytes| same && is_text(bytes))
            .map(|bytes| serde_bytes::ByteBuf::from(bytes.to_vec()));
        let metadata = match kept {
            Some(base) => base.metadata,
            None => BaseMetadata::of(&inode, self.view(|tables| tables.xattrs(inode.ino))?),
        };
        let (key, etag) = (remote.key, remote.etag);
        Ok(Some(Base {
            key,
            etag,
            metadata,
            bytes,
        }))
    }
}

fn lacks_base(tables: &mut Tables, inode: &Inode) -> Result<bool> {
    for remote in tables.remotes_of(inode.ino)? {
        if tables.base(&remote.key)?.is_none_or(|base| base.bytes.is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}
