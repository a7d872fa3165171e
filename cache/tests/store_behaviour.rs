//! One behaviour for every store: the same cases in memory, in a folder, and on a real server.
//!
//! A server is tried if `NOTEFS_TEST_S3_ENDPOINT` and `NOTEFS_TEST_S3_BUCKET` are set (credentials as usual: `AWS_*`).
//! Each case works below a prefix of its own and leaves nothing behind that another would see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "store_behaviour/contents.rs"]
mod contents;

use bytes::Bytes;
use notefs_cache::store::{
    Condition, Deleted, ETag, Fresh, Listed, MemoryStore, ObjectKey, Store, StoreErrorKind, StoreUrl, UserMetadata,
    Written, open_store, preflight,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static CASES: AtomicU64 = AtomicU64::new(0);

/// A store with nothing in it, and what must live as long.
struct Fixture {
    store: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
}

async fn fixtures() -> Vec<Fixture> {
    let mut fixtures = vec![Fixture {
        store: MemoryStore::new("behaviour"),
        _folder: None,
    }];
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::folder(folder.path()).unwrap();
    fixtures.push(Fixture {
        store: open_store(&url).await.unwrap(),
        _folder: Some(folder),
    });
    if let Some(store) = server().await {
        fixtures.push(Fixture { store, _folder: None });
    }
    fixtures
}

async fn server() -> Option<Arc<dyn Store>> {
    let endpoint = std::env::var("NOTEFS_TEST_S3_ENDPOINT").ok()?;
    let bucket = std::env::var("NOTEFS_TEST_S3_BUCKET").ok()?;
    let case = CASES.fetch_add(1, Ordering::Relaxed);
    let url = format!("s3://{bucket}/t{}-{case}?endpoint={endpoint}", std::process::id());
    Some(open_store(&StoreUrl::parse(&url).unwrap()).await.unwrap())
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn user(write_id: &str) -> UserMetadata {
    [("mode", "100644"), ("mtime", "1700000000.5"), ("notefswrite", write_id)]
        .into_iter()
        .collect()
}

fn done(written: Written) -> ETag {
    match written {
        Written::Done(etag) => etag,
        Written::ConditionFailed => panic!("the condition should hold"),
    }
}

async fn put(store: &dyn Store, name: &str, body: &str) -> ETag {
    let body = Bytes::copy_from_slice(body.as_bytes());
    done(
        store
            .put(&key(name), body, &user("w0"), &Condition::None)
            .await
            .unwrap(),
    )
}

async fn body(store: &dyn Store, name: &str) -> Option<String> {
    let object = store.get(&key(name), None, None).await.unwrap()?;
    Some(String::from_utf8(object.bytes.to_vec()).unwrap())
}

async fn all(store: &dyn Store, prefix: &str, recursive: bool) -> Vec<Listed> {
    let mut lister = store.list(prefix, recursive).await.unwrap();
    let mut lines = Vec::new();
    while let Some(page) = lister.next_page().await.unwrap() {
        assert!(!page.is_empty());
        lines.extend(page);
    }
    lines
}

async fn keys(store: &dyn Store, prefix: &str, recursive: bool) -> Vec<String> {
    let mut keys: Vec<_> = all(store, prefix, recursive)
        .await
        .into_iter()
        .map(|line| line.key)
        .collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_back_with_its_metadata() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let etag = put(store, "a/note ü.md", "hello").await;
        let object = store.get(&key("a/note ü.md"), None, None).await.unwrap().unwrap();
        assert_eq!(
            (&object.bytes[..], object.info.size, &object.info.etag),
            (&b"hello"[..], 5, &etag),
            "{}",
            store.name()
        );
        let info = store.head(&key("a/note ü.md")).await.unwrap().unwrap();
        assert_eq!((info.size, &info.etag), (5, &etag));
        assert!(
            !etag.0.contains('"') && info.last_modified.seconds > 1_600_000_000,
            "{info:?}"
        );
        for found in [object.info.user, info.user] {
            let found = found.unwrap();
            assert_eq!(
                (found.write_id(), found.get("mtime")),
                (Some("w0"), Some("1700000000.5")),
                "{}",
                store.name()
            );
        }
        assert!(store.head(&key("a/other")).await.unwrap().is_none());
        assert!(store.get(&key("a/other"), None, None).await.unwrap().is_none());
        assert!(
            store.head(&key("a")).await.unwrap().is_none(),
            "a prefix is no object: {}",
            store.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_cut_at_the_end_and_bound_to_a_version() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let etag = put(store, "r", "0123456789").await;
        for (range, expected) in [
            (0..4, "0123"),
            (3..100, "3456789"),
            (0..10, "0123456789"),
            (10..20, ""),
            (50..60, ""),
            (4..4, ""),
        ] {
            let object = store
                .get(&key("r"), Some(range.clone()), Some(&etag))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (&object.bytes[..], object.info.size),
                (expected.as_bytes(), 10),
                "{range:?} {}",
                store.name()
            );
        }
        put(store, "r", "abcdefghij").await;
        assert!(store.get(&key("r"), Some(0..4), Some(&etag)).await.unwrap().is_none());
        assert!(store.get(&key("r"), None, Some(&etag)).await.unwrap().is_none());
        let empty = put(store, "empty", "").await;
        for range in [None, Some(0..1), Some(0..65_536)] {
            let object = store.get(&key("empty"), range, Some(&empty)).await.unwrap().unwrap();
            assert_eq!((object.bytes.len(), object.info.size), (0, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold_or_nothing_is_written() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let write = |body: &'static str, condition: Condition| async move {
            store
                .put(&key("c"), Bytes::from_static(body.as_bytes()), &user("w1"), &condition)
                .await
                .unwrap()
        };
        let missing = Condition::Matches(ETag("0123456789abcdef0123456789abcdef".to_owned()));
        assert_eq!(write("x", missing).await, Written::ConditionFailed, "{}", store.name());
        assert!(body(store, "c").await.is_none());
        let first = done(write("one", Condition::Absent).await);
        assert_eq!(write("two", Condition::Absent).await, Written::ConditionFailed);
        let second = done(write("two", Condition::Matches(first.clone())).await);
        assert_ne!(first, second);
        assert_eq!(
            write("three", Condition::Matches(first.clone())).await,
            Written::ConditionFailed
        );
        assert_eq!(body(store, "c").await.unwrap(), "two");
        assert_eq!(
            store.delete(&key("c"), Some(&first)).await.unwrap(),
            Deleted::ConditionFailed
        );
        assert_eq!(body(store, "c").await.unwrap(), "two");
        assert_eq!(store.delete(&key("c"), Some(&second)).await.unwrap(), Deleted::Done);
        assert_eq!(
            store.delete(&key("c"), Some(&second)).await.unwrap(),
            Deleted::Done,
            "{}",
            store.name()
        );
        assert_eq!(store.delete(&key("c"), None).await.unwrap(), Deleted::Done);
        assert!(body(store, "c").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creators_one_wins() {
    for fixture in fixtures().await {
        for round in 0..5 {
            let mut tasks = tokio::task::JoinSet::new();
            for writer in 0..4 {
                let store = Arc::clone(&fixture.store);
                tasks.spawn(async move {
                    let body = Bytes::from(format!("{writer}"));
                    store
                        .put(&key(&format!("race/{round}")), body, &user("w"), &Condition::Absent)
                        .await
                        .unwrap()
                });
            }
            let won = tasks
                .join_all()
                .await
                .into_iter()
                .filter(|written| matches!(written, Written::Done(_)))
                .count();
            assert_eq!(won, 1, "{}", fixture.store.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_bound_to_both_ends() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let etag = put(store, "from", "content").await;
        let copied = done(
            store
                .copy(&key("from"), &etag, &key("d/to"), &Condition::Absent)
                .await
                .unwrap(),
        );
        let object = store.get(&key("d/to"), None, Some(&copied)).await.unwrap().unwrap();
        assert_eq!(
            (&object.bytes[..], object.info.user.unwrap().write_id()),
            (&b"content"[..], Some("w0"))
        );
        let again = store
            .copy(&key("from"), &etag, &key("d/to"), &Condition::Absent)
            .await
            .unwrap();
        assert_eq!(again, Written::ConditionFailed, "{}", store.name());
        let other = put(store, "from", "other").await;
        let stale = store
            .copy(&key("from"), &etag, &key("new"), &Condition::Absent)
            .await
            .unwrap();
        assert_eq!(stale, Written::ConditionFailed);
        assert!(body(store, "new").await.is_none());
        let gone = store
            .copy(&key("gone"), &etag, &key("new"), &Condition::None)
            .await
            .unwrap();
        assert_eq!(gone, Written::ConditionFailed);
        done(
            store
                .copy(&key("from"), &other, &key("d/to"), &Condition::Matches(copied.clone()))
                .await
                .unwrap(),
        );
        let late = store
            .copy(&key("from"), &other, &key("d/to"), &Condition::Matches(copied))
            .await
            .unwrap();
        assert_eq!(late, Written::ConditionFailed);
        assert_eq!(body(store, "d/to").await.unwrap(), "other");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_tell_keys_prefixes_and_markers() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        for name in ["b.md", "a/x.md", "a/deep/y.md", "a!", "z/only.md"] {
            put(store, name, name).await;
        }
        store.put_marker(&key("empty")).await.unwrap();
        store.put_marker(&key("a/marked")).await.unwrap();
        assert_eq!(
            keys(store, "", false).await,
            ["a!", "a/", "b.md", "empty/", "z/"],
            "{}",
            store.name()
        );
        let recursive = keys(store, "", true).await;
        let files: Vec<_> = recursive.iter().filter(|key| !key.ends_with('/')).collect();
        assert_eq!(files, ["a!", "a/deep/y.md", "a/x.md", "b.md", "z/only.md"]);
        for marker in ["empty/", "a/marked/"] {
            assert!(
                recursive.iter().any(|key| key == marker),
                "{marker} {recursive:?} {}",
                store.name()
            );
        }
        let inside = keys(store, "a/", false).await;
        let inside: Vec<_> = inside.iter().filter(|key| *key != "a/").collect();
        assert_eq!(inside, ["a/deep/", "a/marked/", "a/x.md"]);
        assert!(keys(store, "missing/", false).await.is_empty());
        let line = all(store, "a/", false)
            .await
            .into_iter()
            .find(|line| line.key == "a/x.md")
            .unwrap();
        let head = store.head(&key("a/x.md")).await.unwrap().unwrap();
        let info = line.object.unwrap();
        assert_eq!((info.size, &info.etag, info.user), (6, &head.etag, None));
        store.delete_marker(&key("empty")).await.unwrap();
        store.delete_marker(&key("empty")).await.unwrap();
        assert!(
            !keys(store, "", false).await.contains(&"empty/".to_owned()),
            "{}",
            store.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_marker_never_removes_what_is_below() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        store.put_marker(&key("d")).await.unwrap();
        put(store, "d/kept", "x").await;
        store.delete_marker(&key("d")).await.unwrap();
        assert_eq!(body(store, "d/kept").await.as_deref(), Some("x"), "{}", store.name());
        store.put_marker(&key("d")).await.unwrap();
        assert_eq!(body(store, "d/kept").await.as_deref(), Some("x"), "{}", store.name());
        store.delete(&key("d/kept"), None).await.unwrap();
        assert!(
            keys(store, "", false).await.contains(&"d/".to_owned()),
            "a marked directory stays: {}",
            store.name()
        );
        store.delete_marker(&key("d")).await.unwrap();
        assert!(keys(store, "", false).await.is_empty(), "{}", store.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_many_pages_is_whole() {
    for fixture in fixtures().await {
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..4 {
            let store = Arc::clone(&fixture.store);
            tasks.spawn(async move {
                for number in (worker..2300).step_by(4) {
                    put(&*store, &format!("many/{number:05}"), "").await;
                }
            });
        }
        tasks.join_all().await;
        let expected: Vec<_> = (0..2300).map(|number| format!("many/{number:05}")).collect();
        assert_eq!(keys(&*fixture.store, "many/", false).await, expected);
        assert_eq!(keys(&*fixture.store, "", true).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_cost_the_requests_they_should() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        put(store, "one", "x").await;
        let counts = store.requests();
        assert_eq!(
            (counts.put, counts.head, counts.get, counts.list),
            (1, 0, 0, 0),
            "{}",
            store.name()
        );
        store.get(&key("one"), None, None).await.unwrap().unwrap();
        store.get(&key("one"), Some(0..65_536), None).await.unwrap().unwrap();
        store.head(&key("one")).await.unwrap().unwrap();
        let counts = store.requests();
        assert_eq!(
            (counts.put, counts.head, counts.get, counts.failed),
            (1, 1, 2, 0),
            "{}",
            store.name()
        );
        preflight(store).await.unwrap();
        store.put_marker(&key("m")).await.unwrap();
        store.delete(&key("one"), None).await.unwrap();
        let counts = store.requests();
        assert_eq!(
            (counts.put, counts.list, counts.delete, counts.head),
            (2, 1, 1, 1),
            "{}",
            store.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_changed_is_not_sent_again() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let ask = async |known: Option<&ETag>| store.get_if_changed(&key(".notefs/feed/w"), known).await.unwrap();
        assert!(matches!(ask(None).await, Fresh::Gone), "{}", store.name());
        put(store, ".notefs/feed/w", "one").await;
        let Fresh::New(object) = ask(None).await else {
            panic!("nothing came from {}", store.name());
        };
        assert_eq!(object.bytes, "one");
        assert!(
            matches!(ask(Some(&object.info.etag)).await, Fresh::Same),
            "{}",
            store.name()
        );
        put(store, ".notefs/feed/w", "two").await;
        let Fresh::New(newer) = ask(Some(&object.info.etag)).await else {
            panic!("nothing new came from {}", store.name());
        };
        assert_eq!(newer.bytes, "two");
        let counts = store.requests();
        assert!(counts.feed >= 6 && (counts.get, counts.put) == (0, 0), "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_store_carries_is_refused_before_it_is_sent() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        for value in ["ü", "a\nb", "", " x"] {
            let user: UserMetadata = [("name", value)].into_iter().collect();
            let error = store
                .put(&key("k"), Bytes::new(), &user, &Condition::None)
                .await
                .unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Refused, "{value:?} {}", store.name());
        }
        assert!(store.head(&key("k")).await.unwrap().is_none());
    }
}
