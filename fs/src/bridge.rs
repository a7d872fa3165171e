//! The bridge carries changes from the replica to the index, in the order of their seq, on one thread.
//!
//! It is lazy, so that programs which write much do not wait for it, until somebody asks for an up-to-date index
//! ([`Bridge::catch_up`]); then it goes at once. Notes that came with the bucket (the backlog) are indexed only when there
//! is no fresh change, and not faster than a fixed rate. Nothing that fails here ever reaches a program that writes: it is
//! logged once and tried again.
//!
//! Owns: when to index, retries, progress. Does not own: reading notes for the index (`bridge/gather.rs`), what a
//! note means (`notefs_indexer`), the stream of changes (`notefs_cache`).

mod gather;
mod problem;
mod retry;
mod rewrite;
mod share;
mod tidy;

use crate::failure::Failure;
use gather::{Gatherer, Planned};
use notefs_cache::Replica;
use notefs_cache::replica::Change;
use notefs_indexer::Index;
use parking_lot::{Condvar, Mutex, MutexGuard};
use problem::index_text;
use retry::{Backoff, RetryList};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidy::Tidy;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub(crate) use problem::index_failure;
pub(crate) use rewrite::{LinkRewriter, forget_moves};
pub(crate) use share::{KeptFrom, Share, ShareStatus, forget};
pub(crate) use tidy::limit_heaps;

/// How long a change may gather company before it is indexed, while nobody waits for it.
const INDEX_DELAY_MS: u64 = 50;

/// How long changes that keep coming put off the index, while nobody waits for it, so that a bulk writer has the machine to itself.
const INDEX_DELAY_LONGEST_MS: u64 = 1_000;

/// How far the index may fall behind before it works all the same.
const CHANGES_BEHIND_MAX: u64 = 2_000;

/// Changes taken at once.
const BATCH_CHANGES_MAX: usize = 256;

/// Notes of the backlog taken at once.
const BACKLOG_BATCH_NOTES: usize = 256;

/// Pace of the backlog.
const BACKLOG_NOTES_PER_SECOND_MAX: u64 = 2_000;

/// How long the thread sleeps at most before it looks whether it shall stop.
const IDLE_WAIT_MS: u64 = 250;

/// How long to wait for a change that is being committed.
const UNCOMMITTED_WAIT_MS: u64 = 2;

/// How long a rebuild waits for the batch that is under way.
const REBUILD_WAIT_SECONDS: u64 = 15;

/// Changes are kept in the replica until the index is flushed to disk, which happens this often at most…
const FLUSH_INTERVAL_SECONDS: u64 = 5;

/// … or after so many changes.
const FLUSH_CHANGES: u64 = 20_000;

/// How far the index is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IndexProgress {
    /// The seq of the newest change that the replica has.
    pub(crate) written_seq: u64,
    /// The seq up to which search sees changes.
    pub(crate) indexed_seq: u64,
    /// Notes that wait for their first indexing, or for another try.
    pub(crate) backlog: u64,
    /// How many there were when the backlog began.
    pub(crate) backlog_total: u64,
    /// The newest failure, if it is not over.
    pub(crate) last_error: Option<String>,
}

impl IndexProgress {
    /// Changes that search does not see yet.
    pub(crate) fn behind(&self) -> u64 {
        self.written_seq.saturating_sub(self.indexed_seq)
    }
}

/// The running bridge of one mount.
pub(crate) struct Bridge {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and its users share.
struct Shared {
    replica: Arc<Replica>,
    index: Arc<Index>,
    gatherer: Gatherer,
    /// The write-ahead log of the index: once it is on disk, so is what was applied.
    index_log: PathBuf,
    kept_from: KeptFrom,
    /// Held while the index is changed. Taken before `state`.
    work: Mutex<Work>,
    /// Never held while anything is awaited.
    state: Mutex<State>,
    moved: Condvar,
}

/// What belongs to the one who changes the index.
struct Work {
    retries: RetryList,
    backlog_backoff: Backoff,
    /// Not before this is the backlog worked on.
    backlog_due: Instant,
    seen_written_seq: u64,
    trimmed_seq: u64,
    flush_due: Instant,
    tidy: Tidy,
}

#[derive(Default)]
struct State {
    indexed_seq: u64,
    waiters: usize,
    stop: bool,
    retries: u64,
    backlog_total: u64,
    last_error: Option<String>,
}

impl Bridge {
    /// Starts the thread. `index_is_new` says that the index knows nothing of the replica's earlier changes.
    pub(crate) fn start(
        replica: Arc<Replica>,
        (index, index_path, kept_from): (Arc<Index>, &Path, KeptFrom),
        runtime: Handle,
        index_is_new: bool,
    ) -> Result<Bridge, Failure> {
        let now = Instant::now();
        let mut log = index_path.as_os_str().to_owned();
        log.push("-wal");
        let work = Work {
            retries: RetryList::open(index_path.with_extension("retry")),
            backlog_backoff: Backoff::default(),
            backlog_due: now,
            seen_written_seq: 0,
            trimmed_seq: 0,
            flush_due: now,
            tidy: Tidy::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            gatherer: Gatherer {
                replica: replica.clone(),
                runtime,
                stop: stopped,
            },
            replica,
            index,
            index_log: log.into(),
            kept_from,
            work: Mutex::new(work),
            state: Mutex::default(),
            moved: Condvar::new(),
        };
        shared.reconcile(index_is_new)?;
        let shared = Arc::new(shared);
        let in_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("notefs-index".into())
            .spawn(move || in_thread.run());
        let thread = thread.map_err(|e| Failure::new(format!("Could not start the index thread: {e}")))?;
        Ok(Bridge {
            shared,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits until search sees all changes up to `target_seq`; answers whether it does.
    pub(crate) fn catch_up(&self, target_seq: u64, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let mut state = self.shared.state.lock();
        state.waiters += 1;
        self.shared.moved.notify_all();
        while state.indexed_seq < target_seq && !state.stop {
            if self.shared.moved.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.waiters -= 1;
        state.indexed_seq >= target_seq
    }

    /// How far the index is.
    pub(crate) fn progress(&self) -> IndexProgress {
        let written_seq = self.shared.replica.written_seq();
        let in_replica = self.shared.replica.backlog_count().unwrap_or_default();
        let mut state = self.shared.state.lock();
        let backlog = in_replica + state.retries;
        state.backlog_total = if backlog == 0 {
            0
        } else {
            state.backlog_total.max(backlog)
        };
        IndexProgress {
            written_seq,
            indexed_seq: state.indexed_seq,
            backlog,
            backlog_total: state.backlog_total,
            last_error: state.last_error.clone(),
        }
    }

    /// Forgets the index and puts every note into the backlog.
    pub(crate) fn rebuild(&self) -> Result<(), Failure> {
        let wait = Duration::from_secs(REBUILD_WAIT_SECONDS);
        let Some(mut work) = self.shared.work.try_lock_for(wait) else {
            return Err(Failure::new("The index is waiting for the bucket")
                .hint("Try again when `notefs status` says that the store answers"));
        };
        self.shared.start_anew(&mut work)
    }

    /// Tells the thread to end soon.
    pub(crate) fn begin_stop(&self) {
        self.stop.send_replace(true);
        self.shared.state.lock().stop = true;
        self.shared.moved.notify_all();
    }

    /// Ends the thread. What is not indexed by then is indexed after the next mount.
    pub(crate) fn stop(&self) {
        self.begin_stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("The index thread panicked");
        }
    }
}

impl Shared {
    /// Makes index and replica agree about what has been indexed.
    fn reconcile(&self, index_is_new: bool) -> Result<(), Failure> {
        let indexed_seq = self.index.indexed_seq().map_err(index_failure)?;
        self.state.lock().indexed_seq = indexed_seq;
        let mut work = self.work.lock();
        if index_is_new || indexed_seq > self.replica.written_seq() {
            // A power cut may take back changes that the index has seen: their numbers are then given out again.
            return self.start_anew(&mut work);
        }
        if work.retries.earlier_run_left_some() {
            self.replica
                .backlog_refill()
                .map_err(|e| Failure::new(format!("Could not list the notes to index: {e}")))?;
            work.retries.clear();
        }
        Ok(())
    }

    fn start_anew(&self, work: &mut Work) -> Result<(), Failure> {
        let seq = self.replica.written_seq();
        self.index.clear(seq).map_err(index_failure)?;
        self.replica
            .backlog_refill()
            .map_err(|e| Failure::new(format!("Could not list the notes to index: {e}")))?;
        work.retries.clear();
        work.backlog_due = Instant::now();
        let mut state = self.state.lock();
        state.indexed_seq = seq;
        state.retries = 0;
        self.moved.notify_all();
        Ok(())
    }

    /// The thread: one step after the other until it shall stop.
    fn run(&self) {
        tidy::stand_back();
        let mut backoff = Backoff::default();
        while !self.state.lock().stop {
            let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.step()));
            match step.unwrap_or_else(|_| Err("it panicked; see the lines above".to_owned())) {
                Ok(()) => {
                    if backoff.succeeded() {
                        self.state.lock().last_error = None;
                        tracing::info!("Indexing goes on");
                    }
                }
                Err(error) => {
                    if backoff.is_first() {
                        tracing::warn!("Indexing failed and is tried again: {error}");
                    }
                    self.state.lock().last_error = Some(error);
                    self.sleep(backoff.next());
                }
            }
        }
        let mut work = self.work.lock();
        work.flush_due = Instant::now();
        if let Err(error) = self.flush(&mut work) {
            tracing::warn!("The index could not be flushed: {error}");
        }
    }

    /// Does one batch of the most urgent work, or waits for some.
    fn step(&self) -> Result<(), String> {
        let seq = self.state.lock().indexed_seq;
        let written_seq = self.replica.written_seq();
        if written_seq > seq {
            self.gather_company(seq, written_seq);
            return self.index_changes();
        }
        let now = Instant::now();
        let mut work = self.work.lock();
        self.flush(&mut work)?;
        if let Some(planned) = work.retries.take_due(now, &self.replica) {
            let tried = self.apply(&mut work, vec![planned], seq);
            self.publish(&work);
            return tried;
        }
        if self.replica.backlog_count().map_err(|e| e.to_string())? == 0 {
            work.tidy.idle(&self.replica, &self.index);
            drop(work);
            self.replica.wait_for_changes(seq, Duration::from_millis(IDLE_WAIT_MS));
            return Ok(());
        }
        if work.backlog_due <= now {
            return self.index_backlog(&mut work, seq);
        }
        let pause = work.backlog_due - now;
        drop(work);
        self.sleep(pause);
        Ok(())
    }

    /// Waits a moment while changes keep coming, unless somebody waits for the index or it is far behind.
    fn gather_company(&self, indexed_seq: u64, mut written_seq: u64) {
        for _ in 0..INDEX_DELAY_LONGEST_MS / INDEX_DELAY_MS {
            let behind = written_seq.saturating_sub(indexed_seq);
            let seen = std::mem::replace(&mut self.work.lock().seen_written_seq, written_seq);
            if written_seq == seen || behind > CHANGES_BEHIND_MAX || self.state.lock().waiters > 0 {
                return;
            }
            self.sleep(Duration::from_millis(INDEX_DELAY_MS));
            written_seq = self.replica.written_seq();
        }
    }

    /// Sleeps until `pause` is over or something must be done at once. A new change ends a long pause soon, too.
    fn sleep(&self, pause: Duration) {
        let pause = pause.min(Duration::from_millis(IDLE_WAIT_MS));
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        let urgent = |state: &MutexGuard<'_, State>| state.stop || (state.waiters > 0 && state.last_error.is_none());
        while !urgent(&state) && !self.moved.wait_until(&mut state, until).timed_out() {}
    }

    /// Indexes the next fresh changes.
    fn index_changes(&self) -> Result<(), String> {
        let mut work = self.work.lock();
        let seq = self.state.lock().indexed_seq;
        let (changes, upto) = self
            .replica
            .changes_after(seq, BATCH_CHANGES_MAX)
            .map_err(|e| e.to_string())?;
        if upto <= seq {
            // Its number is given out, its transaction not committed yet.
            drop(work);
            std::thread::sleep(Duration::from_millis(UNCOMMITTED_WAIT_MS));
            return Ok(());
        }
        let planned = gather::plan(changes);
        for change in &planned {
            if let Planned::Now(notefs_indexer::Change::Moved { from, to }) = change
                && gather::becomes_visible(from, to)
            {
                // What was hidden has never been indexed, so the move brings new notes.
                self.replica.backlog_refill().map_err(|e| e.to_string())?;
                break;
            }
        }
        self.apply(&mut work, planned, upto)?;
        self.state.lock().indexed_seq = upto;
        self.publish(&work);
        Ok(())
    }

    /// Indexes the next notes that came with the bucket.
    fn index_backlog(&self, work: &mut Work, seq: u64) -> Result<(), String> {
        let started = Instant::now();
        let items = self.replica.backlog(BACKLOG_BATCH_NOTES).map_err(|e| e.to_string())?;
        let cookies: Vec<(u64, u64)> = items.iter().map(|item| (item.cookie, item.ino)).collect();
        let paths: Vec<Vec<u8>> = items.iter().map(|item| item.path.clone()).collect();
        let changes = items
            .into_iter()
            .map(|item| Change::Upsert {
                path: item.path,
                ino: item.ino,
            })
            .collect();
        let (mut count, mut failed, mut interrupted) = (0, Vec::new(), false);
        for part in gather::split(gather::plan(changes), &self.replica) {
            let gathered = self.gatherer.gather(part, &|| self.state.lock().waiters > 0);
            count += gathered.changes.len() as u64;
            failed.extend(gathered.failed);
            interrupted |= gathered.interrupted;
            if !gathered.changes.is_empty() {
                self.index.apply(gathered.changes, seq).map_err(index_text)?;
            }
        }
        let done = gather::settled(&cookies, &failed, work.backlog_backoff.failures());
        if !done.is_empty() {
            self.replica.backlog_done(&done).map_err(|e| e.to_string())?;
        }
        self.kept_from.found(paths.into_iter());
        work.tidy.add(count as usize);
        let pace = Duration::from_micros(count * 1_000_000 / BACKLOG_NOTES_PER_SECOND_MAX);
        work.backlog_due = match failed.first() {
            _ if interrupted => started,
            None => {
                work.backlog_backoff.succeeded();
                started + pace
            }
            Some(failed) => {
                if work.backlog_backoff.is_first() {
                    tracing::warn!("Some notes could not be read for the index yet: {}", failed.error);
                }
                Instant::now() + work.backlog_backoff.next().max(pace)
            }
        };
        self.publish(work);
        Ok(())
    }

    /// Reads what is planned and gives it to the index as parts of bounded size, the last of them under `seq`.
    fn apply(&self, work: &mut Work, planned: Vec<Planned>, seq: u64) -> Result<(), String> {
        let seq_before = self.state.lock().indexed_seq;
        let mut parts = gather::split(planned, &self.replica).into_iter().peekable();
        if parts.peek().is_none() && seq > seq_before {
            return self.index.apply(Vec::new(), seq).map_err(index_text);
        }
        while let Some(part) = parts.next() {
            let gathered = self.gatherer.gather(part, &|| false);
            for failed in gathered.failed {
                if work.retries.add(failed) {
                    self.replica.backlog_refill().map_err(|e| e.to_string())?;
                }
            }
            work.tidy.add(gathered.changes.len());
            let seq = if parts.peek().is_none() { seq } else { seq_before };
            self.index.apply(gathered.changes, seq).map_err(index_text)?;
        }
        work.retries.settle();
        Ok(())
    }

    /// Tells waiters how far the index is.
    fn publish(&self, work: &Work) {
        let mut state = self.state.lock();
        state.retries = work.retries.len();
        self.moved.notify_all();
    }

    /// Now and then puts the index on disk and lets the replica forget what it holds: a change that was forgotten
    /// before would be lost to the index in a power cut.
    fn flush(&self, work: &mut Work) -> Result<(), String> {
        let seq = self.state.lock().indexed_seq;
        let pending = seq.saturating_sub(work.trimmed_seq);
        let now = Instant::now();
        if pending == 0 || (now < work.flush_due && pending < FLUSH_CHANGES) {
            return Ok(());
        }
        match std::fs::File::open(&self.index_log).and_then(|log| log.sync_data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("could not flush {}: {error}", self.index_log.display()));
            }
            _ => {}
        }
        self.replica
            .trim_changes(seq.min(self.kept_from.get()))
            .map_err(|e| e.to_string())?;
        work.trimmed_seq = seq;
        work.flush_due = now + Duration::from_secs(FLUSH_INTERVAL_SECONDS);
        Ok(())
    }
}
