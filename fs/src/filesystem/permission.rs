//! What POSIX lets a user do, for front ends behind which no kernel has checked it; pure functions over attributes.
//!
//! Owns: owner, group and others, supplementary groups, root, sticky directories, who may change which attribute. Does not
//! own: who the user is (the front end), nor the FUSE mount's checks, which are the kernel's (`default_permissions`).

use notefs_cache::{Attr, AttrChange, FileKind, TimeChange};

/// Permission to read a file or list a directory.
pub const READ: u32 = 4;

/// Permission to write a file, or to make and remove names in a directory.
pub const WRITE: u32 = 2;

/// Permission to execute a file or to pass through a directory.
pub const EXECUTE: u32 = 1;

const ANY_EXECUTE: u32 = 0o111;
const STICKY: u32 = 0o1000;
const SETGID: u32 = 0o2000;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl User {
    /// Root may do everything that makes sense.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the user belongs to a group.
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether what only an owner may do is open to the user.
    pub fn owns(&self, attr: &Attr) -> bool {
        self.is_root() || self.uid == attr.uid
    }
}

/// Whether the mode grants all of `want`, a sum of [`READ`], [`WRITE`] and [`EXECUTE`].
pub fn may(user: &User, attr: &Attr, want: u32) -> bool {
    if user.is_root() {
        // Root needs one executable bit to execute a file, and nothing else.
        return want & EXECUTE == 0 || attr.kind == FileKind::Directory || attr.mode & ANY_EXECUTE != 0;
    }
    let shift = if user.uid == attr.uid {
        6
    } else if user.is_in(attr.gid) {
        3
    } else {
        0
    };
    (attr.mode >> shift) & want == want
}

/// As [`may`], as an errno.
pub fn need(user: &User, attr: &Attr, want: u32) -> Result<(), i32> {
    if may(user, attr, want) {
        Ok(())
    } else {
        Err(libc::EACCES)
    }
}

/// Whether an open file's content may be read or written. A server does not see the open, at which a local file system
/// checks: so the owner may go on with a file whose mode has become stricter, and what may be executed may be read.
pub fn may_transfer(user: &User, attr: &Attr, want: u32) -> Result<(), i32> {
    let execute_to_read = want == READ && may(user, attr, EXECUTE) && attr.kind == FileKind::File;
    if user.owns(attr) || may(user, attr, want) || execute_to_read {
        Ok(())
    } else {
        Err(libc::EACCES)
    }
}

/// Whether the name of `victim` may be taken out of `directory`.
pub fn may_remove(user: &User, directory: &Attr, victim: &Attr) -> Result<(), i32> {
    need(user, directory, WRITE | EXECUTE)?;
    let sticky = directory.mode & STICKY != 0;
    if sticky && !user.owns(victim) && !user.owns(directory) {
        return Err(libc::EPERM);
    }
    Ok(())
}

/// Whether `moved` may leave one directory for another: a directory's own `..` changes with that.
pub fn may_move(user: &User, moved: &Attr, to_other_directory: bool) -> Result<(), i32> {
    if to_other_directory && moved.kind == FileKind::Directory {
        need(user, moved, WRITE)
    } else {
        Ok(())
    }
}

/// What of a change is made, or why none of it: EPERM for what only the owner (or root) may, EACCES for lack of a bit.
pub fn judge_change(user: &User, attr: &Attr, change: &AttrChange) -> Result<AttrChange, i32> {
    let mut change = *change;
    let (owns, root) = (user.owns(attr), user.is_root());
    if let Some(uid) = change.uid
        && !(root || owns && uid == attr.uid)
    {
        return Err(libc::EPERM);
    }
    if let Some(gid) = change.gid
        && !(root || owns && (gid == attr.gid || user.is_in(gid)))
    {
        return Err(libc::EPERM);
    }
    if let Some(mode) = change.mode {
        if !owns {
            return Err(libc::EPERM);
        }
        let keeps_setgid = root || user.is_in(change.gid.unwrap_or(attr.gid));
        change.mode = Some(if keeps_setgid { mode } else { mode & !SETGID });
    }
    for time in [change.atime, change.mtime].into_iter().flatten() {
        match time {
            _ if owns => {}
            TimeChange::Now => need(user, attr, WRITE)?,
            TimeChange::To(_) => return Err(libc::EPERM),
        }
    }
    if change.size.is_some() {
        may_transfer(user, attr, WRITE)?;
        change.clear_setid |= !root;
    }
    Ok(change)
}

/// The mode that a new inode gets: setgid on a file is refused to who is not in the group that it will have.
pub fn creation_mode(user: &User, directory: &Attr, kind: FileKind, mode: u32) -> u32 {
    let inherits = directory.mode & SETGID != 0;
    let foreign = inherits && !user.is_root() && !user.is_in(directory.gid);
    if foreign && kind != FileKind::Directory {
        mode & !SETGID
    } else {
        mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notefs_cache::Timestamp;

    fn user(uid: u32, gid: u32, groups: &[u32]) -> User {
        User {
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    fn attr(kind: FileKind, mode: u32, uid: u32, gid: u32) -> Attr {
        Attr {
            ino: 2,
            generation: 0,
            kind,
            mode,
            uid,
            gid,
            rdev: 0,
            nlink: 1,
            size: 0,
            blocks: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        }
    }

    fn file(mode: u32) -> Attr {
        attr(FileKind::File, mode, 10, 20)
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let (owner, member, helper, other) = (
            user(10, 99, &[]),
            user(11, 20, &[]),
            user(11, 99, &[5, 20]),
            user(11, 99, &[5]),
        );
        assert!(may(&owner, &file(0o400), READ) && !may(&owner, &file(0o077), READ));
        assert!(may(&member, &file(0o040), READ) && !may(&member, &file(0o704), READ));
        assert!(may(&helper, &file(0o060), READ | WRITE) && !may(&helper, &file(0o707), WRITE));
        assert!(may(&other, &file(0o005), READ | EXECUTE) && !may(&other, &file(0o770), READ));
        assert!(!may(&other, &file(0o004), READ | WRITE));
    }

    #[test]
    fn root_lacks_only_the_execution_of_what_nobody_may_execute() {
        let root = user(0, 0, &[]);
        assert!(may(&root, &file(0), READ | WRITE));
        assert!(!may(&root, &file(0o644), EXECUTE) && may(&root, &file(0o001), EXECUTE));
        assert!(may(&root, &attr(FileKind::Directory, 0, 10, 20), EXECUTE));
    }

    #[test]
    fn content_may_be_moved_by_its_owner_and_read_by_who_executes() {
        let (owner, other) = (user(10, 99, &[]), user(11, 99, &[]));
        assert!(may_transfer(&owner, &file(0o444), WRITE).is_ok());
        assert_eq!(may_transfer(&other, &file(0o444), WRITE), Err(libc::EACCES));
        assert!(may_transfer(&other, &file(0o711), READ).is_ok());
        assert!(may_transfer(&other, &file(0o710), READ).is_err());
    }

    #[test]
    fn a_sticky_directory_protects_the_names_of_others() {
        let dir = |mode| attr(FileKind::Directory, mode, 30, 20);
        let (owner, other, host) = (user(10, 99, &[]), user(11, 99, &[]), user(30, 99, &[]));
        assert!(may_remove(&other, &dir(0o777), &file(0o600)).is_ok());
        assert_eq!(may_remove(&other, &dir(0o1777), &file(0o666)), Err(libc::EPERM));
        assert!(may_remove(&owner, &dir(0o1777), &file(0)).is_ok());
        assert!(may_remove(&host, &dir(0o1777), &file(0)).is_ok());
        assert_eq!(may_remove(&owner, &dir(0o755), &file(0)), Err(libc::EACCES));
    }

    #[test]
    fn a_directory_that_is_not_ones_own_to_write_keeps_its_parent() {
        let moved = attr(FileKind::Directory, 0o755, 10, 20);
        let other = user(11, 99, &[]);
        assert_eq!(may_move(&other, &moved, true), Err(libc::EACCES));
        assert!(may_move(&other, &moved, false).is_ok() && may_move(&other, &file(0), true).is_ok());
    }

    #[test]
    fn owners_change_modes_and_give_files_to_their_own_groups_only() {
        let (owner, member, root) = (user(10, 99, &[7]), user(11, 20, &[]), user(0, 0, &[]));
        let mode = |mode| AttrChange {
            mode: Some(mode),
            ..AttrChange::default()
        };
        let give = |uid, gid| AttrChange {
            uid,
            gid,
            ..AttrChange::default()
        };
        assert_eq!(judge_change(&member, &file(0o666), &mode(0o600)), Err(libc::EPERM));
        assert_eq!(
            judge_change(&owner, &file(0o644), &mode(0o2755)).unwrap().mode,
            Some(0o755)
        );
        assert_eq!(
            judge_change(&root, &file(0o644), &mode(0o2755)).unwrap().mode,
            Some(0o2755)
        );
        assert!(judge_change(&owner, &file(0), &give(None, Some(7))).is_ok());
        assert!(judge_change(&owner, &file(0), &give(Some(10), Some(20))).is_ok());
        assert_eq!(judge_change(&owner, &file(0), &give(None, Some(8))), Err(libc::EPERM));
        assert_eq!(judge_change(&owner, &file(0), &give(Some(11), None)), Err(libc::EPERM));
        assert!(judge_change(&root, &file(0), &give(Some(11), Some(8))).is_ok());
    }

    #[test]
    fn times_and_sizes_need_the_owner_or_permission_to_write() {
        let (owner, other) = (user(10, 99, &[]), user(11, 99, &[]));
        let times = |time| AttrChange {
            atime: Some(time),
            mtime: Some(time),
            ..AttrChange::default()
        };
        let to = times(TimeChange::To(Timestamp::default()));
        assert!(judge_change(&owner, &file(0), &to).is_ok());
        assert_eq!(judge_change(&other, &file(0o666), &to), Err(libc::EPERM));
        assert!(judge_change(&other, &file(0o666), &times(TimeChange::Now)).is_ok());
        assert_eq!(
            judge_change(&other, &file(0o644), &times(TimeChange::Now)),
            Err(libc::EACCES)
        );
        let size = AttrChange {
            size: Some(0),
            ..AttrChange::default()
        };
        assert_eq!(judge_change(&other, &file(0o644), &size), Err(libc::EACCES));
        assert!(judge_change(&owner, &file(0o644), &size).unwrap().clear_setid);
        assert!(!judge_change(&user(0, 0, &[]), &file(0), &size).unwrap().clear_setid);
    }

    #[test]
    fn a_file_gets_no_setgid_of_a_foreign_group() {
        let dir = attr(FileKind::Directory, 0o2777, 30, 20);
        let (member, other) = (user(11, 20, &[]), user(11, 99, &[]));
        assert_eq!(creation_mode(&other, &dir, FileKind::File, 0o2755), 0o755);
        assert_eq!(creation_mode(&member, &dir, FileKind::File, 0o2755), 0o2755);
        assert_eq!(creation_mode(&other, &dir, FileKind::Directory, 0o2755), 0o2755);
    }
}
