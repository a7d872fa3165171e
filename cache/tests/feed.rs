//! When a machine writes its feed and how it is met by others: two machines on one store in memory, whose time belongs to the test.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, eventually, options, run, run_on_threads};
use notefs_cache::Replica;
use notefs_cache::store::{CallKind, MemoryStore, UserMetadata};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const FEEDS: &str = ".notefs/feed/";
const HALF_A_DAY_MS: u64 = 12 * 3_600_000;

struct World {
    dir: tempfile::TempDir,
    store: Arc<MemoryStore>,
    clock: Arc<Hand>,
}

impl World {
    fn new() -> World {
        World {
            dir: tempfile::tempdir().unwrap(),
            store: MemoryStore::new("feeds"),
            clock: Arc::new(Hand::default()),
        }
    }

    /// A machine, or one that was there before and starts again.
    fn machine(&self, name: &str) -> Machine {
        Machine::open(options(self.dir.path(), name, &self.clock, 0), self.store.clone()).unwrap()
    }

    async fn store(&self, machine: &Machine) {
        machine.push(&self.clock).await;
        machine.replica.tell_once().await.unwrap();
    }

    /// The feed that there is, if there is one.
    fn feed(&self) -> Option<String> {
        let key = self.store.keys().into_iter().find(|key| key.starts_with(FEEDS))?;
        let (bytes, _) = self.store.raw_get(&key).unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

fn peers(machine: &Machine) -> usize {
    machine.replica.status().pull.peers.len()
}

#[test]
fn a_machine_shows_itself_at_its_start_and_when_it_is_used_after_half_a_day() {
    run(async {
        let world = World::new();
        let (a, b) = (world.machine("a"), world.machine("b"));
        a.tree().await.unwrap();
        b.tree().await.unwrap();
        b.replica.pull(false).await.unwrap();
        assert_eq!((world.feed(), peers(&b)), (None, 0));
        a.replica.tell_once().await.unwrap();
        b.replica.pull(false).await.unwrap();
        assert_eq!(peers(&b), 1, "before its first change");
        let first = world.feed().unwrap();
        let after = async |pause_ms: u64, used: bool| {
            world.clock.pass(pause_ms);
            if used {
                a.tree().await.unwrap();
            }
            let before = world.store.change_count();
            a.replica.tell_once().await.unwrap();
            world.store.change_count() - before
        };
        assert_eq!(after(HALF_A_DAY_MS - 1, true).await, 0, "it was written lately");
        assert_eq!(after(HALF_A_DAY_MS, false).await, 0, "nobody uses it");
        assert_eq!(after(1, true).await, 1);
        assert_eq!(after(1, true).await, 0);
        assert_ne!(world.feed().unwrap(), first, "others see another version");
        b.replica.pull(false).await.unwrap();
        assert_eq!(
            b.replica.status().pull.peers[0].quiet_ms,
            None,
            "it has told nothing new"
        );
        a.save("note.md", "text").await.unwrap();
        world.store(&a).await;
        assert_eq!(after(HALF_A_DAY_MS - 1, true).await, 0, "it has stored something");
        b.replica.pull(false).await.unwrap();
        assert_eq!(b.read("note.md").await.unwrap(), "text");
    });
}

#[test]
fn a_feed_that_shows_a_machine_is_no_debt_when_the_store_is_away() {
    run(async {
        let world = World::new();
        let a = world.machine("a");
        a.tree().await.unwrap();
        world.store.set_down(true);
        assert!(a.replica.tell_once().await.is_err());
        let end = a.replica.drain(Duration::from_secs(3_600), &|_| {});
        let end = tokio::time::timeout(Duration::from_secs(60), end).await;
        assert_eq!(end.expect("whoever unmounts does not wait for it").count, 0);
        world.store.set_down(false);
        a.replica.tell_once().await.unwrap();
        assert!(world.feed().is_some());
    });
}

#[test]
fn machines_that_have_only_shown_themselves_cost_no_questions_about_what_others_have_stored() {
    run(async {
        let world = World::new();
        for number in 0..40 {
            let key = format!("{number}.md");
            world.store.raw_put(&key, "text", UserMetadata::new());
        }
        world.machine("a").replica.tell_once().await.unwrap();
        assert!(world.feed().is_some());
        let b = world.machine("b");
        world.store.reset_requests();
        assert_eq!(b.tree().await.unwrap().len(), 40);
        let heads = b.replica.status().requests.head;
        assert!(heads <= 5, "{heads} HEAD for the metadata of objects that have none");
    });
}

#[test]
fn an_object_of_a_writer_that_nobody_knows_leads_to_its_feed_at_once() {
    run_on_threads(async {
        let world = World::new();
        let (b, looks) = (world.machine("b"), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&looks);
        world.store.set_hook(Some(Arc::new(move |kind, key| {
            if kind == CallKind::List && key == FEEDS {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        })));
        b.replica.start();
        eventually("a first look for writers", || looks.load(Ordering::Relaxed) > 0).await;
        b.tree().await.unwrap();
        let a = world.machine("a");
        a.save("note.md", "text").await.unwrap();
        world.store(&a).await;
        // Writers are looked for every 10 s, and no more than a second passes here.
        b.replica.pull_once().await.unwrap();
        assert_eq!(b.read("note.md").await.unwrap(), "text");
        world.clock.pass(1_000);
        eventually("the writer", || peers(&b) == 1).await;
        b.replica.close().await.unwrap();
    });
}

/// Both hold what the other one needs, if they take it in another order: then neither ever ends.
#[test]
fn a_status_while_writers_are_met_holds_up_nothing() {
    run_on_threads(async {
        let world = World::new();
        for number in 0..200 {
            // Its place in a feed that cannot be read is looked up each time.
            world
                .store
                .raw_put(&format!("{FEEDS}{number:016x}"), "?", UserMetadata::new());
        }
        let (b, ended) = (world.machine("b"), Arc::new(AtomicUsize::new(0)));
        let (replica, runtime) = (Arc::clone(&b.replica), tokio::runtime::Handle::current());
        let meet = move || (0..30).for_each(|_| runtime.block_on(replica.pull(false)).unwrap());
        let replica = Arc::clone(&b.replica);
        let tell = move || (0..1_000).for_each(|_| drop(replica.status()));
        let in_thread = |work: Box<dyn Fn() + Send>| {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                work();
                ended.fetch_add(1, Ordering::SeqCst);
            });
        };
        in_thread(Box::new(meet));
        in_thread(Box::new(tell));
        eventually("the end of both", || ended.load(Ordering::SeqCst) == 2).await;
        assert_eq!(peers(&b), 200);
    });
}

/// A machine with some notes whose deletion waits in the store for as long as the test wants, and the feeds that were written.
struct Slow {
    world: World,
    a: Machine,
    feeds: Arc<AtomicUsize>,
    go_on: mpsc::Sender<()>,
}

impl Slow {
    async fn new(slow: &'static str, others: &[&str]) -> Slow {
        let world = World::new();
        let a = world.machine("a");
        for name in others.iter().chain([&slow]) {
            a.save(name, name).await.unwrap();
        }
        world.store(&a).await;
        let (feeds, (go_on, wait)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel());
        let (written, wait) = (Arc::clone(&feeds), Mutex::new(wait));
        world.store.set_hook(Some(Arc::new(move |kind, key| {
            if kind == CallKind::Delete && key == slow {
                wait.lock().unwrap().recv().unwrap();
            }
            if kind == CallKind::Put && key.starts_with(FEEDS) {
                written.fetch_add(1, Ordering::Relaxed);
            }
        })));
        Slow { world, a, feeds, go_on }
    }

    /// Deletes all of them, and returns once only the slow one is under way.
    async fn delete(&self, names: &[&str]) -> tokio::task::JoinHandle<usize> {
        for name in names {
            self.a.remove(name).await.unwrap();
        }
        let replica = Arc::clone(&self.a.replica);
        let push = tokio::spawn(async move { replica.push_due().await });
        eventually("the end of the other rounds", || {
            self.a.replica.status().in_flight == 1 && self.a.replica.status().owed.count == 1
        })
        .await;
        push
    }

    fn tell(&self) -> tokio::task::JoinHandle<notefs_cache::Result<()>> {
        let replica: Arc<Replica> = Arc::clone(&self.a.replica);
        tokio::spawn(async move { replica.tell_once().await })
    }

    /// Whether the feed says that this key is gone.
    fn tells_gone(&self, name: &str) -> bool {
        let key = format!("\"k\":\"{name}\"");
        let feed = self.world.feed().unwrap();
        feed.lines().any(|line| line.contains(&key) && !line.contains("\"e\":"))
    }
}

#[test]
fn rounds_that_end_one_after_the_other_are_told_together() {
    run_on_threads(async {
        let slow = Slow::new("slow.md", &["quick.md"]).await;
        let push = slow.delete(&["quick.md", "slow.md"]).await;
        let tell = slow.tell();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(slow.feeds.load(Ordering::Relaxed), 0, "a round is under way");
        slow.go_on.send(()).unwrap();
        tell.await.unwrap().unwrap();
        assert_eq!(push.await.unwrap(), 2);
        assert_eq!(slow.feeds.load(Ordering::Relaxed), 1);
        assert!(slow.tells_gone("quick.md") && slow.tells_gone("slow.md"));
    });
}

#[test]
fn a_round_that_takes_long_holds_up_no_others_word() {
    run_on_threads(async {
        let slow = Slow::new("slow.md", &["quick.md"]).await;
        let push = slow.delete(&["quick.md", "slow.md"]).await;
        let tell = slow.tell();
        // However late the other thread begins to wait.
        let clock = Arc::clone(&slow.world.clock);
        eventually("the feed", || {
            clock.pass(300);
            tell.is_finished()
        })
        .await;
        assert!(slow.tells_gone("quick.md") && !slow.tells_gone("slow.md"));
        slow.go_on.send(()).unwrap();
        push.await.unwrap();
        slow.a.replica.tell_once().await.unwrap();
        assert!(slow.tells_gone("slow.md"));
    });
}

/// No time passes, so what waits for its other half would not show.
#[test]
fn what_its_writer_has_told_of_does_not_wait_for_the_other_half_of_a_rename() {
    run(async {
        let world = World::new();
        let (a, b) = (world.machine("a"), world.machine("b"));
        a.save("x.md", "same\n").await.unwrap();
        world.store(&a).await;
        assert_eq!(b.tree().await.unwrap().len(), 1);
        // The first feed that b reads has a gap, and the object has the version of one that stands.
        a.save("y.md", "same\n").await.unwrap();
        world.store(&a).await;
        b.replica.pull(false).await.unwrap();
        assert_eq!(b.tree().await.unwrap(), a.tree().await.unwrap(), "a copy");
        // So has that of another run.
        drop(a);
        let a = world.machine("a");
        a.tree().await.unwrap();
        a.remove("x.md").await.unwrap();
        world.store(&a).await;
        b.replica.pull(false).await.unwrap();
        let names: Vec<String> = b.tree().await.unwrap().into_keys().collect();
        assert_eq!(names, ["y.md"], "a deletion");
    });
}
