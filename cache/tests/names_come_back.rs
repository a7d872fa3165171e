//! A name that somebody else fills anew: after our own deletion of it, of which the answer was lost, and after our own file was in its way.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, options};
use notefs_cache::store::{CallKind, MemoryStore, UserMetadata};
use std::collections::BTreeMap;
use std::sync::Arc;

const OURS: &str = "one\ntwo\nthree\nfour\n";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    files.collect()
}

/// A note is renamed, the answer to the deletion of its old key is lost, and somebody else makes a note of the old name.
async fn renamed_and_made_anew(killed: bool) -> BTreeMap<String, String> {
    let (dir, store, clock) = (
        tempfile::tempdir().unwrap(),
        MemoryStore::new("deletion"),
        Arc::new(Hand::default()),
    );
    let open = || Machine::open(options(dir.path(), "a", &clock, 0), store.clone());
    let mut a = open().unwrap();
    a.save("old.md", OURS).await.unwrap();
    a.push(&clock).await;
    clock.pass(10_000);
    a.rename("old.md", "new.md").await.unwrap();
    store.lose_replies(Some(CallKind::Delete), 1);
    a.replica.write_back_once().await;
    assert!(
        store.raw_get("old.md").is_none() && store.raw_get("new.md").is_some(),
        "it was to be renamed"
    );
    store.raw_put("old.md", "something else\n", UserMetadata::new());
    if killed {
        drop(a);
        a = open().unwrap();
    }
    a.push(&clock).await;
    a.replica.pull_once().await.unwrap();
    let seen = a.tree().await.unwrap();
    let new = store.raw_get("new.md").map(|(bytes, _)| bytes.to_vec());
    assert_eq!(new.as_deref(), Some(OURS.as_bytes()), "killed: {killed}");
    seen
}

#[test]
fn what_came_after_our_deletion_is_no_edit_of_what_we_deleted() {
    run(async {
        let both = tree(&[("new.md", OURS), ("old.md", "something else\n")]);
        for killed in [false, true] {
            assert_eq!(renamed_and_made_anew(killed).await, both, "killed: {killed}");
        }
    });
}

#[test]
fn a_file_that_ours_was_in_the_way_of_shows_when_ours_is_gone() {
    run(async {
        let (dir, store, clock) = (
            tempfile::tempdir().unwrap(),
            MemoryStore::new("way"),
            Arc::new(Hand::default()),
        );
        let a = Machine::open(options(dir.path(), "a", &clock, 60_000), store.clone()).unwrap();
        assert_eq!(a.tree().await.unwrap(), tree(&[]));
        a.save("note.md", OURS).await.unwrap();
        store.raw_put("note.md", "theirs\n", UserMetadata::new());
        a.replica.pull_once().await.unwrap();
        assert_eq!(a.tree().await.unwrap(), tree(&[("note.md", OURS)]));
        a.rename("note.md", "other.md").await.unwrap();
        a.replica.pull_once().await.unwrap();
        let both = tree(&[("note.md", "theirs\n"), ("other.md", OURS)]);
        assert_eq!(a.tree().await.unwrap(), both);
    });
}
