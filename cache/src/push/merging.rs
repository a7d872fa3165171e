//! Ours and theirs of one file, when somebody else stored it first: what becomes of content and metadata.
//!
//! If only one side changed the content, that content is taken; if both did, the texts are merged with the base; metadata is merged field
//! by field. The outcome is a new local version that is stored with *their* version as its condition, so that a third writer is met in the
//! same way. It is made only if the file has not been written to meanwhile, never while a program is writing.

use super::conflict::{Theirs, Verdict, base_metadata};
use super::keys::is_replaced;
use super::run::Snapshot;
use crate::error::Result;
use crate::merge::{self, MERGE_BYTES_MAX, Merge};
use crate::replica::{FOREIGN, Offer, RemoteChange, RemoteChangeKind, Replica};
use crate::state::{Base, BaseMetadata, ConflictKind, Inode, LoggedChange, Mutation, Place, Remote};
use crate::store::{ObjectInfo, ObjectKey, ObjectMetadata};
use crate::types::{FileKind, Ino};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Contents up to this size are compared byte by byte before they are called a conflict.
const COMPARE_BYTES_MAX: u64 = 8 << 20;

/// A file is not changed under a program that has written to it so recently.
const QUIET_MS: u64 = 1_000;

/// How long a dispute waits for programs that go on writing, before it ends with a conflict copy, which disturbs no writer.
const WRITER_WAIT_MS: u64 = 30_000;

/// Texts of so many bytes together are merged on the spot.
const MERGE_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// A new local version of a file.
struct Version {
    /// `None`: the content stays as it is.
    bytes: Option<Vec<u8>>,
    metadata: BaseMetadata,
    /// It is what the bucket holds: nothing is owed.
    stored: bool,
}

/// What a dispute is about.
struct Ground {
    base: Option<Base>,
    kind: ConflictKind,
    /// Our content is the one that was stored.
    only_metadata: bool,
}

impl Replica {
    /// Somebody else's object is under the key that we wanted to write.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: &ObjectKey,
        info: &ObjectInfo,
    ) -> Result<Verdict> {
        let Some(inode) = &snapshot.inode else {
            return Ok(Verdict::Again);
        };
        let Some(theirs) = self.look_at(key, info, inode).await? else {
            return Ok(Verdict::Again);
        };
        let Ground {
            base,
            kind,
            only_metadata,
        } = self.ground(inode, key, &theirs).await?;
        let files = inode.kind == FileKind::File && theirs.meta.kind.is_none_or(|kind| kind == FileKind::File);
        if files && only_metadata {
            return self.take_theirs(snapshot, key, theirs, base.as_ref()).await;
        }
        let comparable = files && inode.size <= COMPARE_BYTES_MAX;
        let Some(bytes) = theirs.bytes.clone().filter(|_| comparable) else {
            return self
                .keep_both(snapshot, key, &theirs, kind)
                .await
                .map(|()| Verdict::Again);
        };
        self.fetch_whole(inode.ino).await?;
        let Some(ours) = self.whole(inode)? else {
            return Ok(Verdict::Again);
        };
        if ours == bytes {
            let version = self.version(snapshot, &theirs, base.as_ref(), None);
            self.bring_in(snapshot, key, theirs, version).await?;
            return Ok(Verdict::Again);
        }
        let Some(text) = self.merge_upon(base.as_ref(), ours, bytes).await? else {
            return self
                .keep_both(snapshot, key, &theirs, kind)
                .await
                .map(|()| Verdict::Again);
        };
        if let Some(verdict) = self.wait_for_writers(snapshot.ino) {
            return match verdict {
                Verdict::Later => Ok(verdict),
                _ => self.keep_both(snapshot, key, &theirs, kind).await.map(|()| verdict),
            };
        }
        let version = self.version(snapshot, &theirs, base.as_ref(), Some(text));
        if self.bring_in(snapshot, key, theirs, version).await? {
            tracing::info!(key = key.as_str(), "Two edits of one note were merged");
        }
        Ok(Verdict::Again)
    }

    /// What both sides began from, and what ours has changed since.
    async fn ground(&self, inode: &Inode, key: &ObjectKey, theirs: &Theirs) -> Result<Ground> {
        let (known, overwritten, deleted) = self.view(|tables| {
            let known = tables.remote(key.as_str())?;
            let overwritten = tables.was_tried_by_others(key.as_str(), inode.ino);
            Ok((known, overwritten, tables.was_deletion_tried(key.as_str())))
        })?;
        let kind = match known.as_ref().is_some_and(|remote| !remote.etag.is_empty()) {
            true => ConflictKind::Edited,
            false => ConflictKind::Created,
        };
        let unchanged = inode.base_version == inode.content_version
            && known.is_some_and(|remote| remote.ino == inode.ino && remote.content_version == inode.content_version);
        let mut base = self.base_of(key.as_str())?;
        let landed = match &theirs.bytes {
            Some(bytes) => self.upload_beneath(key, base.as_ref(), bytes).await?,
            None => None,
        };
        if landed.is_some() {
            base = landed;
        } else if let Some(base) = base.as_mut().filter(|_| overwritten && unchanged) {
            // Theirs may be built upon another file of ours, which had this name for a while: it is no edit of this one.
            base.bytes = None;
        }
        Ok(Ground {
            base,
            kind,
            only_metadata: unchanged && !overwritten && !deleted,
        })
    }

    /// One text of both, if they merge and nothing depends on which upload of ours theirs began from.
    async fn merge_upon(&self, base: Option<&Base>, ours: Bytes, theirs: Bytes) -> Result<Option<Vec<u8>>> {
        match base {
            Some(base) if !self.is_undecided(base, &ours, &theirs)? => Ok(merged(base, ours, theirs).await),
            _ => Ok(None),
        }
    }

    /// Their object with its content, where that is needed and small enough; `None` if it has changed once more.
    async fn look_at(&self, key: &ObjectKey, info: &ObjectInfo, inode: &Inode) -> Result<Option<Theirs>> {
        let mut theirs = Theirs {
            info: info.clone(),
            meta: info.user.as_ref().map(ObjectMetadata::decode).unwrap_or_default(),
            bytes: None,
        };
        let comparable =
            info.size <= MERGE_BYTES_MAX as u64 || info.size == inode.size && info.size <= COMPARE_BYTES_MAX;
        if inode.kind == FileKind::File && comparable {
            let got = self.store.get(key, None, Some(&info.etag)).await;
            self.note_health(&got);
            let Some(object) = got? else { return Ok(None) };
            theirs.bytes = Some(object.bytes);
        }
        Ok(Some(theirs))
    }

    /// Only our metadata changed: their content is taken. Whatever its size, since nothing of ours is lost.
    async fn take_theirs(
        &self,
        snapshot: &Snapshot,
        key: &ObjectKey,
        theirs: Theirs,
        base: Option<&Base>,
    ) -> Result<Verdict> {
        if self.wait_for_writers(snapshot.ino).is_some() {
            self.postpone(snapshot.ino, QUIET_MS);
            return Ok(Verdict::Later);
        }
        let bytes = theirs.bytes.as_ref().map(|bytes| bytes.to_vec());
        let mut version = self.version(snapshot, &theirs, base, bytes);
        version.stored |= version.bytes.is_none();
        self.bring_in(snapshot, key, theirs, version).await?;
        Ok(Verdict::Again)
    }

    /// Whether the outcome of a dispute must wait for a program that is writing: `Later`, or `Again` if it has waited long enough and must
    /// be settled in another way.
    fn wait_for_writers(&self, ino: Ino) -> Option<Verdict> {
        let now = self.now_ms();
        let written_ms = self.state.lock().dirty.get(&ino).map_or(0, |debt| debt.written_ms);
        let hurry = self.pusher.hurry_until_ms.load(Ordering::Acquire) > now;
        let quiet_ms = QUIET_MS.min(self.options.write_back.as_millis() as u64);
        let recent = written_ms > 0 && written_ms + quiet_ms > now;
        if !(recent && !hurry || self.is_being_written(ino)) {
            self.pusher.waiting_since.lock().remove(&ino);
            return None;
        }
        let mut waiting = self.pusher.waiting_since.lock();
        let waiting_since = *waiting.entry(ino).or_insert(now);
        if now - waiting_since > WRITER_WAIT_MS {
            waiting.remove(&ino);
            return Some(Verdict::Again);
        }
        drop(waiting);
        self.postpone(ino, QUIET_MS);
        Some(Verdict::Later)
    }

    /// Content and metadata of both.
    fn version(&self, snapshot: &Snapshot, theirs: &Theirs, base: Option<&Base>, bytes: Option<Vec<u8>>) -> Version {
        let inode = snapshot.inode.as_ref();
        let ours = inode.map(|inode| BaseMetadata::of(inode, snapshot.xattrs.clone()));
        let metadata = match (inode, ours) {
            (Some(inode), Some(ours)) => {
                let base = base.map_or(&ours, |base| &base.metadata);
                let before = Inode {
                    mode: base.mode,
                    uid: base.uid,
                    gid: base.gid,
                    ..inode.clone()
                };
                let their = base_metadata(&before, &theirs.meta, base.xattrs.clone());
                merged_metadata(base, &ours, &their)
            }
            _ => base_metadata(
                &Inode::new(0, FileKind::File, 0o644, (0, 0), theirs.info.last_modified),
                &theirs.meta,
                Vec::new(),
            ),
        };
        let same = bytes
            .as_deref()
            .is_none_or(|bytes| theirs.bytes.as_ref().is_some_and(|theirs| theirs == bytes));
        Version {
            stored: same && theirs.bytes.is_some(),
            bytes,
            metadata,
        }
    }

    /// Brings a version about as a pulled change, so that it is felt; `false`: the file has changed meanwhile.
    async fn bring_in(&self, snapshot: &Snapshot, key: &ObjectKey, theirs: Theirs, version: Version) -> Result<bool> {
        let name = self.view(|tables| Ok(tables.names_of(snapshot.ino)?.into_iter().next()))?;
        let Some(name) = name else { return Ok(false) };
        if version.bytes.is_none() && theirs.bytes.is_some() {
            let done = self.make_version(snapshot, key, &theirs, &version)?;
            if let Some(observer) = self.observer().filter(|_| done) {
                observer.inode_changed(snapshot.ino);
            }
            return Ok(done);
        }
        let id = theirs.meta.write_id.as_deref().and_then(|id| id.split('.').next());
        let change = RemoteChange {
            id: 0,
            kind: RemoteChangeKind::Modified,
            parent: name.parent,
            name: name.name,
            ino: snapshot.ino,
            is_dir: false,
            origin: id.unwrap_or(FOREIGN).to_owned(),
        };
        let done = Arc::new(AtomicBool::new(false));
        let (snapshot, key, told) = (snapshot.clone(), key.clone(), Arc::clone(&done));
        let effect = move |replica: &Replica| {
            let made = replica.make_version(&snapshot, &key, &theirs, &version)?;
            told.store(made, Ordering::Release);
            if made {
                replica.attr(snapshot.ino).map(Some)
            } else {
                Ok(None)
            }
        };
        let effect = Box::new(effect);
        self.offer(vec![Offer { change, effect }], false).await;
        Ok(done.load(Ordering::Acquire))
    }

    /// Makes a version the file's, based on their object, if the file is still as the round saw it. `false`: it is not.
    fn make_version(&self, snapshot: &Snapshot, key: &ObjectKey, theirs: &Theirs, version: &Version) -> Result<bool> {
        let ino = snapshot.ino;
        let _exclusive = self.stripe(ino).write();
        let seen = snapshot
            .inode
            .as_ref()
            .map_or((0, 0), |inode| (inode.content_version, inode.meta_version));
        let changes_content = version.bytes.is_some() || theirs.bytes.is_none();
        let was_blob = self.change(|op| {
            let Some(mut now) = op.tables.inode(ino)? else {
                return Ok(None);
            };
            // A file that was deleted meanwhile must not claim their version: the deletion would take it along. Nor must one whose name another
            // file has now: that one would be stored over it, without having seen it.
            let wanted = op.tables.names_of(ino)?;
            let replaced = theirs.bytes.is_some() && is_replaced(op.tables, ino, key.as_str())?;
            if (now.content_version, now.meta_version) != seen || wanted.is_empty() || replaced {
                return Ok(None);
            }
            let was_blob = changes_content && now.place == Place::Blob;
            let their = base_metadata(&now, &theirs.meta, version.metadata.xattrs.clone());
            if changes_content {
                replace_content(op, &mut now, version.bytes.as_deref(), theirs.info.size);
                now.mtime = op.now;
            }
            if version.stored {
                now.mtime = their.mtime;
            }
            apply_metadata(op, &mut now, &snapshot.xattrs, &version.metadata);
            now.ctime = op.now;
            now.meta_version += 1;
            let clean = version.stored && same_metadata(&version.metadata, &their);
            if version.stored {
                now.base_version = now.content_version;
            }
            op.put(&now);
            op.push(Mutation::PutRemote(Remote {
                key: key.as_str().to_owned(),
                ino,
                etag: theirs.info.etag.0.clone(),
                content_version: if version.stored { now.content_version } else { 0 },
                meta_version: if clean { now.meta_version } else { 0 },
                noted: 0,
            }));
            if !version.stored {
                op.push(Mutation::PutBase(Base {
                    key: key.as_str().to_owned(),
                    etag: theirs.info.etag.0.clone(),
                    metadata: their,
                    bytes: theirs.bytes.as_ref().map(|bytes| bytes.to_vec().into()),
                }));
            }
            op.owe(ino);
            if changes_content {
                op.log(LoggedChange::Content(ino));
            }
            Ok(Some(was_blob))
        })?;
        let Some(was_blob) = was_blob else { return Ok(false) };
        self.remove_blob(was_blob.then_some(ino));
        drop(_exclusive);
        if let Some(observer) = self.observer() {
            observer.inode_changed(ino);
        }
        Ok(true)
    }

    /// A file that was only renamed here was changed under its old key: their version is what is renamed.
    pub(super) async fn take_along(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: &ObjectKey,
        info: &ObjectInfo,
    ) -> Result<Verdict> {
        let Some(inode) = &snapshot.inode else {
            return Ok(Verdict::Again);
        };
        let Some(theirs) = self.look_at(key, info, inode).await? else {
            return Ok(Verdict::Again);
        };
        let base = self.base_of(key.as_str())?;
        self.take_theirs(snapshot, key, theirs, base.as_ref()).await
    }

    /// A file that was renamed and edited here was edited under its old key by somebody else: their edit belongs to the new name. `false`: it
    /// does not merge, and the old key stays theirs.
    pub(super) async fn bring_along(self: &Arc<Self>, ino: Ino, key: &ObjectKey, info: &ObjectInfo) -> Result<bool> {
        let Some(snapshot) = self.snapshot(ino)? else {
            return Ok(false);
        };
        let small = |inode: &Inode| inode.kind == FileKind::File && inode.size <= MERGE_BYTES_MAX as u64;
        let Some(inode) = snapshot.inode.clone().filter(small) else {
            return Ok(false);
        };
        let Some(theirs) = self.look_at(key, info, &inode).await? else {
            return Ok(false);
        };
        let Some(bytes) = theirs.bytes.clone() else {
            return Ok(false);
        };
        let known = self.base_of(key.as_str())?;
        let landed = self.upload_beneath(key, known.as_ref(), &bytes).await?;
        let base = landed.or(known);
        self.fetch_whole(inode.ino).await?;
        let Some(ours) = self.whole(&inode)? else {
            return Ok(false);
        };
        let Some(text) = self.merge_upon(base.as_ref(), ours, bytes).await? else {
            return Ok(false);
        };
        let mut version = self.version(&snapshot, &theirs, base.as_ref(), Some(text));
        version.stored = false;
        self.bring_in(&snapshot, key, theirs, version).await
    }
}

/// Off the threads that serve requests: a merge of large texts takes a while.
async fn merged(base: &Base, ours: Bytes, theirs: Bytes) -> Option<Vec<u8>> {
    let base = base.bytes.clone()?;
    if base.len() + ours.len() + theirs.len() <= MERGE_AT_ONCE_BYTES_MAX {
        return match merge::merge(&base, &ours, &theirs) {
            Merge::Clean(text) => Some(text),
            Merge::Conflict => None,
        };
    }
    let work = tokio::task::spawn_blocking(move || match merge::merge(&base, &ours, &theirs) {
        Merge::Clean(text) => Some(text),
        Merge::Conflict => None,
    });
    work.await.ok().flatten()
}

fn replace_content(op: &mut crate::replica::Op<'_>, now: &mut Inode, bytes: Option<&[u8]>, their_size: u64) {
    op.push(Mutation::DropContent(now.ino));
    if now.place == Place::Blob {
        op.push(Mutation::DropPresent(now.ino));
    }
    now.place = Place::Nowhere;
    now.size = their_size;
    now.content_version += 1;
    if let Some(bytes) = bytes {
        now.size = bytes.len() as u64;
        if !bytes.is_empty() {
            // Whole and in the tables, so that no crash can leave half of it; it becomes a blob when it is next written to.
            op.push(Mutation::PutContent {
                ino: now.ino,
                bytes: Cow::Owned(bytes.to_vec()),
            });
            now.place = Place::Inline;
        }
    }
}

fn apply_metadata(op: &mut crate::replica::Op<'_>, now: &mut Inode, had: &[(Vec<u8>, Vec<u8>)], wanted: &BaseMetadata) {
    (now.mode, now.uid, now.gid) = (wanted.mode, wanted.uid, wanted.gid);
    for (name, _) in had
        .iter()
        .filter(|(name, _)| !wanted.xattrs.iter().any(|(kept, _)| kept == name))
    {
        op.push(Mutation::DropXattr {
            ino: now.ino,
            name: name.clone(),
        });
    }
    for (name, value) in wanted.xattrs.iter().filter(|xattr| !had.contains(xattr)) {
        op.push(Mutation::PutXattr {
            ino: now.ino,
            name: name.clone(),
            value: value.clone(),
        });
    }
}

fn same_metadata(one: &BaseMetadata, other: &BaseMetadata) -> bool {
    (one.mode, one.uid, one.gid, &one.xattrs) == (other.mode, other.uid, other.gid, &other.xattrs)
}

/// Field by field: what one side changed; ours where both did.
fn merged_metadata(base: &BaseMetadata, ours: &BaseMetadata, theirs: &BaseMetadata) -> BaseMetadata {
    let pick = |base: u32, ours: u32, theirs: u32| if ours == base { theirs } else { ours };
    let mut xattrs = ours.xattrs.clone();
    let find = |of: &BaseMetadata, name: &[u8]| {
        of.xattrs
            .iter()
            .find(|xattr| xattr.0 == name)
            .map(|xattr| xattr.1.clone())
    };
    let names = base.xattrs.iter().chain(&theirs.xattrs).map(|xattr| xattr.0.clone());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let (was, is) = (find(base, &name), find(theirs, &name));
        if was == is || find(ours, &name) != was {
            continue;
        }
        xattrs.retain(|xattr| xattr.0 != name);
        xattrs.extend(is.map(|value| (name.clone(), value)));
    }
    xattrs.sort();
    BaseMetadata {
        mode: pick(base.mode, ours.mode, theirs.mode),
        uid: pick(base.uid, ours.uid, theirs.uid),
        gid: pick(base.gid, ours.gid, theirs.gid),
        mtime: ours.mtime,
        xattrs,
    }
}
