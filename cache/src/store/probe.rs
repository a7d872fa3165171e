//! Finds out by trying whether a store keeps its promises: some servers answer "done" to a condition and ignore it.
//!
//! Owns the trial and its small object. Does not own what to do about a weaker store: mount and doctor say so.

use super::{
    Capabilities, Condition, Deleted, ETag, ObjectKey, Store, StoreError, StoreErrorKind, StoreResult, UserMetadata,
    Written,
};
use bytes::Bytes;

/// What the store really does, tried on an object `.notefs/probe/ID` that is removed again: nine requests.
///
/// `id` must be unique to this trial and fit for a key. Two writers race for the first creation, since some servers
/// check and write in two steps. A promise that cannot be tried (a copy's destination) is left as the store states it.
pub async fn probe_conditions(store: &dyn Store, id: &str) -> StoreResult<Capabilities> {
    let key = ObjectKey::parse(&format!(".notefs/probe/{id}")).map_err(|problem| StoreError {
        kind: StoreErrorKind::Refused,
        operation: "write",
        target: id.to_owned(),
        message: problem.to_string(),
        advice: String::new(),
        retryable: false,
    })?;
    let found = try_conditions(store, &key).await;
    let removed = store.delete(&key, None).await;
    let found = found?;
    removed?;
    Ok(found)
}

async fn try_conditions(store: &dyn Store, key: &ObjectKey) -> StoreResult<Capabilities> {
    let mut found = store.capabilities();
    let write = |body: &'static str, condition: Condition| async move {
        store
            .put(
                key,
                Bytes::from_static(body.as_bytes()),
                &UserMetadata::new(),
                &condition,
            )
            .await
    };
    let (one, other) = tokio::join!(write("one", Condition::Absent), write("other", Condition::Absent));
    let winners: Vec<ETag> = [one?, other?].into_iter().filter_map(done).collect();
    found.put_if_absent &= winners.len() == 1;
    // A retried write whose first answer was lost leaves no winner: then nothing is known of this race.
    let Some(first) = store.head(key).await?.map(|info| info.etag) else {
        return Ok(found);
    };
    found.put_if_absent &= done(write("three", Condition::Absent).await?).is_none();
    let second = done(write("four", Condition::Matches(first.clone())).await?);
    let stale = done(write("five", Condition::Matches(first.clone())).await?);
    found.put_if_match &= second.is_some() && stale.is_none();
    found.delete_if_match &= store.delete(key, Some(&first)).await? == Deleted::ConditionFailed;
    Ok(found)
}

fn done(written: Written) -> Option<ETag> {
    match written {
        Written::Done(etag) => Some(etag),
        Written::ConditionFailed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_found_out() {
        let store = MemoryStore::new("probe");
        let honest = store.capabilities();
        assert_eq!(probe_conditions(&*store, "1").await.unwrap(), honest);
        assert!(store.keys().is_empty(), "{:?}", store.keys());
        let weak = Capabilities {
            put_if_absent: false,
            put_if_match: false,
            delete_if_match: false,
            ..honest
        };
        store.set_capabilities(weak);
        assert_eq!(probe_conditions(&*store, "2").await.unwrap(), weak);
        assert!(store.keys().is_empty());
    }
}
