//! Changes that are announced to a front end: who waits for them waits until they are true, and what a program's own request finds is announced, too.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, eventually, options, run_on_threads};
use notefs_cache::clock::Clock;
use notefs_cache::replica::{Announcer, RemoteChange, RemoteChangeKind};
use notefs_cache::store::MemoryStore;
use notefs_cache::{Attr, FileKind, Need, Options, Replica, Timestamp};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// The threads of the front end.
const FRONT_END: &str = "front-end";

/// A clock that answers the front end only while the gate is open: it asks when it has taken a change up, and before that is true.
#[derive(Default)]
struct Gate {
    hand: Arc<Hand>,
    is_shut: AtomicBool,
    came: AtomicUsize,
}

impl Clock for Gate {
    fn now(&self) -> Timestamp {
        self.hand.now()
    }

    fn monotonic_ms(&self) -> u64 {
        if std::thread::current().name() == Some(FRONT_END) {
            self.came.fetch_add(1, Ordering::SeqCst);
            while self.is_shut.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.hand.monotonic_ms()
    }
}

/// Changes that were taken up, and what came of each.
type Felt = Arc<Mutex<Vec<(RemoteChange, Option<Attr>)>>>;

/// Takes each change up at once, in a thread, and remembers what came of it.
#[derive(Default)]
struct FrontEnd {
    replica: Weak<Replica>,
    felt: Felt,
}

impl Announcer for FrontEnd {
    fn announce(&self, change: RemoteChange) {
        let (replica, felt) = (self.replica.upgrade().unwrap(), Arc::clone(&self.felt));
        let take_up = move || {
            let attr = replica.take_effect(change.id).unwrap();
            felt.lock().unwrap().push((change, attr));
        };
        let thread = std::thread::Builder::new().name(FRONT_END.to_owned());
        thread.spawn(take_up).unwrap();
    }
}

/// A machine that writes, and one with a front end.
struct World {
    a: Machine,
    b: Machine,
    gate: Arc<Gate>,
    felt: Felt,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(path: &str, text: &str) -> World {
        let (dir, store, gate) = (
            tempfile::tempdir().unwrap(),
            MemoryStore::new("announced"),
            Arc::new(Gate::default()),
        );
        let a = Machine::open(options(dir.path(), "a", &gate.hand, 0), store.clone()).unwrap();
        let gated = Options {
            clock: gate.clone(),
            ..options(dir.path(), "b", &gate.hand, 0)
        };
        let b = Machine::open(gated, store).unwrap();
        a.save(path, text).await.unwrap();
        a.push(&gate.hand).await;
        a.replica.tell_once().await.unwrap();
        b.ino(path).await.unwrap();
        b.replica.pull(false).await.unwrap();
        let front_end = FrontEnd {
            replica: Arc::downgrade(&b.replica),
            ..FrontEnd::default()
        };
        let felt = Arc::clone(&front_end.felt);
        b.replica.set_announcer(Some(Arc::new(front_end)));
        World {
            a,
            b,
            gate,
            felt,
            _dir: dir,
        }
    }

    async fn edit(&self, path: &str, text: &str) {
        self.a.save(path, text).await.unwrap();
        self.a.push(&self.gate.hand).await;
        self.a.replica.tell_once().await.unwrap();
    }

    /// Pulls while the gate is shut, and returns when the change was taken up and is not true yet.
    async fn pull_up_to_the_gate(&self) -> tokio::task::JoinHandle<notefs_cache::Result<()>> {
        let came = self.gate.came.load(Ordering::SeqCst);
        self.gate.is_shut.store(true, Ordering::SeqCst);
        let replica = Arc::clone(&self.b.replica);
        let pull = tokio::spawn(async move { replica.pull(false).await });
        eventually("the front end at the gate", || {
            self.gate.came.load(Ordering::SeqCst) > came
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!pull.is_finished(), "what was taken up is not true yet");
        pull
    }
}

#[test]
fn who_waits_for_a_change_waits_until_it_is_true() {
    run_on_threads(async {
        let world = World::new("note.md", "one").await;
        world.edit("note.md", "two and more").await;
        let pull = world.pull_up_to_the_gate().await;
        world.gate.is_shut.store(false, Ordering::SeqCst);
        pull.await.unwrap().unwrap();
        assert_eq!(world.b.read("note.md").await.unwrap(), "two and more");
    });
}

#[test]
fn a_change_that_is_never_made_true_holds_up_no_others() {
    run_on_threads(async {
        let world = World::new("note.md", "one").await;
        world.edit("note.md", "two and more").await;
        let pull = world.pull_up_to_the_gate().await;
        world.gate.hand.pass(10_000);
        pull.await.unwrap().unwrap();
        world.gate.is_shut.store(false, Ordering::SeqCst);
        eventually("the end of it", || !world.felt.lock().unwrap().is_empty()).await;
        assert_eq!(world.b.read("note.md").await.unwrap(), "two and more");
    });
}

#[test]
fn what_a_read_finds_to_be_changed_is_announced_once_it_is_true() {
    run_on_threads(async {
        let world = World::new("note.md", "one").await;
        let ino = world.b.ino("note.md").await.unwrap();
        world.edit("note.md", "two and more").await;
        // No look at the bucket, and its content was never here.
        assert_eq!(world.b.read("note.md").await.unwrap(), "two and more");
        eventually("its event", || !world.felt.lock().unwrap().is_empty()).await;
        let felt = world.felt.lock().unwrap();
        let (change, attr) = &felt[0];
        assert_eq!(
            (change.kind.clone(), change.ino, change.name.as_slice()),
            (RemoteChangeKind::Modified, ino, &b"note.md"[..])
        );
        assert_eq!(change.origin.len(), 16, "a writer's id");
        assert_eq!(attr.as_ref().map(|attr| attr.size), Some(12));
        assert_eq!(felt.len(), 1);
    });
}

#[test]
fn what_a_read_finds_to_be_gone_is_announced_once_its_name_is_gone() {
    run_on_threads(async {
        let world = World::new("note.md", "one").await;
        let ino = world.b.ino("note.md").await.unwrap();
        world.a.remove("note.md").await.unwrap();
        world.a.push(&world.gate.hand).await;
        // No look at the bucket, and its content was never here.
        assert!(world.b.read("note.md").await.is_err());
        assert!(world.b.ino("note.md").await.is_err());
        eventually("its event", || !world.felt.lock().unwrap().is_empty()).await;
        let felt = world.felt.lock().unwrap();
        let (change, attr) = &felt[0];
        assert_eq!(
            (change.kind.clone(), change.ino, change.name.as_slice()),
            (RemoteChangeKind::Removed, ino, &b"note.md"[..])
        );
        assert!(attr.is_some(), "it applies, although nothing is left to do");
        assert_eq!(felt.len(), 1);
    });
}

/// A watcher reads a new folder as soon as it hears of it; what lies in it already must be felt all the same.
#[test]
fn what_lies_in_a_new_folder_is_announced_whoever_reads_it() {
    run_on_threads(async {
        let world = World::new("note.md", "one").await;
        world.a.create("folder", FileKind::Directory).await.unwrap();
        world.a.push(&world.gate.hand).await;
        world.a.replica.tell_once().await.unwrap();
        world.a.save("folder/told.md", "told").await.unwrap();
        world.a.push(&world.gate.hand).await;
        world.a.replica.tell_once().await.unwrap();
        // Stored, and the feed does not say so yet.
        world.a.save("folder/untold.md", "untold").await.unwrap();
        world.a.push(&world.gate.hand).await;
        let replica = Arc::clone(&world.b.replica);
        let reader = tokio::spawn(async move {
            loop {
                if let Ok(folder) = replica.resolve(b"folder") {
                    break replica.satisfy(Need::Listing(folder.ino)).await;
                }
                tokio::task::yield_now().await;
            }
        });
        world.b.replica.pull(false).await.unwrap();
        reader.await.unwrap().unwrap();
        world.a.replica.tell_once().await.unwrap();
        world.b.replica.pull(false).await.unwrap();
        let names = || -> Vec<String> {
            let felt = world.felt.lock().unwrap();
            let created = felt
                .iter()
                .filter(|(change, attr)| change.kind == RemoteChangeKind::Created && attr.is_some());
            created
                .map(|(change, _)| String::from_utf8_lossy(&change.name).into_owned())
                .collect()
        };
        eventually("events of the folder and its notes", || names().len() == 3).await;
        assert_eq!(names(), ["folder", "told.md", "untold.md"]);
        assert_eq!(world.b.read("folder/untold.md").await.unwrap(), "untold");
    });
}
