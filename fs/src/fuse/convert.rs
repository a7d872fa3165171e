//! Between the kernel's values and ours; pure functions.

use crate::filesystem::{Caller, Errno};
use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use notefs_cache::{
    AllocateMode, Attr, AttrChange, FileKind, NewInode, RenameMode, SeekTarget, TimeChange, Timestamp, XattrMode,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The block size that programs are told to prefer, and that `statfs` counts in.
pub(super) const BLOCK_SIZE_BYTES: u32 = 4096;

/// Type bits of a mode.
const TYPE_MASK: u32 = libc::S_IFMT;

/// setuid, setgid, sticky and permissions.
const PERMISSION_MASK: u32 = 0o7777;

pub(super) fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
    }
}

/// What a program makes, as its own.
pub(super) fn new_inode(caller: Caller, kind: FileKind, mode: u32) -> NewInode {
    let mode = mode & PERMISSION_MASK;
    NewInode {
        kind,
        mode,
        uid: caller.uid,
        gid: caller.gid,
        rdev: 0,
        target: Vec::new(),
    }
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// What `mknod` is to make; `None` for types that it cannot.
pub(super) fn kind_from_mode(mode: u32) -> Option<FileKind> {
    match mode & TYPE_MASK {
        0 | libc::S_IFREG => Some(FileKind::File),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & PERMISSION_MASK) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // The kernel's 32-bit device number is the low half of libc's.
        rdev: attr.rdev as u32,
        blksize: BLOCK_SIZE_BYTES,
        flags: 0,
    }
}

/// Attributes for an entry whose attributes the kernel does not read: `ino` 0 says that a name does not exist.
pub(super) fn bare_attr(ino: u64) -> FileAttr {
    file_attr(&Attr {
        ino,
        generation: 0,
        kind: FileKind::Directory,
        mode: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        nlink: 0,
        size: 0,
        blocks: 0,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
    })
}

/// A file of which only the number is known.
pub(super) fn unknown_file(ino: u64) -> FileAttr {
    FileAttr {
        kind: FileType::RegularFile,
        nlink: 1,
        ..bare_attr(ino)
    }
}

/// Saturates at 1970 where the machine's own type cannot hold it.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = if time.seconds >= 0 {
        UNIX_EPOCH.checked_add(Duration::from_secs(time.seconds.unsigned_abs()))
    } else {
        UNIX_EPOCH.checked_sub(Duration::from_secs(time.seconds.unsigned_abs()))
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        .unwrap_or(UNIX_EPOCH)
}

/// The inverse of fuser's own reading of a time, which counts nanoseconds backwards before 1970: it reads the kernel's
/// -2 s + 0.8 s, which is -1.2, as -2.8. (It writes such times rightly.)
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Timestamp {
                seconds: 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN),
                nanoseconds: before.subsec_nanos(),
            }
        }
    }
}

pub(super) fn time_change(time: TimeOrNow) -> TimeChange {
    match time {
        TimeOrNow::Now => TimeChange::Now,
        TimeOrNow::SpecificTime(time) => TimeChange::To(timestamp(time)),
    }
}

/// What a SETATTR changes; `None` for times means that it leaves them. fuser hides FATTR_KILL_SUIDGID, so who asks decides.
pub(super) fn attr_change(
    caller: Caller,
    mode: Option<u32>,
    (uid, gid): (Option<u32>, Option<u32>),
    size: Option<u64>,
    (atime, mtime): (Option<TimeOrNow>, Option<TimeOrNow>),
) -> AttrChange {
    AttrChange {
        mode: mode.map(|mode| mode & PERMISSION_MASK),
        uid,
        gid,
        size,
        atime: atime.map(time_change),
        mtime: mtime.map(time_change),
        clear_setid: size.is_some() && caller.clears_setid(),
    }
}

pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    match flags.bits() {
        0 => Some(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Some(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameMode::Exchange),
        _ => None,
    }
}

pub(super) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

pub(super) fn allocate_mode(mode: i32) -> Option<AllocateMode> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(AllocateMode::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Some(AllocateMode::KeepSize),
        PUNCH => Some(AllocateMode::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(AllocateMode::ZeroRange { keep_size: false }),
        ZERO_KEEP => Some(AllocateMode::ZeroRange { keep_size: true }),
        _ => None,
    }
}

pub(super) fn seek_target(whence: i32) -> Option<SeekTarget> {
    match whence {
        libc::SEEK_DATA => Some(SeekTarget::Data),
        libc::SEEK_HOLE => Some(SeekTarget::Hole),
        _ => None,
    }
}

/// The names of extended attributes as the kernel wants them: each ended by NUL.
pub(super) fn xattr_list(names: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in names {
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    /// As fuser reads the kernel's pair.
    fn as_fuser_reads(seconds: i64, nanoseconds: u32) -> SystemTime {
        if seconds >= 0 {
            UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds)
        } else {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds)
        }
    }

    #[test]
    fn times_from_the_kernel_keep_their_sign_and_nanoseconds() {
        for (s, ns) in [
            (0, 0),
            (1, 999_999_999),
            (4_102_444_800, 5),
            (-1, 0),
            (-1, 500_000_000),
            (-2, 800_000_000),
        ] {
            assert_eq!(timestamp(as_fuser_reads(s, ns)), at(s, ns));
        }
    }

    #[test]
    fn times_to_the_kernel_count_nanoseconds_forwards() {
        assert_eq!(
            system_time(at(-2, 800_000_000)),
            UNIX_EPOCH - Duration::new(1, 200_000_000)
        );
        assert_eq!(system_time(at(3, 4)), UNIX_EPOCH + Duration::new(3, 4));
    }

    #[test]
    fn times_beyond_the_machine_do_not_panic() {
        assert_eq!(
            system_time(at(i64::MAX, 999_999_999))
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .subsec_nanos(),
            999_999_999
        );
        assert!(system_time(at(i64::MIN, 999_999_999)) < UNIX_EPOCH);
    }

    #[test]
    fn rename_flags_are_taken_whole_or_refused() {
        assert_eq!(rename_mode(RenameFlags::empty()), Some(RenameMode::Replace));
        assert_eq!(rename_mode(RenameFlags::RENAME_NOREPLACE), Some(RenameMode::NoReplace));
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(
            rename_mode(RenameFlags::RENAME_WHITEOUT | RenameFlags::RENAME_NOREPLACE),
            None
        );
    }

    #[test]
    fn fallocate_modes_that_move_data_are_refused() {
        assert_eq!(allocate_mode(0), Some(AllocateMode::Extend));
        assert_eq!(allocate_mode(libc::FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(allocate_mode(libc::FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(allocate_mode(libc::FALLOC_FL_INSERT_RANGE), None);
        assert_eq!(
            allocate_mode(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE),
            Some(AllocateMode::ZeroRange { keep_size: true })
        );
    }

    #[test]
    fn only_truncation_by_others_than_root_clears_setuid() {
        let root = Caller { uid: 0, gid: 0, pid: 1 };
        let user = Caller { uid: 1000, ..root };
        let change = |caller, size| attr_change(caller, None, (None, None), size, (None, None)).clear_setid;
        assert!(change(user, Some(0)));
        assert!(!change(root, Some(0)));
        assert!(!change(user, None));
    }

    #[test]
    fn a_mode_loses_its_type_bits() {
        let caller = Caller { uid: 0, gid: 0, pid: 1 };
        let change = attr_change(caller, Some(libc::S_IFREG | 0o4755), (None, None), None, (None, None));
        assert_eq!(change.mode, Some(0o4755));
        assert_eq!(kind_from_mode(libc::S_IFDIR | 0o755), None);
        assert_eq!(kind_from_mode(0o644), Some(FileKind::File));
    }

    #[test]
    fn names_of_xattrs_end_in_nul() {
        assert_eq!(
            xattr_list(&[b"user.a".to_vec(), b"user.b".to_vec()]),
            b"user.a\0user.b\0"
        );
        assert!(xattr_list(&[]).is_empty());
    }
}
