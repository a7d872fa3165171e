//! What the actor's requests are answered: from local knowledge alone, and never later.
//!
//! Each function takes a request's reply and gives it back if the request is a program's; else it has answered it.

use super::gate::{Act, Gate, Outcome};
use crate::filesystem::Filesystem;
use crate::fuse::convert;
use crate::fuse::reply::Answers;
use crate::fuse::turns::Turns;
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, Request,
};
use notefs_cache::{Attr, FileKind, Need};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// The answering side.
pub(in crate::fuse) struct ActorDesk {
    filesystem: Arc<Filesystem>,
    gate: Arc<Gate>,
    turns: Arc<Turns>,
}

/// Stands for a file whose name is gone already and is removed once more for its event: no inode has this number.
const GONE_INO: u64 = 1 << 61;

/// Folder and name, as a request has them.
type Name<'name> = (INodeNo, &'name OsStr);

impl ActorDesk {
    pub(in crate::fuse) fn new(filesystem: Arc<Filesystem>, gate: Arc<Gate>, turns: Arc<Turns>) -> ActorDesk {
        ActorDesk {
            filesystem,
            gate,
            turns,
        }
    }

    pub(in crate::fuse) fn is_actor(&self, request: &Request) -> bool {
        self.gate.is_actor(request.pid())
    }

    /// Lets a change take effect because its request is here. None if it does not apply any more, or is not of the `kind`
    /// that the kernel asked for: then the kernel is told of it otherwise.
    fn take_effect(&self, act: &Act, kind: Option<FileKind>) -> Option<Attr> {
        self.gate.pass(act, |change| {
            // It may bring a large file with it.
            self.turns.call_another();
            let taken = change.map_or(Ok(None), |change| self.filesystem.replica().take_effect(change));
            let attr = taken.unwrap_or_else(|error| {
                tracing::warn!("A change from the bucket could not take effect: {error}");
                None
            });
            match attr {
                None => Err(Outcome::Void),
                Some(attr) if kind.is_some_and(|kind| kind != attr.kind) => Err(Outcome::Unfelt),
                Some(attr) => Ok(attr),
            }
        })
    }

    /// MKDIR.
    pub(in crate::fuse) fn made_folder(
        &self,
        request: &Request,
        (parent, name): Name<'_>,
        answers: &Answers,
        reply: ReplyEntry,
    ) -> Option<ReplyEntry> {
        if !self.is_actor(request) {
            return Some(reply);
        }
        match self.take_effect(&Act::making((parent, name), true), Some(FileKind::Directory)) {
            Some(attr) => self.entry(&attr, answers, reply),
            None => reply.error(Errno::EPERM),
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
        match self.take_effect(&Act::making((parent, name), false), Some(FileKind::File)) {
            Some(attr) => {
                let ttl = self.told(&attr, answers);
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                let (attr, generation) = (convert::file_attr(&attr), Generation(attr.generation));
                reply.created(&ttl, &attr, generation, FileHandle(0), flags);
            }
            None => reply.error(Errno::EPERM),
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
        match self.take_effect(&act(), None) {
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
        match self.gate.pass(&Act::Touch(ino.0), |_| Ok(())) {
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

    /// LOOKUP. A name that is about to be removed may be one of which nothing more is known, or that is gone already.
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
        let is_made = |act: &Act| {
            [true, false]
                .iter()
                .any(|dir| *act == Act::making((parent, name), *dir))
        };
        let is_removed = |act: &Act| *act == Act::removal((parent, name), false);
        match self.filesystem.replica().lookup(parent.0, name.as_bytes()) {
            Ok(attr) => self.entry(&attr, answers, reply),
            Err(notefs_cache::Error::Posix(libc::ENOENT)) if self.gate.expects(is_removed) => {
                reply.entry(&Duration::ZERO, &convert::unknown_file(GONE_INO), Generation(0));
            }
            Err(notefs_cache::Error::Posix(libc::ENOENT)) => reply.error(Errno::ENOENT),
            Err(_) if self.gate.expects(is_made) => reply.error(Errno::ENOENT),
            Err(notefs_cache::Error::Need(Need::Metadata(ino))) if self.gate.expects(is_removed) => {
                self.filesystem.retain(ino);
                answers.kernel.told(ino);
                reply.entry(&Duration::ZERO, &convert::unknown_file(ino), Generation(0));
            }
            Err(_) => reply.error(Errno::EAGAIN),
        }
        None
    }

    fn entry(&self, attr: &Attr, answers: &Answers, reply: ReplyEntry) {
        let ttl = self.told(attr, answers);
        reply.entry(&ttl, &convert::file_attr(attr), Generation(attr.generation));
    }

    /// The kernel is about to learn of this inode; answers for how long that holds. Attributes that are not known for sure hold
    /// until somebody asks for them.
    fn told(&self, attr: &Attr, answers: &Answers) -> Duration {
        self.filesystem.retain(attr.ino);
        answers.kernel.told(attr.ino);
        match self.filesystem.replica().attr(attr.ino) {
            Ok(_) => answers.ttl,
            Err(_) => Duration::ZERO,
        }
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
