//! What is particular to a folder: other programs in it, links, crashes, a disk that is gone.

use super::FolderStore;
use crate::store::{Condition, ETag, ObjectKey, ObjectMetadata, Store, StoreErrorKind, UserMetadata, Written};
use bytes::Bytes;
use std::path::Path;

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

async fn put(store: &FolderStore, name: &str, body: &'static str) -> ETag {
    let user: UserMetadata = [("mode", "100600"), ("notefswrite", "w")].into_iter().collect();
    match store
        .put(&key(name), Bytes::from_static(body.as_bytes()), &user, &Condition::None)
        .await
        .unwrap()
    {
        Written::Done(etag) => etag,
        Written::ConditionFailed => panic!("no condition"),
    }
}

async fn keys(store: &FolderStore) -> Vec<String> {
    let mut lister = store.list("", true).await.unwrap();
    let mut keys = Vec::new();
    while let Some(page) = lister.next_page().await.unwrap() {
        keys.extend(page.into_iter().map(|line| line.key));
    }
    keys
}

fn drafts(root: &Path) -> usize {
    let entries = std::fs::read_dir(root.join(".notefs/tmp")).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("draft-"))
        .count()
}

#[tokio::test]
async fn another_programs_change_is_a_new_version_without_our_metadata() {
    let root = tempfile::tempdir().unwrap();
    let store = FolderStore::open(root.path()).await.unwrap();
    let etag = put(&store, "d/n.md", "one").await;
    assert_eq!(std::fs::read_to_string(root.path().join("d/n.md")).unwrap(), "one");
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(root.path().join("d/n.md"), "two!").unwrap();
    let info = store.head(&key("d/n.md")).await.unwrap().unwrap();
    assert_ne!(info.etag, etag);
    let user = info.user.unwrap();
    assert_eq!(user.write_id(), None);
    assert_eq!(ObjectMetadata::decode(&user).mtime, Some(info.last_modified));
    let stale = store
        .put(
            &key("d/n.md"),
            Bytes::new(),
            &UserMetadata::new(),
            &Condition::Matches(etag),
        )
        .await
        .unwrap();
    assert_eq!((stale, drafts(root.path())), (Written::ConditionFailed, 0));
}

#[tokio::test]
async fn directories_go_with_their_last_file_unless_marked() {
    let root = tempfile::tempdir().unwrap();
    let store = FolderStore::open(root.path()).await.unwrap();
    put(&store, "a/b/c", "x").await;
    store.put_marker(&key("m/n")).await.unwrap();
    put(&store, "m/n/o/p", "x").await;
    store.delete(&key("a/b/c"), None).await.unwrap();
    store.delete(&key("m/n/o/p"), None).await.unwrap();
    assert_eq!(keys(&store).await, ["m/n/"]);
    std::fs::create_dir_all(root.path().join("theirs/empty")).unwrap();
    assert_eq!(keys(&store).await, ["m/n/", "theirs/empty/"]);
    store.delete_marker(&key("m/n")).await.unwrap();
    assert_eq!(keys(&store).await, ["theirs/empty/"]);
}

#[tokio::test]
async fn nothing_leads_out_of_the_folder() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    let store = FolderStore::open(root.path()).await.unwrap();
    assert!(keys(&store).await.is_empty());
    assert!(store.get(&key("file"), None, None).await.unwrap().is_none());
    assert!(store.get(&key("link/secret"), None, None).await.is_err());
    assert!(
        store
            .put(&key("link/new"), Bytes::new(), &UserMetadata::new(), &Condition::None)
            .await
            .is_err()
    );
    assert!(store.delete(&key("link/secret"), None).await.is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    let own = store
        .put(
            &key(".notefs/tmp/x"),
            Bytes::new(),
            &UserMetadata::new(),
            &Condition::None,
        )
        .await
        .unwrap_err();
    assert_eq!(own.kind, StoreErrorKind::Refused);
}

#[tokio::test]
async fn a_file_in_the_way_is_told_and_may_be_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let store = FolderStore::open(root.path()).await.unwrap();
    put(&store, "a", "x").await;
    put(&store, "d/e", "x").await;
    for name in ["a/b", "d"] {
        for condition in [Condition::None, Condition::Absent] {
            let error = store
                .put(&key(name), Bytes::new(), &UserMetadata::new(), &condition)
                .await
                .unwrap_err();
            assert_eq!(
                (error.kind, error.retryable),
                (StoreErrorKind::Refused, true),
                "{error}"
            );
        }
    }
    let long = "n".repeat(256);
    let error = store
        .put(&key(&long), Bytes::new(), &UserMetadata::new(), &Condition::None)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.retryable),
        (StoreErrorKind::Refused, false),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_that_is_gone_is_not_empty() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    assert_eq!(
        FolderStore::open(&path).await.unwrap_err().kind,
        StoreErrorKind::NoBucket
    );
    std::fs::create_dir(&path).unwrap();
    let store = FolderStore::open(&path).await.unwrap();
    put(&store, "a", "x").await;
    std::fs::rename(&path, parent.path().join("elsewhere")).unwrap();
    std::fs::create_dir(&path).unwrap();
    for error in [
        store.head(&key("a")).await.unwrap_err(),
        store.list("", false).await.unwrap().next_page().await.unwrap_err(),
        store
            .put(&key("b"), Bytes::new(), &UserMetadata::new(), &Condition::None)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (error.kind, error.retryable),
            (StoreErrorKind::Unavailable, true),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}

#[tokio::test]
async fn drafts_of_a_crash_are_cleared_when_nobody_else_is_there() {
    let root = tempfile::tempdir().unwrap();
    let first = FolderStore::open(root.path()).await.unwrap();
    assert!(
        !root.path().join(".notefs").exists(),
        "opening a store writes nothing into it"
    );
    put(&first, "a", "1").await;
    std::fs::write(root.path().join(".notefs/tmp/draft-1-1"), "half").unwrap();
    let second = FolderStore::open(root.path()).await.unwrap();
    put(&second, "a", "2").await;
    assert_eq!(drafts(root.path()), 1, "another process may be writing it");
    drop((first, second));
    put(&FolderStore::open(root.path()).await.unwrap(), "a", "3").await;
    assert_eq!(drafts(root.path()), 0);
}
