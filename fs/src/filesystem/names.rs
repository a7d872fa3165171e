//! Operations on names: look up, make, link, remove, rename, list, forget.

use super::{Call, Errno, Filesystem, Operation, Tree, is_virtual};
use crate::events::{EventKind, LocalChange};
use notefs_cache::{Attr, DirEntry, Error, FileKind, Ino, NewInode, ROOT_INO, RenameMode, Replica};
use notefs_cache::{NAME_LENGTH_MAX_BYTES, SYMLINK_LENGTH_MAX_BYTES};

impl Filesystem {
    /// The inode behind a name, retained.
    pub fn lookup(&self, parent: Ino, name: &[u8], done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        let op = move |replica: &Tree, name: &[u8]| {
            check_name(name)?;
            replica.lookup(parent, name).map(|attr| retained(replica, attr))
        };
        self.run_with(Call::new(Operation::Lookup, parent), name, op, done);
    }

    /// Makes an inode of any kind and retains it.
    pub fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewInode,
        done: impl FnOnce(Result<Attr, Errno>) + Send + 'static,
    ) {
        let is_folder = new.kind == FileKind::Directory;
        let done = self.telling(
            || LocalChange::Name(EventKind::Created, (parent, name.to_vec()), is_folder),
            done,
        );
        let op = move |replica: &Tree, name: &[u8]| {
            check_name(name)?;
            if new.target.len() > SYMLINK_LENGTH_MAX_BYTES {
                return Err(Error::Posix(libc::ENAMETOOLONG));
            }
            replica.create(parent, name, &new).map(|attr| retained(replica, attr))
        };
        self.run_with(Call::new(Operation::Create, parent), name, op, done);
    }

    /// Gives an inode one more name, and retains it.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8], done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        let done = self.telling(
            || LocalChange::Name(EventKind::Created, (parent, name.to_vec()), false),
            done,
        );
        let op = move |replica: &Tree, name: &[u8]| {
            check_name(name)?;
            replica.link(ino, parent, name).map(|attr| retained(replica, attr))
        };
        self.run_with(Call::new(Operation::Link, parent).with(ino), name, op, done);
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, parent: Ino, name: &[u8], done: impl FnOnce(Result<(), Errno>) + Send + 'static) {
        let done = self.telling(
            || LocalChange::Name(EventKind::Removed, (parent, name.to_vec()), false),
            done,
        );
        let op = move |replica: &Tree, name: &[u8]| {
            check_name(name)?;
            replica.unlink(parent, name)
        };
        self.run_with(Call::new(Operation::Unlink, parent), name, op, done);
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8], done: impl FnOnce(Result<(), Errno>) + Send + 'static) {
        let done = self.telling(
            || LocalChange::Name(EventKind::Removed, (parent, name.to_vec()), true),
            done,
        );
        let op = move |replica: &Tree, name: &[u8]| {
            check_name(name)?;
            replica.rmdir(parent, name)
        };
        self.run_with(Call::new(Operation::Rmdir, parent), name, op, done);
    }

    /// Renames, atomically.
    pub fn rename(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let (from_parent, from_name) = (from.0, from.1.to_vec());
        let (to_parent, to_name) = (to.0, to.1.to_vec());
        let moved = || LocalChange::Moved {
            from: (from_parent, from_name.clone()),
            to: (to_parent, to_name.clone()),
            is_exchange: mode == RenameMode::Exchange,
        };
        let done = self.telling(moved, done);
        let op = move |replica: &Tree| {
            check_name(&from_name)?;
            check_name(&to_name)?;
            replica.rename((from_parent, &from_name), (to_parent, &to_name), mode)
        };
        self.run(Call::new(Operation::Rename, from_parent).with(to_parent), op, done);
    }

    /// At most `limit` entries after `cookie`, not retained; fewer only at the end.
    pub fn read_dir(
        &self,
        dir: Ino,
        cookie: u64,
        limit: usize,
        done: impl FnOnce(Result<Vec<DirEntry>, Errno>) + Send + 'static,
    ) {
        self.run(
            Call::new(Operation::ReadDir, dir),
            move |replica| replica.read_dir(dir, cookie, limit),
            done,
        );
    }

    /// The parent of a directory.
    pub fn parent_of(&self, dir: Ino, done: impl FnOnce(Result<Ino, Errno>) + Send + 'static) {
        self.run(
            Call::new(Operation::ParentOf, dir),
            move |replica| replica.parent_of(dir),
            done,
        );
    }

    /// Retains an inode that `read_dir` answered.
    pub fn retain(&self, ino: Ino) {
        if ino != ROOT_INO && !is_virtual(ino) {
            self.replica().retain(ino);
        }
    }

    /// Takes back `count` retains. The root is never forgotten.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino != ROOT_INO && !is_virtual(ino) {
            self.replica().forget(ino, count);
        }
    }
}

fn retained(replica: &Replica, attr: Attr) -> Attr {
    if attr.ino != ROOT_INO && !is_virtual(attr.ino) {
        replica.retain(attr.ino);
    }
    attr
}

/// Names are bounded by the operations on them, whoever asks.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.len() > NAME_LENGTH_MAX_BYTES {
        Err(Error::Posix(libc::ENAMETOOLONG))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_as_on_a_local_disk() {
        assert!(check_name(&[b'a'; 255]).is_ok());
        assert!(matches!(
            check_name(&[b'a'; 256]),
            Err(Error::Posix(libc::ENAMETOOLONG))
        ));
    }
}
