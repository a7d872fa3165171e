//! One round for one inode: look, plan, act, note.

use super::conflict::Verdict;
use super::contradiction;
use super::keys::resolve_key;
use super::plan::{Delete, Plan, Situation, Write, plan};
use crate::error::{Error, Result};
use crate::merge::is_text;
use crate::replica::Replica;
use crate::state::{Base, BaseMetadata, Inode, Marks, Mutation, Place, Remote};
use crate::store::{Condition, Deleted, ETag, Listed, ObjectInfo, ObjectKey, Written};
use crate::trash::{Loss, Why};
use crate::types::Ino;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// Rounds in which a key's outcome is disputed before the inode is put off.
const ROUNDS_MAX: usize = 4;

/// How long an inode waits for a key that another one is working on.
const KEY_BUSY_MS: u64 = 50;

/// An inode as it was when its round began.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) ino: Ino,
    /// `None`: the inode is gone, only its objects are left.
    pub(super) inode: Option<Inode>,
    pub(super) wanted: Vec<String>,
    /// What the bucket holds under `wanted`.
    pub(super) at_wanted: Vec<Remote>,
    /// Why it is owed.
    pub(super) marks: Marks,
    /// The newest operation on it.
    pub(super) op: u64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The key that its content leaves in this round.
    pub(super) moved_from: Option<String>,
}

impl Snapshot {
    /// Whether an object has the very content that this inode has now.
    fn holds_content_of(&self, remote: &Remote) -> bool {
        let version = self.inode.as_ref().map(|inode| inode.content_version);
        remote.ino == self.ino && version == Some(remote.content_version)
    }
}

impl Replica {
    /// Brings the bucket up to date with one inode.
    pub(super) async fn push_inode(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let directory = self.view(|tables| {
            let marker = tables.remotes_of(ino)?.iter().any(|remote| remote.key.ends_with('/'));
            Ok(tables.inode(ino)?.map_or(marker, |inode| inode.is_dir()))
        })?;
        if directory {
            return self.push_directory(ino).await;
        }
        for _ in 0..ROUNDS_MAX {
            let keys = self.keys_of(ino)?;
            let Some(_guard) = self.hold_keys(keys.clone()) else {
                self.postpone(ino, KEY_BUSY_MS);
                return Ok(());
            };
            if self.keys_of(ino)? != keys {
                continue;
            }
            let (snapshot, plan) = self.look(ino)?;
            if self.hold_if_unasked(&snapshot, &plan).await? {
                return Ok(());
            }
            match self.act(&snapshot, &plan).await? {
                Verdict::Ours => return self.settle(&snapshot),
                Verdict::Again => {}
                Verdict::Later => return Ok(()),
            }
        }
        Err(contradiction("conditions keep failing"))
    }

    /// Every key that a round for this inode may touch.
    fn keys_of(&self, ino: Ino) -> Result<Vec<String>> {
        self.view(|tables| {
            let mut keys: HashSet<String> = tables.remotes_of(ino)?.into_iter().map(|remote| remote.key).collect();
            keys.extend(tables.wanted_keys(ino)?);
            let mut keys: Vec<String> = keys.into_iter().collect();
            keys.sort_unstable();
            Ok(keys)
        })
    }

    /// The inode as it is now, if it still has a name.
    pub(super) fn snapshot(&self, ino: Ino) -> Result<Option<Snapshot>> {
        let (snapshot, _) = self.look(ino)?;
        Ok((!snapshot.wanted.is_empty()).then_some(snapshot))
    }

    fn look(&self, ino: Ino) -> Result<(Snapshot, Plan)> {
        self.view(|tables| {
            let inode = tables.inode(ino)?;
            let wanted = tables.wanted_keys(ino)?;
            let mine = tables.remotes_of(ino)?;
            let mut at_wanted = Vec::new();
            for key in &wanted {
                at_wanted.extend(tables.remote(key)?);
            }
            let mut wanted_by_others = HashSet::new();
            for remote in mine.iter().filter(|remote| !wanted.contains(&remote.key)) {
                let other = resolve_key(tables, &remote.key)?.filter(|other| *other != ino);
                if let Some(other) = other
                    && tables.inode(other)?.is_some_and(|inode| !inode.is_dir())
                {
                    wanted_by_others.insert(remote.key.clone());
                }
            }
            let versions = inode
                .as_ref()
                .map_or((0, 0), |inode| (inode.content_version, inode.meta_version));
            let doubtful = |remote: &&Remote| tables.is_in_doubt(&remote.key, ino);
            let in_doubt: HashSet<String> = mine.iter().filter(doubtful).map(|remote| remote.key.clone()).collect();
            let others = |remote: &Remote| tables.was_tried_by_others(&remote.key, ino);
            let situation = Situation {
                wanted: &wanted,
                versions,
                at_wanted: &at_wanted,
                mine: &mine,
                wanted_by_others: &wanted_by_others,
                in_doubt: &in_doubt,
                // Equal contents bear equal tags: what another inode has left under a key passes for ours, with its kind and mode.
                copy: self.capabilities.copy && !mine.iter().any(others),
            };
            let plan = plan(ino, &situation);
            let debt = tables.dirty.get(&ino).copied();
            let xattrs = if inode.is_some() {
                tables.xattrs(ino)?
            } else {
                Vec::new()
            };
            let moved_from = plan.moved_from().map(str::to_owned);
            Ok((
                Snapshot {
                    ino,
                    inode,
                    wanted,
                    at_wanted,
                    marks: debt.map_or(Marks::NONE, |debt| debt.marks),
                    op: debt.map_or(0, |debt| debt.op),
                    xattrs,
                    moved_from,
                },
                plan,
            ))
        })
    }

    /// Does what was planned, unless the bucket is not as expected.
    async fn act(self: &Arc<Self>, snapshot: &Snapshot, plan: &Plan) -> Result<Verdict> {
        let wait_ms = self.late_deletions_wait_ms(plan)?;
        if wait_ms > 0 {
            self.postpone(snapshot.ino, wait_ms);
            return Ok(Verdict::Later);
        }
        let mut others_changed = false;
        for write in &plan.writes {
            let (Write::Put { key, .. } | Write::Copy { key, .. }) = write;
            others_changed |= self.note_intent(snapshot, key)?;
            // After the intent: of two keys that hold a content, none counts as its other place while both are about to be overwritten.
            others_changed |= self.preserve_other(snapshot.ino, key).await?;
            self.keep_overwritten(snapshot, write).await?;
        }
        match others_changed {
            true => self.synced().await?,
            false => self.synced_inode(snapshot.ino).await?,
        }
        for write in &plan.writes {
            let done = match write {
                Write::Put { key, condition } => self.put(snapshot, key, condition).await?,
                Write::Copy { from, etag, key } => self.copy(snapshot, from, etag, key).await?,
            };
            if done != Verdict::Ours {
                return Ok(done);
            }
        }
        if !plan.deletes.is_empty() && snapshot.inode.as_ref().is_some_and(|inode| inode.nlink == 0) {
            self.fetch_whole(snapshot.ino).await?;
        }
        for delete in &plan.deletes {
            let wait_ms = self.late_write_wait_ms(snapshot.ino);
            if delete.etag.0.is_empty() && wait_ms > 0 {
                self.postpone(snapshot.ino, wait_ms);
                continue;
            }
            self.keep_deleted(snapshot, delete).await?;
            let done = self.delete(snapshot, delete).await?;
            if done != Verdict::Ours {
                return Ok(done);
            }
        }
        Ok(Verdict::Ours)
    }

    /// The version that a write replaces goes to the trash, if its content is another.
    async fn keep_overwritten(self: &Arc<Self>, snapshot: &Snapshot, write: &Write) -> Result<()> {
        let Write::Put { key, condition } = write else {
            return Ok(());
        };
        let there = snapshot.at_wanted.iter().find(|remote| remote.key == *key);
        let (Some(there), Condition::Matches(etag)) = (there, condition) else {
            return Ok(());
        };
        let loss = Loss {
            key,
            etag: &etag.0,
            why: Why::Overwritten,
            content_stays: snapshot.holds_content_of(there),
            kept_ago_ms: None,
        };
        self.keep_lost(loss, self.pusher.tries_of(snapshot.ino)).await
    }

    /// The version that a removal loses goes to the trash, unless its file has only moved.
    async fn keep_deleted(self: &Arc<Self>, snapshot: &Snapshot, delete: &Delete) -> Result<()> {
        let Some(there) = self.view(|tables| tables.remote(&delete.key))? else {
            return Ok(());
        };
        let moved = !snapshot.wanted.is_empty();
        let loss = Loss {
            key: &delete.key,
            etag: &delete.etag.0,
            why: if moved { Why::Overwritten } else { Why::Deleted },
            content_stays: moved && snapshot.holds_content_of(&there),
            kept_ago_ms: None,
        };
        self.keep_lost(loss, self.pusher.tries_of(snapshot.ino)).await
    }

    /// The object that is about to be overwritten may be the only place of another file's content. Tells whether that file was fetched.
    async fn preserve_other(self: &Arc<Self>, ino: Ino, key: &str) -> Result<bool> {
        let endangered = self.view(|tables| {
            let Some(remote) = tables.remote(key)?.filter(|remote| remote.ino != ino) else {
                return Ok(None);
            };
            let elsewhere = tables.remotes_of(remote.ino)?.iter().any(|other| {
                other.key != remote.key
                    && other.content_version == remote.content_version
                    && !other.etag.is_empty()
                    && !tables.is_in_doubt(&other.key, remote.ino)
            });
            let alive = tables.inode(remote.ino)?.is_some_and(|inode| inode.size > 0);
            Ok((alive && !elsewhere).then_some(remote.ino))
        })?;
        match endangered {
            Some(other) if !self.is_whole(other)? => self.fetch_whole(other).await.map(|()| true),
            _ => Ok(false),
        }
    }

    async fn put(self: &Arc<Self>, snapshot: &Snapshot, key: &str, condition: &Condition) -> Result<Verdict> {
        let Some(inode) = &snapshot.inode else {
            return Ok(Verdict::Ours);
        };
        let parsed = parse(key)?;
        let written = self.upload(inode, &snapshot.xattrs, &parsed, condition).await?;
        match written {
            Some((Written::Done(etag), body)) => {
                let body = (inode.size == body.len() as u64).then_some(body);
                self.note_written(snapshot, key, etag, body).map(|()| Verdict::Ours)
            }
            Some((Written::ConditionFailed, _)) => self.settle_dispute(snapshot, &parsed).await,
            None => Ok(Verdict::Again),
        }
    }

    async fn copy(self: &Arc<Self>, snapshot: &Snapshot, from: &str, etag: &ETag, key: &str) -> Result<Verdict> {
        let (source, target) = (parse(from)?, parse(key)?);
        if let Some(inode) = &snapshot.inode {
            self.state.lock().note_sent(inode.ino, inode.content_version);
        }
        let copied = self.store.copy(&source, etag, &target, &Condition::Absent).await;
        self.note_health(&copied);
        match copied {
            Ok(Written::Done(etag)) => self.note_written(snapshot, key, etag, None).map(|()| Verdict::Ours),
            Ok(Written::ConditionFailed) => match self.source_changed(snapshot, &source, etag, key).await? {
                Some(verdict) => Ok(verdict),
                None => self.put(snapshot, key, &Condition::Absent).await,
            },
            Err(error) if error.retryable => {
                self.note_copy_tried(snapshot, &target)?;
                Err(error.into())
            }
            Err(error) => {
                tracing::debug!(%error, "A copy inside the store was refused; uploading instead");
                self.put(snapshot, key, &Condition::Absent).await
            }
        }
    }

    /// The bucket holds this version under this key; `body` is what was sent.
    pub(super) fn note_written(&self, snapshot: &Snapshot, key: &str, etag: ETag, body: Option<Bytes>) -> Result<()> {
        let Some(inode) = &snapshot.inode else { return Ok(()) };
        self.pusher.hints.owe();
        self.pusher.attempts.forget(key);
        self.tell_written(inode, key, &etag.0, snapshot.moved_from.clone())?;
        let (content_version, meta_version) = (inode.content_version, inode.meta_version);
        self.change(|op| {
            op.push(Mutation::PutRemote(Remote {
                key: key.to_owned(),
                ino: inode.ino,
                etag: etag.0.clone(),
                content_version,
                meta_version,
                noted: 0,
            }));
            if op.tables.has_tried_texts(key) {
                op.push(Mutation::DropTriedTexts(key.to_owned()));
            }
            let Some(mut now) = op.tables.inode(inode.ino)? else {
                return Ok(());
            };
            if now.content_version == content_version {
                now.base_version = content_version;
                op.put(&now);
            } else if let Some(body) =
                body.filter(|body| op.tables.has_room_for_base(body.len() as u64) && is_text(body))
            {
                // It was written to on the way: what was sent is what the next edit began from.
                op.push(Mutation::PutBase(Base {
                    key: key.to_owned(),
                    etag: etag.0,
                    metadata: BaseMetadata::of(inode, snapshot.xattrs.clone()),
                    bytes: Some(body.to_vec().into()),
                }));
            }
            Ok(())
        })
    }

    /// A write whose answer gets lost must not be forgotten: should the file be deleted before the next try, its object would stay. Tells
    /// whether it was noted only now.
    fn note_intent(&self, snapshot: &Snapshot, key: &str) -> Result<bool> {
        self.change(|op| {
            let mut is_new = false;
            match op.tables.remote(key)? {
                None => {
                    is_new = true;
                    op.push(Mutation::PutRemote(Remote {
                        key: key.to_owned(),
                        ino: snapshot.ino,
                        etag: String::new(),
                        content_version: 0,
                        meta_version: 0,
                        noted: 0,
                    }));
                }
                Some(other) if other.ino != snapshot.ino => {
                    let ino = snapshot.ino;
                    if !op.tables.was_tried(key, ino) && op.tables.has_room_for_attempt(key) {
                        is_new = true;
                        op.push(Mutation::PutAttempt {
                            key: key.to_owned(),
                            ino,
                        });
                    }
                }
                Some(_) => {}
            }
            Ok(is_new)
        })
    }

    pub(super) async fn delete(self: &Arc<Self>, snapshot: &Snapshot, delete: &Delete) -> Result<Verdict> {
        let key = parse(&delete.key)?;
        let tried = self.may_be_deleted(&delete.key)?;
        let mut deleted = Deleted::ConditionFailed;
        if !delete.etag.0.is_empty() {
            deleted = self.try_delete(snapshot, &key, &delete.etag).await?;
        }
        let mut theirs = None;
        if deleted == Deleted::ConditionFailed {
            (deleted, theirs) = self.delete_if_ours(snapshot, &key).await?;
        }
        // What came after our deletion is no edit of ours.
        if let Some(info) = theirs.as_ref().filter(|_| !snapshot.wanted.is_empty() && !tried)
            && self.bring_along(snapshot.ino, &key, info).await?
        {
            return Ok(Verdict::Again);
        }
        self.pusher.hints.owe();
        self.note_deletion(&delete.key);
        self.change(|op| {
            op.push(Mutation::DropRemote(delete.key.clone()));
            Ok(())
        })?;
        if deleted == Deleted::ConditionFailed {
            self.welcome_back(&key).await?;
            self.note_left_behind(snapshot, &delete.key)?;
        }
        self.pusher.deletions_tried.lock().remove(&delete.key);
        self.tell_gone(snapshot.ino, &delete.key);
        Ok(Verdict::Ours)
    }

    /// What is there may be a write of this replica whose answer was lost: then it goes as well. Else it is told.
    async fn delete_if_ours(&self, snapshot: &Snapshot, key: &ObjectKey) -> Result<(Deleted, Option<ObjectInfo>)> {
        let head = self.store.head(key).await;
        self.note_health(&head);
        let Some(info) = head? else {
            return Ok((Deleted::Done, None));
        };
        if !self.wrote(&info, key.as_str(), None)? {
            return Ok((Deleted::ConditionFailed, Some(info)));
        }
        Ok((self.try_delete(snapshot, key, &info.etag).await?, None))
    }

    /// An edit beats a delete: somebody changed the object after we had last seen it, so it is a file again.
    async fn welcome_back(self: &Arc<Self>, key: &ObjectKey) -> Result<()> {
        let head = self.store.head(key).await;
        self.note_health(&head);
        if let Some(info) = head? {
            self.adopt_line(&Listed {
                key: key.as_str().to_owned(),
                object: Some(info),
            })?;
        }
        Ok(())
    }

    /// Nothing is owed any more, if nothing has changed meanwhile.
    fn settle(&self, snapshot: &Snapshot) -> Result<()> {
        let ino = snapshot.ino;
        let left_over = self.change(|op| {
            let now = op.tables.inode(ino)?;
            let wanted = op.tables.wanted_keys(ino)?;
            let versions = |inode: &Inode| (inode.content_version, inode.meta_version);
            let same = now.as_ref().map(versions) == snapshot.inode.as_ref().map(versions) && wanted == snapshot.wanted;
            let nameless = wanted.is_empty() && now.is_none_or(|inode| inode.nlink == 0);
            let left_over = op
                .tables
                .remotes_of(ino)?
                .iter()
                .any(|remote| !wanted.contains(&remote.key));
            if (same || nameless) && !left_over {
                op.push(Mutation::ClearDirty(ino));
            }
            Ok(left_over)
        })?;
        if left_over {
            // Another file is about to overwrite that object; should it change its mind, the object is ours to delete.
            self.postpone(ino, KEY_BUSY_MS);
        }
        Ok(())
    }
}

pub(super) fn parse(key: &str) -> Result<ObjectKey> {
    ObjectKey::parse(key).map_err(|problem| Error::Unusable(format!("{key}: {problem}")))
}

/// Whether a file's bytes are in a blob.
pub(super) fn in_blob(inode: &Inode) -> bool {
    inode.place == Place::Blob
}
