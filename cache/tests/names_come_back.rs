//! A name that somebody else fills anew: after our own deletion of it, of which the answer was lost, after our own file was in its way, and while
//! another file of ours takes it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, options, run};
use notefs_cache::store::{CallKind, MemoryStore, UserMetadata};
use std::collections::BTreeMap;
use std::sync::Arc;

const OURS: &str = "one\ntwo\nthree\nfour\n";

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

/// A note that was never read here is renamed and the answer to the deletion of its old key is lost; somebody else makes a note of the old name,
/// and then the renamed one is read, or the bucket is listed.
#[test]
fn what_came_after_our_deletion_is_not_what_an_unread_file_holds() {
    for (read, killed) in [(true, false), (true, true), (false, false), (false, true)] {
        run(async {
            let (dir, store, clock) = (
                tempfile::tempdir().unwrap(),
                MemoryStore::new("unread"),
                Arc::new(Hand::default()),
            );
            store.raw_put("old.md", OURS, UserMetadata::new());
            let open = || Machine::open(options(dir.path(), "a", &clock, 0), store.clone());
            let mut a = open().unwrap();
            a.ino("old.md").await.unwrap();
            a.rename("old.md", "renamed.md").await.unwrap();
            store.lose_replies(Some(CallKind::Delete), 1);
            a.replica.write_back_once().await;
            assert!(store.raw_get("old.md").is_none() && store.raw_get("renamed.md").is_some());
            store.raw_put("old.md", "something else\n", UserMetadata::new());
            if killed {
                drop(a);
                a = open().unwrap();
            }
            if !read {
                a.replica.pull_once().await.unwrap();
            }
            assert_eq!(
                a.read("renamed.md").await.unwrap(),
                OURS,
                "killed: {killed}, read: {read}"
            );
            a.push(&clock).await;
            a.replica.pull_once().await.unwrap();
            let both = tree(&[("old.md", "something else\n"), ("renamed.md", OURS)]);
            assert_eq!(a.tree().await.unwrap(), both, "killed: {killed}, read: {read}");
        });
    }
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

/// A note is put in the place of another by an exchange, and somebody else edits that one before anything is stored. What came out, at once and
/// in the end, and what the folder holds then.
async fn exchanged(read_before: bool, started_anew: bool) -> (String, String, BTreeMap<String, String>) {
    let (dir, store, clock) = (
        tempfile::tempdir().unwrap(),
        MemoryStore::new("exchange"),
        Arc::new(Hand::default()),
    );
    store.raw_put("note.md", OURS, UserMetadata::new());
    let open = || Machine::open(options(dir.path(), "a", &clock, 1_000), store.clone());
    let mut a = open().unwrap();
    a.ino("note.md").await.unwrap();
    if read_before {
        a.read("note.md").await.unwrap();
    }
    a.save("draft.md", "zero\none\ntwo\nthree\nfour\n").await.unwrap();
    a.exchange("draft.md", "note.md").await.unwrap();
    store.raw_put("note.md", format!("{OURS}five\n"), UserMetadata::new());
    let at_once = a.read("draft.md").await.unwrap();
    if started_anew {
        drop(a);
        a = open().unwrap();
    }
    a.push(&clock).await;
    a.replica.pull_once().await.unwrap();
    let in_the_end = a.read("draft.md").await.unwrap();
    (at_once, in_the_end, a.tree().await.unwrap())
}

#[test]
fn an_edit_of_a_name_goes_into_the_file_that_has_it_now() {
    run(async {
        for started_anew in [false, true] {
            let (at_once, in_the_end, tree) = exchanged(true, started_anew).await;
            assert_eq!((at_once.as_str(), in_the_end.as_str()), (OURS, OURS));
            assert_eq!(tree["note.md"], "zero\none\ntwo\nthree\nfour\nfive\n", "{tree:?}");
            assert_eq!(tree.len(), 2);
        }
    });
}

#[test]
fn what_came_out_unread_is_a_copy_of_the_edit_which_stays_where_it_is() {
    run(async {
        for started_anew in [false, true] {
            let (at_once, in_the_end, tree) = exchanged(false, started_anew).await;
            let theirs = format!("{OURS}five\n");
            assert_eq!((&at_once, &in_the_end), (&theirs, &theirs));
            assert_eq!(tree["note.md"], theirs, "{tree:?}");
            let copy = tree.iter().find(|(name, _)| name.contains("conflict"));
            assert_eq!(copy.unwrap().1, "zero\none\ntwo\nthree\nfour\n", "{tree:?}");
        }
    });
}

const NEW: &str = "zero\none\ntwo\nthree\nfour\n";

/// A note changes its name with a new text; what came out is copied to its new name, and the upload over the old one lands without an answer.
async fn exchanged_and_unanswered(read_before: bool) -> (Machine, Arc<MemoryStore>, Arc<Hand>, tempfile::TempDir) {
    let (dir, store, clock) = (
        tempfile::tempdir().unwrap(),
        MemoryStore::new("unanswered"),
        Arc::new(Hand::default()),
    );
    store.raw_put("note.md", OURS, UserMetadata::new());
    let a = Machine::open(options(dir.path(), "a", &clock, 1_000), store.clone()).unwrap();
    a.ino("note.md").await.unwrap();
    if read_before {
        a.read("note.md").await.unwrap();
    }
    a.save("note.md.tmp", NEW).await.unwrap();
    a.exchange("note.md.tmp", "note.md").await.unwrap();
    clock.pass(10_000);
    store.lose_replies(Some(CallKind::Put), 1);
    a.replica.write_back_once().await;
    let text = |key: &str| store.raw_get(key).map(|(bytes, _)| bytes.to_vec());
    assert_eq!(text("note.md").as_deref(), Some(NEW.as_bytes()), "it was to be stored");
    assert_eq!(text("note.md.tmp").as_deref(), Some(OURS.as_bytes()), "and so was that");
    (a, store, clock, dir)
}

#[test]
fn what_came_out_unread_is_not_taken_for_the_text_that_was_stored_over_it() {
    run(async {
        let (a, _store, clock, _dir) = exchanged_and_unanswered(false).await;
        assert_eq!(a.read("note.md.tmp").await.unwrap(), OURS);
        a.push(&clock).await;
        let both = tree(&[("note.md", NEW), ("note.md.tmp", OURS)]);
        assert_eq!(a.tree().await.unwrap(), both);
    });
}

#[test]
fn an_exchange_that_is_taken_back_is_taken_back_in_the_bucket() {
    run(async {
        for (read_before, listed) in [(false, false), (false, true), (true, false), (true, true)] {
            let (a, store, clock, dir) = exchanged_and_unanswered(read_before).await;
            a.exchange("note.md.tmp", "note.md").await.unwrap();
            if listed {
                a.replica.pull_once().await.unwrap();
            }
            a.push(&clock).await;
            a.replica.pull_once().await.unwrap();
            let both = tree(&[("note.md", OURS), ("note.md.tmp", NEW)]);
            assert_eq!(a.tree().await.unwrap(), both, "read: {read_before}, listed: {listed}");
            let cold = Machine::open(options(dir.path(), "cold", &clock, 0), store).unwrap();
            assert_eq!(cold.tree().await.unwrap(), both, "in the bucket");
        }
    });
}
