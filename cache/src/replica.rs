//! The replica: one bucket's folder as this machine knows it, with every operation that a front end asks for.
//!
//! Every operation here is local, short and synchronous. Where something must first come from the bucket, it changes
//! nothing and returns [`crate::Error::Need`]; the caller awaits [`Replica::satisfy`] and runs it again. So no lock is ever held
//! across the network, and one rule serves FUSE, NFS and the command line.
//!
//! Does not own: the order of uploads (`push`), SQL (`state`), the store's protocol (`store`).

mod allocate;
mod attrs;
mod base;
mod changes;
mod conflict_name;
mod conflicts;
mod content;
mod effect;
mod evict;
mod fetch;
mod flights;
mod follow;
mod lifecycle;
mod listing;
mod memory;
mod metadata;
mod moves;
mod names;
mod op;
mod overtaken;
mod remote_change;
mod rename;
mod replaced;
mod report;
mod resize;
mod room;
mod secret;
mod store_now;
mod stored;
mod syncer;
mod told;
mod trial;

pub(crate) use conflict_name::conflict_name;
pub use conflicts::ConflictReport;
pub(crate) use effect::{Spot, Theirs};
pub(crate) use listing::own_name;
pub(crate) use metadata::{TARGET_RANGE, fill_directory};
pub use moves::{LocalMove, MOVES_MAX, NotePredicate, REWRITE_BYTES_MAX, VersionedText, is_gone};
pub(crate) use op::Op;
pub(crate) use remote_change::Offer;
pub use remote_change::{ANNOUNCED_MAX, Announcer, FOREIGN, RemoteChange, RemoteChangeKind};
pub use report::*;
pub use secret::SECRET_BYTES;
pub use stored::{KnownObject, StoredPath, WrittenObject};
pub(crate) use stored::{Way, follow_path};
pub(crate) use told::{News as DirectoryNews, ToldDirectory};

use crate::blob::Blobs;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::pull::Puller;
use crate::push::Pusher;
use crate::state::State;
use crate::store::{Capabilities, Store, StoreError};
use crate::types::*;
use flights::Flights;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How a replica is to be run. None of these discards what an earlier run has cached.
#[derive(Clone)]
pub struct Options {
    /// The private folder that holds `state.db`, the journal and the blobs; made with mode 0700 if it is not there.
    pub cache_dir: PathBuf,
    /// Bound on clean cached content; what is owed to the bucket is never evicted and does not count as clean.
    pub cache_size_bytes: u64,
    /// How long after the last write a file is uploaded.
    pub write_back: Duration,
    /// How often the whole bucket is looked at for what other tools wrote; `None`: as often as it seems worth.
    pub poll: Option<Duration>,
    /// Store files that macOS strews about like any other, instead of keeping them on this machine alone ([`crate::litter`]).
    pub stores_litter: bool,
    /// Refuse every change with EROFS.
    pub read_only: bool,
    /// Owner of objects that carry none.
    pub default_uid: u32,
    /// Group of objects that carry none.
    pub default_gid: u32,
    /// This machine's name, for names of conflict copies.
    pub host: String,
    /// Longest wait for the bucket on behalf of one operation; then EIO.
    pub remote_deadline: Duration,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Told when something changed that no local program did, so that a front end can drop what the kernel caches.
/// Called without any lock held.
pub trait Observer: Send + Sync + 'static {
    /// The name in the directory appeared, vanished or means another inode.
    fn entry_changed(&self, parent: Ino, name: &[u8]);
    /// Content or attributes of the inode changed.
    fn inode_changed(&self, ino: Ino);
}

/// Tells which files programs have open for writing: their content is not replaced under them.
pub trait Writers: Send + Sync + 'static {
    /// Whether some program of this machine may write to the inode without opening it again. Asked only when versions were to be merged.
    fn is_open_for_writing(&self, ino: Ino) -> bool;
}

/// Contents up to this size live inside `state.db`.
pub(crate) const INLINE_BYTES_MAX: u64 = 64 << 10;

/// Locks that keep reads and writes of one content apart; inodes share them by number.
const STRIPES: usize = 64;

/// The name in the root that is notefs' own: objects below it are not files of the folder.
pub(crate) const RESERVED_NAME: &str = ".notefs";

/// The local replica of one bucket.
pub struct Replica {
    /// Itself, for tasks that outlive a call.
    me: Weak<Replica>,
    pub(crate) options: Options,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) capabilities: Capabilities,
    pub(crate) state: State,
    pub(crate) blobs: Blobs,
    /// Held (shared to read, exclusive to change) while blob bytes move; before `state`'s lock, never across the network.
    pub(crate) stripes: [RwLock<()>; STRIPES],
    /// Counts of [`Replica::retain`]; taken after `state`'s lock.
    references: Mutex<HashMap<Ino, u64>>,
    pub(crate) runtime: tokio::runtime::Handle,
    observer: RwLock<Option<Arc<dyn Observer>>>,
    writers: RwLock<Option<Arc<dyn Writers>>>,
    /// Which files' moves are recorded, if any are.
    move_filter: RwLock<Option<NotePredicate>>,
    flights: Flights,
    deletions: Mutex<listing::Deletions>,
    pub(crate) pusher: Pusher,
    pub(crate) transfers: memory::Transfers,
    pub(crate) puller: Puller,
    pub(crate) pins: crate::pin::Pins,
    pub(crate) feed: crate::feed::Feed,
    /// Another one with each start.
    pub(crate) run_id: String,
    remote_changes: remote_change::RemoteChanges,
    syncer: syncer::Syncer,
    synced_op: AtomicU64,
    synced_seq: AtomicU64,
    /// A flush has failed in this run: what the disk holds is unknown, and nothing is called *synced* any more.
    flush_failed: AtomicBool,
    dirty_limit_bytes: AtomicU64,
    health: Mutex<Health>,
    changed: Mutex<()>,
    changed_signal: Condvar,
    pub(crate) stopping: AtomicBool,
    /// When this replica was opened (monotonic, ms).
    pub(crate) opened_ms: u64,
    /// The cache disk has nothing left but the reserve.
    disk_full: AtomicBool,
    /// ... and may still have free pages in `state.db`.
    disk_short: AtomicBool,
    /// Contents dropped to keep the cache under its limit.
    evictions: AtomicU64,
    /// Written into `state.db` since the disk was last looked at.
    unweighed_bytes: AtomicU64,
    /// Names this replica in its writes, so that it knows its own objects when it meets them.
    pub(crate) writer_id: String,
    /// Objects of this bucket may carry user metadata that a listing does not show.
    pub(crate) bears_metadata: AtomicBool,
    /// Metadata of objects as last read from the hint objects.
    pub(crate) hints: Mutex<crate::hints::Hints>,
    /// What is kept of deleted and overwritten versions.
    pub(crate) trash: crate::trash::Trash,
    /// What the store was found to keep of its conditions.
    pub(crate) trial: Mutex<Option<crate::store::Trial>>,
    /// Held for as long as this replica lives; a second daemon cannot take it.
    _lock: std::fs::File,
}

/// What the store's newest answers were like.
#[derive(Default)]
struct Health {
    unreachable: bool,
    /// Calls in a row that went unanswered.
    unanswered: u32,
    last_error: Option<(u64, StoreError)>,
}

impl Replica {
    pub(crate) fn now_ms(&self) -> u64 {
        self.options.clock.monotonic_ms()
    }

    pub(crate) fn stripe(&self, ino: Ino) -> &RwLock<()> {
        &self.stripes[(ino % STRIPES as u64) as usize]
    }

    /// Notes how a call to the store ended.
    pub(crate) fn note_health<T>(&self, result: &Result<T, StoreError>) {
        let mut health = self.health.lock();
        match result {
            Ok(_) if !health.unreachable => {}
            Ok(_) => *health = Health::default(),
            Err(error) => {
                health.unreachable = error.retryable;
                health.unanswered = if error.retryable { health.unanswered + 1 } else { 0 };
                health.last_error = Some((self.now_ms(), error.clone()));
            }
        }
    }

    /// Whether the newest call to the store went unanswered.
    pub(crate) fn store_unreachable(&self) -> bool {
        self.health.lock().unreachable
    }

    /// Until when a store that does not answer is left alone (monotonic, ms); `pauses_ms`: the first pause and the longest.
    pub(crate) fn pause_until_ms(&self, pauses_ms: (u64, u64)) -> u64 {
        let health = self.health.lock();
        let since = health.last_error.as_ref().map_or(0, |(at_ms, _)| *at_ms);
        match health.unanswered.checked_sub(1).filter(|_| health.unreachable) {
            Some(more) => since + pauses_ms.0.saturating_mul(1 << more.min(10)).min(pauses_ms.1),
            None => 0,
        }
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.observer.read().clone()
    }

    /// Whether a program has the inode open for writing, as far as can be known.
    pub(crate) fn is_being_written(&self, ino: Ino) -> bool {
        let writers = self.writers.read().clone();
        writers.is_some_and(|writers| writers.is_open_for_writing(ino))
    }

    fn writable(&self) -> Result<()> {
        if self.options.read_only {
            Err(Error::Posix(libc::EROFS))
        } else {
            Ok(())
        }
    }
}
