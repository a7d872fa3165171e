//! Between the protocol's values and ours; pure functions.

use super::xdr::{Garbage, Reader};
use crate::filesystem::Errno;
use crate::filesystem::guarded::{CHANGED_MEANWHILE, Changed};
use crate::filesystem::permission::{EXECUTE, READ, User, WRITE, may};
use nfs3_types::nfs3::{
    ACCESS3_DELETE, ACCESS3_EXECUTE, ACCESS3_EXTEND, ACCESS3_LOOKUP, ACCESS3_MODIFY, ACCESS3_READ, fattr3, ftype3,
    nfsstat3, nfstime3, post_op_attr, pre_op_attr, specdata3, wcc_attr, wcc_data,
};
use notefs_cache::{Attr, AttrChange, FileKind, TimeChange, Timestamp};

/// `blocks` of attributes count these.
const BLOCK_BYTES: u64 = 512;

const PERMISSION_MASK: u32 = 0o7777;

/// What an error is called in the protocol.
pub(super) fn status(errno: Errno) -> nfsstat3 {
    if errno == CHANGED_MEANWHILE {
        return nfsstat3::NFS3ERR_NOT_SYNC;
    }
    match errno.0 {
        libc::EPERM => nfsstat3::NFS3ERR_PERM,
        libc::ENOENT => nfsstat3::NFS3ERR_NOENT,
        libc::ENXIO => nfsstat3::NFS3ERR_NXIO,
        libc::EACCES => nfsstat3::NFS3ERR_ACCES,
        libc::EEXIST => nfsstat3::NFS3ERR_EXIST,
        libc::EXDEV => nfsstat3::NFS3ERR_XDEV,
        libc::ENODEV => nfsstat3::NFS3ERR_NODEV,
        libc::ENOTDIR => nfsstat3::NFS3ERR_NOTDIR,
        libc::EISDIR => nfsstat3::NFS3ERR_ISDIR,
        libc::EINVAL | libc::EILSEQ => nfsstat3::NFS3ERR_INVAL,
        libc::EFBIG => nfsstat3::NFS3ERR_FBIG,
        libc::ENOSPC => nfsstat3::NFS3ERR_NOSPC,
        libc::EROFS => nfsstat3::NFS3ERR_ROFS,
        libc::EMLINK => nfsstat3::NFS3ERR_MLINK,
        libc::ENAMETOOLONG => nfsstat3::NFS3ERR_NAMETOOLONG,
        libc::ENOTEMPTY => nfsstat3::NFS3ERR_NOTEMPTY,
        libc::EDQUOT => nfsstat3::NFS3ERR_DQUOT,
        libc::ESTALE => nfsstat3::NFS3ERR_STALE,
        libc::EOPNOTSUPP => nfsstat3::NFS3ERR_NOTSUPP,
        // Too many wait; a client comes again by itself.
        libc::EAGAIN => nfsstat3::NFS3ERR_JUKEBOX,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

/// The protocol's times are unsigned seconds of 32 bits; what lies outside is told as the nearest of them.
pub(super) fn time(time: Timestamp) -> nfstime3 {
    match u32::try_from(time.seconds) {
        Ok(seconds) => nfstime3 {
            seconds,
            nseconds: time.nanoseconds,
        },
        Err(_) if time.seconds < 0 => nfstime3::default(),
        Err(_) => nfstime3 {
            seconds: u32::MAX,
            nseconds: time.nanoseconds,
        },
    }
}

fn kind(kind: FileKind) -> ftype3 {
    match kind {
        FileKind::File => ftype3::NF3REG,
        FileKind::Directory => ftype3::NF3DIR,
        FileKind::Symlink => ftype3::NF3LNK,
        FileKind::Fifo => ftype3::NF3FIFO,
        FileKind::Socket => ftype3::NF3SOCK,
        FileKind::CharDevice => ftype3::NF3CHR,
        FileKind::BlockDevice => ftype3::NF3BLK,
    }
}

/// Attributes as the client sees them; `fsid` tells this folder from others.
pub(super) fn attributes(attr: &Attr, fsid: u64) -> fattr3 {
    let device = attr.rdev as libc::dev_t;
    fattr3 {
        type_: kind(attr.kind),
        mode: attr.mode & PERMISSION_MASK,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.blocks.saturating_mul(BLOCK_BYTES),
        rdev: specdata3 {
            specdata1: libc::major(device),
            specdata2: libc::minor(device),
        },
        fsid,
        fileid: attr.ino,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
    }
}

/// Attributes, where they are known.
pub(super) fn known(attr: Option<&Attr>, fsid: u64) -> post_op_attr {
    attr.map_or(post_op_attr::None, |attr| post_op_attr::Some(attributes(attr, fsid)))
}

/// The attributes around a change.
pub(super) fn around<T>(changed: &Changed<T>, fsid: u64) -> wcc_data {
    let before = changed.before.as_ref().map_or(pre_op_attr::None, |attr| {
        pre_op_attr::Some(wcc_attr {
            size: attr.size,
            mtime: time(attr.mtime),
            ctime: time(attr.ctime),
        })
    });
    wcc_data {
        before,
        after: known(changed.after.as_ref(), fsid),
    }
}

/// The attributes that a call sets.
pub(super) fn read_change(args: &mut Reader) -> Result<AttrChange, Garbage> {
    Ok(AttrChange {
        mode: args.optional(Reader::u32)?.map(|mode| mode & PERMISSION_MASK),
        uid: args.optional(Reader::u32)?,
        gid: args.optional(Reader::u32)?,
        size: args.optional(Reader::u64)?,
        atime: read_time_change(args)?,
        mtime: read_time_change(args)?,
        clear_setid: false,
    })
}

fn read_time_change(args: &mut Reader) -> Result<Option<TimeChange>, Garbage> {
    match args.u32()? {
        0 => Ok(None),
        1 => Ok(Some(TimeChange::Now)),
        2 => Ok(Some(TimeChange::To(read_time(args)?))),
        _ => Err(Garbage),
    }
}

/// A time that a client sends.
pub(super) fn read_time(args: &mut Reader) -> Result<Timestamp, Garbage> {
    let (seconds, nanoseconds) = (args.u32()?, args.u32()?);
    if nanoseconds >= 1_000_000_000 {
        return Err(Garbage);
    }
    Ok(Timestamp {
        seconds: i64::from(seconds),
        nanoseconds,
    })
}

/// What of `asked` the user may do.
pub(super) fn access(user: &User, attr: &Attr, asked: u32, read_only: bool) -> u32 {
    let directory = attr.kind == FileKind::Directory;
    let changes = ACCESS3_MODIFY | ACCESS3_EXTEND | if directory { ACCESS3_DELETE } else { 0 };
    let mut granted = 0;
    if may(user, attr, READ) {
        granted |= ACCESS3_READ;
    }
    if may(user, attr, WRITE) && !read_only {
        granted |= changes;
    }
    if may(user, attr, EXECUTE) {
        granted |= if directory { ACCESS3_LOOKUP } else { ACCESS3_EXECUTE };
    }
    granted & asked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: FileKind, mode: u32) -> Attr {
        Attr {
            ino: 9,
            generation: 0,
            kind,
            mode,
            uid: 10,
            gid: 20,
            rdev: libc::makedev(8, 1),
            nlink: 1,
            size: 5,
            blocks: 8,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        }
    }

    #[test]
    fn times_outside_of_the_protocol_are_the_nearest_in_it() {
        let at = |seconds| {
            time(Timestamp {
                seconds,
                nanoseconds: 7,
            })
        };
        assert_eq!((at(-1).seconds, at(-1).nseconds), (0, 0));
        assert_eq!((at(5).seconds, at(5).nseconds), (5, 7));
        assert_eq!(at(1 << 40).seconds, u32::MAX);
    }

    #[test]
    fn attributes_keep_device_numbers_and_blocks() {
        let told = attributes(&attr(FileKind::BlockDevice, 0o100_644), 77);
        assert_eq!((told.rdev.specdata1, told.rdev.specdata2), (8, 1));
        assert_eq!((told.mode, told.used, told.fsid, told.fileid), (0o644, 4096, 77, 9));
    }

    #[test]
    fn access_is_told_by_kind_and_only_as_asked() {
        let owner = User {
            uid: 10,
            gid: 1,
            groups: vec![],
        };
        let all = 0x3f;
        let file = attr(FileKind::File, 0o700);
        let told = access(&owner, &file, all, false);
        assert_eq!(told, ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_EXECUTE);
        let dir = attr(FileKind::Directory, 0o700);
        let told = access(&owner, &dir, all, true);
        assert_eq!(told, ACCESS3_READ | ACCESS3_LOOKUP);
        assert_eq!(access(&owner, &dir, ACCESS3_DELETE, false), ACCESS3_DELETE);
        assert_eq!(access(&owner, &attr(FileKind::File, 0), all, false), 0);
    }

    #[test]
    fn changes_are_read_and_bad_times_refused() {
        let words = |words: &[u32]| Reader::new(words.iter().flat_map(|word| word.to_be_bytes()).collect());
        let change = read_change(&mut words(&[1, 0o100_640, 0, 1, 7, 1, 0, 3, 1, 2, 50, 60])).unwrap();
        assert_eq!(
            (change.mode, change.uid, change.gid, change.size),
            (Some(0o640), None, Some(7), Some(3))
        );
        assert_eq!(change.atime, Some(TimeChange::Now));
        let to = Timestamp {
            seconds: 50,
            nanoseconds: 60,
        };
        assert_eq!(change.mtime, Some(TimeChange::To(to)));
        assert_eq!(read_time(&mut words(&[1, 1_000_000_000])), Err(Garbage));
        assert_eq!(read_time_change(&mut words(&[3])), Err(Garbage));
    }

    #[test]
    fn errors_have_their_names() {
        assert_eq!(status(Errno(libc::ENOTEMPTY)), nfsstat3::NFS3ERR_NOTEMPTY);
        assert_eq!(status(Errno(libc::ESTALE)), nfsstat3::NFS3ERR_STALE);
        assert_eq!(status(CHANGED_MEANWHILE), nfsstat3::NFS3ERR_NOT_SYNC);
        assert_eq!(status(Errno(libc::ETXTBSY)), nfsstat3::NFS3ERR_IO);
    }
}
