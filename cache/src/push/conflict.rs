//! When a condition fails: was it our own write whose answer was lost, or was somebody else faster?
//!
//! Nothing is dropped. A file that went is stored anew, or followed to its new name ([`super::moved`]). What others stored is merged with
//! what was written here ([`super::merging`]); where that cannot be, theirs keeps the name and ours becomes a conflict copy beside
//! it: both are ordinary files.

use super::run::Snapshot;
use crate::error::Result;
use crate::replica::{FOREIGN, Offer, Op, RemoteChange, RemoteChangeKind, Replica, conflict_name};
use crate::state::{Base, BaseMetadata, Conflict, ConflictKind, Dentry, Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::{ETag, ObjectInfo, ObjectKey, ObjectMetadata, PartialMetadata};
use crate::types::{Attr, FileKind, Ino};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

/// How a dispute about a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key holds our version.
    Ours,
    /// The ledger says something else now: plan again.
    Again,
    /// Not now; the inode has been put off.
    Later,
}

/// Whose object is in the way.
enum Owner {
    /// This very version, by this replica: the answer was lost.
    ThisWrite,
    /// An earlier write of this replica: its answer was lost before a crash.
    Ourselves,
    Somebody,
}

/// Their object: what is known of it, and its content if that is small enough to be looked at.
#[derive(Clone)]
pub(super) struct Theirs {
    pub(super) info: ObjectInfo,
    pub(super) meta: PartialMetadata,
    pub(super) bytes: Option<Bytes>,
}

/// Names of a file that is kept twice.
struct Both {
    /// The disputed one, which theirs keeps.
    name: Dentry,
    /// The one that ours gets.
    copy: Vec<u8>,
    /// The inode that theirs will have.
    theirs: Ino,
}

impl Replica {
    /// Finds out why a condition failed and mends the ledger.
    pub(super) async fn settle_dispute(self: &Arc<Self>, snapshot: &Snapshot, key: &ObjectKey) -> Result<Verdict> {
        let Some(inode) = &snapshot.inode else {
            return Ok(Verdict::Ours);
        };
        let head = self.store.head(key).await;
        self.note_health(&head);
        let Some(info) = head? else {
            if let Some(place) = self.find_moved(key.as_str()).await? {
                self.follow_rename(snapshot, key.as_str(), &place, None)?;
                return Ok(Verdict::Again);
            }
            self.note_deletion(key.as_str());
            self.change(|op| {
                op.push(Mutation::DropRemote(key.as_str().to_owned()));
                Ok(())
            })?;
            return Ok(Verdict::Again);
        };
        match self.owner(inode, key.as_str(), &info)? {
            Owner::ThisWrite => {
                self.note_written(snapshot, key.as_str(), info.etag.clone(), None)?;
                self.fetch_base(snapshot.ino, key, &info).await?;
                Ok(Verdict::Ours)
            }
            Owner::Ourselves => {
                self.note_held(snapshot, key, info.etag.clone(), 0)?;
                self.fetch_base(snapshot.ino, key, &info).await?;
                Ok(Verdict::Again)
            }
            Owner::Somebody => self.reconcile(snapshot, key, &info).await,
        }
    }

    /// Whether this replica wrote the object, under this very key.
    pub(super) fn wrote(&self, info: &ObjectInfo, key: &str, of: Option<Ino>) -> Result<bool> {
        Ok(self.writer_of(info, key, of)?.is_some())
    }

    /// The inode as which this replica wrote the object, under this very key; `of` may have been written there. Our own write id alone does
    /// not say so: a copy that somebody made of another note of ours bears it, too.
    pub(crate) fn writer_of(&self, info: &ObjectInfo, key: &str, of: Option<Ino>) -> Result<Option<Ino>> {
        let id = info.user.as_ref().and_then(|user| user.write_id()).unwrap_or_default();
        let mut parts = id.split('.');
        if parts.next() != Some(self.writer_id.as_str()) {
            return Ok(None);
        }
        let Some(ino) = parts.next().and_then(|ino| u64::from_str_radix(ino, 16).ok()) else {
            return Ok(None);
        };
        self.view(|tables| {
            let noted = tables.remote(key)?.is_some_and(|remote| remote.ino == ino);
            Ok((noted || of == Some(ino) || tables.was_tried(key, ino)).then_some(ino))
        })
    }

    fn owner(&self, inode: &Inode, key: &str, info: &ObjectInfo) -> Result<Owner> {
        let id = info.user.as_ref().and_then(|user| user.write_id()).unwrap_or_default();
        Ok(if id == self.write_id(inode) {
            Owner::ThisWrite
        } else if self.wrote(info, key, Some(inode.ino))? {
            Owner::Ourselves
        } else {
            Owner::Somebody
        })
    }

    /// What the bucket holds is not what is here any more: keeps it as a base, in case that somebody is faster once more.
    async fn fetch_base(&self, ino: Ino, key: &ObjectKey, info: &ObjectInfo) -> Result<()> {
        let known = self.base_of(key.as_str())?.is_some_and(|base| base.bytes.is_some());
        if known || info.size > crate::merge::MERGE_BYTES_MAX as u64 {
            return Ok(());
        }
        let got = self.store.get(key, None, Some(&info.etag)).await;
        self.note_health(&got);
        let Some(object) = got?.filter(|object| crate::merge::is_text(&object.bytes)) else {
            return Ok(());
        };
        let inode = self.view(|tables| tables.inode(ino))?;
        let meta = object
            .info
            .user
            .as_ref()
            .map(ObjectMetadata::decode)
            .unwrap_or_default();
        if let Some(inode) = inode {
            self.keep_base(key, &info.etag, base_metadata(&inode, &meta, Vec::new()), object.bytes)?;
        }
        Ok(())
    }

    /// Keeps a text as the base of what is stored under a key.
    pub(super) fn keep_base(&self, key: &ObjectKey, etag: &ETag, metadata: BaseMetadata, bytes: Bytes) -> Result<()> {
        self.change(|op| {
            let current = op
                .tables
                .remote(key.as_str())?
                .is_some_and(|remote| remote.etag == etag.0);
            if current && op.tables.has_room_for_base(bytes.len() as u64) {
                op.push(Mutation::PutBase(Base {
                    key: key.as_str().to_owned(),
                    etag: etag.0.clone(),
                    metadata,
                    bytes: Some(bytes.to_vec().into()),
                }));
            }
            Ok(())
        })
    }

    /// The key holds something that may be overwritten: its version is the next condition.
    pub(super) fn note_held(
        &self,
        snapshot: &Snapshot,
        key: &ObjectKey,
        etag: ETag,
        content_version: u64,
    ) -> Result<()> {
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

    /// Theirs keeps the name, ours gets one of its own; both are ordinary files. It is felt as what it is: ours is renamed, and then the
    /// name has other content.
    pub(super) async fn keep_both(
        &self,
        snapshot: &Snapshot,
        key: &ObjectKey,
        theirs: &Theirs,
        kind: ConflictKind,
    ) -> Result<()> {
        let Some(both) = self.both(snapshot.ino, key)? else {
            return Ok(());
        };
        let id = theirs.meta.write_id.as_deref().and_then(|id| id.split('.').next());
        let change = |kind, name: &[u8], ino| RemoteChange {
            id: 0,
            kind,
            parent: both.name.parent,
            name: name.to_vec(),
            ino,
            is_dir: false,
            origin: id.unwrap_or(FOREIGN).to_owned(),
        };
        let moved = RemoteChangeKind::Moved {
            from_parent: both.name.parent,
            from_name: both.name.name.clone(),
        };
        let renamed = change(moved, &both.copy, snapshot.ino);
        let replaced = change(RemoteChangeKind::Modified, &both.name.name, both.theirs);
        let (ino, key, theirs) = (both.theirs, key.clone(), theirs.clone());
        let ours = snapshot.ino;
        let keep = move |replica: &Replica| replica.effect_kept_both(ours, &both, (&key, &theirs), kind);
        // It took effect with the other one.
        let show = move |replica: &Replica| match replica.attr(ino) {
            Ok(attr) => Ok(Some(attr)),
            Err(_) => Ok(None),
        };
        let (keep, show) = (Box::new(keep), Box::new(show));
        let offers = vec![
            Offer {
                change: renamed,
                effect: keep,
            },
            Offer {
                change: replaced,
                effect: show,
            },
        ];
        self.offer(offers, false).await;
        Ok(())
    }

    /// The name that is disputed and that of the copy.
    fn both(&self, ino: Ino, key: &ObjectKey) -> Result<Option<Both>> {
        self.view(|tables| {
            let mut disputed = None;
            for name in tables.names_of(ino)? {
                if tables.key_of(&name)?.is_ok_and(|of| of == *key) {
                    disputed = Some(name);
                }
            }
            let Some(name) = disputed else { return Ok(None) };
            let now = self.options.clock.now();
            let mut copy = conflict_name(&name.name, &self.options.host, now, 0);
            let mut nth = 1;
            while tables.name(name.parent, &copy)?.is_some() {
                copy = conflict_name(&name.name, &self.options.host, now, nth);
                nth += 1;
            }
            let theirs = tables.new_ino();
            Ok(Some(Both { name, copy, theirs }))
        })
    }

    fn effect_kept_both(
        &self,
        ours: Ino,
        both: &Both,
        (key, theirs): (&ObjectKey, &Theirs),
        kind: ConflictKind,
    ) -> Result<Option<Attr>> {
        let Both { name, copy, .. } = both;
        let kept = self.change(|op| {
            let there = op.tables.dentry(name.parent, &name.name)?;
            let same = there.is_some_and(|there| there.ino == ours);
            if !same || op.tables.name(name.parent, copy)?.is_some() {
                return Ok(None);
            }
            let cookie = op.tables.new_cookie();
            self.put_theirs(op, both, key, theirs);
            op.push(Mutation::PutDentry(Dentry {
                name: copy.clone(),
                cookie,
                segment: None,
                ..name.clone()
            }));
            op.owe(ours);
            op.log(LoggedChange::Content(ours));
            op.push(Mutation::AddBacklog(both.theirs));
            let path = op.tables.path_of(name.parent, &name.name)?;
            op.push(Mutation::PutConflict(self.conflict(
                op.now,
                (ours, both.theirs),
                path,
                kind,
            )));
            Ok(op.tables.inode(ours)?.map(|inode| inode.attr()))
        })?;
        if kept.is_some() {
            let shown = String::from_utf8_lossy(copy).into_owned();
            tracing::warn!(
                key = key.as_str(),
                copy = shown,
                "Somebody else stored this file first; both versions are kept"
            );
        }
        Ok(kept)
    }

    /// Makes their object the file of the name, as an inode of its own.
    fn put_theirs(&self, op: &mut Op<'_>, both: &Both, key: &ObjectKey, theirs: &Theirs) {
        let ino = both.theirs;
        let mut inode = foreign_inode(ino, theirs, self);
        let content = theirs.bytes.as_ref().filter(|bytes| !bytes.is_empty());
        if let Some(bytes) = content.filter(|_| inode.kind == FileKind::File) {
            inode.place = Place::Inline;
            let bytes = Cow::Owned(bytes.to_vec());
            op.push(Mutation::PutContent { ino, bytes });
        }
        op.put(&inode);
        for (name, value) in theirs.meta.xattrs.iter().flatten() {
            let (name, value) = (name.clone(), value.clone());
            op.push(Mutation::PutXattr { ino, name, value });
        }
        op.push(Mutation::PutDentry(Dentry {
            ino,
            ..both.name.clone()
        }));
        op.push(Mutation::PutRemote(Remote {
            key: key.as_str().to_owned(),
            ino,
            etag: theirs.info.etag.0.clone(),
            content_version: 1,
            meta_version: 1,
            noted: 0,
        }));
    }

    /// A conflict to be remembered: the inode that holds our version (or nothing of its own), and that with theirs.
    pub(super) fn conflict(
        &self,
        when: crate::types::Timestamp,
        inodes: (Ino, Ino),
        path: Vec<u8>,
        kind: ConflictKind,
    ) -> Conflict {
        let host = self.options.host.clone();
        let (ino, note) = inodes;
        Conflict {
            ino,
            note,
            path,
            host,
            when,
            kind,
        }
    }
}

/// The metadata of their object; what it does not say is as it was.
pub(super) fn base_metadata(was: &Inode, meta: &PartialMetadata, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> BaseMetadata {
    BaseMetadata {
        mode: meta.mode.unwrap_or(was.mode),
        uid: meta.uid.unwrap_or(was.uid),
        gid: meta.gid.unwrap_or(was.gid),
        mtime: meta.mtime.unwrap_or(was.mtime),
        // An object of notefs that names none has none.
        xattrs: match (&meta.xattrs, &meta.write_id) {
            (Some(known), _) => known.clone(),
            (None, Some(_)) => Vec::new(),
            (None, None) => xattrs,
        },
    }
}

fn foreign_inode(ino: u64, theirs: &Theirs, replica: &Replica) -> Inode {
    let (info, meta, options) = (&theirs.info, &theirs.meta, &replica.options);
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
