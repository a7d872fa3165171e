//! What others write shows in a running replica: two machines and a foreign writer on one store in memory, looked at step by step.
//! Seeds are printed; set `NOTEFS_TEST_SEED` to repeat a run.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "replica_pull/litter.rs"]
mod litter;
#[path = "replica_pull/machine.rs"]
mod machine;
#[path = "replica_pull/random.rs"]
mod random;

use machine::Machine;
use notefs_cache::replica::{Announcer, Change, RemoteChange, RemoteChangeKind};
use notefs_cache::store::{MemoryStore, UserMetadata};
use notefs_cache::{AttrChange, ROOT_INO, RenameMode, Replica};
use parking_lot_free::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Without a lock crate among the tests' dependencies.
mod parking_lot_free {
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    pub(crate) struct Shared<T>(Arc<Mutex<T>>);

    impl<T: Clone> Shared<T> {
        pub(crate) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
            act(&mut self.0.lock().unwrap())
        }

        pub(crate) fn get(&self) -> T {
            self.with(|value| value.clone())
        }
    }
}

struct Pair {
    store: Arc<MemoryStore>,
    a: Machine,
    b: Machine,
}

fn pair(name: &str) -> Pair {
    let (dir, store) = (Arc::new(tempfile::tempdir().unwrap()), MemoryStore::new(name));
    let a = Machine::new(&dir, "a", &store);
    let b = Machine::new(&dir, "b", &store);
    assert!(a.tree().is_empty() && b.tree().is_empty());
    // The first word of a machine is found by listing; from then on its feed is followed.
    a.save("first.md", "1");
    a.settle();
    b.pull(false);
    assert_eq!(b.read("first.md"), "1");
    Pair { store, a, b }
}

#[test]
fn every_kind_of_change_is_told_by_the_feed() {
    let Pair { a, b, .. } = pair("kinds");
    let lists = |machine: &Machine| machine.replica.status().requests.list;
    a.save("note.md", "text");
    a.mkdir("dir");
    a.save("dir/inner.md", "inner");
    a.settle();
    let before = lists(&b);
    b.pull(false);
    assert_eq!(
        (b.read("note.md"), b.read("dir/inner.md")),
        ("text".into(), "inner".into())
    );
    let ino = b.ino("note.md");
    a.save("note.md", "edited");
    a.settle();
    b.pull(false);
    assert_eq!((b.read("note.md").as_str(), b.ino("note.md")), ("edited", ino));
    a.rename("note.md", "dir/moved.md");
    a.settle();
    b.pull(false);
    assert_eq!(
        (b.read("dir/moved.md").as_str(), b.ino("dir/moved.md")),
        ("edited", ino),
        "a move keeps the inode"
    );
    assert!(!b.tree().contains_key("note.md"));
    a.chmod("dir/moved.md", 0o600);
    a.chmod("dir", 0o700);
    a.settle();
    b.pull(false);
    assert_eq!((b.mode("dir/moved.md"), b.mode("dir")), (0o600, 0o700));
    a.unlink("dir/moved.md");
    a.settle();
    b.pull(false);
    assert!(!b.tree().contains_key("dir/moved.md"));
    a.unlink("dir/inner.md");
    a.rmdir("dir");
    a.settle();
    b.pull(false);
    assert_eq!(b.tree(), a.tree());
    assert!(!b.tree().contains_key("dir"));
    assert!(
        lists(&b) - before <= 4,
        "the bucket was listed again and again: {}",
        lists(&b) - before
    );
}

#[test]
fn a_foreign_writer_is_found_by_listing() {
    let Pair { store, a, b } = pair("foreign");
    let put = |key: &str, text: &str| drop(store.raw_put(key, text.to_owned(), UserMetadata::new()));
    put("d/e/note.md", "one");
    put("big.bin", &"x".repeat(100_000));
    for machine in [&a, &b] {
        machine.pull(true);
        assert_eq!(machine.read("d/e/note.md"), "one");
        assert_eq!(machine.read("big.bin").len(), 100_000);
    }
    put("d/e/note.md", "two and more");
    put("big.bin", &"y".repeat(90_000));
    let ino = a.ino("d/e/note.md");
    for machine in [&a, &b] {
        machine.pull(true);
        assert_eq!(machine.read("d/e/note.md"), "two and more");
        machine.eventually("the new big file", || machine.read("big.bin") == "y".repeat(90_000));
    }
    assert!(store.raw_delete("d/e/note.md"));
    put("d/f.md", "two and more");
    a.pull(true);
    assert_eq!((a.ino("d/f.md"), a.read("d/f.md").as_str()), (ino, "two and more"));
    assert!(store.raw_delete("d/f.md"));
    (0..3).for_each(|_| a.pull(true));
    let names: Vec<String> = a.tree().into_keys().collect();
    assert_eq!(names, ["big.bin", "first.md"], "empty directories of nobody go");
}

#[test]
fn what_is_changed_here_is_left_to_its_push() {
    let Pair { a, b, store } = pair("dirty");
    a.save("note.md", "base");
    a.settle();
    b.pull(false);
    b.save("note.md", "mine");
    a.save("note.md", "theirs");
    a.settle();
    b.pull(true);
    assert_eq!(b.read("note.md"), "mine");
    a.unlink("note.md");
    a.settle();
    b.pull(true);
    assert_eq!(b.read("note.md"), "mine");
    b.settle();
    assert_eq!(store.raw_get("note.md").unwrap().0, "mine");
}

#[test]
fn a_trimmed_feed_and_a_long_absence_lose_nothing() {
    let Pair { a, b, .. } = pair("absent");
    for number in 0..300 {
        a.save(&format!("{number}.md"), "text");
    }
    a.unlink("first.md");
    a.settle();
    b.pull(false);
    assert_eq!(b.tree().len(), 300);
    assert_eq!(b.tree(), a.tree());
}

#[test]
fn an_outage_is_no_deletion() {
    let Pair { a, b, store } = pair("outage");
    store.set_down(true);
    assert!(b.try_pull(true).is_err());
    assert_eq!(b.read("first.md"), "1");
    store.set_down(false);
    a.save("second.md", "2");
    a.settle();
    b.pull(false);
    assert_eq!(b.tree().len(), 2);
}

#[test]
fn an_idle_machine_asks_once_a_second_and_writer() {
    let Pair { a: _a, b, .. } = pair("idle");
    // The writer counts as busy for a while.
    let before = b.replica.status().requests;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let after = b.replica.status().requests;
    let feed = after.feed - before.feed;
    assert!((2..=8).contains(&feed), "{feed} requests about feeds in 3 s");
    assert_eq!(
        (after.get, after.head, after.put),
        (before.get, before.head, before.put)
    );
    assert!(after.list - before.list <= 1);
}

/// Takes up everything on the spot, as a front end would, and keeps a protocol.
struct Taker {
    replica: std::sync::Weak<Replica>,
    seen: Shared<Vec<RemoteChange>>,
    takes: bool,
}

impl Announcer for Taker {
    fn announce(&self, change: RemoteChange) {
        if self.takes {
            let replica = self.replica.upgrade().unwrap();
            let attr = replica.take_effect(change.id).unwrap().unwrap();
            assert_eq!(attr.ino, change.ino, "{change:?}");
            assert!(
                replica.take_effect(change.id).unwrap().is_none(),
                "it took effect twice"
            );
        }
        self.seen.with(|seen| seen.push(change));
    }
}

#[test]
fn an_announcer_hears_of_each_change_once_and_makes_it_true() {
    let Pair { a, b, .. } = pair("announced");
    let seen = Shared::<Vec<RemoteChange>>::default();
    b.replica.set_announcer(Some(Arc::new(Taker {
        replica: Arc::downgrade(&b.replica),
        seen: seen.clone(),
        takes: true,
    })));
    let mut kinds = Vec::new();
    for step in 0..4 {
        match step {
            0 => {
                a.mkdir("d");
                a.save("d/x.md", "x");
            }
            1 => assert_ne!(a.save("d/x.md", "more"), ROOT_INO),
            2 => a.rename("d/x.md", "y.md"),
            _ => a.unlink("y.md"),
        }
        a.settle();
        b.pull(false);
        assert_eq!(b.tree(), a.tree(), "after step {step}");
        for change in seen.with(std::mem::take) {
            assert_eq!(change.origin.len(), 16, "a writer's id");
            let name = String::from_utf8(change.name).unwrap();
            kinds.push(match change.kind {
                RemoteChangeKind::Created => format!("+{name}"),
                RemoteChangeKind::Modified => format!("~{name}"),
                RemoteChangeKind::Removed => format!("-{name}"),
                RemoteChangeKind::Moved { from_name, .. } => {
                    format!("{}>{name}", String::from_utf8(from_name).unwrap())
                }
            });
        }
    }
    assert_eq!(kinds, ["+d", "+x.md", "~x.md", "x.md>y.md", "-y.md"]);
}

#[test]
fn what_no_announcer_takes_up_takes_effect_all_the_same() {
    let Pair { a, b, .. } = pair("idle-announcer");
    let seen = Shared::default();
    b.replica.set_announcer(Some(Arc::new(Taker {
        replica: Arc::downgrade(&b.replica),
        seen: seen.clone(),
        takes: false,
    })));
    a.mkdir("d");
    a.save("d/x.md", "x");
    a.settle();
    b.pull(false);
    assert_eq!(b.read("d/x.md"), "x");
    for change in seen.get() {
        assert!(b.replica.take_effect(change.id).unwrap().is_none());
    }
}

#[test]
fn the_index_follows_what_others_do() {
    let Pair { a, b, .. } = pair("index");
    let mut indexed: BTreeSet<String> = BTreeSet::new();
    let mut seq = 0;
    let follow = |b: &Machine, indexed: &mut BTreeSet<String>, seq: &mut u64| {
        let (changes, reached) = b.replica.changes_after(*seq, 1000).unwrap();
        for change in changes {
            match change {
                Change::Upsert { path, .. } => drop(indexed.insert(String::from_utf8(path).unwrap())),
                Change::Gone { path } => drop(indexed.remove(&String::from_utf8(path).unwrap())),
                Change::Moved { .. } => {}
            }
        }
        *seq = reached;
    };
    let backlog = b.replica.backlog(10).unwrap();
    indexed.extend(backlog.into_iter().map(|item| String::from_utf8(item.path).unwrap()));
    a.mkdir("d");
    a.save("d/x.md", "x");
    a.save("y.md", "y");
    a.settle();
    b.pull(false);
    follow(&b, &mut indexed, &mut seq);
    a.rename("y.md", "d/z.md");
    a.unlink("first.md");
    a.save("d/x.md", "again");
    a.settle();
    b.pull(false);
    follow(&b, &mut indexed, &mut seq);
    assert_eq!(indexed.into_iter().collect::<Vec<_>>(), ["d/x.md", "d/z.md"]);
}

#[test]
fn a_save_over_another_name_replaces_it_elsewhere_too() {
    let Pair { a, b, .. } = pair("over");
    a.save("x.md", "x");
    a.save("y.md", "y");
    a.settle();
    b.pull(false);
    a.go(|replica| replica.rename((ROOT_INO, b"x.md"), (ROOT_INO, b"y.md"), RenameMode::Replace))
        .unwrap();
    a.settle();
    b.pull(false);
    assert_eq!(b.tree(), a.tree());
    assert_eq!(b.read("y.md"), "x");
    let touched = AttrChange {
        mode: Some(0o640),
        ..AttrChange::default()
    };
    let ino = a.ino("y.md");
    a.go(|replica| replica.set_attr(ino, &touched)).unwrap();
    a.settle();
    b.pull(false);
    assert_eq!(b.mode("y.md"), 0o640);
}

#[test]
fn a_large_file_does_not_change_under_its_reader() {
    let Pair { store, a: _a, b } = pair("reader");
    let put = |byte: u8| drop(store.raw_put("big.bin", vec![byte; 300_000], UserMetadata::new()));
    put(b'x');
    b.pull(true);
    let ino = b.ino("big.bin");
    let part = |at: u64| b.go(|replica| replica.read(ino, at * 10_000, 10_000)).unwrap();
    assert!(part(0).iter().all(|byte| *byte == b'x'));
    put(b'y');
    b.pull(true);
    for at in 1..30 {
        assert!(
            part(at).iter().all(|byte| *byte == b'x'),
            "part {at} is of another version"
        );
    }
    b.eventually("the new version", || {
        // Who looks too often is a reader.
        std::thread::sleep(std::time::Duration::from_millis(500));
        part(0).iter().chain(part(29).iter()).all(|byte| *byte == b'y')
    });
}

#[test]
fn what_changed_is_readable_offline() {
    let Pair { a, b, store } = pair("offline");
    a.save("note.md", "one");
    a.settle();
    b.pull(false);
    a.save("note.md", "two");
    a.save("new.md", "three");
    a.settle();
    b.pull(false);
    store.set_down(true);
    assert_eq!((b.read("note.md"), b.read("new.md")), ("two".into(), "three".into()));
}
