//! What programs reach the folder through: a FUSE mount, an NFS server, or such a server and the system's own mount of it.
//!
//! Owns choosing, starting and ending a front end. Does not own the protocols (`fuse`, `nfs`) nor when it ends (`mount.rs`).

use super::hindrance::Situation;
use super::system_mount::SystemMount;
use crate::config::{FrontEndPlan, MountPlan, NfsPlan, SystemMountPlan};
use crate::failure::Failure;
use crate::filesystem::Filesystem;
use crate::fuse::{FuseOptions, FuseSession};
use crate::nfs::{self, Admission, NfsOptions, NfsServer};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Threads that answer the kernel.
const FUSE_THREADS: usize = 2;

/// Threads that answer NFS clients.
const NFS_THREADS: usize = 2;

/// Between two looks whether the system's mount is still there.
const LOOK_PAUSE_SECONDS: u64 = 1;

/// A front end that is being served.
pub(super) enum FrontEnd {
    /// A FUSE mount.
    Fuse(Box<FuseSession>),
    /// An NFS server, mounted or not.
    Nfs {
        /// The server.
        server: Box<NfsServer>,
        /// The mount of it that is ours to end.
        mount: Option<SystemMount>,
        /// Whether it has been ended.
        ended: watch::Sender<bool>,
    },
}

impl FrontEnd {
    /// Starts what the plan asks for; it answers when this returns.
    pub(super) fn start(plan: &MountPlan, store_name: &str, filesystem: Arc<Filesystem>) -> Result<FrontEnd, Failure> {
        match &plan.front_end {
            FrontEndPlan::Fuse => Ok(FrontEnd::Fuse(Box::new(mount_fuse(plan, store_name, filesystem)?))),
            FrontEndPlan::Nfs(asked) => serve_nfs(plan, asked, filesystem),
        }
    }

    /// Waits until the folder was unmounted; a server that nobody has mounted here never ends by itself.
    pub(super) async fn ended(&self) {
        match self {
            FrontEnd::Fuse(session) => session.ended().await,
            FrontEnd::Nfs { mount, ended, .. } => {
                let mut ended = ended.subscribe();
                let gone = async {
                    loop {
                        tokio::time::sleep(Duration::from_secs(LOOK_PAUSE_SECONDS)).await;
                        if mount.as_ref().is_some_and(|mount| !mount.is_there()) {
                            return;
                        }
                    }
                };
                tokio::select! {
                    // An error means that the sender is gone, and then so is the server.
                    _ = ended.wait_for(|ended| *ended) => {}
                    () = gone => {}
                }
            }
        }
    }

    /// Has `stuck` called when the front end no longer answers the kernel. A server's clients repeat their calls by themselves.
    pub(super) fn watch(&self, stuck: impl FnOnce(&'static str) + Send + 'static) {
        if let FrontEnd::Fuse(session) = self {
            session.watch(stuck);
        }
    }

    /// Whether programs are served now.
    pub(super) fn is_serving(&self) -> bool {
        match self {
            FrontEnd::Fuse(session) => session.is_answering(),
            FrontEnd::Nfs { mount, ended, .. } => !*ended.borrow() && mount.as_ref().is_none_or(SystemMount::is_there),
        }
    }

    /// Breaks off what no longer answers, so that programs that wait for it get an error.
    pub(super) fn abort(&self) -> io::Result<()> {
        match self {
            FrontEnd::Fuse(session) => session.abort(),
            FrontEnd::Nfs { .. } => Ok(()),
        }
    }

    /// Takes the folder away from programs. Fails with [`io::ErrorKind::ResourceBusy`] while they use it, unless `lazy`.
    pub(super) fn unmount(&self, lazy: bool) -> io::Result<()> {
        match self {
            FrontEnd::Fuse(session) => session.unmount(lazy),
            FrontEnd::Nfs { server, mount, ended } => {
                // The system writes what it holds back to the server before it lets go.
                if let Some(mount) = mount {
                    mount.unmount(lazy)?;
                }
                server.stop();
                ended.send_replace(true);
                Ok(())
            }
        }
    }
}

fn mount_fuse(plan: &MountPlan, store_name: &str, filesystem: Arc<Filesystem>) -> Result<FuseSession, Failure> {
    let options = FuseOptions {
        mountpoint: plan.dir.clone(),
        fsname: store_name.to_owned(),
        read_only: plan.read_only,
        allow_other: plan.allow_other,
        threads: FUSE_THREADS,
        stored_on_close: plan.stored_on_sync,
        events: plan.events,
    };
    crate::fuse::mount(filesystem, options).map_err(|error| {
        let failure = Failure::new(format!("Could not mount on {}: {error}", plan.dir.display()));
        match Situation::look(&error, plan.allow_other).hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn serve_nfs(plan: &MountPlan, asked: &NfsPlan, filesystem: Arc<Filesystem>) -> Result<FrontEnd, Failure> {
    let secret = filesystem
        .replica()
        .secret(nfs::HANDLE_SECRET)
        .map_err(super::cache_failure)?;
    let listener = TcpListener::bind(asked.address).map_err(|error| {
        Failure::new(format!("Could not listen on {}: {error}", asked.address))
            .hint("Choose another address with --addr, or end the program that uses this one")
    })?;
    let uid = rustix::process::geteuid().as_raw();
    let options = NfsOptions {
        admission: if plan.allow_other {
            Admission::Everybody
        } else {
            Admission::Only(vec![uid])
        },
        insecure_listen: asked.insecure_listen,
        read_only: plan.read_only,
        secret,
        threads: NFS_THREADS,
    };
    let server = nfs::serve(filesystem, listener, &options)
        .map_err(|error| Failure::new(format!("Could not serve NFS on {}: {error}", asked.address)))?;
    let mount = match asked.mount {
        SystemMountPlan::None => None,
        SystemMountPlan::Make => Some(SystemMount::make(server.address(), &plan.dir, plan.read_only)?),
        SystemMountPlan::Rejoin => Some(SystemMount::rejoin(&plan.dir)),
    };
    Ok(FrontEnd::Nfs {
        server: Box::new(server),
        mount,
        ended: watch::channel(false).0,
    })
}
