//! Guarded operations on names: look up, make, link, remove, rename.

use super::{Changed, Guarded, flatten, live, lock, observe, posix};
use crate::events::{EventKind, LocalChange};
use crate::filesystem::names::check_name;
use crate::filesystem::permission::{self, EXECUTE, User, WRITE};
use crate::filesystem::{Call, Errno, Operation, Tree};
use bytes::Bytes;
use notefs_cache::{
    Attr, AttrChange, Error, FileKind, Ino, NewInode, RenameMode, SYMLINK_LENGTH_MAX_BYTES, TimeChange, Timestamp,
};
use std::sync::Arc;

/// Marks an access time that holds a creator's verifier; no clock and no program sets it.
const VERIFIER_NANOSECONDS: u32 = 999_999_937;

/// Permissions of a file between its exclusive creation and the SETATTR that follows it.
const EXCLUSIVE_MODE: u32 = 0o600;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub dir: Ino,
    /// The name, bytes without `/` and NUL.
    pub name: Bytes,
}

impl Place {
    fn appeared(&self, is_folder: bool) -> LocalChange {
        LocalChange::Name(EventKind::Created, (self.dir, self.name.to_vec()), is_folder)
    }

    fn vanished(&self, is_folder: bool) -> LocalChange {
        LocalChange::Name(EventKind::Removed, (self.dir, self.name.to_vec()), is_folder)
    }
}

/// What a creation does about a name that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Answers a regular file that is there, cut to the size asked for.
    Keep,
    /// EEXIST.
    Refuse,
    /// Answers the file that the same verifier has made, else EEXIST: a creation that is asked for twice is made once. The
    /// verifier is kept in the file's access time, which the creator sets afterwards; so it outlives a restart.
    Verify(u64),
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// File type.
    pub kind: FileKind,
    /// Device number of device nodes, else 0.
    pub rdev: u64,
    /// Target of a symlink, else empty.
    pub target: Vec<u8>,
    /// Attributes from the beginning; owners are root's to choose.
    pub attributes: AttrChange,
    /// What if the name exists.
    pub existing: Existing,
}

impl Guarded {
    /// The inode behind a name; `.` and `..` are names too.
    pub fn lookup(&self, user: User, place: Place, done: impl FnOnce(Changed<Attr>) + Send + 'static) {
        let call = Call::new(Operation::Lookup, place.dir);
        let op = move |replica: &Tree, dir: &Attr| {
            check_name(&place.name)?;
            enter(&user, dir)?;
            match &place.name[..] {
                b"." => Ok(dir.clone()),
                b".." => replica.attr(replica.parent_of(place.dir)?),
                name => replica.lookup(place.dir, name),
            }
        };
        self.look(call, op, done);
    }

    /// Makes an inode of any kind; answers it, or the one that is there (see [`Existing`]).
    pub fn create(&self, user: User, place: Place, new: Creation, done: impl FnOnce(Changed<Attr>) + Send + 'static) {
        let call = Call::new(Operation::Create, place.dir);
        let done = self.telling(|| place.appeared(new.kind == FileKind::Directory), done);
        let op = move |replica: &Tree, dir: &Attr| {
            check_name(&place.name)?;
            if new.target.len() > SYMLINK_LENGTH_MAX_BYTES {
                return Err(Error::Posix(libc::ENAMETOOLONG));
            }
            enter(&user, dir)?;
            match replica.lookup(place.dir, &place.name) {
                Ok(found) => return existing(replica, &user, found, &new),
                Err(Error::Posix(libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
            permission::need(&user, dir, WRITE | EXECUTE).map_err(Error::Posix)?;
            make(replica, &user, dir, &place.name, &new)
        };
        self.change(call, op, done);
    }

    /// Gives an inode one more name; answers the inode's attributes, and the directory's around it.
    pub fn link(&self, user: User, ino: Ino, place: Place, done: impl FnOnce(Changed<Attr>) + Send + 'static) {
        let call = Call::new(Operation::Link, place.dir).with(ino);
        let done = self.telling(|| place.appeared(false), done);
        let op = move |replica: &Tree, dir: &Attr| {
            check_name(&place.name)?;
            live(replica, ino)?;
            enter(&user, dir)?;
            permission::need(&user, dir, WRITE | EXECUTE).map_err(Error::Posix)?;
            replica.link(ino, place.dir, &place.name)
        };
        self.change(call, op, done);
    }

    /// Removes a name: of an empty directory, or of anything else.
    pub fn remove(&self, user: User, place: Place, directory: bool, done: impl FnOnce(Changed<()>) + Send + 'static) {
        let call = Call::new(Operation::Remove, place.dir);
        let done = self.telling(|| place.vanished(directory), done);
        let op = move |replica: &Tree, dir: &Attr| {
            check_name(&place.name)?;
            enter(&user, dir)?;
            let victim = replica.lookup(place.dir, &place.name)?;
            permission::may_remove(&user, dir, &victim).map_err(Error::Posix)?;
            if directory {
                replica.rmdir(place.dir, &place.name)
            } else {
                replica.unlink(place.dir, &place.name)
            }
        };
        self.change(call, op, done);
    }

    /// Renames, atomically; tells of both directories.
    pub fn rename(
        &self,
        user: User,
        from: Place,
        to: Place,
        done: impl FnOnce(Changed<()>, Changed<()>) + Send + 'static,
    ) {
        let call = Call::new(Operation::Rename, from.dir).with(to.dir);
        let order = Arc::clone(&self.order);
        let moved = || LocalChange::Moved {
            from: (from.dir, from.name.to_vec()),
            to: (to.dir, to.name.to_vec()),
            is_exchange: false,
        };
        let tell = self.news(moved);
        let op = move |replica: &Tree| {
            let _together = lock(&order, [from.dir, to.dir]);
            let target = live(replica, to.dir)?;
            let moved = observe(replica, from.dir, |replica, source| {
                rename(replica, &user, (source, &from), (&target, &to))
            })?;
            let arrived = Changed {
                result: moved.result,
                before: Some(target),
                after: replica.attr(to.dir).ok(),
            };
            Ok((moved, arrived))
        };
        self.filesystem.run(call, op, move |result| match result {
            Ok((moved, arrived)) => {
                tell(moved.result.is_ok());
                done(moved, arrived);
            }
            Err(errno) => done(flatten(Err(errno)), flatten(Err(errno))),
        });
    }
}

/// Whether the user may use names in what must be a directory.
fn enter(user: &User, dir: &Attr) -> Result<(), Error> {
    if dir.kind != FileKind::Directory {
        return Err(Error::Posix(libc::ENOTDIR));
    }
    permission::need(user, dir, EXECUTE).map_err(Error::Posix)
}

fn rename(replica: &Tree, user: &User, from: (&Attr, &Place), to: (&Attr, &Place)) -> Result<(), Error> {
    for (dir, place) in [from, to] {
        check_name(&place.name)?;
        enter(user, dir)?;
    }
    let (from_dir, from_place, to_dir, to_place) = (from.0, from.1, to.0, to.1);
    let moved = replica.lookup(from_place.dir, &from_place.name)?;
    permission::may_remove(user, from_dir, &moved).map_err(Error::Posix)?;
    permission::may_move(user, &moved, from_place.dir != to_place.dir).map_err(Error::Posix)?;
    let allowed = match posix(replica.lookup(to_place.dir, &to_place.name))? {
        Ok(replaced) => permission::may_remove(user, to_dir, &replaced),
        Err(Errno(libc::ENOENT)) => permission::need(user, to_dir, WRITE | EXECUTE),
        Err(errno) => Err(errno.0),
    };
    allowed.map_err(Error::Posix)?;
    replica.rename(
        (from_place.dir, &from_place.name),
        (to_place.dir, &to_place.name),
        RenameMode::Replace,
    )
}

/// What a creation answers where the name is taken.
fn existing(replica: &Tree, user: &User, found: Attr, new: &Creation) -> Result<Attr, Error> {
    match new.existing {
        Existing::Keep if found.kind == FileKind::File => {
            let Some(size) = new.attributes.size else {
                return Ok(found);
            };
            let cut = AttrChange {
                size: Some(size),
                ..AttrChange::default()
            };
            let cut = permission::judge_change(user, &found, &cut).map_err(Error::Posix)?;
            replica.set_attr(found.ino, &cut)
        }
        Existing::Keep if found.kind == FileKind::Directory => Err(Error::Posix(libc::EISDIR)),
        Existing::Verify(verifier) if found.kind == FileKind::File && found.atime == verifier_time(verifier) => {
            Ok(found)
        }
        _ => Err(Error::Posix(libc::EEXIST)),
    }
}

fn make(replica: &Tree, user: &User, dir: &Attr, name: &[u8], new: &Creation) -> Result<Attr, Error> {
    let is_device = matches!(new.kind, FileKind::CharDevice | FileKind::BlockDevice);
    if is_device && !user.is_root() {
        return Err(Error::Posix(libc::EPERM));
    }
    let owner = |asked: Option<u32>, own| if user.is_root() { asked.unwrap_or(own) } else { own };
    let mode = new.attributes.mode.unwrap_or(EXCLUSIVE_MODE);
    let inode = NewInode {
        kind: new.kind,
        mode: permission::creation_mode(user, dir, new.kind, mode),
        uid: owner(new.attributes.uid, user.uid),
        gid: owner(new.attributes.gid, user.gid),
        rdev: new.rdev,
        target: new.target.clone(),
    };
    let made = replica.create(dir.ino, name, &inode)?;
    let atime = match new.existing {
        Existing::Verify(verifier) => Some(TimeChange::To(verifier_time(verifier))),
        _ => new.attributes.atime,
    };
    let rest = AttrChange {
        atime,
        mtime: new.attributes.mtime,
        size: new.attributes.size.filter(|size| *size > 0),
        ..AttrChange::default()
    };
    if rest == AttrChange::default() {
        Ok(made)
    } else {
        replica.set_attr(made.ino, &rest)
    }
}

/// Where a creator's verifier is kept.
fn verifier_time(verifier: u64) -> Timestamp {
    Timestamp {
        seconds: verifier.cast_signed(),
        nanoseconds: VERIFIER_NANOSECONDS,
    }
}
