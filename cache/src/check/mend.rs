//! What is done about each difference.

use super::{Check, Finding};
use crate::blob::ranges;
use crate::error::Result;
use crate::replica::Replica;
use crate::state::{Inode, Mutation, Place, Remote};
use crate::store::{ETag, ObjectInfo, ObjectKey};
use crate::types::{FileKind, Ino};
use md5::{Digest, Md5};
use std::sync::Arc;

/// Bytes compared at once.
const CHUNK_BYTES: u64 = 4 << 20;

impl Replica {
    /// Takes back what is held: the objects stay, and become files as the bucket has them.
    pub(super) async fn take_back_held(self: &Arc<Self>, check: &mut Check<'_>) -> Result<()> {
        for ino in self.held_inodes() {
            let path = self.owed_path(ino)?;
            let (inode, rows) = self.view(|tables| Ok((tables.inode(ino)?, tables.remotes_of(ino)?)))?;
            let named = self.view(|tables| Ok(!tables.names_of(ino)?.is_empty()))?;
            if !check.is_dry() {
                match inode.filter(|inode| named && inode.nlink > 0) {
                    Some(inode) => self.follow_bucket(&inode, &rows).await?,
                    None => self.forget_rows(ino, &rows)?,
                }
                self.unhold(ino);
            }
            check.note(
                path,
                "a change of it that no program asked for is held back",
                "taken back",
                true,
            );
        }
        Ok(())
    }

    /// The inode's rows go, its objects stay: they are found as unknown ones.
    fn forget_rows(&self, ino: Ino, rows: &[Remote]) -> Result<()> {
        self.change(|op| {
            for row in rows {
                op.push(Mutation::DropRemote(row.key.clone()));
            }
            op.push(Mutation::ClearDirty(ino));
            if op.tables.inode(ino)?.is_some() {
                op.push(Mutation::DropInode(ino));
            }
            Ok(())
        })
    }

    /// The local version is given up for the one that the bucket has.
    async fn follow_bucket(&self, inode: &Inode, rows: &[Remote]) -> Result<()> {
        for row in rows.iter().filter(|row| !row.etag.is_empty()) {
            let Ok(key) = ObjectKey::parse(&row.key) else { continue };
            let Some(info) = self.store.head(&key).await? else {
                continue;
            };
            let ours = Remote {
                content_version: inode.content_version,
                meta_version: inode.meta_version,
                ..row.clone()
            };
            self.change(|op| {
                op.push(Mutation::ClearDirty(inode.ino));
                op.push(Mutation::PutRemote(ours.clone()));
                Ok(())
            })?;
            self.object_changed(&ours, &info)?;
        }
        Ok(())
    }

    pub(super) async fn mend_row(
        self: &Arc<Self>,
        check: &mut Check<'_>,
        row: &Remote,
        inode: Option<Inode>,
        judged: (Finding, Option<ObjectInfo>),
    ) -> Result<()> {
        match (judged, inode) {
            ((Finding::Missing, _), Some(inode)) => self.mend_missing(check, row, &inode).await,
            ((Finding::Changed, Some(info)), _) => {
                let found = "others have changed it in the bucket";
                self.refetch(check, row, &info, (found, "updated from the bucket"))
            }
            ((Finding::WrongSize, Some(info)), _) => {
                let found = "its size is not its object's";
                self.refetch(check, row, &info, (found, "fetched anew"))
            }
            ((Finding::Orphaned, _), _) => {
                if !check.is_dry() {
                    self.forget_rows(row.ino, std::slice::from_ref(row))?;
                }
                Ok(())
            }
            ((Finding::Sound, Some(info)), Some(inode)) => self.compare_content(check, row, &inode, &info).await,
            _ => Ok(()),
        }
    }

    fn refetch(&self, check: &mut Check<'_>, row: &Remote, info: &ObjectInfo, words: (&str, &str)) -> Result<()> {
        let path = self.owed_path(row.ino)?;
        if !check.is_dry() {
            self.object_changed(row, info)?;
        }
        check.note(path, words.0, words.1, true);
        Ok(())
    }

    async fn mend_missing(self: &Arc<Self>, check: &mut Check<'_>, row: &Remote, inode: &Inode) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&row.key) else {
            return Ok(());
        };
        let path = self.owed_path(row.ino)?;
        if self.store.head(&key).await?.is_some() {
            check.note(
                path,
                "the store's listing does not show it, although it is there",
                "left as it is",
                false,
            );
            return Ok(());
        }
        if !self.is_here(inode)? {
            let found = "its object is gone from the bucket, and this machine holds no copy";
            check.note(path, found, "left as it is; see `notefs trash ls`", false);
            return Ok(());
        }
        if !check.is_dry() {
            self.note_deletion(&row.key);
            self.change(|op| {
                let same = op.tables.remote(&row.key)?.is_some_and(|now| now == *row);
                if same {
                    op.push(Mutation::DropRemote(row.key.clone()));
                    op.owe(row.ino);
                }
                Ok(())
            })?;
        }
        check.note(path, "its object is gone from the bucket", "uploaded again", true);
        Ok(())
    }

    pub(super) fn mend_unstored(&self, check: &mut Check<'_>, ino: Ino) -> Result<()> {
        let Some(inode) = self.view(|tables| tables.inode(ino))? else {
            return Ok(());
        };
        let path = self.owed_path(ino)?;
        let here = self.is_here(&inode)?;
        if here && !check.is_dry() {
            self.change(|op| {
                op.owe(ino);
                Ok(())
            })?;
        }
        let done = if here {
            "uploaded"
        } else {
            "left as it is; see `notefs trash ls`"
        };
        check.note(path, "the bucket has no object for it", done, here);
        Ok(())
    }

    /// Whether every byte of a file is on this machine.
    fn is_here(&self, inode: &Inode) -> Result<bool> {
        Ok(match (inode.kind, inode.place) {
            _ if inode.size == 0 => true,
            (FileKind::File, Place::Nowhere) => false,
            (FileKind::File, Place::Blob) => {
                let present = self.view(|tables| tables.present(inode.ino))?;
                self.blobs.exists(inode.ino) && ranges::first_gap(&present, 0, inode.size).is_none()
            }
            _ => true,
        })
    }

    /// A clean local copy must be the object's content.
    async fn compare_content(
        self: &Arc<Self>,
        check: &mut Check<'_>,
        row: &Remote,
        inode: &Inode,
        info: &ObjectInfo,
    ) -> Result<()> {
        let is_clean_copy = inode.kind == FileKind::File && row.content_version == inode.content_version;
        if !is_clean_copy || inode.place == Place::Nowhere || inode.size == 0 {
            return Ok(());
        }
        let lost = inode.place == Place::Blob && !self.blobs.exists(inode.ino);
        if !lost && !self.is_here(inode)? {
            return Ok(());
        }
        check.report.contents += 1;
        if !lost
            && (self.digest(inode)?.as_deref() == Some(info.etag.0.as_str()) || self.same_content(row, inode).await?)
        {
            return Ok(());
        }
        self.refetch(check, row, info, ("its local copy is damaged", "fetched anew"))
    }

    /// The digest that most stores use as the ETag of an object written in one piece.
    fn digest(&self, inode: &Inode) -> Result<Option<String>> {
        let mut digest = Md5::new();
        let mut offset = 0;
        while offset < inode.size {
            let part = self.read(inode.ino, offset, CHUNK_BYTES as usize)?;
            if part.is_empty() {
                return Ok(None);
            }
            digest.update(&part);
            offset += part.len() as u64;
        }
        Ok(Some(
            digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// Byte by byte, where the ETag is no digest. What cannot be compared because it has changed meanwhile counts as the same.
    async fn same_content(&self, row: &Remote, inode: &Inode) -> Result<bool> {
        let Ok(key) = ObjectKey::parse(&row.key) else {
            return Ok(true);
        };
        let etag = ETag(row.etag.clone());
        let mut offset = 0;
        while offset < inode.size {
            let end = inode.size.min(offset + CHUNK_BYTES);
            let Some(theirs) = self.store.get(&key, Some(offset..end), Some(&etag)).await? else {
                return Ok(true);
            };
            let ours = self.read(inode.ino, offset, (end - offset) as usize)?;
            let now = self.view(|tables| tables.inode(inode.ino))?;
            if now.is_none_or(|now| now.content_version != inode.content_version) {
                return Ok(true);
            }
            if ours != theirs.bytes {
                return Ok(false);
            }
            offset = end;
        }
        Ok(true)
    }
}
