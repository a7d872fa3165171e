//! What the actor's requests are answered: from local knowledge alone, and never later.
//!
//! Each function takes a request's reply and gives it back if the request is a program's; else it has answered it.

use super::gate::{Act, Gate, Making};
use crate::filesystem::Filesystem;
use crate::fuse::convert;
use crate::fuse::reply::Answers;
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, Request,
};
use notefs_cache::{Attr, FileKind};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// The answering side.
pub(in crate::fuse) struct ActorDesk {
    filesystem: Arc<Filesystem>,
    gate: Arc<Gate>,
}

/// Folder and name, as a request has them.
type Name<'name> = (INodeNo, &'name OsStr);

impl ActorDesk {
    pub(in crate::fuse) fn new(filesystem: Arc<Filesystem>, gate: Arc<Gate>) -> ActorDesk {
        ActorDesk { filesystem, gate }
    }

    pub(in crate::fuse) fn is_actor(&self, request: &Request) -> bool {
        self.gate.is_actor(request.pid())
    }

    /// Lets a change take effect because its request is here.
    fn take_effect(&self, act: &Act) -> Option<Attr> {
        self.gate.pass(act, |change| {
            let taken = self.filesystem.replica().take_effect(change?);
            taken.unwrap_or_else(|error| {
                tracing::warn!("A change from the bucket could not take effect: {error}");
                None
            })
        })
    }

    /// MKDIR and SYMLINK.
    pub(in crate::fuse) fn made(
        &self,
        request: &Request,
        (making, (parent, name)): (Making, Name<'_>),
        answers: &Answers,
        reply: ReplyEntry,
    ) -> Option<ReplyEntry> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        let act = Act::Make(making, parent.0, name.as_bytes().to_vec());
        let fits = |kind| match making {
            Making::File => kind == FileKind::File,
            Making::Folder => kind == FileKind::Directory,
            Making::Symlink => kind == FileKind::Symlink,
        };
        match self.take_effect(&act) {
            Some(attr) if fits(attr.kind) => self.entry(&attr, answers, reply),
            _ => reply.error(Errno::EPERM),
        }
        None
    }

    /// CREATE.
    pub(in crate::fuse) fn created(
        &self,
        request: &Request,
        (parent, name): Name<'_>,
        answers: &Answers,
        reply: ReplyCreate,
    ) -> Option<ReplyCreate> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        let act = Act::Make(Making::File, parent.0, name.as_bytes().to_vec());
        match self.take_effect(&act) {
            Some(attr) if attr.kind == FileKind::File => {
                self.filesystem.retain(attr.ino);
                answers.kernel.told(attr.ino);
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                let (attr, generation) = (convert::file_attr(&attr), Generation(attr.generation));
                reply.created(&answers.ttl, &attr, generation, FileHandle(0), flags);
            }
            _ => reply.error(Errno::EPERM),
        }
        None
    }

    /// UNLINK, RMDIR and RENAME.
    pub(in crate::fuse) fn moved_or_removed(
        &self,
        request: &Request,
        act: impl FnOnce() -> Act,
        reply: ReplyEmpty,
    ) -> Option<ReplyEmpty> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        match self.take_effect(&act()) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::EPERM),
        }
        None
    }

    /// SETATTR: changes nothing, and answers what is true.
    pub(in crate::fuse) fn touched(
        &self,
        request: &Request,
        ino: INodeNo,
        answers: &Answers,
        reply: ReplyAttr,
    ) -> Option<ReplyAttr> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        match self.gate.pass(&Act::Touch(ino.0), |_| Some(())) {
            Some(()) => self.attr(request, ino, answers, reply),
            None => {
                reply.error(Errno::EPERM);
                None
            }
        }
    }

    /// GETATTR.
    pub(in crate::fuse) fn attr(
        &self,
        request: &Request,
        ino: INodeNo,
        answers: &Answers,
        reply: ReplyAttr,
    ) -> Option<ReplyAttr> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        match self.filesystem.replica().attr(ino.0) {
            Ok(attr) => reply.attr(&answers.ttl, &convert::file_attr(&attr)),
            Err(_) => reply.error(Errno::EAGAIN),
        }
        None
    }

    /// LOOKUP. A name that is about to be removed may be one whose attributes nobody has asked for yet.
    pub(in crate::fuse) fn looked_up(
        &self,
        request: &Request,
        (parent, name): Name<'_>,
        answers: &Answers,
        reply: ReplyEntry,
    ) -> Option<ReplyEntry> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        let is_made =
            |act: &Act| matches!(act, Act::Make(_, dir, new) if (*dir, new.as_slice()) == (parent.0, name.as_bytes()));
        match self.filesystem.replica().lookup(parent.0, name.as_bytes()) {
            Ok(attr) => self.entry(&attr, answers, reply),
            Err(notefs_cache::Error::Posix(libc::ENOENT)) => reply.error(Errno::ENOENT),
            Err(_) if self.gate.expects(is_made) => reply.error(Errno::ENOENT),
            Err(_) => reply.error(Errno::EAGAIN),
        }
        None
    }

    fn entry(&self, attr: &Attr, answers: &Answers, reply: ReplyEntry) {
        self.filesystem.retain(attr.ino);
        answers.kernel.told(attr.ino);
        reply.entry(&answers.ttl, &convert::file_attr(attr), Generation(attr.generation));
    }
}

/// A reply that can say no, whatever was asked.
pub(in crate::fuse) trait Refuse {
    fn refuse(self);
}

macro_rules! refuse_with_eperm {
    ($($reply:ident),*) => { $(
        impl Refuse for fuser::$reply {
            fn refuse(self) {
                self.error(Errno::EPERM);
            }
        }
    )* };
}

refuse_with_eperm!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLseek,
    ReplyOpen,
    ReplyPoll,
    ReplyWrite,
    ReplyXattr
);
