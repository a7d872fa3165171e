//! One mount from its store to its end: the only place where replica, index and kernel meet.
//!
//! ```text
//!  store ── preflight ── Replica ──┬── Filesystem ── FUSE | NFS  until: a signal, `notefs unmount`, or `umount`
//!                        Index ── Bridge                         then:  drain, unmount, drain the rest, close
//! ```
//!
//! Owns the order of starting and ending, and what is said about what is left. Does not own any of the parts: operations
//! (`filesystem`), what programs reach the folder through (`mount/front_end.rs`), indexing (`bridge`), commands
//! (`mount/serve.rs`), signals (`mount/signals.rs`), the folder underneath (`mount/point.rs`).
//!
//! The daemon never touches its own mount: killed in the middle of that, it would leave a mount that hangs.

mod both;
mod care;
mod front_end;
mod hindrance;
mod knowledge;
mod observe;
mod open;
mod oracle;
mod pins;
pub(crate) mod point;
mod remount;
mod report;
mod search;
mod serve;
mod signals;
pub(crate) mod system_mount;

use crate::bridge::{LinkRewriter, limit_heaps};
use crate::config::MountPlan;
use crate::control::protocol::Left;
use crate::control::registry::{Record, Registry, start_ticks};
use crate::control::server::{self, Connections};
use crate::events::Events;
use crate::failure::Failure;
use crate::filesystem::{Filesystem, VirtualFolder};
use crate::metrics::server as pages;
use crate::service;
use front_end::FrontEnd;
use notefs_cache::Replica;
use notefs_cache::replica::Owed;
use notefs_cache::store::StoreError;
use notefs_indexer::SharedAddress;
use observe::Observed;
use open::{Indexes, open_replica, reach_store, start_index, start_rewriter, use_credentials};
use point::Underneath;
use remount::Remounts;
use serve::Desk;
use signals::Signals;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How long a signal, or an `umount` from outside, lets the store take what is left.
const DRAIN_DEADLINE_SECONDS: u64 = 60;

/// How long a detached mount may go on serving programs that still use it.
const DETACHED_GRACE_SECONDS: u64 = 2;

/// How long closing the replica may take.
const CLOSE_DEADLINE_SECONDS: u64 = 30;

/// How long the end waits for answers to commands to be sent.
const ANSWERS_DEADLINE_SECONDS: u64 = 2;

/// How long the mount of a new cache waits for the first listing, so that a search right after it sees the bucket.
const FIRST_LISTING_WAIT_MS: u64 = 1_000;

/// Between two looks at the first listing.
const FIRST_LISTING_POLL_MS: u64 = 5;

/// Names told of what is left.
const LEFT_NAMES_MAX: usize = 10;

/// Threads that wait for the network.
const IO_THREADS: usize = 2;

/// Reasons to end that may wait to be heard.
const ENDS_MAX: usize = 16;

/// Why a mount ends.
pub(crate) enum End {
    /// SIGTERM, SIGINT or SIGHUP.
    Signal(i32),
    /// `notefs unmount`.
    Asked {
        /// How long the store may take.
        timeout: Duration,
        /// Told what is left.
        reply: SyncSender<Left>,
    },
    /// Somebody else unmounted the folder.
    Gone,
    /// The mount no longer answers, for this reason.
    Stuck(&'static str),
}

/// What is still to be stored while the mount ends; for progress bars.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Remaining {
    fn set(&self, owed: Owed) {
        self.count.store(owed.count, Ordering::Relaxed);
        self.bytes.store(owed.bytes, Ordering::Relaxed);
    }

    /// Things and their bytes.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Mounts as planned, calls `ready` with warnings once the mount answers, and serves until the end.
///
/// Must be called from the process's first thread, before any other is started, for signals to be heard in order.
pub(crate) fn run(
    plan: &MountPlan,
    ready: &mut dyn FnMut(Vec<String>) -> Result<(), Failure>,
) -> Result<Left, Failure> {
    limit_heaps();
    let shared = use_credentials(plan)?;
    let signals = Signals::block()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("notefs-io")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("Could not start threads: {e}")))?;
    let (ends_sender, ends) = sync_channel(ENDS_MAX);
    let (hurry_sender, hurry) = watch::channel(false);
    signals.listen(ends_sender.clone(), hurry_sender)?;
    let (mut mount, warnings) = Mount::start((plan, shared), runtime, ends_sender.clone())?;
    let end = match ready(warnings) {
        Ok(()) => {
            let observed = mount.observed.clone();
            service::ready(plan.dir.display(), move || observed.is_serving());
            mount.wait((&ends, &ends_sender))
        }
        Err(failure) => {
            mount.finish(End::Gone, hurry);
            return Err(failure);
        }
    };
    Ok(mount.finish(end, hurry))
}

/// A mount that is being served.
struct Mount {
    plan: MountPlan,
    runtime: Runtime,
    replica: Arc<Replica>,
    indexes: Indexes,
    rewriter: Option<LinkRewriter>,
    front_end: Arc<FrontEnd>,
    filesystem: Arc<Filesystem>,
    remounts: Remounts,
    /// The folder that is mounted on, if there is one.
    underneath: Option<Underneath>,
    registry: Registry,
    connections: Connections,
    remaining: Arc<Remaining>,
    events: Arc<Events>,
    observed: Arc<Observed>,
}

impl Mount {
    /// Builds everything, the mount itself last but one, so that a refusal leaves nothing mounted.
    fn start(
        (plan, shared): (&MountPlan, Option<SharedAddress>),
        runtime: Runtime,
        ends: SyncSender<End>,
    ) -> Result<(Mount, Vec<String>), Failure> {
        let (store, warnings) = reach_store(plan, &runtime)?;
        let store_name = store.name();
        let cache_is_new = !Replica::exists(&plan.cache_dir);
        let replica = open_replica(plan, store, &runtime)?;
        if cache_is_new {
            runtime.block_on(replica.learn_root()).map_err(cache_failure)?;
        }
        let mut warnings = care::learn_store(&replica, &runtime, plan.trash, warnings);
        let indexes = start_index(plan, &replica, shared, &runtime)?;
        let registry = Registry::of_this_user();
        registry.prepare()?;
        let socket = registry.socket_path(&plan.dir)?;
        let listener = server::bind(&socket)?;
        let underneath = open_underneath(plan)?;
        let pages = bind_pages(plan, &runtime)?;
        replica.start();
        let filesystem = Arc::new(filesystem_of(plan, &replica, &runtime));
        let front_end = Arc::new(FrontEnd::start(plan, &store_name, filesystem.clone())?);
        underneath.iter().for_each(Underneath::seal);
        let record = record_of(plan, (store_name, socket), underneath.as_ref());
        registry.add(&record)?;
        let rewriter = start_rewriter(plan, &replica, &indexes, &runtime)?;
        let remaining = Arc::new(Remaining::default());
        let observed = Observed::start((filesystem.clone(), indexes.clone()), &front_end, pages);
        let desk = Desk {
            record,
            read_only: plan.read_only,
            replica: replica.clone(),
            index: indexes.index.clone(),
            bridge: indexes.bridge.clone(),
            share: indexes.share.clone(),
            runtime: runtime.handle().clone(),
            remaining: remaining.clone(),
            ends: ends.clone(),
            events: filesystem.events().clone(),
        };
        let desk = Arc::new(desk);
        filesystem.ask_of(desk.clone());
        let connections = server::serve(listener, desk)?;
        let mount = Mount {
            plan: plan.clone(),
            runtime,
            replica,
            indexes,
            rewriter,
            front_end,
            events: filesystem.events().clone(),
            filesystem,
            remounts: Remounts::default(),
            underneath,
            registry,
            connections,
            remaining,
            observed,
        };
        mount.watch_session(&ends);
        if cache_is_new {
            mount.await_first_listing();
        }
        warnings.extend(mount.indexes.share.as_ref().and_then(|share| share.first_answer()));
        let (dir, cache) = (plan.dir.display(), plan.cache_dir.display());
        tracing::info!("Mounted {} at {dir} with the cache {cache}", plan.store);
        Ok((mount, warnings))
    }

    /// Waits a moment until the bucket is listed, or a shared index is known to answer for it; a large one goes on being listed in the
    /// background.
    fn await_first_listing(&self) {
        let until = Instant::now() + Duration::from_millis(FIRST_LISTING_WAIT_MS);
        let is_open = || {
            let status = self.replica.status();
            status.unlisted_directories > 0 && status.last_error.is_none()
        };
        let share = self.indexes.share.as_ref();
        while is_open() && !share.is_some_and(|share| share.knows_notes()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(FIRST_LISTING_POLL_MS));
        }
    }

    /// Serves until there is a reason to end.
    fn wait(&mut self, (ends, again): (&Receiver<End>, &SyncSender<End>)) -> End {
        let mut end = ends.recv().unwrap_or(End::Gone);
        while let End::Stuck(reason) = end {
            end = match self.remount(reason, again) {
                Ok(()) => ends.recv().unwrap_or(End::Gone),
                Err(failure) => {
                    tracing::error!("{failure}");
                    End::Gone
                }
            };
        }
        match &end {
            End::Signal(number) => tracing::info!("Ending because of signal {number}"),
            End::Asked { timeout, .. } => tracing::info!("Ending because of `notefs unmount`, within {timeout:?}"),
            End::Gone | End::Stuck(_) => tracing::info!("Ending because the folder is not mounted any more"),
        }
        end
    }

    /// Stores what can be stored, unmounts, closes, and answers what is left. A second signal shortens the waits.
    fn finish(self, end: End, hurry: watch::Receiver<bool>) -> Left {
        let (timeout, reply) = match end {
            End::Asked { timeout, reply } => (timeout, Some(reply)),
            End::Signal(_) | End::Gone | End::Stuck(_) => (Duration::from_secs(DRAIN_DEADLINE_SECONDS), None),
        };
        let until = Instant::now() + timeout;
        self.observed.now_ending();
        service::stopping(timeout);
        if let Some(rewriter) = &self.rewriter {
            rewriter.stop(*hurry.borrow() || timeout.is_zero());
        }
        self.drain(until, hurry.clone());
        let was_busy = self.unmount(*hurry.borrow());
        self.events.end();
        self.indexes.bridge.begin_stop();
        let in_a_hurry = *hurry.borrow();
        let owed = self.drain(until, hurry);
        if let Some(share) = &self.indexes.share {
            share.stop(in_a_hurry || owed.count > 0);
        }
        self.indexes.bridge.stop();
        let names = left_names(&self.replica, owed.count);
        let last_error = care::hindrance(&self.replica.status());
        self.close();
        self.unseal();
        self.registry.remove(&self.plan.dir);
        let left = Left {
            count: owed.count,
            bytes: owed.bytes,
            names,
            cache_dir: self.plan.cache_dir.display().to_string(),
            last_error: last_error.filter(|_| owed.count > 0),
            was_busy,
        };
        match left.count {
            0 => tracing::info!("Everything is stored; the mount has ended"),
            count => tracing::warn!(
                "{count} changes ({} bytes) are not stored; they are safe in {} and go on with the next mount",
                left.bytes,
                left.cache_dir
            ),
        }
        if let Some(reply) = reply {
            reply.try_send(left.clone()).ok();
        }
        self.connections
            .wait_until_idle(Duration::from_secs(ANSWERS_DEADLINE_SECONDS));
        left
    }

    /// Lets the store take what is owed until the deadline, or until somebody is in a hurry.
    fn drain(&self, until: Instant, mut hurry: watch::Receiver<bool>) -> Owed {
        let in_a_hurry = *hurry.borrow();
        let deadline = if in_a_hurry {
            Duration::ZERO
        } else {
            until.saturating_duration_since(Instant::now())
        };
        self.runtime.block_on(async {
            let progress = |owed: Owed| self.remaining.set(owed);
            tokio::select! {
                owed = self.replica.drain(deadline, &progress) => owed,
                _ = hurry.wait_for(|hurry| *hurry), if !in_a_hurry => {
                    tracing::warn!("Not waiting for the store any longer");
                    self.replica.status().owed
                }
            }
        })
    }

    /// Takes the mount away; answers whether programs still used it.
    fn unmount(&self, at_once: bool) -> bool {
        let mut was_busy = false;
        let unmounted = match self.front_end.unmount(at_once) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                was_busy = true;
                tracing::warn!(
                    "Programs still use {}: it is detached under them",
                    self.plan.dir.display()
                );
                self.front_end.unmount(true)
            }
            other => other,
        };
        if let Err(error) = unmounted {
            tracing::error!("Could not unmount {}: {error}", self.plan.dir.display());
        }
        let grace = Duration::from_secs(DETACHED_GRACE_SECONDS);
        let ended = async { tokio::time::timeout(grace, self.front_end.ended()).await.is_ok() };
        if !self.runtime.block_on(ended) {
            tracing::warn!("Programs that still use the folder get errors from now on");
        }
        was_busy
    }

    /// Gives the folder underneath its mode back; one that an earlier daemon sealed can only be reached now.
    fn unseal(&self) {
        match &self.underneath {
            Some(underneath) => underneath.unseal(),
            None if self.plan.dir.is_absolute() => drop(Underneath::open(&self.plan.dir)),
            None => {}
        }
    }

    fn close(&self) {
        let deadline = Duration::from_secs(CLOSE_DEADLINE_SECONDS);
        let closed = async { tokio::time::timeout(deadline, self.replica.close()).await };
        match self.runtime.block_on(closed) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("The cache was not closed cleanly: {error}"),
            Err(_) => tracing::error!("The cache did not close within {CLOSE_DEADLINE_SECONDS} s"),
        }
    }
}

/// Some names of what is not stored.
fn left_names(replica: &Replica, owed_count: u64) -> Vec<String> {
    let wanted = if owed_count > 0 { LEFT_NAMES_MAX } else { 0 };
    replica.owed_paths(wanted).unwrap_or_else(|error| {
        tracing::warn!("Could not look up what is not stored: {error}");
        Vec::new()
    })
}

/// Where metrics are asked for, if anywhere, before anything is mounted.
fn bind_pages(plan: &MountPlan, runtime: &Runtime) -> Result<Option<pages::Bound>, Failure> {
    let place = plan.metrics.as_ref();
    place.map(|place| pages::bind(place, runtime.handle())).transpose()
}

fn filesystem_of(plan: &MountPlan, replica: &Arc<Replica>, runtime: &Runtime) -> Filesystem {
    Filesystem::new(replica.clone(), runtime.handle().clone())
        .stored_on_sync(plan.stored_on_sync)
        .with_virtual_folder(plan.dot_notefs.map(VirtualFolder::new))
}

/// What commands find the mount by.
fn record_of(plan: &MountPlan, (store, socket): (String, PathBuf), underneath: Option<&Underneath>) -> Record {
    Record {
        mountpoint: plan.dir.clone(),
        store,
        cache_dir: plan.cache_dir.clone(),
        pid: std::process::id(),
        pid_start_ticks: start_ticks(std::process::id()).unwrap_or_default(),
        socket,
        mode_before: underneath.map_or(0, |underneath| underneath.mode),
    }
}

/// The folder to mount on, opened before anything is mounted there; without a mount to make, there is none.
fn open_underneath(plan: &MountPlan) -> Result<Option<Underneath>, Failure> {
    plan.makes_mount().then(|| Underneath::open(&plan.dir)).transpose()
}

/// A store's error for people: its advice becomes the hint.
fn store_failure(error: StoreError) -> Failure {
    let failure = Failure::new(format!(
        "Could not {} {}: {}",
        error.operation, error.target, error.message
    ));
    match error.advice.as_str() {
        "" => failure,
        advice => failure.hint(advice),
    }
}

/// A replica's error for people.
fn cache_failure(error: notefs_cache::Error) -> Failure {
    match error {
        notefs_cache::Error::Store(error) => store_failure(error),
        error => Failure::new(error.to_string()),
    }
}
