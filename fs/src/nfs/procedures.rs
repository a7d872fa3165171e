//! The procedures of NFS version 3 (RFC 1813): each reads its arguments, and then is a job that answers by itself.
//!
//! Owns which procedure is which, and what they share. Does not own their meaning: content and attributes
//! (`procedures/files.rs`), names (`procedures/names.rs`), listings (`procedures/listing.rs`), the folder as a whole
//! (`procedures/folder.rs`).

mod files;
mod folder;
mod listing;
mod names;

use super::rpc::Reply;
use super::server::Server;
use super::xdr::{Garbage, Reader};
use crate::filesystem::permission::User;
use nfs3_types::nfs3::nfsstat3;
use std::sync::Arc;

/// Answers a call whose arguments are read.
pub(super) type Job = Box<dyn FnOnce(Reply) + Send>;

/// Why there is no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The arguments make no sense.
    Garbage,
    /// The procedure answers this without being run.
    Status(nfsstat3),
}

impl From<Garbage> for Refusal {
    fn from(_: Garbage) -> Refusal {
        Refusal::Garbage
    }
}

impl From<nfsstat3> for Refusal {
    fn from(status: nfsstat3) -> Refusal {
        Refusal::Status(status)
    }
}

type Read = fn(&Arc<Server>, User, &mut Reader) -> Result<Job, Refusal>;

/// One procedure.
#[derive(Clone, Copy)]
pub(super) struct Procedure {
    /// Reads the arguments.
    pub(super) read: Read,
    /// Zero words that follow the status of an error.
    pub(super) failure_words: usize,
    /// Must not be run twice.
    pub(super) once: bool,
    /// Everybody may ask: a system asks so while it mounts on behalf of somebody else.
    pub(super) open: bool,
}

const fn procedure(read: Read, failure_words: usize) -> Procedure {
    Procedure {
        read,
        failure_words,
        once: false,
        open: false,
    }
}

const fn once(read: Read, failure_words: usize) -> Procedure {
    Procedure {
        once: true,
        ..procedure(read, failure_words)
    }
}

const fn open(read: Read, failure_words: usize) -> Procedure {
    Procedure {
        open: true,
        ..procedure(read, failure_words)
    }
}

/// READ's number, whose reply is long.
pub(super) const READ: u32 = 6;

/// From number 1 on; 0 does nothing.
const PROCEDURES: [Procedure; 21] = [
    open(files::getattr, 0),
    once(files::setattr, 2),
    procedure(names::lookup, 1),
    procedure(files::access, 1),
    procedure(files::readlink, 1),
    procedure(files::read, 1),
    once(files::write, 2),
    once(names::create, 2),
    once(names::mkdir, 2),
    once(names::symlink, 2),
    once(names::mknod, 2),
    once(names::remove, 2),
    once(names::rmdir, 2),
    once(names::rename, 4),
    once(names::link, 3),
    procedure(listing::readdir, 1),
    procedure(listing::readdirplus, 1),
    open(folder::fsstat, 1),
    open(folder::fsinfo, 1),
    open(folder::pathconf, 1),
    procedure(files::commit, 2),
];

/// The procedure of this number, which is not 0.
pub(super) fn find(number: u32) -> Option<Procedure> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    PROCEDURES.get(at).copied()
}
