//! Looking after a store: learning what it keeps when a mount begins, its trash, its check, and what is held back.
//!
//! Owns the commands' way to the replica and their progress. Does not own what is kept, compared or held (`notefs_cache`).

use super::serve::Desk;
use super::{Runtime, cache_failure};
use crate::control::protocol::{Answer, Progress, TrashList};
use crate::control::server::Asker;
use crate::failure::Failure;
use crate::promises;
use notefs_cache::Replica;
use notefs_cache::replica::ReplicaStatus;
use std::sync::Arc;
use std::time::Duration;

/// A command that waits for the bucket shows that it lives this often.
const SIGN_OF_LIFE_SECONDS: u64 = 5;

/// Says how long the trash keeps things, and finds out what the store keeps of its conditions; tells what is weaker than it should be. A store that is away, of which there are
/// warnings already, is asked nothing.
pub(super) fn learn_store(
    replica: &Arc<Replica>,
    runtime: &Runtime,
    trash: Option<Duration>,
    warnings: Vec<String>,
) -> Vec<String> {
    replica.set_trash(trash);
    if !warnings.is_empty() {
        return warnings;
    }
    match runtime.block_on(replica.learn_store()) {
        Ok(()) => promises::weaker(replica.trial()),
        Err(error) => {
            tracing::warn!("Could not try what the store keeps of its conditions: {error}");
            vec![format!(
                "It could not be tried what the store keeps of its conditions ({error}); `notefs doctor` tries it thoroughly"
            )]
        }
    }
}

/// What keeps changes from being stored, if something does.
pub(super) fn hindrance(status: &ReplicaStatus) -> Option<String> {
    let held = status.held.first().map(|held| {
        let count = status.held_count;
        format!("{count} held back because no program asked for it ({})", held.reason)
    });
    held.or_else(|| status.last_error.as_ref().map(|problem| problem.message.clone()))
}

impl Desk {
    pub(super) fn release_held(&self) -> Result<Answer, Failure> {
        self.replica.release_held().map(Answer::Released).map_err(cache_failure)
    }

    pub(super) fn trash_list(&self, below: &[u8]) -> Result<Answer, Failure> {
        let versions = self
            .runtime
            .block_on(self.replica.trash_list(below))
            .map_err(cache_failure)?;
        Ok(Answer::Trash(TrashList {
            versions,
            keeps_ms: self.replica.trash_keeps().map(|keep| keep.as_millis() as u64),
            bucket_keeps_versions: self.replica.bucket_keeps_versions(),
        }))
    }

    pub(super) fn trash_restore(&self, path: &[u8], version: Option<&str>, overwrite: bool) -> Result<Answer, Failure> {
        let drafted = self
            .runtime
            .block_on(self.replica.trash_draft(path, version, overwrite));
        let (trashed, draft) = drafted.map_err(cache_failure)?;
        Ok(Answer::Restored {
            trashed: Box::new(trashed),
            draft,
        })
    }

    pub(super) fn check(&self, dry_run: bool, asker: &Asker) -> Result<Answer, Failure> {
        let left = std::sync::atomic::AtomicU64::new(0);
        let tell = || {
            asker.progress(Progress {
                left: left.load(std::sync::atomic::Ordering::Relaxed),
                left_bytes: 0,
            });
        };
        let note = |count: u64| left.store(count, std::sync::atomic::Ordering::Relaxed);
        let checked = self.runtime.block_on(async {
            let work = self.replica.check(dry_run, &note);
            tokio::pin!(work);
            loop {
                let pause = tokio::time::sleep(Duration::from_secs(SIGN_OF_LIFE_SECONDS));
                tokio::select! {
                    checked = &mut work => return checked,
                    () = pause => tell(),
                }
            }
        });
        checked
            .map(|report| Answer::Checked(Box::new(report)))
            .map_err(cache_failure)
    }
}
