//! A machine whose time and background work belong to the test: nothing happens that the test does not ask for.

use notefs_cache::clock::Clock;
use notefs_cache::replica::ConflictReport;
use notefs_cache::store::Store;
use notefs_cache::{
    AttrChange, Error, FileKind, Ino, NewInode, Options, ROOT_INO, RenameMode, Replica, Result, Timestamp,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long something that happens in the background may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test in this thread alone.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

/// Runs one in which something is to go on while something else waits.
pub(crate) fn run_on_threads(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Time that passes when the test says so.
#[derive(Default)]
pub(crate) struct Hand(pub(crate) AtomicU64);

impl Hand {
    pub(crate) fn pass(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(1_795_269_802_000_000_000 + self.0.load(Ordering::Relaxed) as i64 * 1_000_000)
    }

    fn monotonic_ms(&self) -> u64 {
        1 + self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Machine {
    pub(crate) replica: Arc<Replica>,
}

pub(crate) fn options(dir: &Path, name: &str, clock: &Arc<Hand>, write_back_ms: u64) -> Options {
    Options {
        cache_dir: dir.join(name),
        cache_size_bytes: 10 << 20,
        write_back: Duration::from_millis(write_back_ms),
        poll: None,
        read_only: false,
        default_uid: 0,
        default_gid: 0,
        host: name.into(),
        stores_litter: false,
        remote_deadline: Duration::from_secs(60),
        clock: clock.clone(),
    }
}

impl Machine {
    pub(crate) fn open(options: Options, store: Arc<dyn Store>) -> Result<Machine> {
        let replica = Replica::open(options, store, tokio::runtime::Handle::current())?;
        Ok(Machine { replica })
    }

    pub(crate) async fn go<T>(&self, op: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        for _ in 0..200 {
            match op(&self.replica) {
                // A store that fails is asked again, as a program would be answered EIO and try again.
                Err(Error::Need(need)) => drop(self.replica.satisfy(need).await),
                other => return other,
            }
        }
        Err(Error::Posix(libc::EIO))
    }

    pub(crate) async fn create(&self, path: &str, kind: FileKind) -> Result<Ino> {
        let (parent, name) = self.parent(path).await?;
        let new = NewInode {
            kind,
            mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            rdev: 0,
            target: Vec::new(),
        };
        Ok(self.go(|replica| replica.create(parent, name, &new)).await?.ino)
    }

    async fn parent<'p>(&self, path: &'p str) -> Result<(Ino, &'p [u8])> {
        match path.rsplit_once('/') {
            Some((parent, name)) => Ok((
                self.go(|replica| replica.resolve(parent.as_bytes())).await?.ino,
                name.as_bytes(),
            )),
            None => Ok((ROOT_INO, path.as_bytes())),
        }
    }

    pub(crate) async fn ino(&self, path: &str) -> Result<Ino> {
        Ok(self.go(|replica| replica.resolve(path.as_bytes())).await?.ino)
    }

    /// Saves as a program does that truncates and writes.
    pub(crate) async fn save(&self, path: &str, text: &str) -> Result<()> {
        let ino = match self.ino(path).await {
            Ok(ino) => ino,
            Err(_) => self.create(path, FileKind::File).await?,
        };
        let empty = AttrChange {
            size: Some(0),
            ..AttrChange::default()
        };
        self.go(|replica| replica.set_attr(ino, &empty)).await?;
        self.go(|replica| replica.write(ino, 0, text.as_bytes(), false)).await
    }

    /// Saves as a program does that writes a new file and renames it over the old one.
    pub(crate) async fn replace(&self, path: &str, text: &str) -> Result<()> {
        let temporary = format!("{path}.tmp");
        self.save(&temporary, text).await?;
        self.rename(&temporary, path).await
    }

    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.parent(from).await?, self.parent(to).await?);
        self.go(|replica| replica.rename(source, target, RenameMode::Replace))
            .await
    }

    pub(crate) async fn exchange(&self, one: &str, other: &str) -> Result<()> {
        let (one, other) = (self.parent(one).await?, self.parent(other).await?);
        self.go(|replica| replica.rename(one, other, RenameMode::Exchange))
            .await
    }

    pub(crate) async fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        self.go(|replica| replica.unlink(parent, name)).await
    }

    pub(crate) async fn remove_directory(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        self.go(|replica| replica.rmdir(parent, name)).await
    }

    pub(crate) async fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        let ino = self.ino(path).await?;
        let change = AttrChange {
            mode: Some(mode),
            ..AttrChange::default()
        };
        self.go(|replica| replica.set_attr(ino, &change)).await.map(drop)
    }

    pub(crate) async fn mode(&self, path: &str) -> Result<u32> {
        Ok(self.go(|replica| replica.resolve(path.as_bytes())).await?.mode)
    }

    pub(crate) async fn read(&self, path: &str) -> Result<String> {
        let ino = self.ino(path).await?;
        let bytes = self.go(|replica| replica.read(ino, 0, 16 << 20)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every file with its text; a folder is there with a slash and nothing in it.
    pub(crate) async fn tree(&self) -> Result<BTreeMap<String, String>> {
        let mut tree = BTreeMap::new();
        let mut open = vec![(ROOT_INO, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for entry in self.go(|replica| replica.read_dir(dir, 0, 10_000)).await? {
                let path = format!("{prefix}{}", String::from_utf8_lossy(&entry.name));
                if entry.attr.kind == FileKind::Directory {
                    tree.insert(format!("{path}/"), String::new());
                    open.push((entry.attr.ino, format!("{path}/")));
                } else {
                    let text = self.read(&path).await?;
                    tree.insert(path, text);
                }
            }
        }
        Ok(tree)
    }

    pub(crate) fn conflicts(&self) -> Vec<ConflictReport> {
        self.replica.conflicts().unwrap()
    }

    /// Stores everything.
    pub(crate) async fn push(&self, clock: &Hand) {
        for _ in 0..200 {
            self.replica.write_back_once().await;
            let status = self.replica.status();
            if status.owed.count == 0 {
                return;
            }
            clock.pass(1_000);
        }
        panic!(
            "{:?} is never stored: {:?}",
            self.replica.owed_paths(9),
            self.replica.status().last_error
        );
    }
}
