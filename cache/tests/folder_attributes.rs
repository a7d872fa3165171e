//! Changes of a folder's mode by several machines, met in any order: the latest one counts everywhere, also for a cold start.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, options, run};
use notefs_cache::FileKind;
use notefs_cache::store::MemoryStore;
use std::sync::Arc;
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
    store: Arc<MemoryStore>,
    clock: Arc<Hand>,
}

impl World {
    fn new() -> World {
        World {
            dir: tempfile::tempdir().unwrap(),
            store: MemoryStore::new("folders"),
            clock: Arc::new(Hand::default()),
        }
    }

    /// A machine that has seen what there is.
    async fn machine(&self, name: &str) -> Machine {
        let machine = Machine::open(options(self.dir.path(), name, &self.clock, 0), self.store.clone()).unwrap();
        machine.tree().await.unwrap();
        machine
    }

    /// Stores everything, the feed and the hints included.
    async fn store(&self, machine: &Machine) {
        machine.push(&self.clock).await;
        let owed = machine.replica.drain(Duration::ZERO, &|_| {}).await;
        assert_eq!(owed.count, 0);
    }

    /// One machine that has the folders, with their modes.
    async fn with(&self, folders: &[(&str, u32)]) -> Machine {
        let first = self.machine("first").await;
        for (folder, mode) in folders {
            first.create(folder, FileKind::Directory).await.unwrap();
            first.chmod(folder, *mode).await.unwrap();
            first.save(&format!("{folder}/note.md"), folder).await.unwrap();
        }
        self.store(&first).await;
        self.clock.pass(10_000);
        first
    }

    /// The mode, the same on all these machines and on one that starts cold.
    async fn mode(&self, folder: &str, machines: &[&Machine]) -> u32 {
        let now = self.clock.0.load(std::sync::atomic::Ordering::Relaxed);
        self.clock.pass(1);
        let cold = self.machine(&format!("cold{now}")).await;
        let mode = cold.mode(folder).await.unwrap() & 0o777;
        for (at, machine) in machines.iter().enumerate() {
            let there = machine.mode(folder).await.unwrap() & 0o777;
            assert_eq!(
                format!("{there:o}"),
                format!("{mode:o}"),
                "{folder} on machine {at}, and cold"
            );
        }
        mode
    }
}

/// Reads all feeds, as every machine does each second.
async fn read_feeds(machine: &Machine) {
    machine.replica.pull(false).await.unwrap();
}

#[test]
fn a_change_is_not_taken_back_by_an_older_one_of_a_machine_that_is_met_late() {
    run(async {
        let world = World::new();
        let first = world.with(&[("folder", 0o755)]).await;
        let (gone, other) = (world.machine("gone").await, world.machine("other").await);
        gone.chmod("folder", 0o700).await.unwrap();
        world.store(&gone).await;
        drop(gone);
        world.clock.pass(1);
        first.chmod("folder", 0o750).await.unwrap();
        world.store(&first).await;
        for machine in [&first, &other, &first] {
            read_feeds(machine).await;
            world.store(machine).await;
        }
        assert_eq!(world.mode("folder", &[&first, &other]).await, 0o750);
    });
}

#[test]
fn a_machine_that_owes_a_change_takes_a_later_one() {
    run(async {
        let world = World::new();
        let first = world.with(&[("folder", 0o755)]).await;
        let other = world.machine("other").await;
        read_feeds(&first).await;
        first.chmod("folder", 0o750).await.unwrap();
        world.clock.pass(1);
        other.chmod("folder", 0o700).await.unwrap();
        world.store(&other).await;
        read_feeds(&first).await;
        world.store(&first).await;
        read_feeds(&other).await;
        assert_eq!(world.mode("folder", &[&first, &other]).await, 0o700);
    });
}

#[test]
fn what_was_set_between_two_equal_settings_is_older_than_the_second() {
    run(async {
        let world = World::new();
        let first = world.with(&[("folder", 0o755)]).await;
        let (other, reader) = (world.machine("other").await, world.machine("reader").await);
        other.chmod("folder", 0o700).await.unwrap();
        world.clock.pass(1);
        first.chmod("folder", 0o711).await.unwrap();
        first.chmod("folder", 0o755).await.unwrap();
        world.store(&first).await;
        read_feeds(&reader).await;
        world.store(&other).await;
        for machine in [&reader, &other, &first] {
            read_feeds(machine).await;
            world.store(machine).await;
        }
        assert_eq!(world.mode("folder", &[&first, &other, &reader]).await, 0o755);
    });
}

#[test]
fn changes_in_the_same_moment_end_alike() {
    run(async {
        for (mine, theirs) in [(0o700, 0o750), (0o750, 0o700)] {
            let world = World::new();
            let first = world.with(&[("folder", 0o755)]).await;
            let other = world.machine("other").await;
            first.chmod("folder", mine).await.unwrap();
            other.chmod("folder", theirs).await.unwrap();
            for machine in [&first, &other, &first, &other] {
                world.store(machine).await;
                read_feeds(machine).await;
            }
            world.mode("folder", &[&first, &other]).await;
        }
    });
}

#[test]
fn folders_that_change_names_bring_their_modes_along() {
    run(async {
        let world = World::new();
        let folders = [("one", 0o700), ("one/sub", 0o711), ("two", 0o755), ("two/sub", 0o750)];
        let first = world.with(&folders).await;
        let other = world.machine("other").await;
        // The folder that ends as `two` has the older mode.
        first.chmod("two/sub", 0o770).await.unwrap();
        first.chmod("two", 0o777).await.unwrap();
        world.store(&first).await;
        read_feeds(&other).await;
        world.clock.pass(1);
        for (from, to) in [("two", "three"), ("one", "two"), ("three", "one")] {
            first.rename(from, to).await.unwrap();
        }
        world.store(&first).await;
        for _ in 0..2 {
            other.replica.pull(true).await.unwrap();
            world.store(&other).await;
            world.clock.pass(5_000);
        }
        let both = [&first, &other];
        for (folder, mode) in [("two", 0o700), ("two/sub", 0o711), ("one", 0o777), ("one/sub", 0o770)] {
            assert_eq!(world.mode(folder, &both).await, mode, "{folder}");
        }
    });
}

#[test]
fn what_feeds_have_forgotten_is_learnt_by_a_machine_that_comes_back() {
    run(async {
        let world = World::new();
        let first = world.with(&[("folder", 0o755)]).await;
        let away = world.machine("away").await;
        read_feeds(&away).await;
        away.replica.close().await.unwrap();
        drop(away);
        first.chmod("folder", 0o700).await.unwrap();
        for turn in 0..300 {
            first.save("busy.md", &turn.to_string()).await.unwrap();
            first.push(&world.clock).await;
        }
        world.clock.pass(60_000);
        first.save("busy.md", "at last").await.unwrap();
        world.store(&first).await;
        let back = world.machine("away").await;
        back.replica.start();
        for _ in 0..600 {
            if back.mode("folder").await.unwrap() & 0o777 == 0o700 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the mode is never learnt");
    });
}
