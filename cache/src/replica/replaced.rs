//! The content of a file that has lost its name to another one, and whose object somebody else has overwritten since: what is there now is for
//! the file that has the name, which brings both together when it is stored.
//!
//! Owns what becomes of a content of which bytes are missing here. Where nothing is missing there is nothing to do: it is stored as it is.

use super::Replica;
use super::fetch::key_of;
use crate::blob::ranges;
use crate::error::{Error, Result};
use crate::push::is_replaced;
use crate::state::{Inode, LoggedChange, Mutation, Place, Remote, Tables};
use crate::store::ObjectInfo;
use crate::types::Ino;
use std::borrow::Cow;

/// The new content is taken up to this size.
const TAKEN_BYTES_MAX: u64 = 8 << 20;

impl Replica {
    /// Whether another file has the name of this key now.
    pub(crate) fn is_replaced(&self, ino: Ino, key: &str) -> Result<bool> {
        self.view(|tables| is_replaced(tables, ino, key))
    }

    /// Whether the content is here.
    pub(crate) fn is_whole(&self, ino: Ino) -> Result<bool> {
        self.view(|tables| match tables.inode(ino)? {
            Some(inode) => is_whole(tables, &inode),
            None => Ok(false),
        })
    }

    /// Gives the file its content again, from what was kept to merge with; else a copy of what is there now, as an edit of its own. It claims
    /// nothing of the key, so that nobody's edit is passed over. `false`: it is too large for that.
    /// Fails with `EIO` if the file was written to and the rest of it is gone.
    pub(crate) async fn recover_replaced(&self, known: &Remote, info: &ObjectInfo) -> Result<bool> {
        let kept = self.view(|tables| tables.base(&known.key))?;
        let kept = kept.filter(|base| base.etag == known.etag).and_then(|base| base.bytes);
        if let Some(bytes) = kept {
            self.put_recovered(known, bytes.into_vec(), None)?;
            return Ok(true);
        }
        if info.size > TAKEN_BYTES_MAX {
            return Ok(false);
        }
        let got = self.store.get(&key_of(known)?, None, Some(&info.etag)).await;
        self.note_health(&got);
        if let Some(object) = got? {
            tracing::info!(
                key = known.key,
                "A file that lost this name to another one had not been read: it is a copy of what is there now"
            );
            self.put_recovered(known, object.bytes.to_vec(), Some(info))?;
        }
        Ok(true)
    }

    fn put_recovered(&self, known: &Remote, bytes: Vec<u8>, copied: Option<&ObjectInfo>) -> Result<()> {
        let _exclusive = self.stripe(known.ino).write();
        let had_blob = self.change(|op| {
            let clean = |inode: &Inode| inode.content_version == known.content_version;
            let Some(mut inode) = op.tables.inode(known.ino)?.filter(clean) else {
                return Err(Error::Posix(libc::EIO));
            };
            let had_blob = inode.place == Place::Blob;
            op.push(Mutation::DropContent(inode.ino));
            if had_blob {
                op.push(Mutation::DropPresent(inode.ino));
            }
            if let Some(info) = copied {
                (inode.size, inode.mtime) = (bytes.len() as u64, info.last_modified);
                inode.content_version += 1;
                inode.meta_version += 1;
                inode.ctime = op.now;
                op.owe(inode.ino);
                op.log(LoggedChange::Content(inode.ino));
            }
            inode.place = Place::Nowhere;
            if !bytes.is_empty() {
                let (ino, bytes) = (inode.ino, Cow::Owned(bytes));
                op.push(Mutation::PutContent { ino, bytes });
                inode.place = Place::Inline;
            }
            op.put(&inode);
            Ok(had_blob)
        })?;
        self.remove_blob(had_blob.then_some(known.ino));
        drop(_exclusive);
        if let Some(observer) = self.observer() {
            observer.inode_changed(known.ino);
        }
        Ok(())
    }
}

/// Whether no byte of the content is missing here.
pub(super) fn is_whole(tables: &mut Tables, inode: &Inode) -> Result<bool> {
    Ok(match inode.place {
        Place::Inline => true,
        Place::Nowhere => inode.size == 0,
        Place::Blob => ranges::first_gap(&tables.present(inode.ino)?, 0, inode.size).is_none(),
    })
}
