//! What the store was found to keep of its conditions, and how this replica makes up for what it does not: by looking first.
//!
//! The finding is remembered with the replica, so that a known cache is mounted without asking. Does not own the trial (`store/probe.rs`).

use super::Replica;
use crate::error::Result;
use crate::store::{Condition, Deleted, ETag, ObjectKey, Trial, try_store};
use std::sync::Arc;
use std::time::Duration;

/// Where the finding is kept, and its time.
const FOUND: &str = "trial";
const FOUND_AT: &str = "trial_at";

/// A finding is believed for so long: servers are mended, and buckets begin to keep versions.
const REMEMBERED_SECONDS: i64 = 30 * 86_400;

/// How long a trial may take before a mount goes on without.
const TRIAL_DEADLINE_SECONDS: u64 = 20;

impl Replica {
    /// Finds out what the store keeps of its conditions: from what is remembered for a month, else by trying, which writes a small object
    /// and removes it. Before [`Replica::start`]. What cannot be found out is taken as last found, or as the store states it.
    pub async fn learn_store(self: &Arc<Self>) -> Result<()> {
        let (found, at) = self.view(|tables| Ok((tables.meta(FOUND)?, tables.meta(FOUND_AT)?)))?;
        let found: Option<Trial> = found.and_then(|text| serde_json::from_str(&text).ok());
        let now = self.options.clock.now();
        if let Some(trial) = found {
            self.believe(trial);
        }
        let age_seconds = now.seconds - at.and_then(|at| at.parse::<i64>().ok()).unwrap_or(0);
        if found.is_some() && age_seconds < REMEMBERED_SECONDS {
            return Ok(());
        }
        if !self.store.needs_trial() {
            self.believe(Trial::untried(self.capabilities));
            return Ok(());
        }
        if self.options.read_only {
            return Ok(());
        }
        let id = format!("{}-{:x}", self.writer_id, now.as_nanos());
        let trying = try_store(self.store.as_ref(), &id);
        let Ok(trial) = tokio::time::timeout(Duration::from_secs(TRIAL_DEADLINE_SECONDS), trying).await else {
            tracing::warn!(
                "The store took too long to show what it keeps of its conditions; the next mount tries again"
            );
            return Ok(());
        };
        let trial = trial?;
        self.believe(trial);
        self.remember(FOUND, &serde_json::to_string(&trial).unwrap_or_default())?;
        self.remember(FOUND_AT, &now.seconds.to_string())
    }

    fn believe(&self, trial: Trial) {
        self.trash.set_versioned(trial.versions == Some(true));
        *self.trial.lock() = Some(trial);
    }

    /// What the store was found to do; `None` as long as nobody knows.
    pub fn trial(&self) -> Option<Trial> {
        *self.trial.lock()
    }

    /// The condition to send with a write. Where the store keeps none, the object is looked at first, so that only a writer within the
    /// same moment can be overwritten. `None`: it does not hold.
    pub(crate) async fn condition_that_holds(
        &self,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<Option<Condition>> {
        let trial = self.trial();
        let kept = trial.is_none_or(|trial| match condition {
            Condition::None => true,
            Condition::Absent => trial.put_if_absent,
            Condition::Matches(_) => trial.put_if_match,
        });
        if kept {
            return Ok(Some(condition.clone()));
        }
        let head = self.store.head(key).await;
        self.note_health(&head);
        let there = head?.map(|info| info.etag);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Matches(etag) => there.as_ref() == Some(etag),
        };
        Ok(holds.then_some(Condition::None))
    }

    /// Deletes one version of an object, looking first where the store would not.
    pub(crate) async fn delete_version(&self, key: &ObjectKey, etag: &ETag) -> Result<Deleted> {
        let looks_itself = self.trial().is_none_or(|trial| trial.delete_if_match);
        if !looks_itself {
            let head = self.store.head(key).await;
            self.note_health(&head);
            match head?.map(|info| info.etag) {
                None => return Ok(Deleted::Done),
                Some(there) if there != *etag => return Ok(Deleted::ConditionFailed),
                Some(_) => {}
            }
        }
        let deleted = self.store.delete(key, looks_itself.then_some(etag)).await;
        self.note_health(&deleted);
        Ok(deleted?)
    }
}
