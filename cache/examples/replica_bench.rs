//! Times replica operations without a kernel in between: `cargo run --release -p notefs-cache --example replica_bench [NOTES]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use notefs_cache::clock::{Clock, SystemClock};
use notefs_cache::store::MemoryStore;
use notefs_cache::{FileKind, NewInode, Options, ROOT_INO, RenameMode, Replica};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let notes: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let options = Options {
        cache_dir: dir.path().to_owned(),
        cache_size_bytes: 1 << 30,
        write_back: Duration::from_secs(600),
        poll: None,
        read_only: false,
        default_uid: 0,
        default_gid: 0,
        host: "bench".into(),
        stores_litter: false,
        remote_deadline: Duration::from_secs(10),
        clock: clock.clone(),
    };
    let replica = Replica::open(options, MemoryStore::new("bench"), runtime.handle().clone()).unwrap();
    replica.start();
    std::thread::sleep(Duration::from_millis(200));
    let file = NewInode {
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: Vec::new(),
    };
    let body = vec![b'x'; 2048];
    let time = |name: &str, op: &dyn Fn(u64)| {
        let start = clock.monotonic_ms();
        (0..notes).for_each(op);
        println!(
            "{name:12} {:6.1} us",
            (clock.monotonic_ms() - start) as f64 * 1000.0 / notes as f64
        );
    };
    time("create", &|n| {
        let attr = replica.create(ROOT_INO, format!("n{n}.md").as_bytes(), &file).unwrap();
        replica.write(attr.ino, 0, &body, false).unwrap();
    });
    time("lookup", &|n| {
        assert!(replica.lookup(ROOT_INO, format!("n{n}.md").as_bytes()).is_ok())
    });
    time("write", &|n| replica.write(2 + n, 0, &body, false).unwrap());
    time("read", &|n| drop(replica.read(2 + n, 0, 4096).unwrap()));
    time("save: create", &|n| {
        let attr = replica.create(ROOT_INO, format!("t{n}").as_bytes(), &file).unwrap();
        replica.write(attr.ino, 0, &body, false).unwrap();
    });
    time("save: rename", &|n| {
        let (from, to) = (format!("t{n}"), format!("n{n}.md"));
        replica
            .rename(
                (ROOT_INO, from.as_bytes()),
                (ROOT_INO, to.as_bytes()),
                RenameMode::Replace,
            )
            .unwrap();
    });
    time("unlink", &|n| {
        replica.unlink(ROOT_INO, format!("n{n}.md").as_bytes()).unwrap()
    });
    runtime.block_on(replica.close()).unwrap();
}
