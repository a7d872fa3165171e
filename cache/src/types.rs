//! The plain values that the replica and its users exchange: inode numbers, attributes, times.
//!
//! Owns no behaviour beyond conversions; nothing here does I/O.

use serde::{Deserialize, Serialize};

/// A persistent inode number; stable across renames, remounts and restarts, never used twice.
pub type Ino = u64;

/// The inode number of the mount's root directory.
pub const ROOT_INO: Ino = 1;

/// The longest file name, in bytes, as on every local file system of Linux.
pub const NAME_LENGTH_MAX_BYTES: usize = 255;

/// The longest symbolic link target, in bytes (PATH_MAX less its terminator).
pub const SYMLINK_LENGTH_MAX_BYTES: usize = 4095;

/// The largest file, in bytes: S3's largest object (5 TiB).
pub const FILE_SIZE_MAX_BYTES: u64 = 5 << 40;

/// A file time: nanosecond resolution, years before 1970 included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, always counted forwards from `seconds`.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Nanoseconds since 1970, saturating at about the years 1677 and 2262.
    pub fn as_nanos(self) -> i64 {
        self.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.nanoseconds))
    }

    /// The inverse of [`Timestamp::as_nanos`].
    pub fn from_nanos(nanos: i64) -> Timestamp {
        let seconds = nanos.div_euclid(1_000_000_000);
        Timestamp {
            seconds,
            nanoseconds: nanos.rem_euclid(1_000_000_000) as u32,
        }
    }
}

impl Timestamp {
    /// As `2026-11-21T14:03:22Z`, without the fraction.
    pub fn to_utc_text(self) -> String {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Days since 1970 to a date of the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file: one object of the bucket.
    File,
    /// A directory: a common prefix, or a `dir/` marker when it is empty.
    Directory,
    /// A symbolic link: an empty object whose metadata holds the target.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What `stat` shows of an inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Told apart from an earlier inode of the same number; constant while numbers are never used twice.
    pub generation: u64,
    /// File type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number (`makedev`) of a device node, else 0.
    pub rdev: u64,
    /// Number of names; directories count 2 and their subdirectories.
    pub nlink: u32,
    /// Size in bytes; of a symlink, the target's length.
    pub size: u64,
    /// 512-byte blocks that the content takes up.
    pub blocks: u64,
    /// Last access, as last set or as of the last change.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
}

/// A time given to `setattr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// The replica's own clock (`UTIME_NOW`).
    Now,
    /// This time.
    To(Timestamp),
}

/// What `setattr` is to change; `None` leaves a field as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttrChange {
    /// New permission bits (0 to 0o7777).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size: truncates or extends by zeros.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<TimeChange>,
    /// New modification time.
    pub mtime: Option<TimeChange>,
    /// Clear setuid, and setgid where the group may execute, as POSIX asks after a write or truncate by an
    /// unprivileged process.
    pub clear_setid: bool,
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInode {
    /// File type.
    pub kind: FileKind,
    /// Permission bits (0 to 0o7777), umask already applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group; the replica replaces it where the parent directory has setgid.
    pub gid: u32,
    /// Device number for device nodes, else 0.
    pub rdev: u64,
    /// Target for symlinks, else empty.
    pub target: Vec<u8>,
}

/// How `rename` treats an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it atomically, as rename(2) does.
    Replace,
    /// EEXIST if there is one (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap the two names in one step (`RENAME_EXCHANGE`).
    Exchange,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Position to continue after: grows with each new name, never changes while the name lives, never reused.
    /// At least 16: front ends number `.` and `..` below.
    pub cookie: u64,
    /// The name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// The inode's attributes.
    pub attr: Attr,
}

/// How `setxattr` treats an existing attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Set,
    /// EEXIST if it is there (`XATTR_CREATE`).
    Create,
    /// ENODATA if it is not (`XATTR_REPLACE`).
    Replace,
}

/// What `fallocate` does to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocateMode {
    /// Extend the file if the range ends past it.
    Extend,
    /// Reserve only; the size stays.
    KeepSize,
    /// Zero the range, keeping the size (`PUNCH_HOLE`).
    PunchHole,
    /// Zero the range; extend unless told to keep the size (`ZERO_RANGE`).
    ZeroRange {
        /// Keep the size even if the range ends past it.
        keep_size: bool,
    },
}

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTarget {
    /// The next byte that may hold data.
    Data,
    /// The next byte of a hole; the file's end counts as one.
    Hole,
}

/// Space and inode counts for `statfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceUsage {
    /// Bytes of all files in the folder.
    pub used_bytes: u64,
    /// Bytes that can still be written before ENOSPC.
    pub free_bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// How high a file's newest change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Survives the death of the daemon.
    Written,
    /// Survives a power cut.
    Synced,
    /// The object store has acknowledged it.
    Stored,
}

impl Step {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Written => "written",
            Step::Synced => "synced",
            Step::Stored => "stored",
        }
    }
}
