//! The replica against a small model: random operations, faults of the store, kills and restarts; in the end the folder, the bucket
//! and a cold second replica must all be what the model says. The seed is printed; set `NOTEFS_TEST_SEED` to repeat a run.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "replica_model/trees.rs"]
mod trees;

use notefs_cache::clock::SystemClock;
use notefs_cache::store::{MemoryStore, StoreErrorKind};
use notefs_cache::{
    AllocateMode, AttrChange, Error, FileKind, Ino, NewInode, Options, ROOT_INO, RenameMode, Replica, Result,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trees::{assert_same, copy_folder, describe, node_at, tree_of};

/// How long the uploads of a closed replica may take to end.
const UPLOADS_END_WITHIN: Duration = Duration::from_secs(30);

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File(Vec<u8>, u32),
    Symlink(Vec<u8>),
}

type Tree = BTreeMap<String, Node>;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

struct World {
    replica: Arc<Replica>,
    runtime: Arc<tokio::runtime::Runtime>,
    store: Arc<MemoryStore>,
    tree: Tree,
    random: Random,
    log: Vec<String>,
}

fn options(dir: &Path, cache_size_bytes: u64) -> Options {
    Options {
        cache_dir: dir.to_owned(),
        cache_size_bytes,
        write_back: Duration::from_millis(5),
        poll: None,
        read_only: false,
        default_uid: 0,
        default_gid: 0,
        host: "test".into(),
        stores_litter: false,
        remote_deadline: Duration::from_secs(20),
        clock: Arc::new(SystemClock::default()),
    }
}

fn open(dir: &Path, store: &Arc<MemoryStore>, runtime: &tokio::runtime::Runtime) -> Arc<Replica> {
    let replica = Replica::open(options(dir, 300_000), store.clone(), runtime.handle().clone()).unwrap();
    replica.set_trash(Some(Duration::from_secs(3_600)));
    replica.start();
    replica
}

/// Waits until nothing of a replica that was closed is on its way to the store: in a process of its own it would have ended.
fn let_uploads_end(replica: &Replica) {
    let until = Instant::now() + UPLOADS_END_WITHIN;
    std::thread::sleep(Duration::from_millis(60));
    while replica.status().in_flight > 0 {
        assert!(Instant::now() < until, "an upload never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs an operation, bringing what it needs.
fn run<T>(replica: &Replica, runtime: &tokio::runtime::Runtime, op: impl Fn() -> Result<T>) -> Result<T> {
    let mut last = String::new();
    for _ in 0..200 {
        match op() {
            Err(Error::Need(need)) => {
                last = format!("{need:?}");
                if let Err(error) = runtime.block_on(replica.satisfy(need)) {
                    assert!(
                        !matches!(error, Error::Posix(libc::ENOENT)),
                        "an unreachable store is not an absent file"
                    );
                    last = format!("{need:?}: {error}");
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
            other => return other,
        }
    }
    panic!("an operation never got what it needs: {last}");
}

impl World {
    fn go<T>(&self, op: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        run(&self.replica, &self.runtime, || op(&self.replica))
    }

    fn ino(&self, path: &str) -> Ino {
        self.go(|replica| replica.resolve(path.as_bytes()))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .ino
    }

    fn parent<'p>(&self, path: &'p str) -> (Ino, &'p [u8]) {
        match path.rsplit_once('/') {
            Some((parent, name)) => (self.ino(parent), name.as_bytes()),
            None => (ROOT_INO, path.as_bytes()),
        }
    }

    fn pick(&mut self, want: impl Fn(&Node) -> bool) -> Option<String> {
        let paths: Vec<String> = self
            .tree
            .iter()
            .filter(|(_, node)| want(node))
            .map(|(path, _)| path.clone())
            .collect();
        (!paths.is_empty()).then(|| paths[self.random.below(paths.len())].clone())
    }

    fn fresh_path(&mut self) -> String {
        let parent = match self.random.below(3) {
            0 => self.pick(|node| *node == Node::Directory),
            _ => None,
        };
        let name = [
            "a.md",
            "b.md",
            "c d.md",
            "é.md",
            "x%0Ay",
            "line\nbreak.md",
            "dir",
            "sub",
            "100%.txt",
        ][self.random.below(9)];
        let name = format!("{}{name}", self.random.below(4));
        parent.map_or(name.clone(), |parent| format!("{parent}/{name}"))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = [0, 1, 30, 3000, 70_000, 130_000][self.random.below(6)];
        let byte = self.random.below(256) as u8;
        (0..length).map(|at| byte.wrapping_add(at as u8)).collect()
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.tree
            .keys()
            .filter(|other| other.starts_with(&prefix))
            .cloned()
            .collect()
    }

    fn step(&mut self) {
        match self.random.below(15) {
            0..4 => self.create(),
            4..7 => self.write(),
            7 => self.truncate(),
            8 => self.remove(),
            9..12 => self.rename(),
            12 => self.chmod(),
            13 => self.check_one(),
            _ => self.disturb(),
        }
    }

    fn create(&mut self) {
        let path = self.fresh_path();
        let node = match self.random.below(6) {
            0 | 1 => Node::Directory,
            2 => Node::Symlink(b"some/target".to_vec()),
            _ => Node::File(self.bytes(), 0o644),
        };
        self.log.push(format!("create {path:?} {}", describe(&node)));
        let kind = match node {
            Node::Directory => FileKind::Directory,
            Node::Symlink(_) => FileKind::Symlink,
            Node::File(..) => FileKind::File,
        };
        let target = if let Node::Symlink(target) = &node {
            target.clone()
        } else {
            Vec::new()
        };
        let new = NewInode {
            kind,
            mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            rdev: 0,
            target,
        };
        let (parent, name) = self.parent(&path);
        let made = self.go(|replica| replica.create(parent, name, &new));
        assert_eq!(made.is_ok(), !self.tree.contains_key(&path), "{path}: {made:?}");
        let Ok(attr) = made else { return };
        if let Node::File(bytes, _) = &node {
            self.go(|replica| replica.write(attr.ino, 0, bytes, false)).unwrap();
        }
        self.tree.insert(path, node);
    }

    fn write(&mut self) {
        let Some(path) = self.pick(|node| matches!(node, Node::File(..))) else {
            return;
        };
        let bytes = self.bytes();
        let ino = self.ino(&path);
        let Some(Node::File(content, _)) = self.tree.get(&path).cloned() else {
            return;
        };
        let mut content = content;
        let offset = self.random.below(content.len() + 2000);
        let punch = self.random.below(5) == 0 && !content.is_empty();
        self.log.push(format!(
            "write {path:?} at {offset} {} bytes, punch {punch}",
            bytes.len()
        ));
        if punch {
            let end = (offset + bytes.len() + 1).min(content.len());
            self.go(|replica| replica.allocate(ino, AllocateMode::PunchHole, offset as u64, bytes.len() as u64 + 1))
                .unwrap();
            if offset < end {
                content[offset..end].fill(0);
            }
        } else if !bytes.is_empty() {
            self.go(|replica| replica.write(ino, offset as u64, &bytes, false))
                .unwrap();
            content.resize(content.len().max(offset + bytes.len()), 0);
            content[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        if let Some(Node::File(known, _)) = self.tree.get_mut(&path) {
            *known = content;
        }
    }

    fn truncate(&mut self) {
        let Some(path) = self.pick(|node| matches!(node, Node::File(..))) else {
            return;
        };
        let size = [0, 10, 5000, 66_000, 100_000][self.random.below(5)];
        self.log.push(format!("truncate {path:?} to {size}"));
        let ino = self.ino(&path);
        self.go(|replica| {
            replica.set_attr(
                ino,
                &AttrChange {
                    size: Some(size as u64),
                    ..AttrChange::default()
                },
            )
        })
        .unwrap();
        if let Some(Node::File(content, _)) = self.tree.get_mut(&path) {
            content.resize(size, 0);
        }
    }

    fn remove(&mut self) {
        let Some(path) = self.pick(|_| true) else { return };
        self.log.push(format!("remove {path:?}"));
        let (parent, name) = self.parent(&path);
        if self.tree[&path] == Node::Directory {
            let removed = self.go(|replica| replica.rmdir(parent, name));
            assert_eq!(removed.is_ok(), self.below(&path).is_empty(), "{path}: {removed:?}");
            if removed.is_err() {
                return;
            }
        } else {
            self.go(|replica| replica.unlink(parent, name)).unwrap();
        }
        self.tree.remove(&path);
    }

    fn rename(&mut self) {
        let Some(from) = self.pick(|_| true) else { return };
        let to = if self.random.below(2) == 0 {
            self.pick(|_| true)
        } else {
            None
        }
        .unwrap_or_else(|| self.fresh_path());
        let exchange = self.random.below(4) == 0;
        let mode = if exchange {
            RenameMode::Exchange
        } else {
            RenameMode::Replace
        };
        self.log.push(format!("rename {from:?} to {to:?} {mode:?}"));
        let loops =
            from == to || to.starts_with(&format!("{from}/")) || exchange && from.starts_with(&format!("{to}/"));
        let (source, target) = (self.parent(&from), self.parent(&to));
        let done = self.go(|replica| replica.rename(source, target, mode));
        let is_dir = |node: Option<&Node>| node == Some(&Node::Directory);
        let (a, b) = (self.tree.get(&from), self.tree.get(&to));
        let allowed = match (exchange, b) {
            _ if loops && from != to => false,
            (true, b) => b.is_some(),
            (false, None) => true,
            (false, Some(_)) if from == to => true,
            (false, b) => is_dir(a) == is_dir(b) && (!is_dir(b) || self.below(&to).is_empty()),
        };
        assert_eq!(done.is_ok(), allowed, "{from} to {to} {mode:?}: {done:?}");
        if done.is_err() || from == to {
            return;
        }
        let mut moved = self.take(&from);
        if exchange {
            let back = self.take(&to);
            moved
                .iter_mut()
                .for_each(|(path, _)| *path = format!("{to}{}", &path[from.len()..]));
            self.tree.extend(
                back.into_iter()
                    .map(|(path, node)| (format!("{from}{}", &path[to.len()..]), node)),
            );
            self.tree.extend(moved);
        } else {
            self.tree.extend(
                moved
                    .into_iter()
                    .map(|(path, node)| (format!("{to}{}", &path[from.len()..]), node)),
            );
        }
    }

    fn take(&mut self, path: &str) -> Vec<(String, Node)> {
        let mut paths = self.below(path);
        paths.push(path.to_owned());
        paths
            .into_iter()
            .filter_map(|path| self.tree.remove_entry(&path))
            .collect()
    }

    fn chmod(&mut self) {
        let Some(path) = self.pick(|node| matches!(node, Node::File(..))) else {
            return;
        };
        let mode = [0o600, 0o640, 0o755][self.random.below(3)];
        self.log.push(format!("chmod {path:?} {mode:o}"));
        let ino = self.ino(&path);
        self.go(|replica| {
            replica.set_attr(
                ino,
                &AttrChange {
                    mode: Some(mode),
                    ..AttrChange::default()
                },
            )
        })
        .unwrap();
        if let Some(Node::File(_, known)) = self.tree.get_mut(&path) {
            *known = mode;
        }
    }

    fn check_one(&mut self) {
        let Some(path) = self.pick(|_| true) else { return };
        assert_eq!(
            node_at(&self.replica, &self.runtime, &path),
            self.tree[&path].clone(),
            "{path}"
        );
    }

    fn disturb(&mut self) {
        match self.random.below(5) {
            0 => self.store.fail_next(None, StoreErrorKind::Unavailable, 3),
            1 => self.store.lose_replies(None, 2),
            2 => self.store.fail_next(None, StoreErrorKind::SlowDown, 1),
            _ => std::thread::sleep(Duration::from_millis(self.random.below(30) as u64)),
        }
    }
}

fn one_run(seed: u64, steps: usize) {
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    );
    let scratch = tempfile::tempdir().unwrap();
    let store = MemoryStore::new("model");
    let mut generation = 0;
    let mut dir = scratch.path().join("0");
    let mut world = World {
        replica: open(&dir, &store, &runtime),
        runtime: runtime.clone(),
        store: store.clone(),
        tree: Tree::new(),
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        log: Vec::new(),
    };
    for step in 0..steps {
        world.step();
        if world.random.below(60) == 0 || step + 1 == steps {
            let kill = world.random.below(2) == 0;
            world.log.push(if kill { "kill" } else { "restart" }.into());
            generation += 1;
            let next = scratch.path().join(generation.to_string());
            if kill {
                // What the old one still sends is what a killed daemon had in flight: the store is cut off first.
                store.set_down(true);
                std::thread::sleep(Duration::from_millis(10));
                copy_folder(&dir, &next);
            }
            runtime.block_on(world.replica.close()).unwrap();
            let_uploads_end(&world.replica);
            if !kill {
                copy_folder(&dir, &next);
            } else {
                store.set_down(false);
            }
            dir = next;
            world.replica = open(&dir, &store, &runtime);
            let seen = tree_of(&world.replica, &runtime);
            assert_same("after a restart", &seen, &world.tree, &world.log);
        }
    }
    let owed = runtime.block_on(world.replica.drain(Duration::from_secs(60), &|_| {}));
    assert_eq!(
        owed.count,
        0,
        "everything arrives: {:?} {:?}\n{}",
        world.replica.owed_paths(9),
        world.replica.status().last_error,
        world.log.join("\n")
    );
    let cold = open(&scratch.path().join("cold"), &store, &runtime);
    let seen = tree_of(&cold, &runtime);
    assert_same("cold", &seen, &world.tree, &world.log);
    assert_eq!(
        world.replica.status().conflicts,
        0,
        "one machine is never in conflict with itself\n{}",
        world.log.join("\n")
    );
    runtime.block_on(cold.close()).unwrap();
    runtime.block_on(world.replica.close()).unwrap();
}

#[test]
fn random_operations_faults_and_kills_agree_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("NOTEFS_TEST_SEED");
    let base = seed
        .or_else(|| number("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let runs = if seed.is_some() {
        1
    } else {
        number("NOTEFS_TEST_RUNS").unwrap_or(20)
    };
    for run in 0..runs {
        let seed = base + run;
        eprintln!("NOTEFS_TEST_SEED={seed}");
        one_run(seed, 250);
    }
}
