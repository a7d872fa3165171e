//! What all connections share, and the way of a call from its record to the procedure that answers it.

use super::duplicates::{Duplicates, Found};
use super::handle::Handles;
use super::mounting::{self, Empty, Mounts};
use super::procedures::{self, Job, Refusal};
use super::records::{Outgoing, TRANSFER_MAX_BYTES};
use super::rpc::{self, Call, NoCall, Reply};
use super::xdr::Reader;
use crate::filesystem::guarded::Guarded;
use crate::filesystem::panic_text;
use crate::filesystem::permission::User;
use bytes::Bytes;
use nfs3_types::nfs3::{cookieverf3, nfsstat3, writeverf3};
use nfs3_types::rpc::{accept_stat_data, rejected_reply};
use nfs3_types::{mount, nfs3};
use notefs_cache::Ino;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

/// The longest handle of the protocol.
const HANDLE_MAX_BYTES: usize = 64;

/// Where in READ's arguments its count stands, for a handle of ours: behind length, handle and offset.
const READ_COUNT_AT: usize = 4 + 36 + 8;

/// What a call takes of the budget at least, so that small ones are bounded in number, too.
const CALL_LEAST_KIB: u32 = 64;

/// Whose calls are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Everybody's, as file permissions allow.
    Everybody,
    /// Only these users'.
    Only(Vec<u32>),
}

/// The state of the server.
pub(super) struct Server {
    pub(super) guarded: Guarded,
    pub(super) handles: Handles,
    /// Tells this folder from others.
    pub(super) fsid: u64,
    /// Tells this replica's cookies from others.
    pub(super) cookie_verifier: cookieverf3,
    /// Changes with each start: what was written but not committed before may be lost.
    pub(super) write_verifier: writeverf3,
    pub(super) admission: Admission,
    pub(super) read_only: bool,
    pub(super) mounts: Mounts,
    pub(super) duplicates: Arc<Duplicates>,
}

/// A record whose header is read.
pub(super) struct Incoming {
    call: Call,
    /// All of it, for the checksum.
    record: Bytes,
    args: Reader,
}

/// Reads the header of a record. Without a call there may still be something to answer.
pub(super) fn incoming(record: Bytes) -> Result<Incoming, NoCall> {
    let mut args = Reader::new(record.clone());
    let call = rpc::read_call(&mut args)?;
    Ok(Incoming { call, record, args })
}

impl Incoming {
    pub(super) fn xid(&self) -> u32 {
        self.call.xid
    }

    /// What the call takes of the connection's budget: what it has brought, or what it will be answered.
    pub(super) fn cost_kib(&self) -> u32 {
        let is_read = self.call.program == nfs3::PROGRAM && self.call.procedure == procedures::READ;
        let bytes = match self.args.rest().get(READ_COUNT_AT..READ_COUNT_AT + 4) {
            Some(count) if is_read => {
                u32::from_be_bytes([count[0], count[1], count[2], count[3]]).min(TRANSFER_MAX_BYTES)
            }
            _ if is_read => TRANSFER_MAX_BYTES,
            _ => u32::try_from(self.record.len()).unwrap_or(u32::MAX),
        };
        CALL_LEAST_KIB.max(bytes / 1024 + 1)
    }
}

impl Server {
    /// The inode of a handle among the arguments.
    pub(super) fn inode(&self, args: &mut Reader) -> Result<Ino, Refusal> {
        let handle = args.opaque(HANDLE_MAX_BYTES)?;
        // Inode numbers are never used twice, so that the generation says nothing that the number does not.
        let (ino, _generation) = self.handles.read(&handle)?;
        Ok(ino)
    }

    /// Whether the user's calls are served.
    pub(super) fn admits(&self, user: &User) -> bool {
        match &self.admission {
            Admission::Everybody => true,
            Admission::Only(users) => users.contains(&user.uid),
        }
    }

    /// Answers a record, now or later. No panic leaves it.
    pub(super) fn answer(
        self: &Arc<Self>,
        peer: IpAddr,
        incoming: Incoming,
        out: &UnboundedSender<Outgoing>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let reply = Reply::new(incoming.xid(), out.clone(), permit);
        let (program, procedure) = (incoming.call.program, incoming.call.procedure);
        tracing::trace!(program, procedure, xid = incoming.call.xid, "NFS call");
        let call = AssertUnwindSafe(|| self.dispatch(peer, incoming, reply));
        if let Err(panic) = catch_unwind(call) {
            let what = panic_text(panic.as_ref());
            tracing::error!(program, procedure, "The NFS procedure panicked: {what}");
        }
    }

    fn dispatch(self: &Arc<Self>, peer: IpAddr, incoming: Incoming, reply: Reply) {
        let version = match incoming.call.program {
            nfs3::PROGRAM => nfs3::VERSION,
            mount::PROGRAM => mount::VERSION,
            _ => return reply.refused(accept_stat_data::PROG_UNAVAIL),
        };
        if incoming.call.version != version {
            let (low, high) = (version, version);
            return reply.refused(accept_stat_data::PROG_MISMATCH { low, high });
        }
        let user = match incoming.call.user.clone() {
            Ok(user) => user,
            Err(_) if incoming.call.procedure == 0 => return reply.accepted(&Empty),
            Err(why) => return reply.unauthorized(why),
        };
        if incoming.call.procedure == 0 {
            return reply.accepted(&Empty);
        }
        if incoming.call.program == mount::PROGRAM {
            self.mount(peer, incoming, user, reply);
        } else {
            self.run(peer, incoming, user, reply);
        }
    }

    fn mount(self: &Arc<Self>, peer: IpAddr, mut incoming: Incoming, user: User, reply: Reply) {
        let procedure = incoming.call.procedure;
        match mounting::read(self, (peer, user), procedure, &mut incoming.args) {
            Some(read) => begin(read, reply),
            None => reply.refused(accept_stat_data::PROC_UNAVAIL),
        }
    }

    fn run(self: &Arc<Self>, peer: IpAddr, mut incoming: Incoming, user: User, reply: Reply) {
        let Some(procedure) = procedures::find(incoming.call.procedure) else {
            return reply.refused(accept_stat_data::PROC_UNAVAIL);
        };
        let reply = reply.failing_with(procedure.failure_words);
        if !procedure.open && !self.admits(&user) {
            return reply.fail(nfsstat3::NFS3ERR_ACCES);
        }
        let read = (procedure.read)(self, user, &mut incoming.args);
        if !procedure.once {
            return begin(read, reply);
        }
        let key = self.duplicates.key(peer, incoming.call.xid, &incoming.record);
        if let Found::New(reply) = self.duplicates.begin(key, reply) {
            begin(read, reply.keep(Arc::clone(&self.duplicates), key));
        }
    }
}

fn begin(read: Result<Job, Refusal>, reply: Reply) {
    match read {
        Ok(job) => job(reply),
        Err(Refusal::Garbage) => reply.refused(accept_stat_data::GARBAGE_ARGS),
        Err(Refusal::Status(status)) => reply.fail(status),
    }
}

/// Answers a call of another version of RPC.
pub(super) fn deny_version(xid: u32, out: &UnboundedSender<Outgoing>) {
    Reply::new(xid, out.clone(), None).denied(rejected_reply::rpc_mismatch(2, 2));
}
