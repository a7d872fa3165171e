//! Faults on demand, and what only this store can show.

use super::{CallKind, Hook, MemoryStore};
use crate::store::{Condition, ObjectKey, Store, StoreErrorKind, StoreResult, UserMetadata, Written};
use bytes::Bytes;
use std::sync::Arc;

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

async fn put(store: &MemoryStore, body: &'static str, condition: Condition) -> StoreResult<Written> {
    store
        .put(
            &key("k"),
            Bytes::from_static(body.as_bytes()),
            &UserMetadata::new(),
            &condition,
        )
        .await
}

#[tokio::test]
async fn a_lost_reply_has_done_its_work() {
    let store = MemoryStore::new("faults");
    store.lose_replies(Some(CallKind::Put), 1);
    assert_eq!(
        put(&store, "a", Condition::Absent).await.unwrap_err().kind,
        StoreErrorKind::Unavailable
    );
    assert_eq!(store.keys(), ["k"]);
    assert_eq!(
        put(&store, "a", Condition::Absent).await.unwrap(),
        Written::ConditionFailed
    );
    assert_eq!((store.requests().put, store.requests().failed), (2, 1));
}

#[tokio::test]
async fn planned_failures_and_outages_do_nothing_else() {
    let store = MemoryStore::new("faults");
    store.fail_next(Some(CallKind::Put), StoreErrorKind::SlowDown, 2);
    assert!(store.head(&key("k")).await.unwrap().is_none());
    for _ in 0..2 {
        assert_eq!(
            put(&store, "a", Condition::None).await.unwrap_err().kind,
            StoreErrorKind::SlowDown
        );
    }
    put(&store, "a", Condition::None).await.unwrap();
    store.set_down(true);
    assert!(store.head(&key("k")).await.unwrap_err().retryable);
    assert!(store.list("", true).await.unwrap().next_page().await.is_err());
    store.set_down(false);
    assert!(store.head(&key("k")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_hook_can_write_in_between() {
    let store = MemoryStore::new("hook");
    let other = MemoryStore::clone(&store);
    let hook: Hook = Arc::new(move |_, target| drop(other.raw_put(target, "theirs", UserMetadata::new())));
    store.set_hook(Some(hook));
    assert_eq!(
        put(&store, "ours", Condition::Absent).await.unwrap(),
        Written::ConditionFailed
    );
    assert_eq!(store.raw_get("k").unwrap().0, "theirs");
}

#[tokio::test]
async fn equal_bytes_bear_equal_tags_unless_told_otherwise() {
    let store = MemoryStore::new("tags");
    let (one, two) = (
        store.raw_put("a", "x", UserMetadata::new()),
        store.raw_put("b", "x", UserMetadata::new()),
    );
    assert_eq!(one, two);
    store.set_unique_etags(true);
    assert_ne!(
        store.raw_put("a", "x", UserMetadata::new()),
        store.raw_put("a", "x", UserMetadata::new())
    );
}

#[tokio::test]
async fn one_name_is_one_store_and_strange_keys_are_told() {
    MemoryStore::named("shared").raw_put("a//b", "x", UserMetadata::new());
    let store = MemoryStore::named("shared");
    store.raw_put("a/\u{10ffff}", "x", UserMetadata::new());
    assert_eq!(store.keys(), ["a//b", "a/\u{10ffff}"]);
    let mut lister = store.list("a/", false).await.unwrap();
    let page = lister.next_page().await.unwrap().unwrap();
    assert_eq!(
        page.iter().map(|line| &line.key[..]).collect::<Vec<_>>(),
        ["a//", "a/\u{10ffff}"]
    );
    assert!(lister.next_page().await.unwrap().is_none());
}
