//! The FUSE front end: translates the kernel's requests into operations of [`Filesystem`], and nothing more.
//!
//! # Opens are not seen
//!
//! The kernel is answered ENOSYS to its first `open`, `opendir` and `flush`, and from then on sends none of these, nor
//! `release`: a warm open+read+close asks us nothing at all. Nothing is lost by it. Dirty files are known by their
//! writes; an unlinked file lives until FORGET, which the kernel sends after the last close; `O_TRUNC` arrives as a
//! change of size; pages and directories are cached as with KEEP_CACHE and CACHE_DIR. With
//! [`FuseOptions::stored_on_close`] a close must be heard, so there `open` and `flush` are answered.
//!
//! # What the kernel remembers
//!
//! Names, attributes, pages and directories are cached for long, names that do not exist included. What a local program
//! changes, the kernel updates itself; what changes otherwise is told through the replica's [`Observer`], see
//! `fuse/notify.rs`. So a time to live is no promise of freshness, only a bound on a lost notification.
//!
//! # Rules
//!
//! - No handler waits: it answers on the spot, or its reply moves into the operation's `done`.
//! - Every request passes `FrontEnd::serve`, which catches panics: a dropped reply is EIO, and no event loop dies of us.
//! - Permissions are the kernel's (`default_permissions`), and so are file locks.
//! - FUSE_INTERRUPT is not served: every operation is bounded by a deadline instead.
//! - Known gap: fuser 0.18 itself panics, before any handler, on a time of exactly -2^63 s and some nanoseconds: that
//!   event loop ends and its caller may wait for ever. Only `utimensat` by somebody who may change the file can do that.
//!   The watchdog then breaks the connection off, so that nobody waits for ever, and the folder is mounted anew.
//! - The daemon never touches its own mount: killed in the middle of that, it would leave a mount that hangs.
//!
//! Owns: mounting, unmounting, the protocol. Does not own: what an operation means (`filesystem`, `notefs_cache`).

use crate::filesystem::Filesystem;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use notefs_cache::Replica;
use notefs_cache::replica::{Announcer, Observer, Writers};
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

mod convert;
mod directory;
mod examine;
mod felt;
mod handlers;
mod mount_table;
mod negotiate;
mod notify;
mod programs;
mod reply;
mod turns;
mod watchdog;

pub use examine::{KernelReport, examine_kernel};
pub use mount_table::{MountError, clear_dead_mount};

use felt::{Felt, FeltParts, Gate};
use handlers::FrontEnd;
use notify::KernelCache;
use programs::Programs;
use turns::Turns;
use watchdog::Pulse;

/// What `mount` and `/proc/mounts` show as the type: `fuse.notefs`.
const SUBTYPE: &str = "notefs";

/// How long the actor and what it is doing may take to end; the kernel may hold it for a program that waits for the bucket.
const LEAVE_DEADLINE_SECONDS: u64 = 10;

/// How a mount is to be made.
#[derive(Debug, Clone)]
pub struct FuseOptions {
    /// The folder to mount on; it must exist.
    pub mountpoint: PathBuf,
    /// What `mount` and `df` show as the source: the store's name, without secrets.
    pub fsname: String,
    /// Mount read-only. (The replica must be told too.)
    pub read_only: bool,
    /// Let other users in; without root, `/etc/fuse.conf` must hold `user_allow_other`.
    pub allow_other: bool,
    /// Event loops; at least one.
    pub threads: usize,
    /// Hear of each close, so that it can wait.
    pub stored_on_close: bool,
    /// Raise file events for changes of the bucket. (Not on a read-only mount: the kernel lets nothing change there.)
    pub events: bool,
}

/// A mount that is being served. Dropping it while it is mounted detaches it.
pub struct FuseSession {
    mountpoint: PathBuf,
    /// `major:minor` of the mount, so that nothing else at the same place is ever unmounted.
    device: Option<String>,
    /// The device that the kernel's requests come from.
    channel: File,
    kernel: Arc<KernelCache>,
    turns: Arc<Turns>,
    pulse: Arc<Pulse>,
    notifications: Option<JoinHandle<()>>,
    felt: Arc<Felt>,
    /// Taken by whoever sends the actor away.
    feeling: Mutex<Option<JoinHandle<()>>>,
    replica: Arc<Replica>,
    ended: watch::Receiver<bool>,
    runtime: tokio::runtime::Handle,
    /// Never dropped: fuser 0.18 would unmount whatever is at the mount point by then, even if ours is long gone.
    _session: ManuallyDrop<BackgroundSession>,
}

/// Mounts `filesystem` and serves it from threads of its own; the mount answers when this returns.
///
/// Registers itself as the replica's [`Observer`].
pub fn mount(filesystem: Arc<Filesystem>, options: FuseOptions) -> io::Result<FuseSession> {
    let mountpoint = options.mountpoint.canonicalize()?;
    let kernel = Arc::new(KernelCache::default());
    filesystem
        .replica()
        .set_observer(Arc::clone(&kernel) as Arc<dyn Observer>);
    let runtime = filesystem.runtime().clone();
    let (ended_sender, ended) = watch::channel(false);
    let turns = Arc::new(Turns::new(options.threads.max(1)));
    let gate = Arc::new(Gate::default());
    let pulse = Pulse::new();
    let front_end = FrontEnd::new(
        Arc::clone(&filesystem),
        (
            Arc::clone(&kernel),
            Arc::clone(&turns),
            Arc::clone(&gate),
            Arc::clone(&pulse),
        ),
        options.stored_on_close,
        ended_sender,
    );
    let session = Session::new(front_end, &mountpoint, &session_config(&options))?;
    let device = mount_table::device_of(&mountpoint);
    let channel = File::from(session.as_fd().try_clone_to_owned()?);
    turns.set_channel(channel.try_clone()?);
    let replica = Arc::clone(filesystem.replica());
    let programs = device.clone().map(|device| Programs::new(device, Arc::clone(&gate)));
    let parts = FeltParts {
        kernel: Arc::clone(&kernel),
        gate,
        notifier: session.notifier(),
        events: Arc::clone(filesystem.events()),
        place: device
            .clone()
            .filter(|_| options.events && !options.read_only)
            .map(|device| (mountpoint.clone(), device)),
        filesystem: Arc::clone(&filesystem),
    };
    let notifications = Some(kernel.start(filesystem, session.notifier(), channel.try_clone()?)?);
    let session = ManuallyDrop::new(session.spawn()?);
    let (felt, feeling) = Felt::start(parts)?;
    kernel.touch_through(Arc::clone(&felt));
    replica.set_announcer(Some(Arc::clone(&felt) as Arc<dyn Announcer>));
    if let Some(programs) = &programs {
        replica.set_writers(Arc::clone(programs) as Arc<dyn Writers>);
        programs.tell_of_watches(&replica)?;
    }
    Ok(FuseSession {
        mountpoint,
        device,
        channel,
        kernel,
        turns,
        pulse,
        notifications,
        felt,
        feeling: Mutex::new(Some(feeling)),
        replica,
        ended,
        runtime,
        _session: session,
    })
}

fn session_config(options: &FuseOptions) -> Config {
    let mut mount_options = vec![
        MountOption::FSName(options.fsname.replace(',', "_")),
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    if rustix::process::geteuid().is_root() {
        mount_options.extend([MountOption::Dev, MountOption::Suid]);
    }
    if options.read_only {
        mount_options.push(MountOption::RO);
    }
    let mut config = Config::default();
    config.mount_options = mount_options;
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = true;
    config
}

impl FuseSession {
    /// Where it is mounted, as an absolute path.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// What tells the kernel of changes; already registered with the replica.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.kernel) as Arc<dyn Observer>
    }

    /// Unmounts. Fails with [`io::ErrorKind::ResourceBusy`] while a program uses the folder, unless `lazy`: then the
    /// folder is gone at once, and programs that use it are served until they let go. Harmless where it is gone already.
    pub fn unmount(&self, lazy: bool) -> io::Result<()> {
        self.stop_feeling();
        let is_ours = || self.device.is_some() && mount_table::device_of(&self.mountpoint) == self.device;
        if is_connected(&self.channel) && is_ours() {
            mount_table::unmount(&self.mountpoint, lazy)?;
        }
        if !is_connected(&self.channel) {
            self.turns.end();
        }
        Ok(())
    }

    /// Calls `stuck` once, with the reason, should the mount no longer answer.
    pub fn watch(&self, stuck: impl FnOnce(&'static str) + Send + 'static) {
        match self.channel.try_clone() {
            Ok(channel) => Arc::clone(&self.pulse).watch(channel, stuck),
            Err(error) => tracing::error!("The mount cannot be watched: {error}"),
        }
    }

    /// Whether the mount is there and its requests are answered, as far as that shows without touching it.
    pub fn is_answering(&self) -> bool {
        !self.is_ended() && is_connected(&self.channel) && self.pulse.is_well(&self.channel)
    }

    /// Breaks the connection off, so that everybody who waits for it gets an error, and takes the mount away.
    pub fn abort(&self) -> io::Result<()> {
        let is_ours = self.device.is_some() && mount_table::device_of(&self.mountpoint) == self.device;
        let aborted = if is_ours {
            mount_table::abort(&self.mountpoint)
        } else {
            Ok(())
        };
        self.stop_feeling();
        aborted
    }

    /// Sends the actor away: it must be the first to leave the mount.
    fn stop_feeling(&self) {
        self.replica.set_announcer(None);
        self.felt.stop();
        let Some(thread) = self.feeling.lock().take() else {
            return;
        };
        let until = Instant::now() + Duration::from_secs(LEAVE_DEADLINE_SECONDS);
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            tracing::warn!("A change of the bucket is still being told to the kernel while the mount ends");
        } else if thread.join().is_err() {
            tracing::error!("The thread that makes changes felt panicked");
        }
    }

    /// Whether the mount is gone, by [`FuseSession::unmount`] or by `umount` from outside.
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the mount is gone and its last request is answered.
    pub async fn ended(&self) {
        // An error means that the sender is gone, and then so is the mount.
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }

    /// As [`FuseSession::ended`], from a thread outside the runtime.
    pub fn join(self) {
        self.runtime.block_on(self.ended());
    }
}

impl Drop for FuseSession {
    fn drop(&mut self) {
        // Even when it has ended: event loops that died leave a mount that nobody answers.
        if let Err(error) = self.unmount(true) {
            tracing::warn!(mountpoint = %self.mountpoint.display(), "Could not unmount: {error}");
        }
        self.kernel.stop();
        if let Some(thread) = self.notifications.take()
            && self.is_ended()
            && thread.join().is_err()
        {
            tracing::error!("The thread that tells the kernel of changes panicked");
        }
    }
}

/// Whether the kernel still has the mount, in use or detached.
fn is_connected(channel: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: channel.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd, and the descriptor is open as long as `channel`.
    let answered = unsafe { libc::poll(&raw mut poll, 1, 0) };
    answered == 0 || poll.revents & libc::POLLERR == 0
}
