//! When a condition fails: was it our own write whose answer was lost, or was somebody else faster?
//!
//! Nothing is dropped: what others stored keeps the name, what was written here becomes a conflict copy beside it. An edit beats a delete.

use super::run::Snapshot;
use crate::error::Result;
use crate::replica::{Replica, conflict_name};
use crate::state::{Dentry, Inode, LoggedChange, Mutation, Remote};
use crate::store::{ETag, ObjectInfo, ObjectKey, ObjectMetadata, PartialMetadata};
use crate::types::FileKind;
use std::sync::Arc;

/// Contents up to this size are compared byte by byte before they are called a conflict.
const COMPARE_BYTES_MAX: u64 = 8 << 20;

/// Whose object is in the way.
enum Owner {
    /// This very version, by this replica: the answer was lost.
    ThisWrite,
    /// An earlier write of this replica: its answer was lost before a crash.
    Ourselves,
    Somebody,
}

impl Replica {
    /// Finds out why a condition failed and mends the ledger. `true`: the key holds our version; `false`: plan again.
    pub(super) async fn settle_dispute(self: &Arc<Self>, snapshot: &Snapshot, key: &ObjectKey) -> Result<bool> {
        let Some(inode) = &snapshot.inode else { return Ok(true) };
        let head = self.store.head(key).await;
        self.note_health(&head);
        let Some(info) = head? else {
            self.note_deletion(key.as_str());
            self.change(|op| {
                op.push(Mutation::DropRemote(key.as_str().to_owned()));
                Ok(())
            })?;
            return Ok(false);
        };
        match self.owner(inode, &info) {
            Owner::ThisWrite => self
                .note_written(snapshot, inode, key.as_str(), info.etag)
                .map(|()| true),
            Owner::Ourselves => self.note_held(snapshot, key, info.etag, 0).map(|()| false),
            Owner::Somebody if self.same_bytes(inode, key, &info).await? => self
                .note_held(snapshot, key, info.etag, inode.content_version)
                .map(|()| false),
            Owner::Somebody => self.keep_both(snapshot, key, &info).map(|()| false),
        }
    }

    /// Whether this replica wrote the object.
    pub(super) fn wrote(&self, info: &ObjectInfo) -> bool {
        let id = info.user.as_ref().and_then(|user| user.write_id()).unwrap_or_default();
        id.split('.').next() == Some(self.writer_id.as_str())
    }

    fn owner(&self, inode: &Inode, info: &ObjectInfo) -> Owner {
        let id = info.user.as_ref().and_then(|user| user.write_id()).unwrap_or_default();
        if id == self.write_id(inode) {
            Owner::ThisWrite
        } else if self.wrote(info) {
            Owner::Ourselves
        } else {
            Owner::Somebody
        }
    }

    async fn same_bytes(self: &Arc<Self>, inode: &Inode, key: &ObjectKey, info: &ObjectInfo) -> Result<bool> {
        if info.size != inode.size || info.size > COMPARE_BYTES_MAX || inode.kind != FileKind::File {
            return Ok(false);
        }
        let theirs = self.store.get(key, None, Some(&info.etag)).await;
        self.note_health(&theirs);
        let Some(theirs) = theirs? else { return Ok(false) };
        let ours = self.read(inode.ino, 0, inode.size as usize)?;
        Ok(ours == theirs.bytes)
    }

    /// The key holds something that may be overwritten: its version is the next condition.
    fn note_held(&self, snapshot: &Snapshot, key: &ObjectKey, etag: ETag, content_version: u64) -> Result<()> {
        self.change(|op| {
            let key = key.as_str().to_owned();
            op.push(Mutation::PutRemote(Remote {
                key,
                ino: snapshot.ino,
                etag: etag.0,
                content_version,
                meta_version: 0,
                noted: 0,
            }));
            Ok(())
        })
    }

    /// Theirs keeps the name, ours gets one of its own; both are ordinary files.
    fn keep_both(&self, snapshot: &Snapshot, key: &ObjectKey, info: &ObjectInfo) -> Result<()> {
        let moved = self.change(|op| {
            let mut moved = None;
            for name in op.tables.names_of(snapshot.ino)? {
                if op.tables.key_of(&name)?.is_ok_and(|of| of == *key) {
                    moved = Some(name);
                }
            }
            let Some(name) = moved else { return Ok(None) };
            let mut copy = conflict_name(&name.name, &self.options.host, op.now, 0);
            let mut nth = 1;
            while op.tables.name(name.parent, &copy)?.is_some() {
                copy = conflict_name(&name.name, &self.options.host, op.now, nth);
                nth += 1;
            }
            let cookie = op.tables.new_cookie();
            let ino = op.tables.new_ino();
            let user = info.user.clone().unwrap_or_default();
            let theirs = foreign_inode(ino, info, &ObjectMetadata::decode(&user), self);
            op.put(&theirs);
            op.push(Mutation::PutDentry(Dentry { ino, ..name.clone() }));
            op.push(Mutation::PutDentry(Dentry {
                name: copy.clone(),
                cookie,
                segment: None,
                ..name.clone()
            }));
            let etag = info.etag.0.clone();
            let key = key.as_str().to_owned();
            op.push(Mutation::PutRemote(Remote {
                key,
                ino,
                etag,
                content_version: 1,
                meta_version: 1,
                noted: 0,
            }));
            op.owe(snapshot.ino);
            op.log(LoggedChange::Content(snapshot.ino));
            op.push(Mutation::AddBacklog(ino));
            let count = op
                .tables
                .meta("conflicts")?
                .and_then(|count| count.parse::<u64>().ok())
                .unwrap_or(0);
            op.push(Mutation::PutMeta {
                name: "conflicts".into(),
                value: (count + 1).to_string(),
            });
            Ok(Some((name, copy)))
        })?;
        if let Some((name, copy)) = moved {
            let shown = String::from_utf8_lossy(&copy).into_owned();
            tracing::warn!(
                key = key.as_str(),
                copy = shown,
                "Somebody else stored this file first; both versions are kept"
            );
            if let Some(observer) = self.observer() {
                observer.entry_changed(name.parent, &name.name);
                observer.entry_changed(name.parent, &copy);
            }
        }
        Ok(())
    }
}

fn foreign_inode(ino: u64, info: &ObjectInfo, meta: &PartialMetadata, replica: &Replica) -> Inode {
    let options = &replica.options;
    let owner = (
        meta.uid.unwrap_or(options.default_uid),
        meta.gid.unwrap_or(options.default_gid),
    );
    let kind = meta.kind.unwrap_or(FileKind::File);
    let inode = Inode::new(ino, kind, meta.mode.unwrap_or(0o644), owner, info.last_modified);
    Inode {
        rdev: meta.rdev.unwrap_or(0),
        size: info.size,
        mtime: meta.mtime.unwrap_or(info.last_modified),
        base_version: 1,
        text: meta.target.clone().unwrap_or_default(),
        ..inode
    }
}
