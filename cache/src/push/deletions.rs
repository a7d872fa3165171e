//! Deletions whose answers are missing: the object may be gone, or go later.
//!
//! Owns what is remembered of them, over a kill and a power cut, and how long a write of the same key waits for them. Does not own when a key is
//! deleted (`push/run.rs`), nor what a merge makes of it (`push/attempts.rs`).

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

    /// How long the writes of a plan wait, in milliseconds: a deletion that is still on its way would take what is written now, since equal contents
    /// bear equal tags.
    pub(super) fn late_deletions_wait_ms(&self, plan: &Plan) -> Result<u64> {
        let mut wait_ms = 0;
        for write in &plan.writes {
            let (Write::Put { key, .. } | Write::Copy { key, .. }) = write;
            wait_ms = wait_ms.max(self.late_deletion_wait_ms(key)?);
        }
        Ok(wait_ms)
    }

    /// How long a deletion of this key without an answer may still take place, in milliseconds.
    pub(super) fn late_deletion_wait_ms(&self, key: &str) -> Result<u64> {
        let asked = self.pusher.deletions_tried.lock().get(key).copied();
        let since_ms = match asked {
            Some((_, asked_ms)) => asked_ms,
            None if self.view(|tables| Ok(tables.was_deletion_tried(key)))? => self.opened_ms,
            None => return Ok(0),
        };
        Ok((since_ms + self.capabilities.late_write_ms).saturating_sub(self.now_ms()))
    }
}
