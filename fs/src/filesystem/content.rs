//! Operations on content: read, write, allocate, seek, copy, sync.

use super::{Call, Errno, Filesystem, Operation, Tree, attempt, is_virtual, judge};
use crate::events::LocalChange;
use bytes::Bytes;
use notefs_cache::{AllocateMode, AttrChange, Error, Ino, Replica, SeekTarget};
use std::sync::Arc;
use std::time::Instant;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

impl Filesystem {
    /// Reads up to `length` bytes at `offset`; shorter only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, length: usize, done: impl FnOnce(Result<Bytes, Errno>) + Send + 'static) {
        self.run(
            Call::new(Operation::Read, ino),
            move |replica| replica.read(ino, offset, length),
            done,
        );
    }

    /// Writes all of `data` at `offset`; answers its length.
    pub fn write(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        clear_setid: bool,
        done: impl FnOnce(Result<usize, Errno>) + Send + 'static,
    ) {
        let done = self.telling(|| LocalChange::Inode(ino), done);
        let op = move |replica: &Tree, data: &[u8]| replica.write(ino, offset, data, clear_setid).map(|()| data.len());
        self.run_with(Call::new(Operation::Write, ino), data, op, done);
    }

    /// Reserves or zeroes a range.
    pub fn allocate(
        &self,
        ino: Ino,
        mode: AllocateMode,
        (offset, length): (u64, u64),
        clear_setid: bool,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let done = self.telling(|| LocalChange::Inode(ino), done);
        let op = move |replica: &Tree| {
            replica.allocate(ino, mode, offset, length)?;
            clear_setid_after_change(replica, ino, clear_setid)
        };
        self.run(Call::new(Operation::Allocate, ino), op, done);
    }

    /// The next data or hole at or after `offset`.
    pub fn seek(
        &self,
        ino: Ino,
        offset: u64,
        target: SeekTarget,
        done: impl FnOnce(Result<u64, Errno>) + Send + 'static,
    ) {
        self.run(
            Call::new(Operation::Seek, ino),
            move |replica| replica.seek(ino, offset, target),
            done,
        );
    }

    /// Copies at most `length` bytes between files; answers how many.
    pub fn copy_range(
        &self,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
        clear_setid: bool,
        done: impl FnOnce(Result<u64, Errno>) + Send + 'static,
    ) {
        let done = self.telling(|| LocalChange::Inode(to.0), done);
        let op = move |replica: &Tree| {
            if is_virtual(from.0) {
                // The kernel then copies by reading and writing.
                return Err(Error::Posix(libc::EXDEV));
            }
            let copied = replica.copy_range(from, to, length)?;
            clear_setid_after_change(replica, to.0, clear_setid && copied > 0)?;
            Ok(copied)
        };
        self.run(Call::new(Operation::CopyRange, to.0), op, done);
    }

    /// Makes everything written so far *synced*; where the mount promises more of `fsync`, waits until the file is *stored*. Of a
    /// directory, that means all that is owed now.
    pub fn sync(&self, ino: Ino, done: impl FnOnce(Result<(), Errno>) + Send + 'static) {
        let call = Call::new(Operation::Sync, ino);
        let (begun, metrics) = (Instant::now(), Arc::clone(&self.metrics));
        let done = move |result: Result<(), Error>| {
            metrics.took(call.operation, begun.elapsed());
            done(result.map_err(|error| judge(call, &metrics, &error)));
        };
        if self.stored_on_sync && !is_virtual(ino) {
            let replica = Arc::clone(self.replica());
            drop(self.runtime.spawn(async move { done(replica.store_now(ino).await) }));
            return;
        }
        // A panic drops `done`, and a front end answers EIO for what is dropped.
        drop(attempt(&self.view, &self.metrics, call, move |replica| {
            replica.sync(Box::new(done));
            Ok(())
        }));
    }
}

/// What the kernel leaves to us for changes of content that say nothing of privileges themselves.
fn clear_setid_after_change(replica: &Replica, ino: Ino, clear_setid: bool) -> Result<(), Error> {
    if clear_setid {
        let mode = replica.attr(ino)?.mode;
        let cleared = without_setid(mode);
        if cleared != mode {
            replica.set_attr(
                ino,
                &AttrChange {
                    mode: Some(cleared),
                    ..AttrChange::default()
                },
            )?;
        }
    }
    Ok(())
}

/// setgid means something else (mandatory locks) where the group may not execute, and stays.
fn without_setid(mode: u32) -> u32 {
    if mode & GROUP_EXECUTE != 0 {
        mode & !(SETUID | SETGID)
    } else {
        mode & !SETUID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_goes_only_with_the_groups_execute_bit() {
        assert_eq!(without_setid(0o6755), 0o755);
        assert_eq!(without_setid(0o6745), 0o2745);
        assert_eq!(without_setid(0o1644), 0o1644);
    }
}
