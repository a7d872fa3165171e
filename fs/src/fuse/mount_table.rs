//! What is mounted where, and how to take it away: `/proc/self/mountinfo`, umount(2), fusermount3.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many dead mounts may lie above each other.
const DEAD_MOUNTS_MAX: u32 = 64;

/// Why a folder cannot be made ready for a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A notefs mount that answers is there already.
    #[error("{mountpoint} is already a mount of {source_name}. Unmount it first: notefs unmount {mountpoint}",
        mountpoint = .mountpoint.display())]
    AlreadyMounted {
        /// The folder.
        mountpoint: PathBuf,
        /// What is mounted there.
        source_name: String,
    },
    /// A dead mount could not be taken away.
    #[error("The dead mount at {mountpoint} could not be removed: {source}. Try: umount -l {mountpoint}",
        mountpoint = .mountpoint.display())]
    Dead {
        /// The folder.
        mountpoint: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The folder could not be looked at.
    #[error("{mountpoint} could not be examined: {source}", mountpoint = .mountpoint.display())]
    Unreadable {
        /// The folder.
        mountpoint: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// One line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `major:minor`.
    device: String,
    mountpoint: PathBuf,
    kind: String,
    source: String,
}

/// Removes what a killed daemon left at `mountpoint`; tells whether there was something. A folder that does not exist
/// is none of ours. Refuses a live notefs mount; other file systems may be mounted over.
pub fn clear_dead_mount(mountpoint: &Path) -> Result<bool, MountError> {
    let unreadable = |source| MountError::Unreadable {
        mountpoint: mountpoint.to_path_buf(),
        source,
    };
    let path = resolve_without_asking(mountpoint).map_err(unreadable)?;
    let mut cleared = false;
    for _ in 0..DEAD_MOUNTS_MAX {
        // Not `stat`: the kernel answers that from its cache, daemon or no daemon. The abort of a mount is its death too.
        let is_dead = match rustix::fs::statfs(&path) {
            Ok(_) => false,
            Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => true,
            Err(rustix::io::Errno::NOENT) => return Ok(cleared),
            // A live mount of another user.
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => false,
            Err(error) => return Err(unreadable(error.into())),
        };
        if !is_dead {
            let kind = format!("fuse.{}", super::SUBTYPE);
            return match topmost(&path).map_err(unreadable)? {
                Some(mount) if mount.kind == kind => Err(MountError::AlreadyMounted {
                    mountpoint: path,
                    source_name: mount.source,
                }),
                _ => Ok(cleared),
            };
        }
        unmount(&path, true).map_err(|source| MountError::Dead {
            mountpoint: path.clone(),
            source,
        })?;
        cleared = true;
    }
    Ok(cleared)
}

/// The device of what is mounted at an absolute path.
pub(super) fn device_of(mountpoint: &Path) -> Option<String> {
    topmost(mountpoint).ok().flatten().map(|mount| mount.device)
}

/// Unmounts an absolute path, by `fusermount3` where only that may.
pub(super) fn unmount(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match unmount(mountpoint, flags | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::PERM) => fusermount(mountpoint, lazy),
        other => Ok(other?),
    }
}

/// Aborts the connection of what is mounted at an absolute path, and detaches it. Only root may force; for others the requests that
/// wait end with this process at the latest.
pub(super) fn abort(mountpoint: &Path) -> io::Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match unmount(mountpoint, flags) {
        Err(rustix::io::Errno::PERM) => fusermount(mountpoint, true),
        other => Ok(other?),
    }
}

fn fusermount(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let flags: &[&str] = if lazy { &["-u", "-z"] } else { &["-u"] };
    let run = |program| {
        Command::new(program)
            .args(flags)
            .arg("--")
            .arg(mountpoint)
            .env("LC_ALL", "C")
            .output()
    };
    let output = match run("fusermount3") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => run("fusermount")?,
        other => other?,
    };
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let kind = if text.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::Other
    };
    Err(io::Error::new(kind, text))
}

/// The absolute path of a folder that may itself be a dead mount, so only its parent is asked about.
fn resolve_without_asking(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Err(error),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        other => other,
    }
}

fn topmost(mountpoint: &Path) -> io::Result<Option<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut mounts = table
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .filter(|mount| mount.mountpoint == mountpoint);
    Ok(mounts.next_back())
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - KIND SOURCE OPTIONS`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Mount {
        device,
        mountpoint,
        kind: text(fields.next()?),
        source: text(fields.next()?),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Blanks, tabs, newlines and back slashes are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                bytes.push(digits.iter().fold(0_u8, |byte, digit| (byte << 3) | (digit - b'0')));
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_with_its_escapes() {
        let line = br"36 35 0:45 / /mnt/my\040notes\134x rw,noatime shared:1 - fuse.notefs s3://b/\040p rw,user_id=0";
        let expected = Mount {
            device: "0:45".into(),
            mountpoint: PathBuf::from(r"/mnt/my notes\x"),
            kind: "fuse.notefs".into(),
            source: "s3://b/ p".into(),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 0:45 / /mnt rw"), None);
    }

    #[test]
    fn a_folder_without_a_mount_is_left_alone() {
        assert!(!clear_dead_mount(&std::env::temp_dir().join("no such folder of notefs")).unwrap());
        assert_eq!(device_of(Path::new("/no/such/folder")), None);
    }
}
