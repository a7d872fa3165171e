//! Sending an inode's content: small ones from memory in one request, large ones in parts that notice a change on the way.

use super::run::in_blob;
use crate::error::Result;
use crate::replica::Replica;
use crate::state::{BaseMetadata, Inode, Place};
use crate::store::{
    Condition, ObjectKey, StoreError, StoreErrorKind, StoreResult, USER_METADATA_MAX_BYTES, UploadSource, Written,
};
use crate::types::{FileKind, Ino};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Content up to this size is sent whole.
const PUT_WHOLE_BYTES_MAX: u64 = 8 << 20;

/// What a large upload holds at once: the parts under way and the next one.
const LARGE_UPLOAD_BYTES: u64 = 32 << 20;

impl Replica {
    /// Uploads the version that `inode` describes, and tells what was sent, if that was little; `None` if it has changed meanwhile.
    pub(super) async fn upload(
        self: &Arc<Self>,
        inode: &Inode,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<Option<(Written, Bytes)>> {
        if inode.kind == FileKind::File && inode.size > 0 {
            if self.let_go(inode.ino)? {
                return Ok(None);
            }
            self.fetch_whole(inode.ino).await?;
        }
        let mut metadata = self.object_metadata(inode, xattrs.to_vec());
        let mut body = Bytes::new();
        if inode.kind == FileKind::Symlink && metadata.encoded_size() > USER_METADATA_MAX_BYTES {
            body = Bytes::from(std::mem::take(&mut metadata.target));
        }
        let user = metadata.encode();
        let wanted = condition;
        let Some(condition) = self.condition_that_holds(key, wanted).await? else {
            return Ok(Some((Written::ConditionFailed, Bytes::new())));
        };
        let in_memory = match inode.size > PUT_WHOLE_BYTES_MAX {
            true => LARGE_UPLOAD_BYTES,
            false => inode.size,
        };
        let _turn = self.transfers.turn(in_memory).await;
        if inode.kind == FileKind::File && inode.size > PUT_WHOLE_BYTES_MAX {
            let source = BlobSource {
                replica: Arc::clone(self),
                ino: inode.ino,
                version: inode.content_version,
                size: inode.size,
            };
            let written = self.store.put_large(key, &source, &user, &condition).await;
            self.note_health(&written);
            return Ok(written?.map(|written| (written, Bytes::new())));
        }
        if inode.kind == FileKind::File {
            match self.whole(inode)? {
                Some(bytes) => body = bytes,
                None => return Ok(None),
            }
        }
        self.state.lock().note_sent(inode.ino, inode.content_version);
        let written = self.store.put(key, body.clone(), &user, &condition).await;
        self.note_health(&written);
        if written.is_err() && inode.kind == FileKind::File {
            let metadata = BaseMetadata::of(inode, xattrs.to_vec());
            self.pusher.attempts.note(key, wanted, metadata, body.clone());
        }
        Ok(Some((written?, body)))
    }

    /// The whole content of a file, if it is still that version.
    pub(super) fn whole(&self, inode: &Inode) -> Result<Option<Bytes>> {
        let _shared = self.stripe(inode.ino).read();
        let now = self.view(|tables| {
            let Some(now) = tables.inode(inode.ino)? else {
                return Ok(None);
            };
            if now.content_version != inode.content_version {
                return Ok(None);
            }
            let inline = match now.place {
                Place::Inline => tables.content(now.ino, Bytes::copy_from_slice)?,
                _ => None,
            };
            Ok(Some((now, inline)))
        })?;
        match now {
            None => Ok(None),
            Some((_, Some(bytes))) => Ok(Some(bytes)),
            Some((now, None)) if in_blob(&now) => Ok(Some(self.blobs.read(now.ino, 0, now.size as usize)?.into())),
            Some((now, None)) => Ok((now.size == 0).then(Bytes::new)),
        }
    }
}

/// A large file that is being uploaded while it may be written to.
struct BlobSource {
    replica: Arc<Replica>,
    ino: Ino,
    version: u64,
    size: u64,
}

#[async_trait]
impl UploadSource for BlobSource {
    fn size(&self) -> u64 {
        self.size
    }

    async fn part(&self, range: Range<u64>) -> StoreResult<Option<Bytes>> {
        let read = || -> Result<Option<Bytes>> {
            let _shared = self.replica.stripe(self.ino).read();
            let now = self.replica.view(|tables| tables.inode(self.ino))?;
            if now.is_none_or(|now| now.content_version != self.version) {
                return Ok(None);
            }
            Ok(Some(
                self.replica
                    .blobs
                    .read(self.ino, range.start, (range.end - range.start) as usize)?
                    .into(),
            ))
        };
        read().map_err(|error| StoreError {
            kind: StoreErrorKind::Garbled,
            operation: "write",
            target: format!("inode {}", self.ino),
            message: error.to_string(),
            advice: String::new(),
            retryable: true,
        })
    }
}
