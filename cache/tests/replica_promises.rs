//! Single promises of the replica, each told by its test's name, on a store in memory whose requests are counted.

#![allow(clippy::unwrap_used, reason = "a test")]

use notefs_cache::clock::{Clock, SystemClock};
use notefs_cache::store::{CallKind, Capabilities, MemoryStore, Store, UserMetadata};
use notefs_cache::{Error, FileKind, Ino, NewInode, Options, ROOT_INO, RenameMode, Replica, Result, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

struct Machine {
    replica: Arc<Replica>,
    runtime: tokio::runtime::Runtime,
}

impl Machine {
    fn new(dir: &Path, name: &str, store: &Arc<MemoryStore>) -> Machine {
        Machine::with_clock(dir, name, store, Arc::new(SystemClock::default()))
    }

    fn with_clock(dir: &Path, name: &str, store: &Arc<MemoryStore>, clock: Arc<dyn Clock>) -> Machine {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            cache_dir: dir.join(name),
            cache_size_bytes: 10 << 20,
            write_back: Duration::from_secs(600),
            poll: None,
            read_only: false,
            default_uid: 0,
            default_gid: 0,
            host: name.into(),
            stores_litter: false,
            remote_deadline: Duration::from_secs(10),
            clock,
        };
        let replica = Replica::open(options, store.clone(), runtime.handle().clone()).unwrap();
        replica.start();
        Machine { replica, runtime }
    }

    fn go<T>(&self, op: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        loop {
            match op(&self.replica) {
                Err(Error::Need(need)) => self.runtime.block_on(self.replica.satisfy(need))?,
                other => return other,
            }
        }
    }

    fn save(&self, path: &str, text: &str) -> Ino {
        let new = NewInode {
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: Vec::new(),
        };
        let made = self.go(|replica| replica.create(ROOT_INO, path.as_bytes(), &new));
        let attr = made
            .or_else(|_| self.go(|replica| replica.lookup(ROOT_INO, path.as_bytes())))
            .unwrap();
        self.go(|replica| {
            replica.set_attr(
                attr.ino,
                &notefs_cache::AttrChange {
                    size: Some(0),
                    ..Default::default()
                },
            )
        })
        .unwrap();
        self.go(|replica| replica.write(attr.ino, 0, text.as_bytes(), false))
            .unwrap();
        attr.ino
    }

    fn read(&self, path: &str) -> String {
        let found = self.go(|replica| replica.resolve(path.as_bytes()));
        let attr = found.unwrap_or_else(|error| panic!("{path}: {error}; there are {:?}", self.names()));
        let bytes = self.go(|replica| replica.read(attr.ino, 0, 1 << 20)).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = self.go(|replica| replica.read_dir(ROOT_INO, 0, 100)).unwrap();
        let mut names: Vec<String> = entries
            .into_iter()
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .collect();
        names.sort();
        names
    }

    fn drain(&self) {
        let owed = self
            .runtime
            .block_on(self.replica.drain(Duration::from_secs(20), &|_| {}));
        assert_eq!(owed.count, 0, "{:?}", self.replica.status().last_error);
    }
}

/// Keys of files: notefs' own objects do not count.
fn note_keys(store: &MemoryStore) -> Vec<String> {
    store
        .keys()
        .into_iter()
        .filter(|key| !key.starts_with(".notefs/"))
        .collect()
}

#[test]
fn two_saves_of_one_note_are_both_kept() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("both"));
    let a = Machine::new(dir.path(), "a", &store);
    a.save("note.md", "first");
    a.drain();
    let b = Machine::new(dir.path(), "b", &store);
    assert_eq!(b.read("note.md"), "first");
    a.save("note.md", "from a");
    b.save("note.md", "from b");
    a.drain();
    b.drain();
    let names = b.names();
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = names
        .iter()
        .find(|name| name.starts_with("note (conflict from b ") && name.ends_with(").md"))
        .unwrap();
    assert_eq!(
        (b.read("note.md").as_str(), b.read(copy).as_str()),
        ("from a", "from b")
    );
    assert_eq!(store.raw_get("note.md").unwrap().0, "from a");
    assert_eq!(store.raw_get(copy).unwrap().0, "from b");
    assert_eq!(b.replica.status().conflicts, 1);
}

#[test]
fn the_same_bytes_on_both_sides_are_no_conflict() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("same"));
    let a = Machine::new(dir.path(), "a", &store);
    assert!(a.names().is_empty());
    store.raw_put("note.md", "equal", UserMetadata::new());
    a.save("note.md", "equal");
    a.drain();
    assert_eq!(
        (a.names(), a.replica.status().conflicts),
        (vec!["note.md".to_owned()], 0)
    );
}

#[test]
fn an_edit_beats_a_delete_in_both_orders() {
    for deleter_first in [true, false] {
        let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("beats"));
        let a = Machine::new(dir.path(), "a", &store);
        a.save("note.md", "first");
        a.drain();
        let b = Machine::new(dir.path(), "b", &store);
        assert_eq!(b.read("note.md"), "first");
        a.go(|replica| replica.unlink(ROOT_INO, b"note.md")).unwrap();
        b.save("note.md", "edited");
        let order = if deleter_first { [&a, &b] } else { [&b, &a] };
        order.iter().for_each(|machine| machine.drain());
        assert_eq!(
            store.raw_get("note.md").unwrap().0,
            "edited",
            "deleter first: {deleter_first}"
        );
        assert_eq!(b.read("note.md"), "edited");
    }
}

#[test]
fn an_atomic_save_is_one_put_and_a_temporary_file_none() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("one"));
    let a = Machine::new(dir.path(), "a", &store);
    a.save("note.md", "old");
    a.drain();
    let before = a.replica.status().requests;
    a.save("note.md.tmp", "new");
    a.go(|replica| replica.rename((ROOT_INO, b"note.md.tmp"), (ROOT_INO, b"note.md"), RenameMode::Replace))
        .unwrap();
    a.save(".note.md.swp", "scratch");
    a.go(|replica| replica.unlink(ROOT_INO, b".note.md.swp")).unwrap();
    while a.replica.status().owed.count > 0 {
        a.runtime.block_on(a.replica.drain(Duration::from_millis(50), &|_| {}));
    }
    let after = a.replica.status().requests;
    let hint_objects = store
        .keys()
        .iter()
        .filter(|key| key.starts_with(".notefs/hints/"))
        .count() as u64;
    assert!(
        after.put - before.put <= 1 + hint_objects,
        "{} puts",
        after.put - before.put
    );
    assert_eq!((after.delete - before.delete, after.copy - before.copy), (0, 0));
    assert_eq!(note_keys(&store), ["note.md"]);
    assert_eq!(store.raw_get("note.md").unwrap().0, "new");
}

#[test]
fn a_rename_is_copied_inside_the_store_and_then_deleted() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("copy"));
    let a = Machine::new(dir.path(), "a", &store);
    a.save("old.md", "text");
    a.drain();
    let before = a.replica.status().requests;
    a.go(|replica| replica.rename((ROOT_INO, b"old.md"), (ROOT_INO, b"new.md"), RenameMode::Replace))
        .unwrap();
    a.drain();
    let after = a.replica.status().requests;
    assert_eq!((after.copy - before.copy, after.delete - before.delete), (1, 1));
    assert_eq!(note_keys(&store), ["new.md"]);
}

#[test]
fn an_unreachable_store_is_never_an_empty_folder() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("away"));
    store.raw_put("note.md", "text", UserMetadata::new());
    store.set_down(true);
    let a = Machine::new(dir.path(), "a", &store);
    let listed = a.go(|replica| replica.read_dir(ROOT_INO, 0, 10));
    assert!(
        matches!(&listed, Err(Error::Store(error)) if error.retryable),
        "{listed:?}"
    );
    let found = a.go(|replica| replica.lookup(ROOT_INO, b"note.md"));
    assert!(matches!(found, Err(Error::Store(_))), "{found:?}");
    assert!(!a.replica.status().store_reachable);
    store.set_down(false);
    assert_eq!(a.read("note.md"), "text");
}

#[test]
fn hostile_keys_are_hidden_or_aliased_and_never_lost() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("hostile"));
    let long = "x".repeat(300);
    for key in ["../escape", "a//b", "a", "a/b", "./dot", &long] {
        store.raw_put(key, key.to_owned(), UserMetadata::new());
    }
    let a = Machine::new(dir.path(), "a", &store);
    let names = a.names();
    assert!(
        names.contains(&"a".to_owned()) && names.contains(&"a (file beside folder)".to_owned()),
        "{names:?}"
    );
    assert_eq!(a.read("a (file beside folder)"), "a");
    assert_eq!(a.read("a/b"), "a/b");
    let alias = names.iter().find(|name| name.starts_with("xxx")).unwrap();
    assert_eq!(a.read(alias), long);
    let skipped: Vec<String> = a
        .replica
        .status()
        .skipped_keys
        .into_iter()
        .map(|skipped| skipped.key)
        .collect();
    for key in ["../escape", "a//b", "./dot", "a", &long] {
        assert!(
            skipped.iter().any(|skipped| skipped == key),
            "{key} is not listed: {skipped:?}"
        );
    }
    a.save("a (file beside folder)", "edited");
    a.drain();
    assert_eq!(store.raw_get("a").unwrap().0, "edited");
    assert_eq!(store.keys().iter().filter(|key| !key.starts_with(".notefs")).count(), 6);
}

/// A listing that shows nothing although the objects are there takes no note out of the folder.
#[test]
fn a_wiped_listing_removes_nothing() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("wiped"));
    let a = Machine::new(dir.path(), "a", &store);
    for number in 0..10 {
        a.save(&format!("note {number}.md"), "still there");
    }
    a.drain();
    a.runtime.block_on(a.replica.close()).unwrap();
    drop(a);
    // A task of its own may hold the replica for a moment longer.
    let lock = std::fs::File::open(dir.path().join("a/lock")).unwrap();
    lock.lock().unwrap();
    drop(lock);
    let keys = note_keys(&store);
    let (asked, lying) = (Arc::new(AtomicBool::new(false)), Arc::clone(&store));
    let seen = Arc::clone(&asked);
    store.set_hook(Some(Arc::new(move |call, key: &str| match call {
        CallKind::List if key.is_empty() => keys.iter().for_each(|key| {
            lying.raw_delete(key);
        }),
        CallKind::Head => {
            for key in &keys {
                lying.raw_put(key, "still there", UserMetadata::new());
            }
            seen.store(true, Ordering::Release);
        }
        _ => {}
    })));
    let b = Machine::new(dir.path(), "a", &store);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !asked.load(Ordering::Acquire) {
        assert!(
            std::time::Instant::now() < until,
            "the listing was believed; there are {:?}",
            b.names()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    store.set_hook(None);
    assert_eq!(b.names().len(), 10);
    assert_eq!(b.read("note 3.md"), "still there");
}

/// Where a store ignores conditions, a write and a deletion look first: others' versions are kept but for the same moment.
#[test]
fn a_store_that_ignores_conditions_is_looked_at_first() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("weak"));
    let honest = store.capabilities();
    store.set_capabilities(Capabilities {
        put_if_absent: false,
        put_if_match: false,
        delete_if_match: false,
        ..honest
    });
    let a = Machine::new(dir.path(), "a", &store);
    a.runtime.block_on(a.replica.learn_store()).unwrap();
    for name in ["edited.md", "deleted.md"] {
        a.save(name, "ours");
    }
    a.drain();
    assert!(a.names().contains(&"edited.md".to_owned()));
    for name in ["edited.md", "deleted.md", "new.md"] {
        store.raw_put(name, "theirs", UserMetadata::new());
    }
    a.save("edited.md", "ours again");
    a.save("new.md", "ours, too");
    a.go(|replica| replica.unlink(ROOT_INO, b"deleted.md")).unwrap();
    a.drain();
    for name in ["edited.md", "deleted.md", "new.md"] {
        assert_eq!(store.raw_get(name).unwrap().0, "theirs", "{name}");
        assert_eq!(a.read(name), "theirs", "{name}");
    }
    assert_eq!(a.names().len(), 5, "{:?}", a.names());
}

/// The machine's clock, that can be put forward.
#[derive(Default)]
struct PutForward {
    clock: SystemClock,
    ahead_ms: AtomicU64,
}

impl Clock for PutForward {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms() + self.ahead_ms.load(Ordering::Acquire)
    }
}

#[test]
fn a_store_that_does_not_answer_is_eio_for_who_waits_for_it() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new("silent"));
    let clock = Arc::new(PutForward::default());
    let a = Machine::with_clock(dir.path(), "a", &store, clock.clone());
    let stored = a.save("stored.md", "in time");
    a.runtime.block_on(a.replica.store_now(stored)).unwrap();
    assert_eq!(note_keys(&store), ["stored.md"]);
    store.set_down(true);
    let late = a.save("late.md", "too late");
    let waiting = a.replica.clone();
    let answer = a.runtime.spawn(async move { waiting.store_now(late).await });
    while a.replica.status().last_error.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!answer.is_finished(), "it did not wait");
    clock.ahead_ms.store(62_000, Ordering::Release);
    let answer = a.runtime.block_on(answer).unwrap();
    assert!(matches!(answer, Err(Error::Posix(libc::EIO))), "{answer:?}");
    store.set_down(false);
    a.drain();
    assert_eq!(note_keys(&store), ["late.md", "stored.md"]);
}
