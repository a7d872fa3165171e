//! Follows moves of notes and folders: rewrites the links that led to them, one note after the other.
//!
//! The replica records what programs of this machine move (`Replica::record_moves`). A thread works that off in order, once the index has
//! seen it: it asks which notes have links to what moved, reads each, and writes it back only as the version that was read. A save that
//! comes in between is read anew. What a program has open for writing waits. A move is forgotten when a whole look found nothing left to
//! do, so doing it again after a kill does no harm.
//!
//! Owns when, the tries and their limits. Does not own which links change and to what (`notefs_indexer`), nor the write (`notefs_cache`).

use super::{Bridge, index_failure};
use crate::failure::Failure;
use notefs_cache::replica::{LocalMove, REWRITE_BYTES_MAX, VersionedText, is_gone};
use notefs_cache::{Error, Ino, Replica, Timestamp};
use notefs_indexer::{Index, MovedPath};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How often moves are looked for.
const POLL_MS: u64 = 250;

/// How long a move rests first: a program that saves by renaming has put another file into the old place by then.
const SETTLE_MS: u64 = 1_000;

/// How long the index may take to see a move in one try.
const INDEX_WAIT_SECONDS: u64 = 10;

/// How long a move waits for notes that were never indexed.
const BACKLOG_WAIT_SECONDS: u64 = 300;

/// Notes read, and then written, at once.
const BATCH_NOTES: usize = 32;

/// Looks at all notes of one move.
const LOOKS_MAX: u32 = 100;

/// Between two looks, when notes have to wait.
const LOOK_PAUSE_MS: u64 = 500;

/// How long the notes of one move wait for programs that write them, or for the bucket; then they are left as they are.
const NOTES_WAIT_SECONDS: u64 = 300;

/// A note is not written that was changed so recently: its writer may have more to write.
const QUIET_MS: u64 = 1_000;

/// What one read may need of the bucket, one after the other.
const NEEDS_MAX: usize = 16;

/// The pause after a failure, which doubles up to the longest.
const PAUSE_FIRST_MS: u64 = 500;
const PAUSE_LONGEST_MS: u64 = 30_000;

/// How long the end of a mount waits for moves that are not worked off; they go on with the next mount.
const END_WAIT_MS: u64 = 5_000;

/// The running thread.
pub(crate) struct LinkRewriter {
    stage: watch::Sender<Stage>,
    replica: Arc<Replica>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is to hurry for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// The mount ends soon: nothing rests any more.
    Ending,
    Stopped,
}

struct Work {
    replica: Arc<Replica>,
    index: Arc<Index>,
    bridge: Arc<Bridge>,
    runtime: Handle,
    stage: watch::Receiver<Stage>,
}

/// A note that was read, with what it is to be.
struct Draft {
    path: Vec<u8>,
    ino: Ino,
    read: VersionedText,
}

/// How one look at the notes of a move went.
#[derive(Debug, Default)]
struct Look {
    rewritten: u64,
    /// Somebody writes them, or has just changed them, or the bucket does not answer.
    waiting: u64,
    /// One of those.
    example: String,
}

/// Why a move is not worked off yet.
enum Trouble {
    Stopping,
    Later(String),
}

impl LinkRewriter {
    /// Starts the thread.
    pub(crate) fn start(
        replica: Arc<Replica>,
        (index, bridge): (Arc<Index>, Arc<Bridge>),
        runtime: Handle,
    ) -> Result<LinkRewriter, Failure> {
        let (sender, stage) = watch::channel(Stage::Serving);
        let work = Work {
            replica: replica.clone(),
            index,
            bridge,
            runtime,
            stage,
        };
        let thread = std::thread::Builder::new().name("notefs-links".into()).spawn(move || {
            super::tidy::stand_back();
            work.run();
        });
        let thread =
            thread.map_err(|e| Failure::new(format!("Could not start the thread that rewrites links: {e}")))?;
        Ok(LinkRewriter {
            stage: sender,
            replica,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread, after a moment for what was moved just now. The rest goes on with the next mount.
    pub(crate) fn stop(&self, at_once: bool) {
        let until = Instant::now() + Duration::from_millis(END_WAIT_MS);
        self.stage.send_replace(Stage::Ending);
        let is_left = || self.replica.recorded_move_count().is_ok_and(|count| count > 0);
        while !at_once && is_left() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stage.send_replace(Stage::Stopped);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("The thread that rewrites links panicked");
        }
    }
}

/// Without the option, moves that an earlier run has recorded are not followed.
pub(crate) fn forget_moves(replica: &Replica) {
    let forgotten = replica
        .recorded_moves()
        .and_then(|moves| moves.iter().try_for_each(|moved| replica.forget_move(moved.id)));
    if let Err(error) = forgotten {
        tracing::warn!("Could not forget the moves of an earlier run: {error}");
    }
}

impl Work {
    fn run(&self) {
        let mut pause_ms = PAUSE_FIRST_MS;
        // Since when the first move is there.
        let mut first: Option<(u64, Instant)> = None;
        while !self.is_stopped() {
            let moved = self.replica.recorded_moves().unwrap_or_default().into_iter().next();
            let Some(moved) = moved else {
                self.sleep(POLL_MS, Stage::Stopped);
                continue;
            };
            let since = match first {
                Some((id, since)) if id == moved.id => since,
                _ => {
                    self.sleep(SETTLE_MS, Stage::Ending);
                    Instant::now()
                }
            };
            first = Some((moved.id, since));
            match self.work_off(&moved, since) {
                Ok(()) => {
                    pause_ms = PAUSE_FIRST_MS;
                    first = None;
                }
                Err(Trouble::Stopping) => return,
                Err(Trouble::Later(why)) => {
                    if pause_ms == PAUSE_FIRST_MS {
                        let path = String::from_utf8_lossy(&moved.to).into_owned();
                        tracing::info!(path, "Links to what was moved are not rewritten yet: {why}");
                    }
                    self.sleep(pause_ms, Stage::Stopped);
                    pause_ms = (pause_ms * 2).min(PAUSE_LONGEST_MS);
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stage.borrow() == Stage::Stopped
    }

    /// Sleeps, but not beyond a stage.
    fn sleep(&self, pause_ms: u64, stage: Stage) {
        let mut reached = self.stage.clone();
        self.runtime.block_on(async {
            let reached = reached.wait_for(|now| *now >= stage);
            tokio::time::timeout(Duration::from_millis(pause_ms), reached)
                .await
                .ok();
        });
    }

    /// Rewrites what there is to rewrite for the first of the recorded moves, and forgets it.
    fn work_off(&self, moved: &LocalMove, since: Instant) -> Result<(), Trouble> {
        let (mut total, mut waited) = (0, false);
        for _ in 0..LOOKS_MAX {
            self.await_index(since)?;
            let look = self.look(moved)?;
            total += look.rewritten;
            if look.waiting > 0 && since.elapsed() > Duration::from_secs(NOTES_WAIT_SECONDS) {
                let (count, example) = (look.waiting, look.example);
                tracing::warn!(
                    "{count} notes keep their links to what was moved, since they could not be written ({example})"
                );
                break;
            }
            if look.waiting > 0 {
                waited = true;
                self.sleep(LOOK_PAUSE_MS, Stage::Stopped);
            } else if look.rewritten == 0 {
                break;
            }
            if self.is_stopped() {
                return Err(Trouble::Stopping);
            }
        }
        let (from, to) = (String::from_utf8_lossy(&moved.from), String::from_utf8_lossy(&moved.to));
        tracing::info!(waited, "{from} is now {to}: the links in {total} notes were rewritten");
        self.replica.forget_move(moved.id).map_err(later)
    }

    /// Waits until the index has seen everything up to now.
    fn await_index(&self, since: Instant) -> Result<(), Trouble> {
        let wanted = self.replica.written_seq();
        if !self.bridge.catch_up(wanted, Duration::from_secs(INDEX_WAIT_SECONDS)) {
            return Err(match self.is_stopped() {
                true => Trouble::Stopping,
                false => Trouble::Later("the index is behind".to_owned()),
            });
        }
        let backlog = self.bridge.progress().backlog;
        if backlog > 0 && since.elapsed() < Duration::from_secs(BACKLOG_WAIT_SECONDS) {
            return Err(Trouble::Later(format!("{backlog} notes are not indexed yet")));
        }
        Ok(())
    }

    /// Looks once at every note in which links may have to change.
    fn look(&self, moved: &LocalMove) -> Result<Look, Trouble> {
        let moves = self.replica.recorded_moves().map_err(later)?;
        let public = |moved: LocalMove| MovedPath {
            from: moved.from,
            to: moved.to,
        };
        let moves: Vec<MovedPath> = moves.into_iter().map(public).collect();
        let notes = self.index.with_rewriter(&moves, |rewriter| rewriter.notes());
        let notes = notes.map_err(|error| Trouble::Later(index_failure(error).message))?;
        let mut look = Look::default();
        for paths in notes.chunks(BATCH_NOTES) {
            if self.is_stopped() {
                return Err(Trouble::Stopping);
            }
            let mut drafts = Vec::with_capacity(paths.len());
            for path in paths {
                match self.read(path) {
                    Ok(draft) => drafts.extend(draft),
                    Err(why) => look.wait_for(path, why),
                }
            }
            for (draft, bytes) in self.rewritten(&moves, moved.at_ms, drafts)? {
                self.write(&draft, bytes, &mut look);
            }
        }
        Ok(look)
    }

    /// Reads a note; `None`: it is no text that could be rewritten, or gone.
    fn read(&self, path: &[u8]) -> Result<Option<Draft>, String> {
        for _ in 0..NEEDS_MAX {
            let attr = self.replica.resolve(path);
            let read = attr.and_then(|attr| Ok((attr.ino, self.replica.read_versioned(attr.ino)?)));
            match read {
                Ok((ino, Some(read))) => {
                    let path = path.to_vec();
                    return Ok(Some(Draft { path, ino, read }));
                }
                Ok((_, None)) => {
                    tracing::debug!(
                        "A note over {REWRITE_BYTES_MAX} bytes, or one that keeps changing, is not rewritten"
                    );
                    return Ok(None);
                }
                Err(Error::Need(need)) => {
                    let mut stage = self.stage.clone();
                    let satisfied = self.runtime.block_on(async {
                        tokio::select! {
                            satisfied = self.replica.satisfy(need) => satisfied.map_err(|error| error.to_string()),
                            _ = stage.wait_for(|now| *now == Stage::Stopped) => Err("the mount ends".to_owned()),
                        }
                    });
                    satisfied?;
                }
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("it needs too much from the bucket".to_owned())
    }

    /// The drafts whose text changes, and what it reads then.
    fn rewritten(
        &self,
        moves: &[MovedPath],
        moved_at_ms: u64,
        drafts: Vec<Draft>,
    ) -> Result<Vec<(Draft, Vec<u8>)>, Trouble> {
        let is_there = |path: &[u8]| self.replica.resolve(path).is_ok();
        let changed = self.index.with_rewriter(moves, |rewriter| {
            let mut changed = HashMap::new();
            for draft in &drafts {
                let Ok(text) = std::str::from_utf8(&draft.read.bytes) else {
                    continue;
                };
                let mark = if text.starts_with('\u{feff}') { "\u{feff}" } else { "" };
                let saved_since =
                    draft.read.mtime.as_nanos() / 1_000_000 > i64::try_from(moved_at_ms).unwrap_or(i64::MAX);
                let text = rewriter.rewritten(&draft.path, (&text[mark.len()..], saved_since), &is_there)?;
                changed.extend(text.map(|text| (draft.path.clone(), format!("{mark}{text}").into_bytes())));
            }
            Ok(changed)
        });
        let mut changed = changed.map_err(|error| Trouble::Later(index_failure(error).message))?;
        let drafts = drafts.into_iter();
        Ok(drafts
            .filter_map(|draft| changed.remove(&draft.path).map(|bytes| (draft, bytes)))
            .collect())
    }

    fn write(&self, draft: &Draft, bytes: Vec<u8>, look: &mut Look) {
        if self.replica.is_open_for_writing(draft.ino) {
            return look.wait_for(&draft.path, "a program has it open for writing".to_owned());
        }
        if is_fresh(draft.read.mtime) {
            return look.wait_for(&draft.path, "it was changed a moment ago".to_owned());
        }
        let written = self
            .runtime
            .block_on(self.replica.rewrite(draft.ino, draft.read.version, bytes));
        match written {
            Ok(true) => look.rewritten += 1,
            Ok(false) => look.wait_for(&draft.path, "it was changed meanwhile".to_owned()),
            Err(error) => look.wait_for(&draft.path, error.to_string()),
        }
    }
}

impl Look {
    fn wait_for(&mut self, path: &[u8], why: String) {
        self.waiting += 1;
        self.example = format!("{}: {why}", String::from_utf8_lossy(path));
        tracing::debug!("A note keeps its links for now: {}", self.example);
    }
}

/// Whether a file was changed a moment ago; a time to come says nothing.
fn is_fresh(mtime: Timestamp) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let age_ns = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(mtime.as_nanos());
    (0..QUIET_MS as i64 * 1_000_000).contains(&age_ns)
}

fn later(error: Error) -> Trouble {
    Trouble::Later(error.to_string())
}
