//! The pull side: learns what others wrote to the bucket, brings what that needs, and offers it to the folder.
//!
//! ```text
//!  listing ─┐                 confirm              propose                     offer
//!           ├─> looks ─> GET or HEAD of each ─> moves, places ─> [RemoteChange + effect] ─> announcer or replica
//!  feeds ───┘
//! ```
//!
//! A look is only a hint that a key is worth a question; what takes effect is the bucket's own answer. What is owed by this machine is left
//! to `push`, which finds out by its conditions.
//!
//! Owns: when to look and the order of a round. `pull/diff.rs` owns the decisions, as functions of values.

mod adopted;
mod confirm;
mod diff;
mod halves;
mod hinted;
mod listing;
mod pace;
mod peers;
mod places;
mod propose;
mod readers;

pub use hinted::Hint;

use crate::error::Result;
use crate::replica::Replica;
use crate::store::{Listed, ObjectInfo, UserMetadata};
use crate::types::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often the loop looks at what is due.
const TICK_MS: u64 = 50;

/// The first listing after a start waits for the one that learns the names.
const FIRST_LISTING_MS: u64 = 1_000;

/// Directories that are looked at on their own where the whole bucket takes more than one request.
const HOT_DIRECTORIES_MAX: usize = 4;

/// Keys remembered that cannot be shown.
const FRUITLESS_MAX: usize = 10_000;

/// A key that may hold something else than is known here.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) key: String,
    /// Who says so: a writer, or "foreign".
    pub(crate) origin: String,
    /// The key under which the object was before, if the writer says so.
    pub(crate) moved_from: Option<String>,
    /// What a listing shows, or a feed tells; `None`: it may be gone.
    pub(crate) info: Option<ObjectInfo>,
    /// What a feed tells of its metadata.
    pub(crate) meta: Option<UserMetadata>,
    /// The version of a directory's, if a feed tells of it, or 0.
    pub(crate) version: u64,
}

impl Look {
    /// What may be gone.
    fn doubt(key: String, origin: &str) -> Look {
        Look {
            key,
            origin: origin.to_owned(),
            moved_from: None,
            info: None,
            meta: None,
            version: 0,
        }
    }
}

/// What the pull side remembers between rounds.
#[derive(Default)]
pub(crate) struct Puller {
    /// One task at a time reads feeds, and one lists.
    feeds: tokio::sync::Mutex<()>,
    listings: tokio::sync::Mutex<()>,
    /// One round at a time brings changes about.
    round: tokio::sync::Mutex<()>,
    pub(crate) readers: readers::Readers,
    /// Directories of which the last listing showed nothing.
    doubtful: Mutex<HashSet<Ino>>,
    /// Keys that cannot be shown as they are, with the version for which that was found out.
    fruitless: Mutex<HashMap<String, String>>,
    /// What may be half a rename.
    halves: halves::Halves,
    /// What requests have found, on its way to be felt.
    adopted: adopted::Room,
    /// Other writers by their ids.
    peers: Mutex<HashMap<String, peers::Peer>>,
    /// When the whole bucket was last looked at, when that showed differences, and when the folder was last used (monotonic, ms).
    pub(crate) listed_ms: AtomicU64,
    others_ms: AtomicU64,
    used_ms: AtomicU64,
    /// Directories that programs have read lately, or watch, and when one was last read, and seen to be watched (monotonic, ms).
    hot: Mutex<HotDirectories>,
    watched: Mutex<Vec<Ino>>,
    read_ms: AtomicU64,
    watched_ms: AtomicU64,
    /// The pause between two listings now.
    pub(crate) interval_ms: AtomicU64,
    /// A feed has a gap: list at once.
    list_soon: AtomicBool,
    /// A writer that nobody knows has written: look for its feed at once.
    discover_soon: AtomicBool,
}

/// Directories by when they were last read: the newest are looked at first.
struct HotDirectories(LruCache<Ino, ()>);

impl Default for HotDirectories {
    fn default() -> HotDirectories {
        HotDirectories(LruCache::new(
            NonZeroUsize::new(HOT_DIRECTORIES_MAX).unwrap_or(NonZeroUsize::MIN),
        ))
    }
}

impl Puller {
    /// A program reads this directory.
    pub(crate) fn note_directory(&self, dir: Ino, now_ms: u64) {
        self.hot.lock().0.put(dir, ());
        self.read_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Whether a line was looked into before, in vain.
    fn is_fruitless(&self, listed: &Listed) -> bool {
        self.fruitless
            .lock()
            .get(&listed.key)
            .is_some_and(|etag| *etag == etag_of(listed))
    }

    fn note_fruitless(&self, listed: &Listed) {
        let mut fruitless = self.fruitless.lock();
        if fruitless.len() >= FRUITLESS_MAX {
            fruitless.clear();
        }
        fruitless.insert(listed.key.clone(), etag_of(listed));
    }
}

fn etag_of(listed: &Listed) -> String {
    listed
        .object
        .as_ref()
        .map(|info| info.etag.0.clone())
        .unwrap_or_default()
}

impl Replica {
    /// Somebody uses the folder: what others write is worth looking for.
    pub fn note_use(&self) {
        self.puller.used_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// What programs watch (directories and files) is used as if they read it, though they ask for nothing.
    pub fn note_watched(&self, watched: &[Ino]) {
        if watched.is_empty() {
            return self.puller.watched.lock().clear();
        }
        self.note_use();
        self.puller.watched_ms.store(self.now_ms(), Ordering::Relaxed);
        let is_dir = |ino: &Ino| self.view(|tables| Ok(tables.inode(*ino)?.is_some_and(|inode| inode.is_dir())));
        let directories = watched.iter().copied().filter(|ino| is_dir(ino).unwrap_or(false));
        *self.puller.watched.lock() = directories.take(HOT_DIRECTORIES_MAX).collect();
    }

    /// How long nobody has asked for anything.
    pub(crate) fn unused_ms(&self) -> u64 {
        self.now_ms()
            .saturating_sub(self.puller.used_ms.load(Ordering::Relaxed))
    }

    /// How long ago something happened; longer than anything, if it did not.
    fn ago_ms(&self, at_ms: &AtomicU64) -> u64 {
        match at_ms.load(Ordering::Acquire) {
            0 => u64::MAX,
            at_ms => self.now_ms().saturating_sub(at_ms),
        }
    }

    /// Looks at once, at the feeds of all other writers and, with `everything` or where a feed has a gap, at the whole bucket. What was
    /// found has taken effect when it returns, but for what waits for a reader.
    pub async fn pull(self: &Arc<Self>, everything: bool) -> Result<()> {
        let feeds = self.puller.feeds.lock().await;
        self.discover_peers().await?;
        for writer in self.all_peers() {
            Arc::clone(self).read_peer(writer).await?;
        }
        drop(feeds);
        let _listings = self.puller.listings.lock().await;
        if everything || self.puller.list_soon.swap(false, Ordering::AcqRel) {
            self.look_at_everything(false).await?;
        }
        Ok(())
    }

    /// Follows the bucket until the replica is closed: feeds and listings each at their own pace, so that a long listing delays no feed.
    pub(crate) async fn run_puller(self: Arc<Self>) {
        self.note_use();
        // What has changed since the last run, in a bucket of any size.
        self.puller.list_soon.store(true, Ordering::Release);
        tokio::join!(Arc::clone(&self).run_feeds(), self.run_listings());
    }

    /// Looks at the whole bucket and brings about what differs, and returns when that is done: what the loop does by itself, for those who own
    /// the time.
    pub async fn pull_once(self: &Arc<Self>) -> Result<()> {
        self.look_at_everything(false).await.map(drop)
    }

    async fn run_feeds(self: Arc<Self>) {
        let (mut discovered_ms, mut failures, mut not_before_ms) = (None, 0, 0);
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            let now_ms = self.now_ms();
            if now_ms < not_before_ms {
                continue;
            }
            let _feeds = self.puller.feeds.lock().await;
            let mut result = Ok(());
            let soon = self.puller.discover_soon.load(Ordering::Acquire);
            let interval_ms = pace::discovery_interval_ms(self.unused_ms(), soon);
            if discovered_ms.is_none_or(|last: u64| now_ms >= last + interval_ms) {
                self.puller.discover_soon.store(false, Ordering::Release);
                result = self.discover_peers().await;
                discovered_ms = Some(now_ms);
            }
            let mut tasks = tokio::task::JoinSet::new();
            for writer in self.due_peers(self.now_ms()) {
                tasks.spawn_on(Arc::clone(&self).read_peer(writer), &self.runtime);
            }
            while let Some(done) = tasks.join_next().await {
                result = result.and(done.unwrap_or(Err(crate::Error::Posix(libc::EIO))));
            }
            failures = note_outcome(result, failures);
            not_before_ms = self.now_ms() + pace::pause_ms(failures);
        }
    }

    async fn run_listings(self: Arc<Self>) {
        let (mut failures, mut not_before_ms, mut pages) = (0, self.now_ms() + FIRST_LISTING_MS, 1);
        let mut hot_ms = self.now_ms();
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            let now_ms = self.now_ms();
            let others_quiet_ms = self.ago_ms(&self.puller.others_ms);
            let interval =
                |pages| pace::listing_interval_ms(self.options.poll, self.unused_ms(), others_quiet_ms, pages);
            let (read_ago_ms, watched_ago_ms) =
                (self.ago_ms(&self.puller.read_ms), self.ago_ms(&self.puller.watched_ms));
            let hot_interval_ms = pace::hot_interval_ms(self.options.poll, read_ago_ms, watched_ago_ms, interval(1));
            // One page shows a hot directory as soon as any.
            let interval_ms = if pages > 1 { interval(pages) } else { hot_interval_ms };
            self.puller.interval_ms.store(interval_ms, Ordering::Release);
            let _listings = self.puller.listings.lock().await;
            failures = note_outcome(self.release_halves().await, failures);
            if pages > 1 && now_ms >= hot_ms.max(not_before_ms) + hot_interval_ms {
                self.look_at_hot_directories().await;
                hot_ms = self.now_ms();
            }
            let due_ms = self
                .puller
                .listed_ms
                .load(Ordering::Acquire)
                .saturating_add(interval_ms);
            let soon = self.puller.list_soon.load(Ordering::Acquire);
            if now_ms < not_before_ms || (now_ms < due_ms && !soon) {
                continue;
            }
            self.puller.list_soon.store(false, Ordering::Release);
            let looked = self.look_at_everything(true).await;
            if let Ok(read) = looked {
                pages = read;
            } else if soon {
                self.puller.list_soon.store(true, Ordering::Release);
            }
            failures = note_outcome(looked.map(drop), failures);
            not_before_ms = self.now_ms() + pace::pause_ms(failures).max(TICK_MS);
            self.puller.listed_ms.store(self.now_ms(), Ordering::Release);
        }
    }
}

impl Replica {
    async fn look_at_hot_directories(self: &Arc<Self>) {
        let mut hot: Vec<Ino> = self.puller.hot.lock().0.iter().map(|(dir, ())| *dir).collect();
        let watched = self.puller.watched.lock().clone();
        hot.extend(watched.into_iter().filter(|dir| !hot.contains(dir)).collect::<Vec<_>>());
        for dir in hot {
            // The look at the whole bucket says why.
            if self.look_at_directory(dir).await.is_err() {
                return;
            }
        }
    }
}

/// The failures in a row; the first one is told.
fn note_outcome(result: Result<()>, failures: u32) -> u32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            if failures == 0 {
                tracing::info!(%error, "Could not look for what others wrote; it is tried again");
            }
            failures.saturating_add(1)
        }
    }
}
