//! Looking before and after a write, where a server does not bind it to its condition.

use super::OpendalStore;
use super::errors::Answer;
use crate::store::{Condition, ETag, ObjectKey, StoreResult};

impl OpendalStore {
    /// What stands at the destination of a copy, or of an upload in parts, where the server may not look itself.
    pub(super) async fn destination_holds(&self, to: &ObjectKey, condition: &Condition) -> StoreResult<bool> {
        Ok(match condition {
            Condition::None => true,
            Condition::Absent => matches!(self.stat(to).await?, Answer::NotFound),
            Condition::Matches(etag) => matches!(self.stat(to).await?, Answer::Yes(info) if info.etag == *etag),
        })
    }

    /// After a copy without a condition on its source: was it the version that was meant? A plain ETag is the content's
    /// own; else the source is asked once more.
    pub(super) async fn copied_right(&self, from: &ObjectKey, source: &ETag, copy: &ETag) -> StoreResult<bool> {
        if copy == source {
            return Ok(true);
        }
        Ok(matches!(self.stat(from).await?, Answer::Yes(info) if info.etag == *source))
    }
}
