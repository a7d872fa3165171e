//! What becomes of two machines' changes to one thing, rule by rule, each in both orders.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/deletions.rs"]
mod deletions;
#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;
#[path = "agreement/unanswered.rs"]
mod unanswered;

use machine::{Hand, Machine, options, run};
use notefs_cache::store::MemoryStore;
use notefs_cache::{ConflictKind, FileKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const BASE: &str = "one\ntwo\nthree\nfour\n";

/// Two machines that have seen the same bucket, and the time.
struct World {
    a: Machine,
    b: Machine,
    store: Arc<MemoryStore>,
    clock: Arc<Hand>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(files: &[(&str, &str)]) -> World {
        let (dir, store, clock) = (
            tempfile::tempdir().unwrap(),
            MemoryStore::new("rules"),
            Arc::new(Hand::default()),
        );
        let open = |name: &str| Machine::open(options(dir.path(), name, &clock, 0), store.clone()).unwrap();
        let (a, b) = (open("a"), open("b"));
        for (path, text) in files {
            match path.strip_suffix('/') {
                Some(folder) => drop(a.create(folder, FileKind::Directory).await.unwrap()),
                None => a.save(path, text).await.unwrap(),
            }
        }
        a.push(&clock).await;
        clock.pass(10_000);
        b.tree().await.unwrap();
        World {
            a,
            b,
            store,
            clock,
            dir,
        }
    }

    /// Both store what they have, one after the other; then both look at the bucket.
    async fn meet(&self, a_first: bool, pull: bool) {
        let order = if a_first {
            [&self.a, &self.b]
        } else {
            [&self.b, &self.a]
        };
        order[0].push(&self.clock).await;
        if pull {
            order[1].replica.pull_once().await.unwrap();
        }
        order[1].push(&self.clock).await;
        for machine in order {
            machine.replica.pull_once().await.unwrap();
            machine.push(&self.clock).await;
        }
    }

    /// What a machine sees that starts with nothing; everybody else must see the same.
    async fn outcome(&self) -> BTreeMap<String, String> {
        let cold = Machine::open(
            options(
                self.dir.path(),
                &format!("cold{}", self.clock.0.load(std::sync::atomic::Ordering::Relaxed)),
                &self.clock,
                0,
            ),
            self.store.clone(),
        )
        .unwrap();
        let tree = cold.tree().await.unwrap();
        assert_eq!(self.a.tree().await.unwrap(), tree, "a and the bucket");
        assert_eq!(self.b.tree().await.unwrap(), tree, "b and the bucket");
        tree
    }
}

fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

/// Runs a rule in both orders, with and without pulling in between.
fn in_both_orders(rule: impl AsyncFn(bool, bool)) {
    for (a_first, pull) in [(true, false), (false, false), (true, true), (false, true)] {
        run(rule(a_first, pull));
    }
}

#[test]
fn edits_of_different_lines_are_merged_however_they_are_saved() {
    for atomic in [false, true] {
        in_both_orders(async |a_first, pull| {
            let world = World::new(&[("note.md", BASE)]).await;
            world.a.save("note.md", "ONE\ntwo\nthree\nfour\n").await.unwrap();
            let theirs = "one\ntwo\nthree\nFOUR\n";
            if atomic {
                world.b.replace("note.md", theirs).await
            } else {
                world.b.save("note.md", theirs).await
            }
            .unwrap();
            world.meet(a_first, pull).await;
            assert_eq!(
                world.outcome().await,
                tree(&[("note.md", "ONE\ntwo\nthree\nFOUR\n")]),
                "a first: {a_first}, pull: {pull}"
            );
            assert_eq!((world.a.conflicts(), world.b.conflicts()), (vec![], vec![]));
        });
    }
}

#[test]
fn a_merged_note_is_merged_again_when_a_third_writer_is_faster() {
    run(async {
        let world = World::new(&[("note.md", "1\n2\n3\n4\n5\n6\n7\n")]).await;
        let (store, puts) = (world.store.clone(), std::sync::atomic::AtomicU32::new(0));
        world.a.save("note.md", "A\n2\n3\n4\n5\n6\n7\n").await.unwrap();
        world.b.save("note.md", "1\n2\n3\nB\n5\n6\n7\n").await.unwrap();
        world.a.push(&world.clock).await;
        // Just before the merged text is stored, somebody else appends once more.
        let raw = store.clone();
        store.set_hook(Some(Arc::new(move |kind, key| {
            if kind == notefs_cache::store::CallKind::Put
                && key == "note.md"
                && puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1
            {
                let (bytes, user) = raw.raw_get("note.md").unwrap();
                raw.raw_put("note.md", [&bytes[..], b"C\n"].concat(), user);
            }
        })));
        world.b.push(&world.clock).await;
        store.set_hook(None);
        world.meet(true, true).await;
        assert_eq!(world.outcome().await, tree(&[("note.md", "A\n2\n3\nB\n5\n6\n7\nC\n")]));
        assert!(world.b.conflicts().is_empty());
    });
}

#[test]
fn edits_of_the_same_line_are_both_kept_and_remembered_until_the_copy_goes() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("note.md", BASE)]).await;
        world.a.save("note.md", "from a\ntwo\nthree\nfour\n").await.unwrap();
        world.b.save("note.md", "from b\ntwo\nthree\nfour\n").await.unwrap();
        world.meet(a_first, pull).await;
        let outcome = world.outcome().await;
        let (first, second, loser) = if a_first {
            ("a", "b", &world.b)
        } else {
            ("b", "a", &world.a)
        };
        assert_eq!(outcome.len(), 2, "{outcome:?}");
        assert!(outcome["note.md"].starts_with(&format!("from {first}\n")));
        let conflicts = loser.conflicts();
        assert_eq!(
            (conflicts.len(), conflicts[0].kind, conflicts[0].path.as_slice()),
            (1, ConflictKind::Edited, b"note.md".as_slice())
        );
        let copy = String::from_utf8(conflicts[0].copy.clone().unwrap()).unwrap();
        assert!(
            copy.starts_with(&format!("note (conflict from {second} 2026-")),
            "{copy}"
        );
        assert!(outcome[&copy].starts_with(&format!("from {second}\n")));
        assert_eq!(loser.replica.status().conflicts, 1);
        loser.remove(&copy).await.unwrap();
        assert_eq!((loser.conflicts().len(), loser.replica.status().conflicts), (0, 0));
    });
}

#[test]
fn binary_contents_are_both_kept_and_equal_ones_are_one() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("x.bin", "1\n2\n3\n\0"), ("same.md", "old\n")]).await;
        world.a.save("x.bin", "A\n2\n3\n\0").await.unwrap();
        world.b.save("x.bin", "1\n2\nB\n\0").await.unwrap();
        for machine in [&world.a, &world.b] {
            machine.save("same.md", "new\n").await.unwrap();
        }
        world.meet(a_first, pull).await;
        let outcome = world.outcome().await;
        assert_eq!(outcome.len(), 3, "{outcome:?}");
        assert_eq!(outcome["same.md"], "new\n");
        for text in ["A\n2\n3\n\0", "1\n2\nB\n\0"] {
            assert!(
                outcome.values().any(|kept| kept == text),
                "{text:?} is lost: {outcome:?}"
            );
        }
    });
}

#[test]
fn two_new_files_of_one_name_are_both_kept_unless_they_are_equal() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[]).await;
        world.a.save("new.md", "from a\n").await.unwrap();
        world.b.save("new.md", "from b\n").await.unwrap();
        world.a.save("equal.md", "same\n").await.unwrap();
        world.b.save("equal.md", "same\n").await.unwrap();
        world.meet(a_first, pull).await;
        let outcome = world.outcome().await;
        assert_eq!(outcome.len(), 3, "{outcome:?}");
        let mut texts: Vec<&str> = outcome.values().map(String::as_str).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["from a\n", "from b\n", "same\n"]);
        let conflicts = if a_first {
            world.b.conflicts()
        } else {
            world.a.conflicts()
        };
        assert_eq!(
            conflicts.iter().map(|conflict| conflict.kind).collect::<Vec<_>>(),
            [ConflictKind::Created]
        );
    });
}

#[test]
fn an_edit_beats_a_delete() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("note.md", BASE)]).await;
        world.a.remove("note.md").await.unwrap();
        world.b.save("note.md", "edited\n").await.unwrap();
        world.meet(a_first, pull).await;
        assert_eq!(
            world.outcome().await,
            tree(&[("note.md", "edited\n")]),
            "a first: {a_first}, pull: {pull}"
        );
    });
}

#[test]
fn an_edit_follows_a_rename() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("old.md", BASE), ("folder/", "")]).await;
        world.a.rename("old.md", "new.md").await.unwrap();
        world.b.save("old.md", "edited\ntwo\nthree\nfour\n").await.unwrap();
        world.meet(a_first, pull).await;
        let outcome = world.outcome().await;
        assert_eq!(
            outcome,
            tree(&[("folder/", ""), ("new.md", "edited\ntwo\nthree\nfour\n")]),
            "a first: {a_first}, pull: {pull}"
        );
    });
}

#[test]
fn a_renamed_and_edited_note_takes_the_other_edit_along() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("old.md", BASE)]).await;
        world.a.rename("old.md", "new.md").await.unwrap();
        world.a.save("new.md", "ONE\ntwo\nthree\nfour\n").await.unwrap();
        world.b.save("old.md", "one\ntwo\nthree\nFOUR\n").await.unwrap();
        world.meet(a_first, pull).await;
        let outcome = world.outcome().await;
        if a_first {
            // Nothing in the bucket says that the note with other content was the old one: both texts are there.
            for line in ["ONE\n", "FOUR\n"] {
                assert!(
                    outcome.values().any(|text| text.contains(line)),
                    "{line:?} is lost: {outcome:?}"
                );
            }
        } else {
            assert_eq!(outcome, tree(&[("new.md", "ONE\ntwo\nthree\nFOUR\n")]), "pull: {pull}");
        }
    });
}

#[test]
fn of_two_renames_one_name_is_kept_and_the_other_told_of() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("old.md", BASE)]).await;
        world.a.rename("old.md", "a.md").await.unwrap();
        world.b.rename("old.md", "b.md").await.unwrap();
        world.meet(a_first, pull).await;
        let (kept, wanted, loser) = if a_first {
            ("a.md", "b.md", &world.b)
        } else {
            ("b.md", "a.md", &world.a)
        };
        assert_eq!(
            world.outcome().await,
            tree(&[(kept, BASE)]),
            "a first: {a_first}, pull: {pull}"
        );
        let conflicts = loser.conflicts();
        assert_eq!(conflicts.len(), 1);
        assert_eq!(
            (conflicts[0].kind, conflicts[0].copy.as_deref()),
            (ConflictKind::Renamed, None)
        );
        assert_eq!(
            (conflicts[0].path.as_slice(), conflicts[0].disputed.as_slice()),
            (kept.as_bytes(), wanted.as_bytes())
        );
        loser.replica.dismiss_conflict(conflicts[0].id).unwrap();
        assert_eq!(loser.replica.status().conflicts, 0);
    });
}

#[test]
fn a_new_file_keeps_the_directory_that_was_removed_elsewhere() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("folder/", "")]).await;
        world.a.remove_directory("folder").await.unwrap();
        world.b.save("folder/new.md", "new\n").await.unwrap();
        world.meet(a_first, pull).await;
        assert_eq!(
            world.outcome().await,
            tree(&[("folder/", ""), ("folder/new.md", "new\n")]),
            "a first: {a_first}, pull: {pull}"
        );
    });
}

#[test]
fn an_edit_and_a_change_of_mode_are_both_kept() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("note.md", BASE)]).await;
        world.store.set_unique_etags(true);
        world.a.save("note.md", BASE).await.unwrap();
        world.a.push(&world.clock).await;
        world.b.replica.pull_once().await.unwrap();
        world.a.chmod("note.md", 0o600).await.unwrap();
        world.b.save("note.md", "edited\n").await.unwrap();
        world.meet(a_first, pull).await;
        assert_eq!(world.outcome().await, tree(&[("note.md", "edited\n")]));
        let modes = (
            world.a.mode("note.md").await.unwrap(),
            world.b.mode("note.md").await.unwrap(),
        );
        assert_eq!(modes, (0o600, 0o600), "a first: {a_first}, pull: {pull}");
        assert_eq!((world.a.conflicts(), world.b.conflicts()), (vec![], vec![]));
    });
}

#[test]
fn of_two_changes_of_mode_the_last_one_stored_holds() {
    in_both_orders(async |a_first, pull| {
        let world = World::new(&[("note.md", BASE)]).await;
        world.a.chmod("note.md", 0o600).await.unwrap();
        world.b.chmod("note.md", 0o640).await.unwrap();
        world.meet(a_first, pull).await;
        assert_eq!(world.outcome().await, tree(&[("note.md", BASE)]));
        // A listing does not show it: who knows the note already learns of it by the feed.
        let cold = reopen(world.dir.path(), "new", &world.clock, &world.store).await;
        assert_eq!(cold.mode("note.md").await.unwrap(), if a_first { 0o640 } else { 0o600 });
        assert_eq!((world.a.conflicts(), world.b.conflicts()), (vec![], vec![]));
    });
}

#[test]
fn a_copy_that_somebody_made_of_our_note_is_not_taken_for_our_own_write() {
    run(async {
        let world = World::new(&[("x.md", "precious\n")]).await;
        // The object that b's rename makes still bears the write id of a's.
        world.b.rename("x.md", "c.md").await.unwrap();
        world.a.save("c.md", "new\n").await.unwrap();
        world.b.push(&world.clock).await;
        world.a.push(&world.clock).await;
        world.meet(true, true).await;
        let outcome = world.outcome().await;
        for text in ["precious\n", "new\n"] {
            assert!(
                outcome.values().any(|kept| kept == text),
                "{text:?} is lost: {outcome:?}"
            );
        }
    });
}

#[test]
fn what_a_note_was_is_kept_over_a_restart_and_only_while_it_is_owed() {
    run(async {
        let world = World::new(&[("note.md", BASE)]).await;
        let World {
            a,
            b,
            store,
            clock,
            dir,
        } = world;
        let before = b.replica.status().cache_bytes;
        b.save("note.md", "one\ntwo\nthree\nFOUR\n").await.unwrap();
        assert_eq!(
            b.replica.status().cache_bytes,
            before + BASE.len() as u64,
            "it counts as cache"
        );
        // As a kill: what was not committed is in the journal.
        drop(b);
        a.save("note.md", "ONE\ntwo\nthree\nfour\n").await.unwrap();
        a.push(&clock).await;
        let b = reopen(dir.path(), "b", &clock, &store).await;
        b.push(&clock).await;
        assert_eq!(b.read("note.md").await.unwrap(), "ONE\ntwo\nthree\nFOUR\n");
        assert_eq!(
            b.replica.status().cache_bytes,
            BASE.len() as u64,
            "nothing is kept of a stored note"
        );
    });
}

async fn reopen(dir: &Path, name: &str, clock: &Arc<Hand>, store: &Arc<MemoryStore>) -> Machine {
    for _ in 0..1_000 {
        if let Ok(machine) = Machine::open(options(dir, name, clock, 0), store.clone()) {
            return machine;
        }
        tokio::task::yield_now().await;
    }
    panic!("the cache of {name} stays in use");
}

#[test]
fn a_note_that_is_written_to_is_not_changed_under_its_writer() {
    run(async {
        let world = World::new(&[("log.md", "start\n")]).await;
        let busy = Machine::open(
            options(world.dir.path(), "busy", &world.clock, 1_000),
            world.store.clone(),
        )
        .unwrap();
        let ino = busy.ino("log.md").await.unwrap();
        let mut end = busy.read("log.md").await.unwrap().len() as u64;
        world.a.save("log.md", "before\nstart\n").await.unwrap();
        world.a.push(&world.clock).await;
        for at in 0..100 {
            let line = format!("line {at}\n");
            busy.go(|replica| replica.write(ino, end, line.as_bytes(), false))
                .await
                .unwrap();
            end += line.len() as u64;
            world.clock.pass(200);
            busy.replica.write_back_once().await;
            let text = busy.go(|replica| replica.read(ino, 0, 1 << 16)).await.unwrap();
            assert!(text.starts_with(b"start\n"), "changed under its writer after line {at}");
        }
        busy.push(&world.clock).await;
        let merged = busy.read("log.md").await.unwrap();
        assert!(
            merged.starts_with("before\nstart\nline 0\n") && merged.ends_with("line 99\n"),
            "{merged}"
        );
        assert!(busy.conflicts().is_empty());
    });
}
