//! Renames of others: where an object that is gone went to, and what follows from it for a file that was changed here.
//!
//! The bucket knows no renames, only a new object and a deleted one. An object is taken for the old one if it has its ETag and its
//! modification time to the nanosecond, which a copy keeps. Then an edit follows the rename, and of two renames the one that was stored
//! first is kept.

use super::conflict::Verdict;
use super::plan::Delete;
use super::run::Snapshot;
use crate::error::Result;
use crate::replica::Replica;
use crate::state::{ConflictKind, Inode, Mutation, Remote, Tables};
use crate::store::{ETag, ObjectKey, ObjectMetadata};
use crate::types::Ino;
use std::sync::Arc;

/// Objects of the same content that are looked at.
const CANDIDATES_MAX: usize = 8;

/// Pages of the folder's listing that are looked through.
const PAGES_MAX: usize = 4;

impl Replica {
    /// The key under which the object that the ledger knows at `key` lives on, if somebody moved it.
    pub(super) async fn find_moved(self: &Arc<Self>, key: &str) -> Result<Option<Remote>> {
        let Some(known) = self
            .view(|tables| tables.remote(key))?
            .filter(|remote| !remote.etag.is_empty())
        else {
            return Ok(None);
        };
        let Some(base) = self.base_of(key)? else {
            return Ok(None);
        };
        let mut candidates: Vec<String> = self.view(|tables| {
            let same = tables.remotes_with(&known.etag, CANDIDATES_MAX)?;
            Ok(same
                .into_iter()
                .filter(|remote| remote.ino != known.ino)
                .map(|remote| remote.key)
                .collect())
        })?;
        candidates.extend(self.unknown_with(&known).await?);
        for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
            let Ok(parsed) = ObjectKey::parse(&candidate) else {
                continue;
            };
            let head = self.store.head(&parsed).await;
            self.note_health(&head);
            let Some(info) = head? else { continue };
            let mtime = info.user.as_ref().and_then(|user| ObjectMetadata::decode(user).mtime);
            if info.etag.0 == known.etag && info.size > 0 && mtime == Some(base.metadata.mtime) {
                return Ok(Some(Remote {
                    key: candidate,
                    ..known
                }));
            }
        }
        Ok(None)
    }

    /// Objects beside the one that is gone which we do not know yet and which have its version.
    async fn unknown_with(&self, known: &Remote) -> Result<Vec<String>> {
        let prefix = known
            .key
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let mut lister = self.store.list(&prefix, false).await?;
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let Some(page) = lister.next_page().await? else { break };
            for listed in page {
                let same = listed.object.is_some_and(|info| info.etag.0 == known.etag);
                if same && listed.key != known.key && self.view(|tables| tables.remote(&listed.key))?.is_none() {
                    found.push(listed.key);
                }
            }
        }
        Ok(found)
    }

    /// Lets our file be the one that moved to `place`: the name that `key` stood for goes, and what was changed here is stored there.
    /// `renamed`: the name that was given to it here, which goes instead. `false`: that cannot be.
    pub(super) fn follow_rename(
        &self,
        snapshot: &Snapshot,
        key: &str,
        place: &Remote,
        renamed: Option<&str>,
    ) -> Result<bool> {
        let followed = self.follow_move(snapshot.ino, key, place, renamed)?;
        if !followed {
            self.change(|op| {
                op.push(Mutation::DropRemote(key.to_owned()));
                Ok(())
            })?;
        } else if let Some(ours) = renamed {
            tracing::warn!(
                key,
                ours,
                theirs = place.key,
                "This file was renamed here and elsewhere; the other name is kept"
            );
        } else {
            tracing::info!(
                key,
                to = place.key,
                "A file that was changed here was renamed elsewhere; the change follows it"
            );
        }
        Ok(followed)
    }

    /// A copy inside the store did not happen: was its source changed, or moved by somebody else? `None`: no.
    pub(super) async fn source_changed(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        source: &ObjectKey,
        etag: &ETag,
        key: &str,
    ) -> Result<Option<Verdict>> {
        let head = self.store.head(source).await;
        self.note_health(&head);
        match head? {
            Some(info) if info.etag == *etag || self.wrote(&info, source.as_str(), Some(snapshot.ino))? => Ok(None),
            // It came after our own deletion, or is an edit of the name, which another file has now: no edit of ours.
            Some(_) if self.may_be_deleted(source.as_str())? && self.is_whole(snapshot.ino)? => Ok(None),
            Some(_)
                if !snapshot.wanted.iter().any(|wanted| wanted == source.as_str())
                    && self.may_be_deleted(source.as_str())?
                    && self.lies_elsewhere(snapshot.ino, source.as_str())? =>
            {
                let left = Delete {
                    key: source.as_str().to_owned(),
                    etag: etag.clone(),
                };
                self.delete(snapshot, &left).await?;
                Ok(Some(Verdict::Again))
            }
            Some(info) if self.is_replaced(snapshot.ino, source.as_str())? => {
                if self.is_whole(snapshot.ino)? {
                    return Ok(None);
                }
                let known = self.view(|tables| tables.remote(source.as_str()))?;
                match known.filter(|known| known.ino == snapshot.ino) {
                    Some(known) if self.recover_replaced(&known, &info).await? => Ok(Some(Verdict::Again)),
                    _ => self.take_along(snapshot, source, &info).await.map(Some),
                }
            }
            Some(info) => self.take_along(snapshot, source, &info).await.map(Some),
            None => match self.find_moved(source.as_str()).await? {
                Some(place)
                    if place.key != key && self.follow_rename(snapshot, source.as_str(), &place, Some(key))? =>
                {
                    Ok(Some(Verdict::Again))
                }
                _ => Ok(None),
            },
        }
    }

    /// [`lies_elsewhere`], for a file that may be gone.
    fn lies_elsewhere(&self, ino: Ino, key: &str) -> Result<bool> {
        self.view(|tables| match tables.inode(ino)? {
            Some(inode) => lies_elsewhere(tables, &inode, key),
            None => Ok(false),
        })
    }

    /// A file was renamed and edited here, and edited under its old name elsewhere, and the edits do not merge: both are there.
    pub(super) fn note_left_behind(&self, snapshot: &Snapshot, key: &str) -> Result<()> {
        if snapshot.wanted.is_empty() {
            return Ok(());
        }
        self.change(|op| {
            let theirs = op.tables.remote(key)?.map(|remote| remote.ino);
            if let Some(theirs) = theirs.filter(|ino| *ino != snapshot.ino) {
                let path = key.as_bytes().to_vec();
                let conflict = self.conflict(op.now, (snapshot.ino, theirs), path, ConflictKind::Edited);
                op.push(Mutation::PutConflict(conflict));
            }
            Ok(())
        })
    }
}

/// Whether the ledger knows another object with a file's content than that of `key`.
pub(crate) fn lies_elsewhere(tables: &mut Tables, inode: &Inode, key: &str) -> Result<bool> {
    let holds = |remote: &Remote| remote.content_version == inode.base_version && !remote.etag.is_empty();
    let others: Vec<Remote> = tables.remotes_of(inode.ino)?.into_iter().filter(holds).collect();
    Ok(others
        .iter()
        .any(|remote| remote.key != key && !tables.is_in_doubt(&remote.key, inode.ino)))
}
