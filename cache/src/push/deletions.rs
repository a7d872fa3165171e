//! Deletions whose answers are missing: the object may be gone, or go later.
//!
//! Owns what is remembered of them, over a kill and a power cut, and how long a write of the same key waits for them. Does not own when a key is
//! deleted (`push/run.rs`), nor what a merge makes of it (`push/attempts.rs`).

use super::conflict::Verdict;
use super::plan::{Plan, Write};
use super::run::Snapshot;
use crate::error::Result;
use crate::replica::Replica;
use crate::state::Mutation;
use crate::store::{Deleted, ETag, ObjectKey};
use crate::types::Ino;
use std::collections::HashMap;

/// Keys whose deletion has been asked for in this run and was not answered: for which inode, and when it was given up or else begun
/// (monotonic, ms).
pub(crate) type DeletionsTried = HashMap<String, (Ino, u64)>;

impl Replica {
    /// Deletes a version, of which it is noted before that it may be gone.
    pub(super) async fn try_delete(&self, snapshot: &Snapshot, key: &ObjectKey, etag: &ETag) -> Result<Deleted> {
        let tried = self.may_be_deleted(key.as_str())?;
        self.note_deletion_tried(snapshot, key.as_str()).await?;
        self.note_deletion_asked(snapshot.ino, key.as_str());
        let deleted = self.delete_version(key, etag).await;
        match &deleted {
            Err(_) => self.note_deletion_asked(snapshot.ino, key.as_str()),
            // The only one that was sent, and it did not take place.
            Ok(Deleted::ConditionFailed) if !tried => {
                self.change(|op| {
                    op.push(Mutation::DropTriedDeletion(key.as_str().to_owned()));
                    Ok(())
                })?;
                self.pusher.deletions_tried.lock().remove(key.as_str());
            }
            Ok(_) => {}
        }
        deleted
    }

    pub(super) fn note_deletion_asked(&self, ino: Ino, key: &str) {
        let asked = (key.to_owned(), (ino, self.now_ms()));
        self.pusher.deletions_tried.lock().extend([asked]);
    }

    /// This version of a key is about to be deleted. Whoever makes the file anew after that begins from an older text, and takes nothing out; and
    /// a file that has moved away must not be taken for stored there, should it come back, also after a power cut.
    async fn note_deletion_tried(&self, snapshot: &Snapshot, key: &str) -> Result<()> {
        self.change(|op| {
            let known = op.tables.remote(key)?;
            if let Some(remote) = known.filter(|_| !op.tables.was_deletion_tried(key)) {
                op.push(Mutation::PutTriedDeletion {
                    key: remote.key,
                    etag: remote.etag,
                });
            }
            Ok(())
        })?;
        match snapshot.wanted.is_empty() {
            true => Ok(()),
            false => self.synced().await,
        }
    }

    /// Whether a deletion of this key by us may have taken place without an answer: in this run, or in an earlier one.
    pub(super) fn may_be_deleted(&self, key: &str) -> Result<bool> {
        if self.pusher.deletions_tried.lock().contains_key(key) {
            return Ok(true);
        }
        self.view(|tables| Ok(tables.was_deletion_tried(key)))
    }

    /// A deletion that is still on its way would take what is written now: equal contents bear equal tags. `None`: there is none.
    pub(super) fn wait_for_late_deletions(&self, snapshot: &Snapshot, plan: &Plan) -> Result<Option<Verdict>> {
        let mut wait_ms = 0;
        for write in &plan.writes {
            let (Write::Put { key, .. } | Write::Copy { key, .. }) = write;
            if self.may_be_deleted(key)? {
                wait_ms = wait_ms.max(
                    self.late_deletion_wait_ms(key)
                        .unwrap_or_else(|| self.late_ms_since(self.opened_ms)),
                );
            }
        }
        if wait_ms == 0 {
            return Ok(None);
        }
        self.postpone(snapshot.ino, wait_ms);
        Ok(Some(Verdict::Later))
    }

    /// How long a deletion of this key that was tried in this run may still take place, in milliseconds.
    pub(super) fn late_deletion_wait_ms(&self, key: &str) -> Option<u64> {
        let asked_ms = self
            .pusher
            .deletions_tried
            .lock()
            .get(key)
            .map(|(_, asked_ms)| *asked_ms);
        asked_ms.map(|asked_ms| self.late_ms_since(asked_ms))
    }

    fn late_ms_since(&self, since_ms: u64) -> u64 {
        (since_ms + self.capabilities.late_write_ms).saturating_sub(self.now_ms())
    }
}
