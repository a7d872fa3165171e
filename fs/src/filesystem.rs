//! POSIX operations for any front end: the replica's short synchronous operations, made whole by waiting.
//!
//! The replica answers from what is local, or says what it needs ([`Error::Need`]) and has changed nothing. Here the need
//! is awaited and the operation run again, so that a front end sees one call and one answer:
//!
//! ```text
//!  front end ── operation(args, done) ──> attempt ──── answered ────────────────────> done   (same thread, ~10 µs)
//!                                            └─ Need ─> task: satisfy, attempt ... ──> done   (a thread of the runtime)
//! ```
//!
//! Everything is bounded: the needs of one operation, its whole time, and how many operations wait at once. A panic in
//! an operation is EIO for its caller and nothing for anybody else.
//!
//! Owns: the retry, what an errno means to a program, limits and rules that POSIX sets and the replica need not know
//! (name lengths, setuid clearing, reserved extended attributes), and the one log line of a failure. Does not own: any
//! protocol (`fuse`, `nfs`), content and names (`notefs_cache`). Permissions are checked by the kernel (`default_permissions`), or
//! by [`guarded`] where the caller is another kernel.

use crate::events::{Events, LocalChange};
use crate::metrics::Metrics;
use notefs_cache::{Error, Ino, Need, Replica};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

pub mod guarded;
pub mod permission;

mod attributes;
mod content;
mod names;
mod operation;
mod tree;
mod virtual_folder;
mod waiting;

pub use attributes::{STATE_XATTR, XATTR_VALUE_MAX_BYTES};
pub(crate) use operation::Operation;
pub use virtual_folder::{LINKS_MAX, Oracle, Question, VirtualFolder, is_virtual};
pub use waiting::OPERATIONS_WAITING_MAX;

use tree::{Tree, View};
use waiting::{Waiting, WaitingOperation};

/// How often one operation may say that it needs something before it is given up.
pub const NEEDS_PER_OPERATION_MAX: u32 = 64;

/// Longest time that one operation may take in all; the replica's own deadline for each request is shorter.
pub const OPERATION_DEADLINE_SECONDS: u64 = 120;

/// The errno that a program is answered, as numbered by `libc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// Who asks, as far as a front end knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Thread or process; 0 where the kernel acts on nobody's behalf.
    pub pid: u32,
}

impl Caller {
    /// Whether a change of content must clear setuid and setgid: all but root lack CAP_FSETID.
    pub fn clears_setid(&self) -> bool {
        self.uid != 0
    }
}

/// What an operation is called in logs, and what it is about.
#[derive(Debug, Clone, Copy)]
struct Call {
    operation: Operation,
    /// The directory for operations on names.
    ino: Ino,
    /// A second inode that is locked meanwhile, or the same.
    other: Ino,
}

impl Call {
    fn new(operation: Operation, ino: Ino) -> Call {
        Call {
            operation,
            ino,
            other: ino,
        }
    }

    fn with(self, other: Ino) -> Call {
        Call { other, ..self }
    }

    fn is_virtual(&self) -> bool {
        is_virtual(self.ino) || is_virtual(self.other)
    }
}

/// Why an attempt has no answer.
enum Unanswered {
    /// Bring this and try again.
    Need(Need),
    /// That is the answer.
    Failed(Errno),
}

/// The operations of one mounted replica.
///
/// Every operation takes a `done` that is called exactly once, on the spot or later from a thread of the runtime.
/// Operations that answer an entry have retained its inode ([`Replica::retain`]): give it back with `forget`.
pub struct Filesystem {
    view: View,
    runtime: Handle,
    waiting: Arc<Waiting>,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    stored_on_sync: bool,
}

impl Filesystem {
    /// Serves `replica`, waiting on `runtime`.
    pub fn new(replica: Arc<Replica>, runtime: Handle) -> Filesystem {
        Filesystem {
            view: View { replica, folder: None },
            runtime,
            waiting: Arc::default(),
            events: Arc::default(),
            metrics: Arc::default(),
            stored_on_sync: false,
        }
    }

    /// Whether `fsync` and `close` wait for the bucket.
    pub fn stored_on_sync(self, stored_on_sync: bool) -> Filesystem {
        Filesystem { stored_on_sync, ..self }
    }

    /// Has a virtual folder in its root.
    pub fn with_virtual_folder(mut self, folder: Option<VirtualFolder>) -> Filesystem {
        self.view.folder = folder.map(Arc::new);
        self
    }

    /// Says who knows the answers to what the virtual folder is asked.
    pub(crate) fn ask_of(&self, oracle: Arc<dyn Oracle>) {
        if let Some(folder) = &self.view.folder {
            folder.ask_of(oracle);
        }
    }

    /// The stream of changes.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// What is counted of the operations.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How many operations wait for the bucket now.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.count()
    }

    /// The replica that is served.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.view.replica
    }

    /// The runtime on which operations wait.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether an operation on this directory or file waits for the bucket, so that the kernel keeps it locked.
    pub fn is_waited_on(&self, ino: Ino) -> bool {
        self.waiting.holds(ino)
    }

    /// A `done` that first tells of the change, if it is one and somebody wants to know.
    fn telling<T>(
        &self,
        change: impl FnOnce() -> LocalChange,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) -> impl FnOnce(Result<T, Errno>) + Send + 'static {
        let told = self
            .events
            .has_readers()
            .then(|| (change(), Arc::clone(&self.events), Arc::clone(self.replica())));
        move |result| {
            if let (Ok(_), Some((change, events, replica))) = (&result, told) {
                events.tell(&replica, change);
            }
            done(result);
        }
    }

    /// Runs `op` until it is answered; see the top of this file.
    fn run<T: Send + 'static>(
        &self,
        call: Call,
        op: impl Fn(&Tree) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let begun = Instant::now();
        if call.is_virtual() {
            return self.ask((call, begun), op, done);
        }
        match attempt(&self.view, &self.metrics, call, &op) {
            Ok(value) => self.answer(call, begun, Ok(value), done),
            Err(Unanswered::Failed(errno)) => self.answer(call, begun, Err(errno), done),
            Err(Unanswered::Need(need)) => self.wait((call, begun), need, op, done),
        }
    }

    /// As [`Filesystem::run`] for an `op` on bytes (a name, content) that are copied only if it must wait.
    fn run_with<T: Send + 'static>(
        &self,
        call: Call,
        bytes: &[u8],
        op: impl Fn(&Tree, &[u8]) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let begun = Instant::now();
        if call.is_virtual() {
            let bytes = bytes.to_vec();
            return self.ask((call, begun), move |tree| op(tree, &bytes), done);
        }
        match attempt(&self.view, &self.metrics, call, |tree| op(tree, bytes)) {
            Ok(value) => self.answer(call, begun, Ok(value), done),
            Err(Unanswered::Failed(errno)) => self.answer(call, begun, Err(errno), done),
            Err(Unanswered::Need(need)) => {
                let bytes = bytes.to_vec();
                self.wait((call, begun), need, move |tree| op(tree, &bytes), done);
            }
        }
    }

    fn answer<T>(&self, call: Call, begun: Instant, result: Result<T, Errno>, done: impl FnOnce(Result<T, Errno>)) {
        self.metrics.took(call.operation, begun.elapsed());
        done(result);
    }

    fn wait<T: Send + 'static>(
        &self,
        (call, begun): (Call, Instant),
        need: Need,
        op: impl Fn(&Tree) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        self.metrics.waited(call.operation);
        let Some(waiting) = self.begin_waiting(call) else {
            return done(Err(Errno(libc::EIO)));
        };
        let (view, metrics) = (self.view.clone(), Arc::clone(&self.metrics));
        drop(self.runtime.spawn(async move {
            let result = in_time(&metrics, call, satisfy_and_retry((&view, &metrics), call, need, op)).await;
            metrics.took(call.operation, begun.elapsed());
            done(result);
            drop(waiting); // once it is answered: until then the kernel holds the lock
        }));
    }

    /// As [`Filesystem::run`] in the virtual folder, whose answers take their time: on a thread that may wait for them.
    fn ask<T: Send + 'static>(
        &self,
        (call, begun): (Call, Instant),
        op: impl Fn(&Tree) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        if call.operation.is_change() {
            return self.answer(call, begun, Err(Errno(libc::EROFS)), done);
        }
        let Some(waiting) = self.begin_waiting(call) else {
            return done(Err(Errno(libc::EIO)));
        };
        let (view, metrics) = (self.view.clone(), Arc::clone(&self.metrics));
        drop(self.runtime.spawn(async move {
            let result = in_time(&metrics, call, asked((&view, &metrics), call, op)).await;
            metrics.took(call.operation, begun.elapsed());
            done(result);
            drop(waiting);
        }));
    }

    /// One more operation that waits, unless there are too many.
    fn begin_waiting(&self, call: Call) -> Option<WaitingOperation> {
        let waiting = self.waiting.begin([call.ino, call.other]);
        if waiting.is_none() {
            tracing::warn!(
                operation = call.operation.name(),
                ino = call.ino,
                waiting = OPERATIONS_WAITING_MAX,
                "Too many operations wait for the bucket"
            );
            self.metrics.failed(call.operation);
        }
        waiting
    }
}

/// What an operation answers within its deadline.
async fn in_time<T>(metrics: &Metrics, call: Call, answer: impl Future<Output = Result<T, Errno>>) -> Result<T, Errno> {
    let deadline = Duration::from_secs(OPERATION_DEADLINE_SECONDS);
    let result = tokio::time::timeout(deadline, answer).await;
    result.unwrap_or_else(|_elapsed| {
        metrics.failed(call.operation);
        tracing::warn!(
            operation = call.operation.name(),
            ino = call.ino,
            ?deadline,
            "The operation took too long"
        );
        Err(Errno(libc::EIO))
    })
}

/// Attempts an operation on threads that may wait for the index, and brings what it needs in between.
async fn asked<T: Send + 'static>(
    (view, metrics): (&View, &Arc<Metrics>),
    call: Call,
    mut op: impl Fn(&Tree) -> Result<T, Error> + Send + 'static,
) -> Result<T, Errno> {
    for _ in 0..NEEDS_PER_OPERATION_MAX {
        let (here, counted) = (view.clone(), Arc::clone(metrics));
        let attempted = tokio::task::spawn_blocking(move || (attempt(&here, &counted, call, &op), op)).await;
        let (answer, again) = attempted.map_err(|_ending| Errno(libc::EIO))?;
        op = again;
        match answer {
            Ok(value) => return Ok(value),
            Err(Unanswered::Failed(errno)) => return Err(errno),
            Err(Unanswered::Need(need)) => view
                .replica
                .satisfy(need)
                .await
                .map_err(|error| judge(call, metrics, &error))?,
        }
    }
    metrics.failed(call.operation);
    Err(Errno(libc::EIO))
}

async fn satisfy_and_retry<T>(
    (view, metrics): (&View, &Metrics),
    call: Call,
    mut need: Need,
    op: impl Fn(&Tree) -> Result<T, Error> + Send,
) -> Result<T, Errno> {
    for _ in 0..NEEDS_PER_OPERATION_MAX {
        view.replica
            .satisfy(need)
            .await
            .map_err(|error| judge(call, metrics, &error))?;
        match attempt(view, metrics, call, &op) {
            Ok(value) => return Ok(value),
            Err(Unanswered::Failed(errno)) => return Err(errno),
            Err(Unanswered::Need(next)) => need = next,
        }
    }
    tracing::warn!(
        operation = call.operation.name(),
        ino = call.ino,
        ?need,
        "The operation needs ever more from the bucket"
    );
    metrics.failed(call.operation);
    Err(Errno(libc::EIO))
}

/// Runs `op` once, safe against its panics.
fn attempt<T>(
    view: &View,
    metrics: &Metrics,
    call: Call,
    op: impl FnOnce(&Tree) -> Result<T, Error>,
) -> Result<T, Unanswered> {
    match catch_unwind(AssertUnwindSafe(|| op(&view.tree()))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Need(need))) => Err(Unanswered::Need(need)),
        Ok(Err(error)) => Err(Unanswered::Failed(judge(call, metrics, &error))),
        Err(panic) => {
            let what = panic_text(panic.as_ref());
            tracing::error!(
                operation = call.operation.name(),
                ino = call.ino,
                "The operation panicked: {what}"
            );
            metrics.failed(call.operation);
            Err(Unanswered::Failed(Errno(libc::EIO)))
        }
    }
}

/// The errno for an error, and its one log line if no program can have expected it.
fn judge(call: Call, metrics: &Metrics, error: &Error) -> Errno {
    let errno = error.errno();
    if matches!(error, Error::Posix(_)) {
        tracing::trace!(
            operation = call.operation.name(),
            ino = call.ino,
            errno,
            "Refused: {error}"
        );
    } else {
        metrics.failed(call.operation);
        tracing::warn!(
            operation = call.operation.name(),
            ino = call.ino,
            errno,
            "The operation failed: {error}"
        );
    }
    Errno(errno)
}

/// The words of a panic, as far as it has any.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match panic.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notefs_cache::clock::SystemClock;
    use notefs_cache::store::MemoryStore;
    use notefs_cache::{Options, ROOT_INO};

    fn view(dir: &std::path::Path, runtime: &Handle) -> View {
        let options = Options {
            cache_dir: dir.join("cache"),
            cache_size_bytes: 1 << 20,
            write_back: Duration::from_secs(1),
            poll: None,
            stores_litter: false,
            read_only: false,
            default_uid: 0,
            default_gid: 0,
            host: "test".into(),
            remote_deadline: Duration::from_secs(1),
            clock: Arc::new(SystemClock::default()),
        };
        View {
            replica: Replica::open(options, MemoryStore::new("panics"), runtime.clone()).unwrap(),
            folder: None,
        }
    }

    #[test]
    fn a_panic_is_eio_for_its_caller_and_nothing_for_anybody_else() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let view = view(dir.path(), runtime.handle());
        let (metrics, call) = (Metrics::default(), Call::new(Operation::Attr, ROOT_INO));
        let panics = |tree: &Tree<'_>| -> Result<(), Error> {
            tree.attr(ROOT_INO)?;
            panic!("in the middle of an operation")
        };
        let eio = Errno(libc::EIO);
        let answer = attempt(&view, &metrics, call, panics);
        assert!(matches!(answer, Err(Unanswered::Failed(errno)) if errno == eio));
        let answer = attempt(&view, &metrics, call, |tree| tree.attr(ROOT_INO));
        assert!(answer.is_ok(), "the next caller is answered");
    }

    #[test]
    fn an_operation_that_needs_ever_more_or_panics_while_it_waits_ends_with_eio() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let view = view(dir.path(), runtime.handle());
        let (metrics, call) = (Metrics::default(), Call::new(Operation::ReadDir, ROOT_INO));
        let greedy = |_: &Tree<'_>| -> Result<(), Error> { Err(Error::Need(Need::Listing(ROOT_INO))) };
        let panics = |_: &Tree<'_>| -> Result<(), Error> { panic!("after a wait") };
        let eio = Err(Errno(libc::EIO));
        let need = || Need::Listing(ROOT_INO);
        let both = (&view, &metrics);
        assert_eq!(runtime.block_on(satisfy_and_retry(both, call, need(), greedy)), eio);
        assert_eq!(runtime.block_on(satisfy_and_retry(both, call, need(), panics)), eio);
    }
}
