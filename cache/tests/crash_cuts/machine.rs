//! A replica that is driven through a script by hand: no thread and no clock but the test's own, so that the same seed does the same, and a
//! thousand steps take less than a second.

use crate::script::{Node, Step, Tree};
use notefs_cache::clock::Clock;
use notefs_cache::store::{MemoryStore, StoreErrorKind};
use notefs_cache::{
    AllocateMode, AttrChange, Error, FileKind, Ino, NewInode, Options, ROOT_INO, RenameMode, Replica, Result, Timestamp,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A folder in memory, where there is a place for it: runs flush hundreds of times, and what survives a cut is told by a recording, not by
/// this disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

/// A clock that the test turns; `boot` is another machine start for each number.
#[derive(Debug, Default)]
pub(crate) struct HandClock {
    ms: AtomicU64,
    boot: u64,
}

impl HandClock {
    pub(crate) fn new(ms: u64, boot: u64) -> HandClock {
        HandClock {
            ms: AtomicU64::new(ms),
            boot,
        }
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let ms = self.monotonic_ms();
        Timestamp {
            seconds: 1_700_000_000 + (ms / 1000) as i64,
            nanoseconds: (ms % 1000) as u32 * 1_000_000,
        }
    }

    fn monotonic_ms(&self) -> u64 {
        self.ms.load(Ordering::SeqCst)
    }

    fn boot_id(&self) -> String {
        self.boot.to_string()
    }
}

/// A replica without threads of its own, its store and its clock.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) replica: Arc<Replica>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) runtime: Arc<tokio::runtime::Runtime>,
    /// It is in the middle of something: an operation that needs the bucket is not done.
    pub(crate) busy: bool,
}

pub(crate) fn runtime() -> Arc<tokio::runtime::Runtime> {
    Arc::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    )
}

impl Machine {
    pub(crate) fn open(
        dir: &Path,
        store: &Arc<MemoryStore>,
        clock: HandClock,
        runtime: &Arc<tokio::runtime::Runtime>,
    ) -> Result<Machine> {
        let clock = Arc::new(clock);
        let options = Options {
            cache_dir: dir.to_owned(),
            cache_size_bytes: 400_000,
            write_back: Duration::from_millis(200),
            read_only: false,
            default_uid: 0,
            default_gid: 0,
            host: "test".into(),
            stores_litter: false,
            remote_deadline: Duration::from_secs(20),
            clock: clock.clone(),
            poll: None,
        };
        let replica = Replica::open(options, store.clone(), runtime.handle().clone())?;
        Ok(Machine {
            replica,
            store: store.clone(),
            clock,
            runtime: runtime.clone(),
            busy: false,
        })
    }

    /// Runs an operation, bringing what it needs; a store that fails is asked again.
    pub(crate) fn go<T>(&self, op: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        for _ in 0..100 {
            match op(&self.replica) {
                Err(Error::Need(need)) if self.busy => return Err(Error::Need(need)),
                Err(Error::Need(need)) => match self.runtime.block_on(self.replica.satisfy(need)) {
                    Err(Error::Posix(libc::ENOENT)) => panic!("an unreachable store is not an absent file"),
                    Err(error @ (Error::Local { .. } | Error::Database { .. } | Error::Posix(_))) => return Err(error),
                    Ok(()) | Err(_) => {}
                },
                other => return other,
            }
        }
        panic!("an operation never got what it needs")
    }

    fn ino(&self, path: &str) -> Result<Ino> {
        Ok(self.go(|replica| replica.resolve(path.as_bytes()))?.ino)
    }

    fn parent<'p>(&self, path: &'p str) -> Result<(Ino, &'p [u8])> {
        match path.rsplit_once('/') {
            Some((parent, name)) => Ok((self.ino(parent)?, name.as_bytes())),
            None => Ok((ROOT_INO, path.as_bytes())),
        }
    }

    /// Does one step. What the replica refuses is the caller's to judge.
    pub(crate) fn step(&self, step: &Step) -> Result<()> {
        match step {
            Step::Create(path) => self.create(path, FileKind::File),
            Step::Folder(path) => self.create(path, FileKind::Directory),
            Step::Symlink(path) => self.create(path, FileKind::Symlink),
            Step::Write {
                path,
                offset,
                length,
                byte,
            } => {
                let (ino, data) = (self.ino(path)?, vec![*byte; *length]);
                self.go(|replica| replica.write(ino, *offset as u64, &data, false))
            }
            Step::Truncate { path, size } => {
                let change = AttrChange {
                    size: Some(*size as u64),
                    ..AttrChange::default()
                };
                self.set_attr(path, &change)
            }
            Step::Chmod { path, mode } => self.chmod(path, *mode),
            Step::Punch { path, offset, length } => {
                let ino = self.ino(path)?;
                self.go(|replica| replica.allocate(ino, AllocateMode::PunchHole, *offset as u64, *length as u64))
            }
            Step::Read(path) => {
                let ino = self.ino(path)?;
                self.go(|replica| replica.read(ino, 0, 300_000)).map(drop)
            }
            Step::Remove(path) => {
                let (parent, name) = self.parent(path)?;
                match self.go(|replica| replica.resolve(path.as_bytes()))?.kind {
                    FileKind::Directory => self.go(|replica| replica.rmdir(parent, name)),
                    _ => self.go(|replica| replica.unlink(parent, name)),
                }
            }
            Step::Rename { from, to, exchange } => {
                let mode = if *exchange {
                    RenameMode::Exchange
                } else {
                    RenameMode::Replace
                };
                let (source, target) = (self.parent(from)?, self.parent(to)?);
                self.go(|replica| replica.rename(source, target, mode))
            }
            other => self.background(other),
        }
    }

    fn background(&self, step: &Step) -> Result<()> {
        match step {
            Step::Sync => return self.replica.sync_now(),
            Step::KeepHouse => self.replica.keep_house(),
            Step::Push => {
                self.clock.pass(250);
                self.runtime.block_on(self.replica.push_due());
            }
            Step::Wait(ms) => self.clock.pass(*ms),
            Step::Fail { kind, count } => self.store.fail_next(None, *kind, *count),
            Step::Away(away) => self.store.set_down(*away),
            Step::LoseReplies(count) => self.store.lose_replies(None, *count),
            Step::Expired(expired) => self.store.refuse_all(expired.then_some(StoreErrorKind::Unauthorised)),
            _ => {}
        }
        Ok(())
    }

    fn create(&self, path: &str, kind: FileKind) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let mode = if kind == FileKind::Directory { 0o755 } else { 0o644 };
        let target = if kind == FileKind::Symlink {
            b"some/target".to_vec()
        } else {
            Vec::new()
        };
        let new = NewInode {
            kind,
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            target,
        };
        self.go(|replica| replica.create(parent, name, &new)).map(drop)
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        self.set_attr(
            path,
            &AttrChange {
                mode: Some(mode),
                ..AttrChange::default()
            },
        )
    }

    fn set_attr(&self, path: &str, change: &AttrChange) -> Result<()> {
        let attr = self.go(|replica| replica.resolve(path.as_bytes()))?;
        if attr.kind != FileKind::File {
            return Err(Error::Posix(libc::EINVAL));
        }
        self.go(|replica| replica.set_attr(attr.ino, change)).map(drop)
    }

    /// Everything that the folder shows. Files have the number 0.
    pub(crate) fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut open = vec![(ROOT_INO, String::new())];
        while let Some((folder, prefix)) = open.pop() {
            for entry in self.go(|replica| replica.read_dir(folder, 0, 10_000))? {
                let path = format!("{prefix}{}", String::from_utf8_lossy(&entry.name));
                let attr = self.go(|replica| replica.attr(entry.attr.ino))?;
                let node = match attr.kind {
                    FileKind::Directory => {
                        open.push((attr.ino, format!("{path}/")));
                        Node::Folder
                    }
                    FileKind::Symlink => Node::Symlink,
                    _ => {
                        let bytes = self.go(|replica| replica.read(attr.ino, 0, attr.size as usize))?;
                        Node::File {
                            id: 0,
                            bytes: Arc::new(bytes.to_vec()),
                            mode: attr.mode,
                        }
                    }
                };
                tree.insert(path, node);
            }
        }
        Ok(tree)
    }

    /// Pushes until nothing is owed; `Err` says what never arrived.
    pub(crate) fn drain(&self) -> std::result::Result<(), String> {
        for _ in 0..300 {
            if self.replica.status().owed.count == 0 {
                return Ok(());
            }
            self.clock.pass(20_000);
            self.runtime.block_on(self.replica.push_due());
        }
        let status = self.replica.status();
        Err(format!(
            "{:?} are still owed: {:?}",
            self.replica.owed_paths(9),
            status.last_error
        ))
    }
}
