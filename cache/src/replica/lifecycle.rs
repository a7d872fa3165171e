//! Opening, running and closing a replica.

use super::flights::Flights;
use super::remote_change::RemoteChanges;
use super::room::look_at_disk;
use super::syncer::Syncer;
use super::{Health, Observer, Options, Owed, Replica, Writers};
use crate::blob::Blobs;
use crate::error::{Error, Result};
use crate::pull::Puller;
use crate::push::Pusher;
use crate::state::{Inode, Mutation, Place, State};
use crate::store::Store;
use crate::types::*;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

impl Replica {
    /// Opens or creates the replica in `options.cache_dir`, recovering whatever an earlier run left.
    ///
    /// Refuses, without touching anything: a folder that another daemon uses, one that belongs to another store, a `state.db` that is
    /// corrupt or of a newer version.
    pub fn open(options: Options, store: Arc<dyn Store>, runtime: tokio::runtime::Handle) -> Result<Arc<Replica>> {
        make_private(&options.cache_dir)?;
        let lock = take_lock(&options.cache_dir)?;
        let blobs = Blobs::open(&options.cache_dir.join("blobs"))?;
        // Opening flushes the rows of a run that was killed: no power cut may then leave a row without the blob that it names.
        if State::was_killed(&options.cache_dir) {
            blobs.distrust_names();
            blobs.sync()?;
        }
        let state = State::open(
            &options.cache_dir,
            &options.clock.boot_id(),
            look_at_disk(&options.cache_dir)?.1,
        )?;
        state.lock().stores_litter = options.stores_litter;
        let writer_id = identify(&state, &options, &store.name())?;
        let bears_metadata = state.lock().meta("bears_metadata")?.as_deref() == Some("1");
        let replica = Arc::new_cyclic(|me| Replica {
            me: Weak::clone(me),
            capabilities: store.capabilities(),
            store,
            state,
            blobs,
            stripes: std::array::from_fn(|_| RwLock::new(())),
            references: Mutex::new(HashMap::new()),
            runtime,
            observer: RwLock::new(None),
            writers: RwLock::new(None),
            move_filter: RwLock::new(None),
            flights: Flights::default(),
            deletions: Mutex::default(),
            pusher: Pusher::default(),
            transfers: Default::default(),
            puller: Puller::default(),
            pins: Default::default(),
            feed: Default::default(),
            run_id: random_name(),
            remote_changes: RemoteChanges::default(),
            syncer: Syncer::default(),
            synced_op: AtomicU64::new(0),
            synced_seq: AtomicU64::new(0),
            flush_failed: AtomicBool::new(false),
            dirty_limit_bytes: AtomicU64::new(super::room::DIRTY_LIMIT_DEFAULT_BYTES),
            health: Mutex::new(Health::default()),
            changed: Mutex::new(()),
            changed_signal: Condvar::new(),
            stopping: AtomicBool::new(false),
            opened_ms: options.clock.monotonic_ms(),
            disk_full: AtomicBool::new(false),
            disk_short: AtomicBool::new(false),
            evictions: AtomicU64::new(0),
            unweighed_bytes: AtomicU64::new(0),
            writer_id,
            bears_metadata: AtomicBool::new(bears_metadata),
            hints: Mutex::default(),
            trash: crate::trash::Trash::default(),
            trial: Mutex::default(),
            options,
            _lock: lock,
        });
        replica.recover()?;
        Ok(replica)
    }

    /// Whether `cache_dir` holds a replica already (so that a mount can go on while the store is away).
    pub fn exists(cache_dir: &Path) -> bool {
        cache_dir.join("state.db").exists()
    }

    /// Starts write-back, the first listing and eviction in the background.
    pub fn start(self: &Arc<Self>) {
        let replica = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("notefs-sync".into())
            .spawn(move || replica.run_syncer());
        if let Err(error) = spawned {
            tracing::error!(%error, "Could not start the thread that flushes the disk; fsync will fail");
        }
        if !self.options.read_only {
            self.runtime.spawn(Arc::clone(self).run_pusher());
            self.runtime.spawn(Arc::clone(self).run_feed_writer());
            self.runtime.spawn(Arc::clone(self).run_trash_sweeper());
        }
        let replica = Arc::clone(self);
        self.runtime.spawn(async move {
            let done = match replica.refresh().await {
                Ok(()) => replica.list_directory(ROOT_INO).await,
                failed => failed,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "Could not list the bucket; each folder is tried again when somebody looks into it");
            }
            replica.hints.lock().clear();
            tokio::join!(Arc::clone(&replica).run_puller(), replica.run_pinner());
        });
    }

    /// Registers the front end that is told of changes from outside; replaces an earlier one.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        *self.observer.write() = Some(observer);
    }

    /// Registers who knows which files are open for writing; without it, a file that was just written to counts as such.
    pub fn set_writers(&self, writers: Arc<dyn Writers>) {
        *self.writers.write() = Some(writers);
    }

    /// Waits until everything written before the call is stored, or `deadline` has passed; tells how much is left.
    /// Uploads at once, without the write-back delay. `progress` is called with what is still owed, a few times a second.
    pub async fn drain(&self, deadline: Duration, progress: &(dyn Fn(Owed) + Sync)) -> Owed {
        let until = self.now_ms() + deadline.as_millis() as u64;
        loop {
            self.pusher.hurry(self.now_ms() + 1_000);
            let owed = self.owed();
            progress(owed);
            let told = owed.count == 0 && self.write_hints().await.is_ok() && self.write_feed().await.is_ok();
            if told || self.now_ms() >= until || self.options.read_only || self.only_held_left() {
                return owed;
            }
            let pause_ms = DRAIN_POLL_MS + (owed.count / 100).min(10 * DRAIN_POLL_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// Stops the background work and makes everything written *synced*. The replica answers nothing afterwards.
    pub async fn close(&self) -> Result<()> {
        self.stopping.store(true, Ordering::Release);
        self.changed_signal.notify_all();
        let hints = if self.pusher.hints.is_owed() { "0" } else { "1" };
        self.remember(HINTS_STORED, hints)?;
        self.remember("clean", "1")?;
        self.sync_now()?;
        self.state.shorten_log(0)
    }

    /// Writes a setting of this replica.
    pub(crate) fn remember(&self, name: &str, value: &str) -> Result<()> {
        self.change(|op| {
            op.push(Mutation::PutMeta {
                name: name.to_owned(),
                value: value.to_owned(),
            });
            Ok(())
        })
    }

    fn recover(&self) -> Result<()> {
        self.make_root()?;
        let boot = self.options.clock.boot_id();
        let (clean, last_boot) = self.view(|tables| Ok((tables.meta("clean")?, tables.meta("boot")?)))?;
        let hints = self.view(|tables| tables.meta(HINTS_STORED))?;
        if clean.as_deref() == Some("0") && last_boot.as_deref() != Some(&boot) {
            self.distrust_blobs()?;
        }
        self.pusher.owed.store(true, Ordering::Release);
        if clean.as_deref() == Some("0") || hints.as_deref() == Some("0") {
            self.pusher.hints.owe();
        }
        self.remember("boot", &boot)?;
        self.remember("clean", "0")?;
        self.sweep()?;
        self.mend_flushes(&boot)?;
        flush_names(&self.options.cache_dir)?;
        self.sync_now()
    }

    /// What an earlier run wrote to blobs may not be on the disk; where a flush had failed, it is written once more, since the kernel
    /// takes it for clean. (The tables were written anew when the log was closed by the check at the start.)
    fn mend_flushes(&self, boot: &str) -> Result<()> {
        let failed = self.view(|tables| tables.meta(FLUSH_FAILED))?;
        for ino in self.view(|tables| tables.with_blobs())? {
            if self.view(|tables| Ok(tables.dirty.contains_key(&ino)))? {
                self.blobs.distrust(ino);
                if failed.as_deref() == Some(boot) {
                    self.blobs.rewrite(ino)?;
                }
            }
        }
        if failed.is_some_and(|failed| !failed.is_empty()) {
            self.remember(FLUSH_FAILED, "")?;
        }
        Ok(())
    }

    fn make_root(&self) -> Result<()> {
        self.change(|op| {
            if op.tables.inode(ROOT_INO)?.is_none() {
                let root = root_inode(op.now, &self.options);
                op.put(&root);
            }
            Ok(())
        })
    }

    /// After a power cut: what was fetched may never have reached the disk, although the tables say that it is there; and bytes of
    /// an owed file may have reached it, although the tables say nothing of them.
    fn distrust_blobs(&self) -> Result<()> {
        for ino in self.view(|tables| tables.with_blobs())? {
            if self.view(|tables| Ok(tables.dirty.contains_key(&ino)))? {
                self.take_as_found(ino)?;
                continue;
            }
            let dropped = self.change(|op| {
                let Some(mut inode) = op.tables.inode(ino)?.filter(|inode| inode.place == Place::Blob) else {
                    return Ok(false);
                };
                if !super::content::is_stored(op.tables, &inode)? {
                    return Ok(false);
                }
                op.push(Mutation::DropPresent(ino));
                inode.place = Place::Nowhere;
                inode.base_version = inode.content_version;
                op.put(&inode);
                Ok(true)
            })?;
            self.remove_blob(dropped.then_some(ino));
        }
        Ok(())
    }

    /// The content of an owed file is what is found, and not what may have been stored of it. One that was never flushed, so that
    /// nothing but its row is left, is zeros.
    fn take_as_found(&self, ino: Ino) -> Result<()> {
        let size = self.view(|tables| match tables.inode(ino)? {
            Some(inode) if inode.place == Place::Blob && tables.remotes_of(ino)?.is_empty() => Ok(Some(inode.size)),
            _ => Ok(None),
        })?;
        if let Some(size) = size.filter(|_| !self.blobs.exists(ino)) {
            self.blobs.set_size(ino, size)?;
        }
        self.change(|op| {
            if let Some(mut inode) = op.tables.inode(ino)?.filter(|inode| inode.place == Place::Blob) {
                inode.content_version += 1;
                op.put(&inode);
                op.content_changed(ino);
            }
            Ok(())
        })
    }

    /// Removes what a crash left without a name: unlinked inodes whose last user died, and blobs of no inode.
    fn sweep(&self) -> Result<()> {
        self.state.commit()?;
        for ino in self.view(|tables| tables.orphans())? {
            self.change(|op| {
                op.push(Mutation::DropInode(ino));
                Ok(())
            })?;
        }
        let blobs: HashSet<Ino> = self.blobs.inodes().into_iter().collect();
        for ino in blobs {
            let used = self.view(|tables| Ok(tables.inode(ino)?.is_some_and(|inode| inode.place == Place::Blob)))?;
            self.remove_blob((!used).then_some(ino));
        }
        self.state.commit()
    }
}

/// The setting that says whether the hint object had everything when the replica was closed.
const HINTS_STORED: &str = "hints_stored";

/// The setting that holds the boot in which a flush has failed.
pub(super) const FLUSH_FAILED: &str = "flush_failed";

/// Makes the names in the cache folder, and its own, survive a power cut.
fn flush_names(dir: &Path) -> Result<()> {
    for folder in [Some(dir), dir.parent()].into_iter().flatten() {
        let flushed = File::open(folder).and_then(|open| open.sync_all());
        flushed.map_err(|source| Error::Local {
            action: "flush its folder",
            path: folder.to_owned(),
            source,
            advice: "Check the disk's health",
        })?;
    }
    Ok(())
}

/// How often `drain` looks; less often while very much is owed.
const DRAIN_POLL_MS: u64 = 25;

fn make_private(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let private = made.and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)));
    private.map_err(|source| Error::Local {
        action: "make its folder",
        path: dir.to_owned(),
        source,
        advice: "Name a folder that you may write with --cache",
    })
}

fn take_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|source| Error::Local {
        action: "open its lock",
        path,
        source,
        advice: "Check the folder's owner",
    })?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Unusable(format!(
            "Another notefs uses the cache folder {} already\n\nHint: See `notefs status` for its mount; unmount that one, or give this one its \
             own --cache folder",
            dir.display()
        ))),
    }
}

/// Ties the folder to its store, once, and gives the replica its name as a writer.
fn identify(state: &State, options: &Options, store: &str) -> Result<String> {
    let mut tables = state.lock();
    if let Some(known) = tables.meta("store")?
        && known != store
    {
        return Err(Error::Unusable(format!(
            "The cache folder {} belongs to {known}, not to {store}\n\nHint: Give each store its own --cache folder; nothing was changed in this one",
            options.cache_dir.display()
        )));
    }
    if let Some(writer) = tables.meta("writer")? {
        return Ok(writer);
    }
    let writer = random_name();
    let put = |name: &str, value: &str| Mutation::PutMeta {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    tables.write(&[put("store", store), put("writer", &writer)])?;
    Ok(writer)
}

/// 64 random bits from the kernel.
fn random_name() -> String {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() {
        bytes = std::process::id()
            .to_le_bytes()
            .repeat(2)
            .try_into()
            .unwrap_or_default();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}

fn root_inode(now: Timestamp, options: &Options) -> Inode {
    let owner = (options.default_uid, options.default_gid);
    let root = Inode::new(ROOT_INO, FileKind::Directory, 0o755, owner, now);
    Inode {
        known: false,
        parent: ROOT_INO,
        ..root
    }
}
