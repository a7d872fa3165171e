//! Operations on behalf of users whom no kernel has checked, for front ends that serve other kernels.
//!
//! Each operation checks permissions as POSIX does ([`permission`]), does its work, and tells the attributes of the directory
//! or file before and after it, with nothing of another guarded operation in between: that is how a client knows that
//! what it remembers is still true. Nothing is retained: an inode without names is gone, and ESTALE is said of it.
//!
//! Owns: the order of checks and the pairs of attributes. Does not own: the rules (`permission`), the waiting
//! (`filesystem`), any protocol.

use super::permission::{self, EXECUTE, READ, User, WRITE};
use super::{Call, Errno, Filesystem, Operation, Tree};
use crate::events::LocalChange;
use bytes::Bytes;
use notefs_cache::{Attr, AttrChange, DirEntry, Error, FileKind, Ino, SpaceUsage, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

mod names;

pub use names::{Creation, Existing, Place};

/// Locks that keep the two looks at a directory's or file's attributes together with the change between them.
const STRIPES: usize = 64;

/// The errno of a change that was bound to an earlier change time: somebody was faster.
pub const CHANGED_MEANWHILE: Errno = Errno(libc::ECANCELED);

/// What an operation did, and the attributes around it, as far as they are known.
#[derive(Debug)]
pub struct Changed<T> {
    /// The answer.
    pub result: Result<T, Errno>,
    /// The directory or file before the operation; none where the operation changes nothing.
    pub before: Option<Attr>,
    /// The directory or file after it.
    pub after: Option<Attr>,
}

impl<T> Changed<T> {
    /// Nothing is known but the error.
    fn failed(errno: Errno) -> Changed<T> {
        Changed {
            result: Err(errno),
            before: None,
            after: None,
        }
    }
}

/// A page of a directory.
#[derive(Debug)]
pub struct Listing {
    /// The directory that `..` means.
    pub parent: Ino,
    /// Entries in the order of their cookies.
    pub entries: Vec<DirEntry>,
}

/// The checked operations of one [`Filesystem`]. Each `done` is called exactly once, on the spot or later.
#[derive(Clone)]
pub struct Guarded {
    filesystem: Arc<Filesystem>,
    order: Arc<[Mutex<()>; STRIPES]>,
}

impl Guarded {
    /// Guards a file system.
    pub fn new(filesystem: Arc<Filesystem>) -> Guarded {
        Guarded {
            filesystem,
            order: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
        }
    }

    /// The inode's attributes.
    pub fn attr(&self, ino: Ino, done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        self.filesystem
            .run(Call::new(Operation::Attr, ino), move |replica| live(replica, ino), done);
    }

    /// Changes attributes; only if the change time is still `guard`, where one is given, else [`CHANGED_MEANWHILE`].
    pub fn set_attr(
        &self,
        user: User,
        ino: Ino,
        change: AttrChange,
        guard: Option<Timestamp>,
        done: impl FnOnce(Changed<()>) + Send + 'static,
    ) {
        let done = self.telling(|| LocalChange::Inode(ino), done);
        let op = move |replica: &Tree, before: &Attr| {
            if guard.is_some_and(|guard| guard != before.ctime) {
                return Err(Error::Posix(CHANGED_MEANWHILE.0));
            }
            let change = permission::judge_change(&user, before, &change).map_err(Error::Posix)?;
            replica.set_attr(ino, &change).map(drop)
        };
        self.change(Call::new(Operation::SetAttr, ino), op, done);
    }

    /// A symlink's target.
    pub fn read_link(&self, ino: Ino, done: impl FnOnce(Changed<Vec<u8>>) + Send + 'static) {
        let op = move |replica: &Tree, _: &Attr| replica.read_link(ino);
        self.look(Call::new(Operation::ReadLink, ino), op, done);
    }

    /// Reads up to `length` bytes at `offset`; shorter only at the end of the file.
    pub fn read(
        &self,
        user: User,
        ino: Ino,
        (offset, length): (u64, usize),
        done: impl FnOnce(Changed<Bytes>) + Send + 'static,
    ) {
        let op = move |replica: &Tree, attr: &Attr| {
            permission::may_transfer(&user, attr, READ).map_err(Error::Posix)?;
            replica.read(ino, offset, length)
        };
        self.look(Call::new(Operation::Read, ino), op, done);
    }

    /// Writes all of `data`; *written* when it answers.
    pub fn write(
        &self,
        user: User,
        ino: Ino,
        (offset, data): (u64, Bytes),
        done: impl FnOnce(Changed<()>) + Send + 'static,
    ) {
        let done = self.telling(|| LocalChange::Inode(ino), done);
        let op = move |replica: &Tree, attr: &Attr| {
            permission::may_transfer(&user, attr, WRITE).map_err(Error::Posix)?;
            replica.write(ino, offset, &data, !user.is_root())
        };
        self.change(Call::new(Operation::Write, ino), op, done);
    }

    /// Makes everything written so far *synced*.
    pub fn sync(&self, user: User, ino: Ino, done: impl FnOnce(Changed<()>) + Send + 'static) {
        let filesystem = Arc::clone(&self.filesystem);
        self.attr(ino, move |attr| {
            let may = attr.and_then(|attr| permission::may_transfer(&user, &attr, WRITE).map_err(Errno));
            if let Err(errno) = may {
                return done(Changed::failed(errno));
            }
            let after = Arc::clone(&filesystem);
            filesystem.sync(ino, move |result| {
                after.attr(ino, move |attr| {
                    let attr = attr.ok();
                    done(Changed {
                        result,
                        before: attr.clone(),
                        after: attr,
                    });
                });
            });
        });
    }

    /// At most `limit` entries after `cookie`; fewer only at the end.
    pub fn read_dir(
        &self,
        user: User,
        dir: Ino,
        (cookie, limit): (u64, usize),
        done: impl FnOnce(Changed<Listing>) + Send + 'static,
    ) {
        let op = move |replica: &Tree, attr: &Attr| {
            if attr.kind != FileKind::Directory {
                return Err(Error::Posix(libc::ENOTDIR));
            }
            permission::need(&user, attr, READ).map_err(Error::Posix)?;
            Ok(Listing {
                parent: replica.parent_of(dir)?,
                entries: replica.read_dir(dir, cookie, limit)?,
            })
        };
        self.look(Call::new(Operation::ReadDir, dir), op, done);
    }

    /// The directory at a path below the root, symlinks not followed.
    pub fn resolve(&self, user: User, path: Bytes, done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        let op = move |replica: &Tree| {
            let mut attr = replica.attr(notefs_cache::ROOT_INO)?;
            for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                permission::need(&user, &attr, EXECUTE).map_err(Error::Posix)?;
                attr = replica.lookup(attr.ino, name)?;
            }
            Ok(attr)
        };
        self.filesystem
            .run(Call::new(Operation::Resolve, notefs_cache::ROOT_INO), op, done);
    }

    /// Space and inodes.
    pub fn space(&self, done: impl FnOnce(Result<SpaceUsage, Errno>) + Send + 'static) {
        self.filesystem.space(done);
    }

    /// Tells of a change once it is made, if somebody wants to know.
    fn news(&self, change: impl FnOnce() -> LocalChange) -> impl FnOnce(bool) + Send + 'static {
        let filesystem = Arc::clone(&self.filesystem);
        let told = filesystem.events.has_readers().then(change);
        move |is_made| {
            if let (true, Some(change)) = (is_made, told) {
                filesystem.events.tell(filesystem.replica(), change);
            }
        }
    }

    /// A `done` that first tells of the change.
    fn telling<T>(
        &self,
        change: impl FnOnce() -> LocalChange,
        done: impl FnOnce(Changed<T>) + Send + 'static,
    ) -> impl FnOnce(Changed<T>) + Send + 'static {
        let tell = self.news(change);
        move |changed| {
            tell(changed.result.is_ok());
            done(changed);
        }
    }

    /// An operation that changes the inode of `call`.
    fn change<T: Send + 'static>(
        &self,
        call: Call,
        op: impl Fn(&Tree, &Attr) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Changed<T>) + Send + 'static,
    ) {
        let order = Arc::clone(&self.order);
        let op = move |replica: &Tree| {
            let _together = lock(&order, [call.ino, call.ino]);
            observe(replica, call.ino, &op)
        };
        self.filesystem.run(call, op, move |result| done(flatten(result)));
    }

    /// An operation that changes nothing: the attributes are told once.
    fn look<T: Send + 'static>(
        &self,
        call: Call,
        op: impl Fn(&Tree, &Attr) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Changed<T>) + Send + 'static,
    ) {
        let op = move |replica: &Tree| {
            let attr = live(replica, call.ino)?;
            let result = posix(op(replica, &attr))?;
            Ok(Changed {
                result,
                before: None,
                after: Some(attr),
            })
        };
        self.filesystem.run(call, op, move |result| done(flatten(result)));
    }
}

/// The attributes of an inode that still has a name.
fn live(replica: &Tree, ino: Ino) -> Result<Attr, Error> {
    match replica.attr(ino) {
        Ok(attr) if attr.nlink > 0 => Ok(attr),
        Ok(_) | Err(Error::Posix(libc::ENOENT)) => Err(Error::Posix(libc::ESTALE)),
        Err(error) => Err(error),
    }
}

/// Locks the stripes of both inodes, in one order for everybody.
fn lock(order: &[Mutex<()>; STRIPES], inodes: [Ino; 2]) -> [Option<MutexGuard<'_, ()>>; 2] {
    let mut stripes = inodes.map(|ino| (ino % STRIPES as u64) as usize);
    stripes.sort_unstable();
    let first = order[stripes[0]].lock();
    let second = (stripes[0] != stripes[1]).then(|| order[stripes[1]].lock());
    [Some(first), second]
}

/// Runs `op` between two looks at the inode.
fn observe<T>(replica: &Tree, ino: Ino, op: impl Fn(&Tree, &Attr) -> Result<T, Error>) -> Result<Changed<T>, Error> {
    let before = live(replica, ino)?;
    let result = posix(op(replica, &before))?;
    Ok(Changed {
        result,
        after: replica.attr(ino).ok(),
        before: Some(before),
    })
}

/// Tells what a program expects from what must be brought first, or logged.
fn posix<T>(result: Result<T, Error>) -> Result<Result<T, Errno>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Posix(errno)) => Ok(Err(Errno(errno))),
        Err(error) => Err(error),
    }
}

fn flatten<T>(result: Result<Changed<T>, Errno>) -> Changed<T> {
    result.unwrap_or_else(Changed::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_inodes_are_locked_in_one_order_and_once() {
        let order: [Mutex<()>; STRIPES] = std::array::from_fn(|_| Mutex::new(()));
        let held = lock(&order, [5, 5 + STRIPES as u64]);
        assert!(held[0].is_some() && held[1].is_none());
        drop(held);
        let held = lock(&order, [9, 3]);
        assert!(order[3].is_locked() && order[9].is_locked());
        drop(held);
        assert!(!order[3].is_locked());
    }
}
