//! Remote procedure calls (RFC 5531): who calls what, and replies that are sent exactly once.

use super::duplicates::{Duplicates, Key};
use super::records::Outgoing;
use super::xdr::{Garbage, Reader};
use crate::filesystem::permission::User;
use bytes::Bytes;
use nfs3_types::nfs3::nfsstat3;
use nfs3_types::rpc::{
    accept_stat_data, accepted_reply, auth_stat, fragment_header, opaque_auth, rejected_reply, reply_body,
};
use nfs3_types::xdr_codec::Pack;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;

const AUTH_NONE: u32 = 0;
pub(super) const AUTH_UNIX: u32 = 1;

/// The longest credential or verifier.
const AUTH_MAX_BYTES: usize = 400;

/// The longest machine name in a credential.
const MACHINE_NAME_MAX_BYTES: usize = 255;

/// Supplementary groups in a credential.
const GROUPS_MAX: u32 = 16;

/// Who a caller without credentials is.
const NOBODY: u32 = 65_534;

/// The fragment's length and the head of an accepted reply.
const REPLY_HEAD_BYTES: usize = 28;

/// What a call says before its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Chosen by the caller; the reply bears it.
    pub(super) xid: u32,
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) procedure: u32,
    /// Who calls, or that nobody can be made of the credentials.
    pub(super) user: Result<User, BadCredentials>,
}

/// Credentials that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadCredentials {
    /// Malformed.
    Malformed,
    /// Of a kind that is not served.
    Unknown,
}

/// Why a record is no call that could be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoCall {
    /// Not even a header: the stream makes no sense any more.
    Nonsense,
    /// Another version of RPC.
    Version {
        /// To answer it.
        xid: u32,
    },
}

/// Reads the header; the reader is then at the arguments.
pub(super) fn read_call(reader: &mut Reader) -> Result<Call, NoCall> {
    let nonsense = |_: Garbage| NoCall::Nonsense;
    let xid = reader.u32().map_err(nonsense)?;
    if reader.u32().map_err(nonsense)? != CALL {
        return Err(NoCall::Nonsense);
    }
    if reader.u32().map_err(nonsense)? != RPC_VERSION {
        return Err(NoCall::Version { xid });
    }
    let mut header = || -> Result<Call, Garbage> {
        let (program, version, procedure) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (flavor, credentials) = (reader.u32()?, reader.opaque(AUTH_MAX_BYTES)?);
        let _verifier = (reader.u32()?, reader.opaque(AUTH_MAX_BYTES)?);
        Ok(Call {
            xid,
            program,
            version,
            procedure,
            user: user(flavor, credentials),
        })
    };
    header().map_err(nonsense)
}

fn user(flavor: u32, credentials: Bytes) -> Result<User, BadCredentials> {
    match flavor {
        AUTH_NONE => Ok(User {
            uid: NOBODY,
            gid: NOBODY,
            groups: Vec::new(),
        }),
        AUTH_UNIX => unix_user(&mut Reader::new(credentials)).map_err(|_| BadCredentials::Malformed),
        _ => Err(BadCredentials::Unknown),
    }
}

fn unix_user(reader: &mut Reader) -> Result<User, Garbage> {
    let _stamp = reader.u32()?;
    let _machine = reader.opaque(MACHINE_NAME_MAX_BYTES)?;
    let (uid, gid, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if count > GROUPS_MAX {
        return Err(Garbage);
    }
    let groups = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(User { uid, gid, groups })
}

/// The reply that a call is owed. Sent once; dropped unsent, it says that the server failed.
pub(super) struct Reply {
    xid: u32,
    out: UnboundedSender<Outgoing>,
    permit: Option<OwnedSemaphorePermit>,
    /// Words of nothing that follow an error's status, so that every procedure can fail in the same way.
    failure_words: usize,
    /// Where the reply is kept in case the call comes again.
    kept: Option<(Arc<Duplicates>, Key)>,
    sent: bool,
}

impl Reply {
    pub(super) fn new(xid: u32, out: UnboundedSender<Outgoing>, permit: Option<OwnedSemaphorePermit>) -> Reply {
        Reply {
            xid,
            out,
            permit,
            failure_words: 0,
            kept: None,
            sent: false,
        }
    }

    /// Keeps the reply under this key once it is sent.
    pub(super) fn keep(mut self, duplicates: Arc<Duplicates>, key: Key) -> Reply {
        self.kept = Some((duplicates, key));
        self
    }

    /// What an error of the procedure looks like.
    pub(super) fn failing_with(mut self, words: usize) -> Reply {
        self.failure_words = words;
        self
    }

    /// Sends a record as it is.
    pub(super) fn send(mut self, record: Bytes) {
        self.dispatch(record);
    }

    fn dispatch(&mut self, record: Bytes) {
        self.sent = true;
        if let Some((duplicates, key)) = self.kept.take() {
            duplicates.finish(key, &record);
        }
        // A connection that has ended takes its replies with it.
        self.out.send((record, self.permit.take())).ok();
    }

    /// The call was run, and this is what it answers.
    pub(super) fn accepted(self, body: &impl Pack) {
        let record = self.record(&accepted(accept_stat_data::SUCCESS), body);
        self.send(record);
    }

    /// The procedure's result, behind the status that says that it went well.
    pub(super) fn ok(self, result: &impl Pack) {
        let record = self.record(
            &accepted(accept_stat_data::SUCCESS),
            &WithStatus(nfsstat3::NFS3_OK, result),
        );
        self.send(record);
    }

    /// The procedure's error, with what it tells besides.
    pub(super) fn error(self, status: nfsstat3, told: &impl Pack) {
        let record = self.record(&accepted(accept_stat_data::SUCCESS), &WithStatus(status, told));
        self.send(record);
    }

    /// The procedure's error and nothing else.
    pub(super) fn fail(self, status: nfsstat3) {
        let nothing = Nothing(self.failure_words);
        self.error(status, &nothing);
    }

    /// The call was not run.
    pub(super) fn refused(self, why: accept_stat_data) {
        let record = self.record(&accepted(why), &Nothing(0));
        self.send(record);
    }

    /// The call was not even looked at.
    pub(super) fn denied(self, why: rejected_reply) {
        let record = self.record(&reply_body::MSG_DENIED(why), &Nothing(0));
        self.send(record);
    }

    /// The caller's credentials are of no use.
    pub(super) fn unauthorized(self, why: BadCredentials) {
        self.denied(rejected_reply::auth_error(match why {
            BadCredentials::Malformed => auth_stat::AUTH_BADCRED,
            BadCredentials::Unknown => auth_stat::AUTH_REJECTEDCRED,
        }));
    }

    fn record(&self, head: &reply_body<'_>, body: &impl Pack) -> Bytes {
        let size = body.packed_size();
        let mut record = Vec::with_capacity(REPLY_HEAD_BYTES + size + 4);
        record.extend_from_slice(&[0; 4]);
        let packed = self.xid.pack(&mut record).and_then(|_| {
            REPLY.pack(&mut record)?;
            head.pack(&mut record)?;
            body.pack(&mut record)
        });
        if let Err(error) = packed {
            tracing::error!("A reply could not be built: {error}");
        }
        let length = (record.len() - 4) as u32;
        record[..4].copy_from_slice(&fragment_header::new(length, true).into_xdr_buf());
        record.into()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            if let Some((duplicates, key)) = self.kept.take() {
                duplicates.abandon(key);
            }
            let record = self.record(&accepted(accept_stat_data::SYSTEM_ERR), &Nothing(0));
            self.dispatch(record);
        }
    }
}

fn accepted(reply_data: accept_stat_data) -> reply_body<'static> {
    reply_body::MSG_ACCEPTED(accepted_reply {
        verf: opaque_auth::default(),
        reply_data,
    })
}

/// A result behind its status.
struct WithStatus<'a, T>(nfsstat3, &'a T);

impl<T: Pack> Pack for WithStatus<'_, T> {
    fn packed_size(&self) -> usize {
        self.0.packed_size() + self.1.packed_size()
    }

    fn pack(&self, out: &mut impl std::io::Write) -> nfs3_types::xdr_codec::Result<usize> {
        Ok(self.0.pack(out)? + self.1.pack(out)?)
    }
}

/// So many zero words: attributes that are not told.
struct Nothing(usize);

impl Pack for Nothing {
    fn packed_size(&self) -> usize {
        4 * self.0
    }

    fn pack(&self, out: &mut impl std::io::Write) -> nfs3_types::xdr_codec::Result<usize> {
        (0..self.0).try_fold(0, |size, _| Ok(size + 0_u32.pack(out)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Reader {
        Reader::new(words.iter().flat_map(|word| word.to_be_bytes()).collect())
    }

    #[test]
    fn a_call_is_read_with_its_users_groups() {
        let mut call = words(&[9, 0, 2, 100_003, 3, 1, 1, 28, 5, 0, 1000, 100, 2, 4, 24, 0, 0, 77]);
        let read = read_call(&mut call).unwrap();
        let user = read.user.unwrap();
        assert_eq!(
            (read.xid, read.program, read.version, read.procedure),
            (9, 100_003, 3, 1)
        );
        assert_eq!((user.uid, user.gid, user.groups), (1000, 100, vec![4, 24]));
        assert_eq!(call.u32(), Ok(77));
    }

    #[test]
    fn what_is_no_call_is_told_apart() {
        assert_eq!(read_call(&mut words(&[9, 1, 2])), Err(NoCall::Nonsense));
        assert_eq!(read_call(&mut words(&[9, 0])), Err(NoCall::Nonsense));
        assert_eq!(read_call(&mut words(&[9, 0, 3])), Err(NoCall::Version { xid: 9 }));
        let unknown = read_call(&mut words(&[9, 0, 2, 1, 1, 1, 6, 0, 0, 0])).unwrap();
        assert_eq!(unknown.user, Err(BadCredentials::Unknown));
        let many_groups = [9, 0, 2, 1, 1, 1, 1, 20, 5, 0, 1, 1, u32::MAX, 0, 0];
        assert_eq!(
            read_call(&mut words(&many_groups)).unwrap().user,
            Err(BadCredentials::Malformed)
        );
    }
}
