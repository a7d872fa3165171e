//! The NFS front end: an NFSv3 and MOUNTv3 server over TCP, for systems without FUSE. It translates calls into operations of
//! [`Guarded`], and nothing more.
//!
//! ```text
//!  connection ── records ── rpc ── server (admission, duplicates) ── procedures ── Guarded ── replica
//!       ^                                                                  │
//!       └── writer <── Reply, sent exactly once <───────────────────────────┘ at once, or when the bucket or disk answered
//! ```
//!
//! # What a client may rely on
//!
//! - Handles live as long as the inode has a name: through renames and restarts. They cannot be guessed.
//! - An UNSTABLE write is *written*: it survives the server's death, not a power cut. COMMIT, and any other write, is
//!   *synced*. The write verifier changes with each start. Changes of names and attributes are *written* when they are
//!   answered, and *synced* with the next COMMIT or within about 5 s.
//! - A call that must not run twice is answered as before when it comes again, unless the server was restarted in between.
//! - Nothing is retained for clients: an open file that another client unlinks is gone (ESTALE). A client that unlinks its own
//!   open file renames it until the last close.
//!
//! # Rules
//!
//! - Only peers on loopback whose sockets are root's or the serving user's, and only that user's calls (root's, where root
//!   serves), unless told otherwise.
//! - No call waits in a connection's task: replies move into the operations' `done`. Blocking calls of the replica are short.
//! - Only this folder names the NFS crate.
//!
//! Owns: the protocol. Does not own: what an operation means and who may do it (`filesystem`), mounting (`mount`).

mod connection;
mod convert;
mod duplicates;
mod handle;
mod mounting;
mod peer;
mod procedures;
mod records;
mod rpc;
mod server;
mod xdr;

pub use server::Admission;

use crate::filesystem::Filesystem;
use crate::filesystem::guarded::Guarded;
use duplicates::Duplicates;
use handle::Handles;
use nfs3_types::nfs3::{cookieverf3, writeverf3};
use server::Server;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The name of the replica's secret that makes handles unguessable.
pub const HANDLE_SECRET: &str = "nfs-handles";

/// Connections that are served at once; more wait.
const CONNECTIONS_MAX: usize = 256;

/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE_MS: u64 = 100;

/// How long the end waits for connections to finish.
const END_DEADLINE_SECONDS: u64 = 6;

/// How a folder is to be served.
#[derive(Debug, Clone)]
pub struct NfsOptions {
    /// Whose calls are served.
    pub admission: Admission,
    /// Serve peers that are not on this machine.
    pub insecure_listen: bool,
    /// Changes are refused; the replica must be told too.
    pub read_only: bool,
    /// The replica's secret of the name [`HANDLE_SECRET`].
    pub secret: [u8; 32],
    /// Threads that answer; at least one.
    pub threads: usize,
}

/// A server that is running. Dropping it ends it.
pub struct NfsServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    /// Only `None` while it is dropped.
    runtime: Option<Runtime>,
}

/// Serves `filesystem` to whoever connects to `listener`, from threads of its own.
pub fn serve(filesystem: Arc<Filesystem>, listener: TcpListener, options: &NfsOptions) -> io::Result<NfsServer> {
    let address = listener.local_addr()?;
    let handles = Handles::new(&options.secret);
    let server = Arc::new(Server {
        guarded: Guarded::new(filesystem),
        fsid: handles.number("fsid"),
        cookie_verifier: cookieverf3(handles.number("cookies").to_be_bytes()),
        write_verifier: writeverf3(RandomState::new().hash_one(std::process::id()).to_be_bytes()),
        handles,
        admission: options.admission.clone(),
        read_only: options.read_only,
        mounts: mounting::Mounts::default(),
        duplicates: Arc::new(Duplicates::default()),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .thread_name("notefs-nfs")
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (stop, stopped) = watch::channel(false);
    let (ended_sender, ended) = watch::channel(false);
    let insecure = options.insecure_listen;
    runtime.spawn(async move {
        accept(server, listener, insecure, stopped).await;
        ended_sender.send_replace(true);
    });
    Ok(NfsServer {
        address,
        stop,
        ended,
        runtime: Some(runtime),
    })
}

async fn accept(
    server: Arc<Server>,
    listener: tokio::net::TcpListener,
    insecure: bool,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    let accepting = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let (stream, peer): (TcpStream, SocketAddr) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("Could not accept an NFS connection: {error}");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    continue;
                }
            };
            if !insecure && !is_welcome(&server, &stream, peer) {
                tracing::warn!(%peer, "An NFS connection from outside, or of another user, was refused");
                continue;
            }
            let serving = connection::serve(Arc::clone(&server), stream, peer, stopped.clone());
            connections.spawn(async move {
                serving.await;
                drop(place);
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether a connection comes from this machine, and from a user who is served.
fn is_welcome(server: &Server, stream: &TcpStream, peer: SocketAddr) -> bool {
    let Ok(own) = stream.local_addr() else { return false };
    peer.ip().to_canonical().is_loopback() && peer::is_trusted(peer, own, &server.admission)
}

impl NfsServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, answers those under way, and closes the connections; waits for all that.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        let deadline = Duration::from_secs(END_DEADLINE_SECONDS);
        if let Some(runtime) = &self.runtime {
            let waited =
                runtime.block_on(async { tokio::time::timeout(deadline, ended.wait_for(|ended| *ended)).await });
            if waited.is_err() {
                tracing::warn!("Some NFS calls were not answered in time");
            }
        }
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
