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
mod waiting;

pub use attributes::{STATE_XATTR, XATTR_VALUE_MAX_BYTES};
pub(crate) use operation::Operation;
pub use waiting::OPERATIONS_WAITING_MAX;

use waiting::Waiting;

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
    replica: Arc<Replica>,
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
            replica,
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
        &self.replica
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
            .then(|| (change(), Arc::clone(&self.events), Arc::clone(&self.replica)));
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
        op: impl Fn(&Replica) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let begun = Instant::now();
        match attempt(&self.replica, &self.metrics, call, &op) {
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
        op: impl Fn(&Replica, &[u8]) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let begun = Instant::now();
        match attempt(&self.replica, &self.metrics, call, |replica| op(replica, bytes)) {
            Ok(value) => self.answer(call, begun, Ok(value), done),
            Err(Unanswered::Failed(errno)) => self.answer(call, begun, Err(errno), done),
            Err(Unanswered::Need(need)) => {
                let bytes = bytes.to_vec();
                self.wait((call, begun), need, move |replica| op(replica, &bytes), done);
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
        op: impl Fn(&Replica) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        self.metrics.waited(call.operation);
        let Some(waiting) = self.waiting.begin([call.ino, call.other]) else {
            tracing::warn!(
                operation = call.operation.name(),
                ino = call.ino,
                waiting = OPERATIONS_WAITING_MAX,
                "Too many operations wait for the bucket"
            );
            self.metrics.failed(call.operation);
            return done(Err(Errno(libc::EIO)));
        };
        let (replica, metrics) = (Arc::clone(&self.replica), Arc::clone(&self.metrics));
        drop(self.runtime.spawn(async move {
            let deadline = Duration::from_secs(OPERATION_DEADLINE_SECONDS);
            let result = tokio::time::timeout(deadline, satisfy_and_retry((&replica, &metrics), call, need, op)).await;
            let result = result.unwrap_or_else(|_elapsed| {
                metrics.failed(call.operation);
                tracing::warn!(
                    operation = call.operation.name(),
                    ino = call.ino,
                    ?deadline,
                    "The operation took too long"
                );
                Err(Errno(libc::EIO))
            });
            metrics.took(call.operation, begun.elapsed());
            done(result);
            drop(waiting); // once it is answered: until then the kernel holds the lock
        }));
    }
}

async fn satisfy_and_retry<T>(
    (replica, metrics): (&Replica, &Metrics),
    call: Call,
    mut need: Need,
    op: impl Fn(&Replica) -> Result<T, Error> + Send,
) -> Result<T, Errno> {
    for _ in 0..NEEDS_PER_OPERATION_MAX {
        replica
            .satisfy(need)
            .await
            .map_err(|error| judge(call, metrics, &error))?;
        match attempt(replica, metrics, call, &op) {
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
    replica: &Replica,
    metrics: &Metrics,
    call: Call,
    op: impl FnOnce(&Replica) -> Result<T, Error>,
) -> Result<T, Unanswered> {
    match catch_unwind(AssertUnwindSafe(|| op(replica))) {
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
