//! One connection: records in, replies out, and a bound on what is under way in between.
//!
//! Calls are begun in the order they come; what must wait for the bucket or the disk is answered later, out of order, while
//! the next ones are begun. When too much is under way, nothing more is read until something is answered: a client waits
//! and is never refused.

use super::records::{Records, write_replies};
use super::rpc::NoCall;
use super::server::{Server, deny_version, incoming};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{Semaphore, watch};

/// Content and calls of one connection that may be under way, as [`super::server::Incoming::cost_kib`] counts them.
const UNDER_WAY_MAX_KIB: u32 = 32 << 10;

/// How long the end of the server waits for replies to calls that are under way.
const REPLIES_DEADLINE_SECONDS: u64 = 5;

/// Serves a connection until its peer, or the server, ends it.
pub(super) async fn serve(server: Arc<Server>, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("NFS replies may be delayed: {error}");
    }
    let (incoming_half, outgoing_half) = stream.into_split();
    let (out, replies) = unbounded_channel();
    let writer = tokio::spawn(write_replies(outgoing_half, replies));
    let budget = Arc::new(Semaphore::new(UNDER_WAY_MAX_KIB as usize));
    let mut records = Records::new(incoming_half);
    loop {
        let record = tokio::select! {
            record = records.next() => record,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let call = match record {
            Ok(Some(record)) => incoming(record),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%peer, "The NFS connection ends: {error}");
                break;
            }
        };
        match call {
            Ok(call) => {
                let cost = call.cost_kib().min(UNDER_WAY_MAX_KIB);
                let permit = Arc::clone(&budget).acquire_many_owned(cost).await.ok();
                server.answer(peer.ip(), call, &out, permit);
            }
            Err(NoCall::Version { xid }) => deny_version(xid, &out),
            Err(NoCall::Nonsense) => {
                tracing::debug!(%peer, "The NFS connection ends: what came is no call");
                break;
            }
        }
    }
    drop(out);
    let deadline = Duration::from_secs(REPLIES_DEADLINE_SECONDS);
    let mut writer = writer;
    if tokio::time::timeout(deadline, &mut writer).await.is_err() {
        writer.abort();
    }
}
