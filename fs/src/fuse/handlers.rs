//! One handler for each kind of request.

use super::convert::{self, new_inode};
use super::directory::{Plain, Plus, fill};
use super::felt::{Act, ActorDesk, Gate, Refuse};
use super::reply::{self, Answers};
use super::{negotiate::negotiate, notify::KernelCache, turns::Turns, watchdog::Pulse};
use crate::filesystem::{Caller, Filesystem, panic_text};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use notefs_cache::{FileKind, NewInode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Longest range that one COPY_FILE_RANGE may copy: its reply counts in 32 bits, and nothing else interrupts it.
const COPY_LENGTH_MAX_BYTES: u64 = 64 << 20;

/// The handlers of one mount.
pub(super) struct FrontEnd {
    filesystem: Arc<Filesystem>,
    answers: Answers,
    turns: Arc<Turns>,
    actor: ActorDesk,
    pulse: Arc<Pulse>,
    stored_on_close: bool,
    ended: watch::Sender<bool>,
}

impl FrontEnd {
    pub(super) fn new(
        filesystem: Arc<Filesystem>,
        (kernel, turns, gate, pulse): (Arc<KernelCache>, Arc<Turns>, Arc<Gate>, Arc<Pulse>),
        stored_on_close: bool,
        ended: watch::Sender<bool>,
    ) -> FrontEnd {
        // The time to live is settled when the kernel has said what it is.
        let ttl = Duration::ZERO;
        let answers = Answers { ttl, kernel };
        FrontEnd {
            actor: ActorDesk::new(Arc::clone(&filesystem), gate, Arc::clone(&turns)),
            filesystem,
            answers,
            turns,
            pulse,
            stored_on_close,
            ended,
        }
    }

    /// Every request that only programs make passes here.
    fn serve<R: Refuse>(&self, request: &Request, operation: &'static str, reply: R, handler: impl FnOnce(Caller, R)) {
        if self.actor.is_actor(request) {
            return reply.refuse();
        }
        self.serve_any(request, operation, reply, handler);
    }

    /// Every request that is answered passes here.
    fn serve_any<R>(&self, request: &Request, operation: &'static str, reply: R, handler: impl FnOnce(Caller, R)) {
        let caller = convert::caller(request);
        tracing::trace!(operation, caller.pid, caller.uid, "Request");
        let done = || catch_unwind(AssertUnwindSafe(|| handler(caller, reply)));
        if let Err(panic) = self.pulse.around(done) {
            tracing::error!(operation, "The handler panicked: {}", panic_text(panic.as_ref()));
        }
        self.turns.finish();
    }

    /// Makes any inode that is answered as an entry.
    fn make(&self, parent: INodeNo, name: &OsStr, new: NewInode, reply: ReplyEntry) {
        self.filesystem
            .create(parent.0, name.as_bytes(), new, self.answers.entry(reply));
    }
}

impl fuser::Filesystem for FrontEnd {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.answers.ttl = negotiate(config);
        Ok(())
    }

    fn destroy(&mut self) {
        self.ended.send_replace(true);
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve_any(request, "lookup", reply, |_, reply| {
            let Some(reply) = self.actor.looked_up(request, (parent, name), &self.answers, reply) else {
                return;
            };
            self.filesystem
                .lookup(parent.0, name.as_bytes(), self.answers.below(parent.0).lookup(reply));
        });
    }

    fn forget(&self, request: &Request, ino: INodeNo, count: u64) {
        self.serve_any(request, "forget", (), |_, ()| self.filesystem.forget(ino.0, count));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.serve_any(request, "getattr", reply, |_, reply| {
            if let Some(reply) = self.actor.attr(request, ino, &self.answers, reply) {
                self.filesystem.attr(ino.0, self.answers.attr(reply));
            }
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.serve_any(request, "setattr", reply, |caller, reply| {
            let Some(reply) = self.actor.touched(request, ino, &self.answers, reply) else {
                return;
            };
            if size.is_some() {
                self.turns.call_another();
            }
            let change = convert::attr_change(caller, mode, (uid, gid), size, (atime, mtime));
            self.filesystem.set_attr(ino.0, change, self.answers.attr(reply));
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(request, "readlink", reply, |_, reply| {
            self.filesystem.read_link(ino.0, reply::data(reply))
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.serve(request, "mknod", reply, |caller, reply| {
            let Some(kind) = convert::kind_from_mode(mode) else {
                return reply.error(Errno::EPERM);
            };
            let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
            let rdev = if is_device { u64::from(rdev) } else { 0 };
            self.make(
                parent,
                name,
                NewInode {
                    rdev,
                    ..new_inode(caller, kind, mode)
                },
                reply,
            );
        });
    }

    // The kernel has applied the umask: FUSE_DONT_MASK is not asked for.
    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        self.serve_any(request, "mkdir", reply, |caller, reply| {
            if let Some(reply) = self.actor.made_folder(request, (parent, name), &self.answers, reply) {
                self.make(parent, name, new_inode(caller, FileKind::Directory, mode), reply);
            }
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_any(request, "unlink", reply, |_, reply| {
            let act = || Act::removal((parent, name), false);
            if let Some(reply) = self.actor.moved_or_removed(request, act, reply) {
                self.filesystem.unlink(parent.0, name.as_bytes(), reply::empty(reply));
            }
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_any(request, "rmdir", reply, |_, reply| {
            let act = || Act::removal((parent, name), true);
            if let Some(reply) = self.actor.moved_or_removed(request, act, reply) {
                self.filesystem.rmdir(parent.0, name.as_bytes(), reply::empty(reply));
            }
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.serve(request, "symlink", reply, |caller, reply| {
            let target = target.as_os_str().as_bytes().to_vec();
            self.make(
                parent,
                name,
                NewInode {
                    target,
                    ..new_inode(caller, FileKind::Symlink, 0o777)
                },
                reply,
            );
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.serve_any(request, "rename", reply, |_, reply| {
            let act = || Act::renaming((parent, name), (new_parent, new_name));
            let Some(reply) = self.actor.moved_or_removed(request, act, reply) else {
                return;
            };
            let Some(mode) = convert::rename_mode(flags) else {
                return reply.error(Errno::EINVAL);
            };
            let (from, to) = ((parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()));
            self.filesystem.rename(from, to, mode, reply::empty(reply));
        });
    }

    fn link(&self, request: &Request, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        self.serve(request, "link", reply, |_, reply| {
            self.filesystem
                .link(ino.0, new_parent.0, new_name.as_bytes(), self.answers.entry(reply));
        });
    }

    fn open(&self, request: &Request, _ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.serve_any(request, "open", reply, |_, reply| {
            if !self.stored_on_close {
                return reply.error(Errno::ENOSYS);
            }
            let mut answer = FopenFlags::FOPEN_KEEP_CACHE;
            if flags.acc_mode() == OpenAccMode::O_RDONLY || self.actor.is_actor(request) {
                answer |= FopenFlags::FOPEN_NOFLUSH;
            }
            reply.opened(FileHandle(0), answer);
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(request, "read", reply, |_, reply| {
            self.turns.call_another_for(u64::from(size));
            self.filesystem.read(ino.0, offset, size as usize, reply::data(reply));
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.serve(request, "write", reply, |_, reply| {
            self.turns.call_another_for(data.len() as u64);
            let clear_setid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
            self.filesystem
                .write(ino.0, offset, data, clear_setid, reply::written(reply));
        });
    }

    fn flush(&self, request: &Request, ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.serve(request, "flush", reply, |_, reply| {
            if self.stored_on_close {
                self.filesystem.sync(ino.0, reply::empty(reply));
            } else {
                reply.error(Errno::ENOSYS);
            }
        });
    }

    fn fsync(&self, request: &Request, ino: INodeNo, _fh: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.serve(request, "fsync", reply, |_, reply| {
            self.filesystem.sync(ino.0, reply::empty(reply))
        });
    }

    fn opendir(&self, request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.serve_any(request, "opendir", reply, |_, reply| reply.error(Errno::ENOSYS));
    }

    fn readdir(&self, request: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.serve(request, "readdir", reply, |_, reply| {
            fill(&self.filesystem, ino.0, offset, Plain(reply))
        });
    }

    fn readdirplus(&self, request: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        self.serve(request, "readdirplus", reply, |_, reply| {
            fill(&self.filesystem, ino.0, offset, Plus(reply, self.answers.clone()));
        });
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _fh: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.serve(request, "fsyncdir", reply, |_, reply| {
            self.filesystem.sync(ino.0, reply::empty(reply))
        });
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.serve_any(request, "statfs", reply, |_, reply| {
            self.filesystem.space(reply::space(reply));
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.serve(request, "setxattr", reply, |_, reply| {
            let Some(mode) = convert::xattr_mode(flags) else {
                return reply.error(Errno::EINVAL);
            };
            self.filesystem
                .set_xattr(ino.0, name.as_bytes(), value, mode, reply::empty(reply));
        });
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.serve(request, "getxattr", reply, |_, reply| {
            self.filesystem.xattr(ino.0, name.as_bytes(), reply::xattr(size, reply));
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(request, "listxattr", reply, |_, reply| {
            let done = reply::xattr(size, reply);
            self.filesystem
                .list_xattrs(ino.0, |result| done(result.map(|names| convert::xattr_list(&names))));
        });
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(request, "removexattr", reply, |_, reply| {
            self.filesystem
                .remove_xattr(ino.0, name.as_bytes(), reply::empty(reply));
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.serve_any(request, "create", reply, |caller, reply| {
            let Some(reply) = self.actor.created(request, (parent, name), &self.answers, reply) else {
                return;
            };
            let done = self.answers.created(flags & libc::O_EXCL != 0, reply);
            self.filesystem
                .create(parent.0, name.as_bytes(), new_inode(caller, FileKind::File, mode), done);
        });
    }

    fn ioctl(
        &self,
        request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // Python asks with each open whether the file is a terminal.
        self.serve(request, "ioctl", reply, |_, reply| reply.error(Errno::ENOTTY));
    }

    fn poll(
        &self,
        request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // From then on the kernel answers itself: always ready.
        self.serve(request, "poll", reply, |_, reply| reply.error(Errno::ENOSYS));
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.serve(request, "fallocate", reply, |caller, reply| {
            let Some(mode) = convert::allocate_mode(mode) else {
                return reply.error(Errno::EOPNOTSUPP);
            };
            self.turns.call_another();
            self.filesystem.allocate(
                ino.0,
                mode,
                (offset, length),
                caller.clears_setid(),
                reply::empty(reply),
            );
        });
    }

    fn lseek(&self, request: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.serve(request, "lseek", reply, |_, reply| {
            let Some(target) = convert::seek_target(whence) else {
                return reply.error(Errno::EINVAL);
            };
            let Ok(offset) = u64::try_from(offset) else {
                return reply.error(Errno::ENXIO);
            };
            self.filesystem.seek(ino.0, offset, target, move |result| match result {
                Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
                Err(error) => reply.error(convert::errno(error)),
            });
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _fh_from: FileHandle,
        offset_from: u64,
        to: INodeNo,
        _fh_to: FileHandle,
        offset_to: u64,
        length: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.serve(request, "copy_file_range", reply, |caller, reply| {
            if !flags.is_empty() {
                return reply.error(Errno::EINVAL);
            }
            let length = length.min(COPY_LENGTH_MAX_BYTES);
            self.turns.call_another_for(length);
            let (from, to) = ((from.0, offset_from), (to.0, offset_to));
            self.filesystem
                .copy_range(from, to, length, caller.clears_setid(), reply::written(reply));
        });
    }
}
