//! One machine of the pull tests: a replica with its own cache, driven step by step.

use notefs_cache::check::CheckReport;
use notefs_cache::clock::SystemClock;
use notefs_cache::store::MemoryStore;
use notefs_cache::{AttrChange, Error, FileKind, Ino, NewInode, Options, ROOT_INO, RenameMode, Replica, Result};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// What a path is: content and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(String, u32),
}

pub(crate) type Tree = BTreeMap<String, Node>;

/// How long something that happens in the background may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) replica: Arc<Replica>,
    runtime: tokio::runtime::Runtime,
    _dir: Arc<tempfile::TempDir>,
}

impl Machine {
    pub(crate) fn new(dir: &Arc<tempfile::TempDir>, name: &'static str, store: &Arc<MemoryStore>) -> Machine {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            cache_dir: dir.path().join(name),
            cache_size_bytes: 10 << 20,
            write_back: Duration::from_secs(600),
            poll: Some(Duration::from_secs(3600)),
            read_only: false,
            default_uid: 0,
            default_gid: 0,
            host: name.into(),
            stores_litter: false,
            remote_deadline: Duration::from_secs(10),
            clock: Arc::new(SystemClock::default()),
        };
        let replica = Replica::open(options, store.clone(), runtime.handle().clone()).unwrap();
        replica.start();
        Machine {
            name,
            replica,
            runtime,
            _dir: Arc::clone(dir),
        }
    }

    pub(crate) fn go<T>(&self, op: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        loop {
            match op(&self.replica) {
                Err(Error::Need(need)) => self.runtime.block_on(self.replica.satisfy(need))?,
                other => return other,
            }
        }
    }

    fn parent<'p>(&self, path: &'p str) -> (Ino, &'p [u8]) {
        match path.rsplit_once('/') {
            Some((parent, name)) => (self.ino(parent), name.as_bytes()),
            None => (ROOT_INO, path.as_bytes()),
        }
    }

    pub(crate) fn ino(&self, path: &str) -> Ino {
        let found = self.go(|replica| replica.resolve(path.as_bytes()));
        found
            .unwrap_or_else(|error| panic!("{path} on {}: {error}", self.name))
            .ino
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        self.go(|replica| replica.resolve(path.as_bytes())).unwrap().mode
    }

    fn make(&self, path: &str, kind: FileKind, mode: u32) -> Result<Ino> {
        let new = NewInode {
            kind,
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: Vec::new(),
        };
        let (parent, name) = self.parent(path);
        Ok(self.go(|replica| replica.create(parent, name, &new))?.ino)
    }

    pub(crate) fn mkdir(&self, path: &str) {
        self.make(path, FileKind::Directory, 0o755).unwrap();
    }

    pub(crate) fn save(&self, path: &str, text: &str) -> Ino {
        let ino = self
            .make(path, FileKind::File, 0o644)
            .unwrap_or_else(|_| self.ino(path));
        let cut = AttrChange {
            size: Some(0),
            ..AttrChange::default()
        };
        self.go(|replica| replica.set_attr(ino, &cut)).unwrap();
        self.go(|replica| replica.write(ino, 0, text.as_bytes(), false))
            .unwrap();
        ino
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let ino = self.ino(path);
        let change = AttrChange {
            mode: Some(mode),
            ..AttrChange::default()
        };
        self.go(|replica| replica.set_attr(ino, &change)).unwrap();
    }

    pub(crate) fn unlink(&self, path: &str) {
        let (parent, name) = self.parent(path);
        self.go(|replica| replica.unlink(parent, name)).unwrap();
    }

    pub(crate) fn try_rmdir(&self, path: &str) -> bool {
        let (parent, name) = self.parent(path);
        self.go(|replica| replica.rmdir(parent, name)).is_ok()
    }

    pub(crate) fn rmdir(&self, path: &str) {
        assert!(self.try_rmdir(path), "{path} is not empty");
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let (from, to) = (self.parent(from), self.parent(to));
        self.go(|replica| replica.rename(from, to, RenameMode::NoReplace))
            .unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        let ino = self.ino(path);
        let bytes = self.go(|replica| replica.read(ino, 0, 1 << 20)).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut open = vec![(ROOT_INO, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for entry in self.go(|replica| replica.read_dir(dir, 0, 10_000)).unwrap() {
                let path = format!("{prefix}{}", String::from_utf8(entry.name).unwrap());
                if entry.attr.kind == FileKind::Directory {
                    open.push((entry.attr.ino, format!("{path}/")));
                    tree.insert(path, Node::Directory);
                } else {
                    let node = Node::File(short(&self.read(&path)), entry.attr.mode);
                    tree.insert(path, node);
                }
            }
        }
        tree
    }

    /// Stores everything, and tells it.
    pub(crate) fn settle(&self) {
        let owed = self
            .runtime
            .block_on(self.replica.drain(Duration::from_secs(60), &|_| {}));
        assert_eq!(owed.count, 0, "{:?}", self.replica.status().last_error);
    }

    pub(crate) fn check(&self) -> CheckReport {
        self.runtime.block_on(self.replica.check(false, &|_| {})).unwrap()
    }

    pub(crate) fn try_pull(&self, everything: bool) -> Result<()> {
        self.runtime.block_on(self.replica.pull(everything))
    }

    pub(crate) fn pull(&self, everything: bool) {
        self.try_pull(everything).unwrap();
    }

    pub(crate) fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let until = std::time::Instant::now() + PATIENCE;
        while !holds() {
            assert!(std::time::Instant::now() < until, "{what} on {} never came", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What tells texts apart, and can be printed.
pub(crate) fn short(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let start: String = text.chars().take(12).collect();
    format!("{start} {} {:x}", text.len(), hasher.finish())
}

/// Keys of files and markers: notefs' own objects do not count.
pub(crate) fn note_keys(store: &MemoryStore) -> Vec<String> {
    let keys = store.keys().into_iter();
    keys.filter(|key| !key.starts_with(".notefs/")).collect()
}
