//! Between inodes and the metadata that travels with their objects.

use super::Replica;
use super::fetch::source_of;
use super::flights::Flight;
use super::op::Op;
use super::told::ToldDirectory;
use crate::error::{Error, Result};
use crate::state::{Dentry, Inode, Mutation, Remote};
use crate::store::{ETag, ObjectKey, ObjectMetadata, PartialMetadata, UserMetadata};
use crate::types::*;
use std::ops::Range;
use std::sync::Arc;

/// Neighbours whose metadata is asked for together with that of one file.
const NEIGHBOURS_MAX: usize = 256;

/// Requests for metadata at a time.
const CONCURRENT_MAX: usize = 16;

/// What is read of an object whose content is a symlink's target: one byte more than there can be.
pub(crate) const TARGET_RANGE: Range<u64> = 0..SYMLINK_LENGTH_MAX_BYTES as u64 + 1;

impl Replica {
    /// What is to travel with an inode's object.
    pub(crate) fn object_metadata(&self, inode: &Inode, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> ObjectMetadata {
        ObjectMetadata {
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            rdev: inode.rdev,
            target: if inode.kind == FileKind::Symlink {
                inode.text.clone()
            } else {
                Vec::new()
            },
            xattrs,
            link_id: (inode.link_id != 0).then(|| format!("{:016x}", inode.link_id)),
            write_id: self.write_id(inode),
        }
    }

    /// Unique to one version of one inode of one replica: a retried write is known by it.
    pub(crate) fn write_id(&self, inode: &Inode) -> String {
        format!(
            "{}.{:x}.{:x}.{:x}",
            self.writer_id, inode.ino, inode.content_version, inode.meta_version
        )
    }

    /// Reads the metadata of an inode's object, and of its neighbours that need it, too.
    pub(super) async fn fetch_metadata(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let directory = self.view(|tables| Ok(tables.names_of(ino)?.first().map(|name| name.parent)))?;
        let _flight = self.flights.board(Flight::Metadata(directory.unwrap_or(ino))).await;
        let wanted = self.view(|tables| {
            let mut wanted = Vec::new();
            let names = match directory {
                Some(directory) => {
                    let cookie = tables.names_of(ino)?.iter().map(|name| name.cookie).min().unwrap_or(1);
                    tables.children(directory, cookie.saturating_sub(1), NEIGHBOURS_MAX)?
                }
                None => Vec::new(),
            };
            for name in names {
                let unknown = tables.inode(name.ino)?.filter(|inode| !inode.known && !inode.is_dir());
                if let Some(inode) = unknown {
                    wanted.extend(source_of(tables, &inode)?);
                }
            }
            Ok(wanted)
        })?;
        let limit = Arc::new(tokio::sync::Semaphore::new(CONCURRENT_MAX));
        let mut tasks = tokio::task::JoinSet::new();
        for remote in wanted {
            let (replica, limit) = (Arc::clone(self), Arc::clone(&limit));
            tasks.spawn_on(
                async move {
                    let _permit = limit.acquire().await;
                    replica.fetch_one_metadata(remote).await
                },
                &self.runtime,
            );
        }
        let mut first = Ok(());
        while let Some(done) = tasks.join_next().await {
            let done = done.unwrap_or(Err(Error::Posix(libc::EIO)));
            first = first.and(done);
        }
        first
    }

    async fn fetch_one_metadata(&self, remote: Remote) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&remote.key) else {
            return Ok(());
        };
        let head = self.store.head(&key).await;
        self.note_health(&head);
        let Some(mut info) = head? else {
            return self.adopt_vanished(&remote);
        };
        if info.etag.0 != remote.etag {
            return self.adopt_changed(&remote, &info);
        }
        let user = info.user.take().unwrap_or_default();
        let meta = self.complete(&key, &info.etag, user.decode_lossy()).await?;
        self.change(|op| learn(op, remote.ino, &meta))
    }

    /// A symlink whose target was too long for the metadata has it as its content.
    pub(crate) async fn complete(
        &self,
        key: &ObjectKey,
        etag: &ETag,
        mut meta: PartialMetadata,
    ) -> Result<PartialMetadata> {
        if meta.kind == Some(FileKind::Symlink) && meta.target.is_none() {
            let object = self.store.get(key, Some(TARGET_RANGE), Some(etag)).await;
            self.note_health(&object);
            meta.target = object?.map(|object| object.bytes.to_vec());
        }
        Ok(meta)
    }
}

/// Metadata as the store brought it, whatever tool wrote it.
pub(super) trait DecodeLossy {
    fn decode_lossy(&self) -> PartialMetadata;
}

impl DecodeLossy for UserMetadata {
    fn decode_lossy(&self) -> PartialMetadata {
        ObjectMetadata::decode(self)
    }
}

/// Gives an inode the metadata of its object; the first name of a hard-linked file learnt keeps its inode, others join it.
pub(super) fn learn(op: &mut Op<'_>, ino: Ino, meta: &PartialMetadata) -> Result<()> {
    let Some(mut inode) = op.tables.inode(ino)? else {
        return Ok(());
    };
    if inode.known {
        return Ok(());
    }
    let link_id = meta
        .link_id
        .as_deref()
        .and_then(|id| u64::from_str_radix(id, 16).ok())
        .unwrap_or(0);
    if link_id != 0 {
        match op.tables.linked_inode(link_id)? {
            Some(first) if first != ino => {
                if join(op, &inode, first)? {
                    return Ok(());
                }
            }
            _ => op.push(Mutation::PutLink { link_id, ino }),
        }
        inode.link_id = link_id;
    }
    fill(&mut inode, meta);
    for (name, value) in meta.xattrs.iter().flatten() {
        op.push(Mutation::PutXattr {
            ino,
            name: name.clone(),
            value: value.clone(),
        });
    }
    op.put(&inode);
    Ok(())
}

/// Whether bytes can be a symlink's target; what says that it is a symlink and has none is a file.
fn is_target(bytes: &[u8]) -> bool {
    (1..=SYMLINK_LENGTH_MAX_BYTES).contains(&bytes.len()) && !bytes.contains(&0)
}

/// Puts what is known of the object's metadata into the inode.
pub(super) fn fill(inode: &mut Inode, meta: &PartialMetadata) {
    inode.known = true;
    inode.kind = meta
        .kind
        .filter(|kind| match kind {
            FileKind::Directory => false,
            FileKind::Symlink => meta.target.as_deref().is_some_and(is_target),
            _ => true,
        })
        .unwrap_or(inode.kind);
    inode.mode = meta.mode.unwrap_or(inode.mode);
    inode.uid = meta.uid.unwrap_or(inode.uid);
    inode.gid = meta.gid.unwrap_or(inode.gid);
    inode.mtime = meta.mtime.unwrap_or(inode.mtime);
    inode.ctime = inode.mtime;
    inode.atime = inode.mtime;
    inode.rdev = meta.rdev.unwrap_or(inode.rdev);
    if inode.kind == FileKind::Symlink {
        inode.text = meta.target.clone().unwrap_or_default();
    }
    if inode.kind != FileKind::File {
        inode.size = 0;
    }
}

/// Gives a directory that is new here what a hint says of it, times included; whether its names are known is another question.
pub(crate) fn fill_directory(
    op: &mut Op<'_>,
    inode: &mut Inode,
    told: &ToldDirectory,
    changed: Option<Timestamp>,
) -> Result<()> {
    told.give_all(op, inode)?;
    inode.mtime = told.meta().mtime.unwrap_or(inode.mtime);
    inode.atime = inode.mtime;
    inode.ctime = changed.unwrap_or(inode.mtime);
    op.put(inode);
    Ok(())
}

/// Lets the names of `inode` mean `first` instead: they are hard links of one file. Only if nothing is owed by either.
fn join(op: &mut Op<'_>, inode: &Inode, first: Ino) -> Result<bool> {
    let Some(mut target) = op.tables.inode(first)? else {
        return Ok(false);
    };
    if op.tables.dirty.contains_key(&first) || op.tables.dirty.contains_key(&inode.ino) || target.nlink == 0 {
        return Ok(false);
    }
    for name in op.tables.names_of(inode.ino)? {
        op.push(Mutation::PutDentry(Dentry { ino: first, ..name }));
        target.nlink += 1;
    }
    for remote in op.tables.remotes_of(inode.ino)? {
        let (content_version, meta_version) = (target.content_version, target.meta_version);
        op.push(Mutation::PutRemote(Remote {
            ino: first,
            content_version,
            meta_version,
            ..remote
        }));
    }
    op.put(&target);
    op.push(Mutation::DropBacklog(inode.ino));
    op.push(Mutation::AddBacklog(first));
    op.push(Mutation::DropInode(inode.ino));
    Ok(true)
}
