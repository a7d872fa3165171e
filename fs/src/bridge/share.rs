//! The share brings a database that all machines of a vault search, and the local index and replica, together.
//!
//! ```text
//!  changes of the replica ─┐                 tell: row? HEAD? text
//!                          ├─> paths owed ─────────────────────────> shared index ─┐
//!  comparing everything ───┘                                                        │ rows of others
//!          ^                                                                       v
//!          └──────────── what the bucket does not bear out ──── looks of the replica <
//! ```
//!
//! Only what is *stored* is told, with the version that the store itself names; a program that writes never waits for any of this. Which
//! paths are owed follows from the replica's own log, whose end is kept until all before it is told: so nothing is lost when the daemon
//! dies or the database is away for days, and what is told twice does no harm. A row of another machine is a hint where to look, no more.
//!
//! Owns: when to tell, pauses, what is known of the database's health. Does not own the database (`notefs_indexer`), the merge of two
//! answers (`mount/search.rs`), nor what a look means (`notefs_cache`).

mod aside;
mod ask;
mod compare;
mod follow;
mod owed;
mod position;
mod read;
mod tell;

pub(crate) use position::forget;

use super::gather::Gatherer;
use super::retry::Backoff;
use super::tidy;
use crate::failure::Failure;
use aside::Aside;
use compare::Comparison;
use notefs_cache::Replica;
use notefs_indexer::{SharedAddress, SharedError, SharedIndex, Warning};
use owed::OwedPaths;
use parking_lot::{Condvar, Mutex};
use position::{Position, PositionFile};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};

/// Between two looks for something to tell.
const IDLE_PAUSE_MS: u64 = 250;

/// Pace of telling, so that programs have machine and store for themselves.
const NOTES_PER_SECOND_MAX: u64 = 1_000;

/// How long a mount waits for the database, to be able to say what is wrong with it.
const FIRST_ANSWER_WAIT_MS: u64 = 2_000;

/// How long the end of a mount waits for what is stored to be told.
const END_WAIT_MS: u64 = 3_000;

/// The longest pause after a failure: a database that is back is noticed within it.
const FAILED_PAUSE_MS_MAX: u64 = 10_000;

/// How long rows of notes that are gone are kept: a machine that was away for less learns of them.
const GONE_KEPT_DAYS: u32 = 60;

/// How often they are looked for.
const FORGET_INTERVAL_MS: u64 = 24 * 3_600_000;

/// How the share is, for `notefs status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareStatus {
    /// The database, without secrets.
    pub(crate) address: String,
    /// Paths of which it may not know the newest version; those not compared yet are not in.
    pub(crate) owed: u64,
    /// Changes of the replica that were not looked at yet.
    pub(crate) unread: u64,
    /// All notes were compared once.
    pub(crate) compared: bool,
    /// For how long it has not done what it was asked for, in milliseconds.
    pub(crate) away_ms: Option<u64>,
    /// Why.
    pub(crate) last_error: Option<String>,
}

impl ShareStatus {
    /// What is still to do, as a number.
    pub(crate) fn left(&self) -> u64 {
        self.owed + self.unread + u64::from(!self.compared)
    }
}

/// Paths of notes that came with the bucket and wait to be taken over; of more than these all notes are compared.
const FOUND_PATHS_MAX: usize = 10_000;

/// Up to which change the replica may forget its log: the bridge asks before it does. And what the bridge finds beside the log: notes that came
/// with the bucket are no change of anybody here.
#[derive(Debug, Clone)]
pub(crate) struct KeptFrom(Arc<AtomicU64>, Arc<Mutex<Vec<Vec<u8>>>>);

impl Default for KeptFrom {
    /// Nobody but the index reads the log.
    fn default() -> KeptFrom {
        KeptFrom(Arc::new(AtomicU64::new(u64::MAX)), Arc::default())
    }
}

impl KeptFrom {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes that came with the bucket are in the local index now.
    pub(super) fn found(&self, paths: impl Iterator<Item = Vec<u8>>) {
        if self.get() < u64::MAX {
            let mut found = self.1.lock();
            let room = (FOUND_PATHS_MAX + 1).saturating_sub(found.len());
            found.extend(paths.take(room));
        }
    }

    fn take_found(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.1.lock())
    }
}

/// A running share.
pub(crate) struct Share {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread, the task and their users share.
struct Inner {
    replica: Arc<Replica>,
    gatherer: Gatherer,
    runtime: Handle,
    address: SharedAddress,
    vault: String,
    database: OnceCell<SharedIndex>,
    kept_from: KeptFrom,
    /// Never held while anything is awaited.
    state: Mutex<State>,
    moved: Condvar,
    stopped: watch::Receiver<bool>,
}

struct State {
    owed: OwedPaths,
    aside: Aside,
    read_seq: u64,
    /// The database has told of a note in this run.
    has_rows: bool,
    seen_row: u64,
    compared_ms: u64,
    forgot_ms: u64,
    failing: Option<(Instant, String)>,
    /// When a question was not answered last, and why.
    unanswered: Option<(Instant, String)>,
    stop: bool,
}

impl State {
    /// The shared index knows this path.
    fn settle(&mut self, path: &[u8]) {
        self.owed.settle(path);
        self.aside.settle(path);
    }
}

/// Why something could not be told now.
#[derive(Debug)]
enum Trouble {
    Database(SharedError),
    Replica(String),
}

impl From<SharedError> for Trouble {
    fn from(error: SharedError) -> Trouble {
        Trouble::Database(error)
    }
}

impl From<notefs_cache::Error> for Trouble {
    fn from(error: notefs_cache::Error) -> Trouble {
        Trouble::Replica(error.to_string())
    }
}

impl Share {
    /// Starts following. What hinders it is told by [`Share::first_answer`] and [`Share::status`]; it never keeps a mount from starting.
    pub(crate) fn start(
        replica: Arc<Replica>,
        (address, vault): (SharedAddress, String),
        (path, kept_from): (PathBuf, KeptFrom),
        runtime: Handle,
    ) -> Result<Share, Failure> {
        let (file, position) = PositionFile::open(path, &address.to_string(), &vault);
        let written_seq = replica.written_seq();
        // A power cut may take back changes that were told: their numbers are then given out again.
        let position = position.filter(|position| position.told_seq <= written_seq);
        let (stop, stopped) = watch::channel(false);
        let state = State {
            owed: OwedPaths::default(),
            aside: Aside::default(),
            read_seq: position.as_ref().map_or(written_seq, |position| position.told_seq),
            has_rows: false,
            seen_row: position.as_ref().map_or(0, |position| position.seen_row),
            compared_ms: position.as_ref().map_or(0, |position| position.compared_ms),
            forgot_ms: position.as_ref().map_or(0, |position| position.forgot_ms),
            failing: None,
            unanswered: None,
            stop: false,
        };
        kept_from.0.store(state.read_seq, Ordering::Release);
        let inner = Arc::new(Inner {
            gatherer: Gatherer {
                replica: replica.clone(),
                runtime: runtime.clone(),
                stop: stopped.clone(),
            },
            replica,
            runtime: runtime.clone(),
            address,
            vault,
            database: OnceCell::new(),
            kept_from,
            state: Mutex::new(state),
            moved: Condvar::new(),
            stopped,
        });
        runtime.spawn(Arc::clone(&inner).follow());
        let in_thread = inner.clone();
        let thread = std::thread::Builder::new()
            .name("notefs-share".into())
            .spawn(move || in_thread.run(file));
        let thread =
            thread.map_err(|e| Failure::new(format!("Could not start the thread of the shared index: {e}")))?;
        Ok(Share {
            inner,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What is wrong with the database, if it has said so within a moment.
    pub(crate) fn first_answer(&self) -> Option<String> {
        let until = Instant::now() + Duration::from_millis(FIRST_ANSWER_WAIT_MS);
        let mut state = self.inner.state.lock();
        while state.failing.is_none() && !self.inner.database.initialized() {
            if self.inner.moved.wait_until(&mut state, until).timed_out() {
                return Some(format!("The shared index {} does not answer", self.inner.address));
            }
        }
        let failure = state.failing.as_ref().map(|(_, error)| error.clone());
        let exposed = "Its token travels unencrypted to another machine: use libsql:// or https://";
        failure.or_else(|| {
            self.inner
                .address
                .is_exposed()
                .then(|| format!("{}: {exposed}", self.inner.address))
        })
    }

    /// Whether it has told of a note yet, so that it can answer for a bucket that is not listed.
    pub(crate) fn knows_notes(&self) -> bool {
        let state = self.inner.state.lock();
        state.has_rows || state.seen_row > 0
    }

    /// The first notes that it does not take, as warnings.
    pub(crate) fn warnings(&self, limit: usize) -> Vec<Warning> {
        self.inner.state.lock().aside.warnings(limit)
    }

    /// How it is.
    pub(crate) fn status(&self) -> ShareStatus {
        let written_seq = self.inner.replica.written_seq();
        let state = self.inner.state.lock();
        ShareStatus {
            address: self.inner.address.to_string(),
            owed: state.owed.len() as u64,
            unread: written_seq.saturating_sub(state.read_seq),
            compared: state.compared_ms > 0,
            away_ms: state
                .failing
                .as_ref()
                .map(|(since, _)| since.elapsed().as_millis() as u64),
            last_error: state.failing.as_ref().map(|(_, error)| error.clone()),
        }
    }

    /// Gives what is stored a moment to be told, and ends. The rest is told after the next mount.
    pub(crate) fn stop(&self, in_a_hurry: bool) {
        let wait = if in_a_hurry { 0 } else { END_WAIT_MS };
        let until = Instant::now() + Duration::from_millis(wait);
        while Instant::now() < until {
            let status = self.status();
            if status.owed + status.unread == 0 || status.last_error.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(IDLE_PAUSE_MS / 10));
        }
        self.stop.send_replace(true);
        self.inner.state.lock().stop = true;
        self.inner.moved.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("The thread of the shared index panicked");
        }
    }
}

impl Inner {
    /// The database, opened by the first who needs it.
    async fn database(&self) -> Result<&SharedIndex, SharedError> {
        let open = async || {
            let opened = SharedIndex::open(&self.address, &self.vault).await?;
            if opened.was_older() {
                self.state.lock().compared_ms = 0;
            }
            Ok(opened)
        };
        self.database.get_or_try_init(open).await
    }

    /// The thread that tells: one step after the other until it shall stop.
    fn run(&self, mut file: PositionFile) {
        tidy::stand_back();
        let (mut backoff, mut comparison) = (Backoff::default(), Comparison::default());
        while !self.state.lock().stop {
            let step = std::panic::AssertUnwindSafe(|| self.step(&mut comparison));
            let step = std::panic::catch_unwind(step)
                .unwrap_or_else(|_| Err(Trouble::Replica("it panicked; see the lines above".to_owned())));
            let pause = match step {
                Ok(told) => {
                    backoff.succeeded();
                    self.note_success();
                    match told {
                        0 => Duration::from_millis(IDLE_PAUSE_MS),
                        told => Duration::from_millis(told * 1_000 / NOTES_PER_SECOND_MAX),
                    }
                }
                Err(trouble) => {
                    self.note_failure(&trouble);
                    backoff.next().min(Duration::from_millis(FAILED_PAUSE_MS_MAX))
                }
            };
            self.remember(&mut file);
            self.sleep(pause);
        }
        self.remember(&mut file);
    }

    /// Reads what has changed, compares if that is due, and tells some of what is owed; answers how many notes that were.
    fn step(&self, comparison: &mut Comparison) -> Result<u64, Trouble> {
        self.read_changes()?;
        self.take_over_found();
        let database = self.wait_for(self.database())?;
        let compared = self.compare(comparison, database)?;
        let told = self.tell(database)?;
        self.forget_gone(database)?;
        Ok(told + compared)
    }

    /// What came with the bucket is owed, too.
    fn take_over_found(&self) {
        let found = self.kept_from.take_found();
        let mut state = self.state.lock();
        if found.len() > FOUND_PATHS_MAX {
            state.compared_ms = 0;
            return;
        }
        let now = Instant::now();
        for path in found {
            state.owed.add(path, u64::MAX, now);
        }
    }

    /// Waits for a call to the database; the end of the mount ends the wait.
    fn wait_for<T>(&self, call: impl Future<Output = Result<T, SharedError>>) -> Result<T, Trouble> {
        let mut stopped = self.stopped.clone();
        self.runtime.block_on(async {
            tokio::select! {
                answer = call => answer.map_err(Trouble::from),
                _ = stopped.wait_for(|stop| *stop) => Err(Trouble::Replica("the mount ends".to_owned())),
            }
        })
    }

    fn forget_gone(&self, database: &SharedIndex) -> Result<(), Trouble> {
        let now_ms = now_ms();
        if now_ms < self.state.lock().forgot_ms.saturating_add(FORGET_INTERVAL_MS) {
            return Ok(());
        }
        let forgotten = self.wait_for(database.forget_gone(GONE_KEPT_DAYS))?;
        tracing::debug!(
            forgotten,
            "Rows of notes that are gone were forgotten by the shared index"
        );
        self.state.lock().forgot_ms = now_ms;
        Ok(())
    }

    fn note_success(&self) {
        let was_failing = self.state.lock().failing.take().is_some();
        if was_failing {
            tracing::info!("The shared index {} is followed again", self.address);
        }
        self.moved.notify_all();
    }

    fn note_failure(&self, trouble: &Trouble) {
        let text = match trouble {
            Trouble::Database(error) => error_line(error.clone()),
            Trouble::Replica(text) => text.clone(),
        };
        let mut state = self.state.lock();
        if state.stop {
            return;
        }
        if state.failing.is_none() {
            tracing::warn!("The shared index is not followed at the moment: {text}");
        }
        let since = state.failing.take().map_or_else(Instant::now, |(since, _)| since);
        state.failing = Some((since, text));
        self.moved.notify_all();
    }

    /// Notes how far it is, and lets the replica forget its log up to there.
    fn remember(&self, file: &mut PositionFile) {
        let position = {
            let state = self.state.lock();
            Position {
                address: self.address.to_string(),
                vault: self.vault.clone(),
                told_seq: state.owed.told_seq(state.read_seq),
                seen_row: state.seen_row,
                // What is set aside now, the next run finds by comparing.
                compared_ms: if state.aside.is_empty() { state.compared_ms } else { 0 },
                forgot_ms: state.forgot_ms,
            }
        };
        match file.write(&position) {
            Ok(()) => self.kept_from.0.store(position.told_seq, Ordering::Release),
            Err(error) => tracing::warn!("Could not note how far the shared index is: {error}"),
        }
    }

    /// Sleeps, but not beyond the end of the mount.
    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.stop && !self.moved.wait_until(&mut state, until).timed_out() {}
    }
}

/// An error of the database in one line.
fn error_line(error: SharedError) -> String {
    error.to_string().replace("\n\n", ". ")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}
