//! A mount as seen from outside: the page of metrics, and whether it is ready.
//!
//! Owns the names of the metrics (they are an interface: they stay) and where each number comes from. Does not own counting (`metrics`,
//! the replica, the index) nor HTTP (`metrics/server.rs`). Nothing here touches the mount, and nothing tells names of notes.

use super::front_end::FrontEnd;
use super::open::Indexes;
use crate::bridge::{IndexProgress, ShareStatus};
use crate::filesystem::{Filesystem, Operation};
use crate::metrics::server::{Bound, Pages, serve};
use crate::metrics::text::Page;
use notefs_cache::replica::ReplicaStatus;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// What is looked at.
pub(super) struct Observed {
    filesystem: Arc<Filesystem>,
    indexes: Indexes,
    /// Weak: who scrapes must not keep a mount.
    front_end: Mutex<Weak<FrontEnd>>,
    ending: AtomicBool,
}

impl Observed {
    /// Looks at a mount, and tells of it where that is asked for.
    pub(super) fn start(
        (filesystem, indexes): (Arc<Filesystem>, Indexes),
        front_end: &Arc<FrontEnd>,
        pages: Option<Bound>,
    ) -> Arc<Observed> {
        let runtime = filesystem.runtime().clone();
        let observed = Arc::new(Observed {
            filesystem,
            indexes,
            front_end: Mutex::new(Arc::downgrade(front_end)),
            ending: AtomicBool::new(false),
        });
        if let Some(bound) = pages {
            serve(bound, observed.clone(), &runtime);
        }
        observed
    }

    /// Programs reach the folder through this one now.
    pub(super) fn now_served_by(&self, front_end: &Arc<FrontEnd>) {
        *self.front_end.lock() = Arc::downgrade(front_end);
    }

    /// The end has begun: nobody new shall come.
    pub(super) fn now_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether programs are served.
    pub(super) fn is_serving(&self) -> bool {
        let front_end = self.front_end.lock().upgrade();
        front_end.is_some_and(|front_end| front_end.is_serving())
    }

    fn operations(&self, page: &mut Page) {
        let metrics = self.filesystem.metrics();
        let told = Operation::ALL.map(|operation| (operation.name(), metrics.tell(operation)));
        page.histograms(
            "notefs_operation_seconds",
            "How long operations of programs took, waits for the bucket included.",
            "operation",
            &told.map(|(name, told)| (name, told.took)),
        );
        page.counters(
            "notefs_operation_waits_total",
            "Operations that had to wait for the bucket.",
            "operation",
            &told.map(|(name, told)| (name, told.waited)),
        );
        page.counters(
            "notefs_operation_errors_total",
            "Operations that failed with what no program can have expected, such as EIO.",
            "operation",
            &told.map(|(name, told)| (name, told.failed)),
        );
        let read = metrics.tell(Operation::Read);
        let reads: u64 = read.took.buckets.iter().sum();
        let hits = reads.saturating_sub(read.waited);
        page.counter("notefs_cache_hits_total", "Reads that local content answered.", hits);
        page.counter(
            "notefs_cache_misses_total",
            "Reads that waited for content of the bucket.",
            read.waited,
        );
        let waiting = self.filesystem.waiting_count() as f64;
        page.gauge(
            "notefs_operations_waiting",
            "Operations that wait for the bucket now.",
            waiting,
        );
    }
}

impl Pages for Observed {
    fn metrics(&self) -> String {
        let mut page = Page::default();
        let status = self.filesystem.replica().status();
        let version = env!("CARGO_PKG_VERSION");
        page.info(
            "notefs_build_info",
            "The version of the daemon.",
            &[("version", version)],
        );
        let serving = f64::from(self.is_serving());
        page.gauge("notefs_serving", "Whether programs are served: 1 or 0.", serving);
        ladder(&mut page, &status);
        let notes = self.indexes.index.note_count().unwrap_or(0);
        index(&mut page, &self.indexes.bridge.progress(), notes);
        if let Some(share) = &self.indexes.share {
            shared_index(&mut page, &share.status());
        }
        store(&mut page, &status);
        self.operations(&mut page);
        page.into_text()
    }

    fn readiness(&self, indexed: bool) -> (bool, String) {
        let ending = self.ending.load(Ordering::Acquire);
        let serving = self.is_serving() && !ending;
        let progress = self.indexes.bridge.progress();
        let unlisted = self.filesystem.replica().unlisted_directories();
        let complete = progress.behind() == 0 && progress.backlog == 0 && unlisted == 0;
        let words = format!("serving: {serving}\nending: {ending}\nindexed: {complete}\n");
        (serving && (complete || !indexed), words)
    }
}

/// The steps of the ladder, and what waits on each.
fn ladder(page: &mut Page, status: &ReplicaStatus) {
    let seconds = |ms: Option<u64>| ms.unwrap_or(0) as f64 / 1e3;
    let unsynced = status.written_seq.saturating_sub(status.synced_seq) as f64;
    page.gauge(
        "notefs_written_entries",
        "Files and folders known.",
        status.inodes as f64,
    );
    page.gauge("notefs_written_bytes", "Bytes of all files.", status.bytes as f64);
    page.gauge(
        "notefs_unsynced_changes",
        "Changes that a power cut could take.",
        unsynced,
    );
    let stored = status.inodes.saturating_sub(status.owed.count) as f64;
    page.gauge(
        "notefs_stored_entries",
        "Files and folders of which the store has everything.",
        stored,
    );
    let stored_bytes = status.bytes.saturating_sub(status.owed.bytes) as f64;
    page.gauge("notefs_stored_bytes", "Bytes of the files among them.", stored_bytes);
    let owed = status.owed;
    page.gauge(
        "notefs_unstored_entries",
        "Files and folders with changes that are not stored.",
        owed.count as f64,
    );
    page.gauge("notefs_unstored_bytes", "Their bytes.", owed.bytes as f64);
    page.gauge(
        "notefs_unstored_oldest_seconds",
        "Age of the oldest change that is not stored; 0 if there is none.",
        seconds(owed.oldest_age_ms),
    );
    page.gauge(
        "notefs_unstored_limit_bytes",
        "Bytes that are not stored beyond which writers wait.",
        status.dirty_limit_bytes as f64,
    );
    page.gauge(
        "notefs_uploads_in_flight",
        "Uploads, copies and deletions under way.",
        status.in_flight as f64,
    );
    page.gauge(
        "notefs_held_changes",
        "Changes held back because no program asked for them.",
        status.held_count as f64,
    );
    page.gauge(
        "notefs_conflicts",
        "Conflicts that nobody has resolved.",
        status.conflicts as f64,
    );
    page.gauge(
        "notefs_skipped_keys",
        "Keys that are hidden or shown under an alias.",
        status.skipped_key_count as f64,
    );
}

fn index(page: &mut Page, progress: &IndexProgress, notes: u64) {
    page.gauge("notefs_indexed_notes", "Notes in the index.", notes as f64);
    page.gauge(
        "notefs_unindexed_changes",
        "Changes that search does not see yet.",
        progress.behind() as f64,
    );
    page.gauge(
        "notefs_index_backlog_notes",
        "Notes that came with the bucket and are not indexed yet.",
        progress.backlog as f64,
    );
    let failing = f64::from(progress.last_error.is_some());
    page.gauge(
        "notefs_index_failing",
        "Whether the index cannot be brought up to date: 1 or 0.",
        failing,
    );
}

/// The index of all machines.
fn shared_index(page: &mut Page, status: &ShareStatus) {
    page.gauge(
        "notefs_shared_index_behind_notes",
        "Notes and changes of which the shared index may not know.",
        status.left() as f64,
    );
    page.gauge(
        "notefs_shared_index_away_seconds",
        "For how long the shared index has not done what it was asked for; 0 if it does.",
        status.away_ms.unwrap_or(0) as f64 / 1e3,
    );
}

/// The store and the cache.
fn store(page: &mut Page, status: &ReplicaStatus) {
    let requests = status.requests;
    let kinds = [
        ("put", requests.put),
        ("get", requests.get),
        ("head", requests.head),
        ("list", requests.list),
        ("copy", requests.copy),
        ("delete", requests.delete),
        ("feed", requests.feed),
    ];
    page.counters("notefs_store_requests_total", "Requests to the store.", "kind", &kinds);
    page.counter(
        "notefs_store_errors_total",
        "Requests to the store that failed.",
        requests.failed,
    );
    page.gauge(
        "notefs_store_reachable",
        "Whether the newest request was answered: 1 or 0.",
        f64::from(status.store_reachable),
    );
    page.gauge(
        "notefs_store_listed_age_seconds",
        "Age of the last look at the whole bucket; -1 before the first.",
        status.pull.listed_age_ms.map_or(-1.0, |ms| ms as f64 / 1e3),
    );
    page.gauge(
        "notefs_unlisted_folders",
        "Folders whose names are not known yet.",
        status.unlisted_directories as f64,
    );
    page.gauge(
        "notefs_peers",
        "Other machines that are followed.",
        status.pull.peers.len() as f64,
    );
    page.gauge(
        "notefs_cache_bytes",
        "Content on the local disk.",
        status.cache_bytes as f64,
    );
    page.gauge(
        "notefs_cache_limit_bytes",
        "Bound on such content that is stored.",
        status.cache_limit_bytes as f64,
    );
    page.counter(
        "notefs_cache_evictions_total",
        "Contents dropped to stay below it.",
        status.evictions,
    );
}
