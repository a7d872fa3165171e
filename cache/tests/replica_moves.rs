//! Moves that programs make are recorded for who follows them, and a text is written only as the version that was read.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, options};
use notefs_cache::FileKind;
use notefs_cache::replica::MOVES_MAX;
use notefs_cache::store::MemoryStore;
use std::path::Path;
use std::sync::Arc;

fn is_note(path: &[u8]) -> bool {
    path.ends_with(b".md") && path.split(|byte| *byte == b'/').all(|name| !name.starts_with(b"."))
}

fn machine(dir: &Path, name: &str, store: &Arc<MemoryStore>, clock: &Arc<Hand>) -> Machine {
    let machine = Machine::open(options(dir, name, clock, 0), store.clone()).unwrap();
    machine.replica.record_moves(Some(is_note));
    machine
}

fn moves(machine: &Machine) -> Vec<(String, String)> {
    let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
    let moves = machine.replica.recorded_moves().unwrap().into_iter();
    moves.map(|moved| (text(moved.from), text(moved.to))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
    expected.iter().map(owned).collect()
}

#[tokio::test]
async fn moves_of_programs_are_recorded_and_outlive_the_replica() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (MemoryStore::new("moves"), Arc::new(Hand::default()));
    let here = machine(dir.path(), "here", &store, &clock);
    for folder in ["d", "empty", ".git"] {
        here.create(folder, FileKind::Directory).await.unwrap();
    }
    for note in ["a.md", "b.md", "d/c.md", "x.tmp", "y.md", "pic.png"] {
        here.save(note, note).await.unwrap();
    }
    here.rename("a.md", "d/a.md").await.unwrap();
    here.rename("d", "e").await.unwrap();
    here.rename("e", "empty").await.unwrap();
    let expected = pairs(&[("a.md", "d/a.md"), ("d", "e"), ("e", "empty")]);
    assert_eq!(moves(&here), expected);
    // No moves of notes: saves, exchanges, what is hidden, and what is none.
    here.rename("x.tmp", "b.md").await.unwrap();
    here.rename("y.md", "b.md").await.unwrap();
    here.replace("b.md", "again").await.unwrap();
    here.exchange("b.md", "empty/a.md").await.unwrap();
    here.rename("pic.png", "pic.md").await.unwrap();
    here.rename("pic.md", ".pic.md").await.unwrap();
    here.rename(".git", "git").await.unwrap();
    assert!(here.rename("nothing.md", "z.md").await.is_err());
    assert_eq!(moves(&here), expected);
    drop(here);
    let again = machine(dir.path(), "here", &store, &clock);
    assert_eq!(moves(&again), expected, "after a kill");
    let first = again.replica.recorded_moves().unwrap()[0].id;
    again.replica.forget_move(first).unwrap();
    assert_eq!(moves(&again), expected[1..]);
    again.push(&clock).await;
    let other = machine(dir.path(), "other", &store, &clock);
    other.tree().await.unwrap();
    again.rename("b.md", "seen.md").await.unwrap();
    again.push(&clock).await;
    clock.pass(60_000);
    other.replica.pull_once().await.unwrap();
    assert_eq!(other.read("seen.md").await.unwrap(), "a.md");
    assert!(
        moves(&other).is_empty(),
        "what the bucket tells is no move of this machine"
    );
}

#[tokio::test]
async fn no_more_moves_are_recorded_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (MemoryStore::new("moves"), Arc::new(Hand::default()));
    let here = machine(dir.path(), "here", &store, &clock);
    here.save("0.md", "x").await.unwrap();
    for number in 0..MOVES_MAX + 3 {
        here.rename(&format!("{number}.md"), &format!("{}.md", number + 1))
            .await
            .unwrap();
    }
    assert_eq!(here.replica.recorded_move_count().unwrap(), MOVES_MAX);
}

#[tokio::test]
async fn a_rewrite_of_another_version_than_the_newest_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (MemoryStore::new("moves"), Arc::new(Hand::default()));
    let here = machine(dir.path(), "here", &store, &clock);
    let large = "a line of a long note\n".repeat(10_000);
    for (path, text) in [("small.md", "one"), ("large.md", large.as_str())] {
        here.save(path, text).await.unwrap();
        here.push(&clock).await;
        let ino = here.ino(path).await.unwrap();
        let read = here.replica.read_versioned(ino).unwrap().unwrap();
        assert_eq!(read.bytes, text.as_bytes());
        let written = format!("{text} and more");
        assert!(
            here.replica
                .rewrite(ino, read.version, written.clone().into_bytes())
                .await
                .unwrap()
        );
        assert_eq!(here.read(path).await.unwrap(), written);
        assert!(!here.replica.rewrite(ino, read.version, b"late".to_vec()).await.unwrap());
        here.push(&clock).await;
        assert_eq!(here.read(path).await.unwrap(), written);
        let cold = machine(dir.path(), &format!("cold {path}"), &store, &clock);
        assert_eq!(cold.read(path).await.unwrap(), written, "in the bucket");
    }
    let ino = here.ino("small.md").await.unwrap();
    let read = here.replica.read_versioned(ino).unwrap().unwrap();
    here.remove("small.md").await.unwrap();
    assert!(!here.replica.rewrite(ino, read.version, b"late".to_vec()).await.unwrap());
}
