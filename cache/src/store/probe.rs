//! Finds out by trying whether a store keeps its promises: some servers answer "done" to a condition and ignore it.
//!
//! Owns the trial and its small object. Does not own what to do about a weaker store: mount and doctor say so.

use super::{
    Capabilities, Condition, Deleted, ETag, ObjectKey, Store, StoreError, StoreErrorKind, StoreResult, UserMetadata,
    Written,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a trial found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// `PUT` bound to the absence of an object is.
    pub put_if_absent: bool,
    /// `PUT` bound to an ETag is.
    pub put_if_match: bool,
    /// `DELETE` bound to an ETag is.
    pub delete_if_match: bool,
    /// A copy bound to the absence of its destination is.
    pub copy_if_absent: bool,
    /// Whether the bucket keeps old versions by itself, if that can be told.
    pub versions: Option<bool>,
}

impl Trial {
    /// What a store says of itself, untried.
    pub fn untried(stated: Capabilities) -> Trial {
        Trial {
            put_if_absent: stated.put_if_absent,
            put_if_match: stated.put_if_match,
            delete_if_match: stated.delete_if_match,
            copy_if_absent: stated.copy_if_absent,
            versions: None,
        }
    }
}

/// What the store really does, tried on objects `.notefs/probe/ID` that are removed again: about twenty requests.
///
/// `id` must be unique to this trial and fit for a key. Two writers race for the first creation, and two copies for a
/// destination: some servers check and write in two steps, and of copies the adapter itself looks first.
pub async fn probe_conditions(store: &dyn Store, id: &str) -> StoreResult<Capabilities> {
    let found = try_store(store, id).await?;
    Ok(Capabilities {
        put_if_absent: found.put_if_absent,
        put_if_match: found.put_if_match,
        delete_if_match: found.delete_if_match,
        copy_if_absent: found.copy_if_absent,
        ..store.capabilities()
    })
}

/// The same, and whether the bucket keeps versions: one request more.
pub async fn try_store(store: &dyn Store, id: &str) -> StoreResult<Trial> {
    let key = |name: &str| {
        ObjectKey::parse(&format!(".notefs/probe/{name}")).map_err(|problem| StoreError {
            kind: StoreErrorKind::Refused,
            operation: "write",
            target: id.to_owned(),
            message: problem.to_string(),
            advice: String::new(),
            retryable: false,
        })
    };
    let (key, copy) = (key(id)?, key(&format!("{id}-copy"))?);
    let mut found = try_conditions(store, &key).await;
    if let Ok(found) = &mut found
        && store.capabilities().copy
    {
        match try_copies(store, &key, &copy).await {
            Ok(kept) => found.copy_if_absent = kept,
            Err(error) if is_refusal(&error) => found.copy_if_absent = false,
            Err(error) => tracing::debug!(%error, "Copies could not be tried"),
        }
        store.delete(&copy, None).await?;
    }
    let removed = store.delete(&key, None).await;
    let found = found?;
    removed?;
    Ok(found)
}

/// Whether of two copies that race for a key one is refused. Both look before either is made.
async fn try_copies(store: &dyn Store, from: &ObjectKey, to: &ObjectKey) -> StoreResult<bool> {
    let stated = store.capabilities().copy_if_absent;
    let Some(source) = store.head(from).await?.map(|info| info.etag) else {
        return Ok(stated);
    };
    let copy = || store.copy(from, &source, to, &Condition::Absent);
    let (one, other) = tokio::join!(copy(), copy());
    let winners = [one?, other?].into_iter().filter_map(done).count();
    // An answer that was lost leaves no winner: then nothing is known of this race.
    Ok(if winners == 0 { stated } else { winners == 1 })
}

async fn try_conditions(store: &dyn Store, key: &ObjectKey) -> StoreResult<Trial> {
    let mut found = Trial::untried(store.capabilities());
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
    match (one, other) {
        (Ok(one), Ok(other)) => {
            found.put_if_absent &= [one, other].into_iter().filter_map(done).count() == 1;
        }
        // Some servers know no conditions and say so.
        (Err(error), _) | (_, Err(error)) if is_refusal(&error) => {
            found.put_if_absent = false;
            write("one", Condition::None).await?;
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    }
    // A retried write whose first answer was lost leaves no winner: then nothing is known of this race.
    let Some(first) = store.head(key).await?.map(|info| info.etag) else {
        return Ok(found);
    };
    found.versions = store.keeps_versions(key).await?;
    found.put_if_absent &= found.put_if_absent && done(write("three", Condition::Absent).await?).is_none();
    let second = write("four", Condition::Matches(first.clone())).await;
    if second.as_ref().is_err_and(is_refusal) {
        found.put_if_match = false;
        write("four", Condition::None).await?;
    } else {
        let stale = done(write("five", Condition::Matches(first.clone())).await?);
        found.put_if_match &= done(second?).is_some() && stale.is_none();
    }
    found.delete_if_match &= match store.delete(key, Some(&first)).await {
        Err(error) if is_refusal(&error) => false,
        deleted => deleted? == Deleted::ConditionFailed,
    };
    Ok(found)
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Unsupported | StoreErrorKind::Refused)
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
            copy_if_absent: false,
            ..honest
        };
        store.set_capabilities(weak);
        assert_eq!(probe_conditions(&*store, "2").await.unwrap(), weak);
        assert!(store.keys().is_empty());
    }
}
