//! The hint object: a machine that starts cold learns from it, and never what is no longer true.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;

use machine::{Hand, Machine, options};
use notefs_cache::FileKind;
use notefs_cache::store::{CallKind, MemoryStore, Store, StoreErrorKind, UserMetadata};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PLENTY: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn open(dir: &Path, name: &str, clock: &Arc<Hand>, store: &Arc<MemoryStore>) -> Machine {
    Machine::open(options(dir, name, clock, 0), store.clone()).unwrap()
}

/// What everybody's hint objects say.
fn hints(store: &MemoryStore) -> String {
    let keys = store.keys().into_iter().filter(|key| key.starts_with(".notefs/hints/"));
    let texts = keys.map(|key| String::from_utf8_lossy(&store.raw_get(&key).unwrap().0).into_owned());
    texts.collect()
}

#[test]
fn a_drain_waits_for_a_hint_object_that_is_under_way() {
    run(async {
        let (dir, clock, store) = (tempfile::tempdir().unwrap(), Arc::default(), MemoryStore::new("hints"));
        let machine = open(dir.path(), "first", &clock, &store);
        machine.save("note.md", "text").await.unwrap();
        machine.push(&clock).await;
        assert_eq!(machine.replica.drain(PLENTY, &|_| {}).await.count, 0);
        // Only the folder's times have changed then, and they stand in the hint object alone.
        let before = hints(&store);
        clock.pass(1_000);
        machine.save("gone.md", "text").await.unwrap();
        machine.remove("gone.md").await.unwrap();
        machine.push(&clock).await;
        store.set_latency(Duration::from_millis(300));
        let first = machine.replica.drain(PLENTY, &|_| {});
        let second = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(
                hints(&store),
                before,
                "the first drain was done too early for this test"
            );
            assert_eq!(machine.replica.drain(PLENTY, &|_| {}).await.count, 0);
            assert_ne!(hints(&store), before, "the second drain came back before");
        };
        tokio::join!(first, second);
    });
}

#[test]
fn a_hint_that_is_older_than_its_object_is_not_believed() {
    run(async {
        let (dir, clock, store) = (tempfile::tempdir().unwrap(), Arc::default(), MemoryStore::new("hints"));
        let machine = open(dir.path(), "first", &clock, &store);
        for name in ["same.md", "other.md"] {
            machine.create(name, FileKind::File).await.unwrap();
            machine.save(name, "text").await.unwrap();
            machine.chmod(name, 0o600).await.unwrap();
        }
        machine.push(&clock).await;
        assert_eq!(machine.replica.drain(PLENTY, &|_| {}).await.count, 0);
        assert!(hints(&store).contains("other.md"));
        let (bytes, _) = store.raw_get("other.md").unwrap();
        let mode: UserMetadata = [("mode", "100640")].into_iter().collect();
        store.raw_put("other.md", bytes, mode);

        let cold = open(dir.path(), "cold", &clock, &store);
        assert_eq!(cold.mode("other.md").await.unwrap() & 0o777, 0o640);
        store.reset_requests();
        assert_eq!(cold.mode("same.md").await.unwrap() & 0o777, 0o600);
        assert_eq!(store.requests().head, 0, "the other hint is true still");
    });
}

#[test]
fn hints_that_are_owed_at_an_unmount_are_written_at_the_next_mount() {
    run(async {
        let (dir, clock, store) = (tempfile::tempdir().unwrap(), Arc::default(), MemoryStore::new("hints"));
        let machine = open(dir.path(), "first", &clock, &store);
        machine.save("note.md", "text").await.unwrap();
        machine.push(&clock).await;
        store.fail_next(Some(CallKind::Put), StoreErrorKind::Unavailable, 1);
        machine.replica.drain(Duration::ZERO, &|_| {}).await;
        assert_eq!(hints(&store), "");
        machine.replica.close().await.unwrap();
        drop(machine);

        let machine = open(dir.path(), "first", &clock, &store);
        assert_eq!(machine.replica.drain(PLENTY, &|_| {}).await.count, 0);
        assert!(hints(&store).contains("note.md"));
        machine.replica.close().await.unwrap();
        drop(machine);

        store.reset_requests();
        let machine = open(dir.path(), "first", &clock, &store);
        assert_eq!(machine.replica.drain(PLENTY, &|_| {}).await.count, 0);
        assert_eq!(store.requests().put, 0, "nothing is owed any more");
    });
}
