//! From an operation's result to the kernel's reply.

use super::convert::{self, BLOCK_SIZE_BYTES};
use super::notify::KernelCache;
use crate::filesystem::{Errno, is_virtual};
use fuser::{
    FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyWrite, ReplyXattr,
};
use notefs_cache::{Attr, Ino, NAME_LENGTH_MAX_BYTES, SpaceUsage};
use std::sync::Arc;
use std::time::Duration;

/// How entries and attributes are answered: how long they hold, and who remembers that the kernel knows them.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) ttl: Duration,
    pub(super) kernel: Arc<KernelCache>,
}

impl Answers {
    /// For names in this directory: what there is in the virtual folder is asked for each time.
    pub(super) fn below(&self, parent: Ino) -> Answers {
        Answers {
            ttl: self.ttl_of(parent),
            ..self.clone()
        }
    }

    fn ttl_of(&self, ino: Ino) -> Duration {
        if is_virtual(ino) { Duration::ZERO } else { self.ttl }
    }

    /// How long an entry holds that the kernel is told of now. It need never be told to forget what it does not remember.
    pub(super) fn remembered(&self, ino: Ino) -> Duration {
        if !is_virtual(ino) {
            self.kernel.told(ino);
        }
        self.ttl_of(ino)
    }

    /// Answers an entry or an error.
    pub(super) fn entry(&self, reply: ReplyEntry) -> impl FnOnce(Result<Attr, Errno>) + Send + 'static {
        let this = self.clone();
        move |result| match result {
            Ok(attr) => {
                let ttl = this.remembered(attr.ino);
                reply.entry(&ttl, &convert::file_attr(&attr), Generation(attr.generation));
            }
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    /// As [`Answers::entry`]; that a name does not exist is remembered by the kernel too.
    pub(super) fn lookup(&self, reply: ReplyEntry) -> impl FnOnce(Result<Attr, Errno>) + Send + 'static {
        let this = self.clone();
        move |result| match result {
            Err(Errno(libc::ENOENT)) => reply.entry(&this.ttl, &convert::bare_attr(0), Generation(0)),
            other => this.entry(reply)(other),
        }
    }

    /// Answers a created file that is open at once.
    ///
    /// The kernel asks to create only what it believes not to exist. Where it was wrong (a file has just come from the
    /// bucket), ESTALE makes it look again and open what is there, with all its checks; EEXIST would fail a program that
    /// never asked for O_EXCL.
    pub(super) fn created(
        &self,
        exclusive: bool,
        reply: ReplyCreate,
    ) -> impl FnOnce(Result<Attr, Errno>) + Send + 'static {
        let this = self.clone();
        move |result| match result {
            Ok(attr) => {
                this.kernel.told(attr.ino);
                let (attr, generation) = (convert::file_attr(&attr), Generation(attr.generation));
                reply.created(
                    &this.ttl,
                    &attr,
                    generation,
                    FileHandle(0),
                    FopenFlags::FOPEN_KEEP_CACHE,
                );
            }
            Err(Errno(libc::EEXIST)) if !exclusive => reply.error(fuser::Errno::ESTALE),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    pub(super) fn attr(&self, reply: ReplyAttr) -> impl FnOnce(Result<Attr, Errno>) + Send + 'static {
        let this = self.clone();
        move |result| match result {
            Ok(attr) => reply.attr(&this.ttl_of(attr.ino), &convert::file_attr(&attr)),
            Err(error) => reply.error(convert::errno(error)),
        }
    }
}

pub(super) fn empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) + Send + 'static {
    move |result| match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(convert::errno(error)),
    }
}

/// Space counts in blocks; where there is space, there is room for that many files.
pub(super) fn space(reply: ReplyStatfs) -> impl FnOnce(Result<SpaceUsage, Errno>) + Send + 'static {
    move |result| match result {
        Ok(space) => {
            let free = space.free_bytes / u64::from(BLOCK_SIZE_BYTES);
            let used = space.used_bytes.div_ceil(u64::from(BLOCK_SIZE_BYTES));
            let files = (space.inodes.saturating_add(free), free);
            let (block, name) = (BLOCK_SIZE_BYTES, NAME_LENGTH_MAX_BYTES as u32);
            reply.statfs(
                used.saturating_add(free),
                free,
                free,
                files.0,
                files.1,
                block,
                name,
                block,
            );
        }
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn data<T: AsRef<[u8]>>(reply: ReplyData) -> impl FnOnce(Result<T, Errno>) + Send + 'static {
    move |result| match result {
        Ok(data) => reply.data(data.as_ref()),
        Err(error) => reply.error(convert::errno(error)),
    }
}

/// A count of bytes, which a request bounds to 32 bits.
pub(super) fn written<T: TryInto<u32>>(reply: ReplyWrite) -> impl FnOnce(Result<T, Errno>) + Send + 'static {
    move |result| match result {
        Ok(count) => reply.written(count.try_into().unwrap_or(u32::MAX)),
        Err(error) => reply.error(convert::errno(error)),
    }
}

/// The size if the caller has no room and asks for that, else the bytes if they fit.
pub(super) fn xattr(room_bytes: u32, reply: ReplyXattr) -> impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static {
    move |result| match result {
        Ok(value) if room_bytes == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > room_bytes as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(convert::errno(error)),
    }
}
