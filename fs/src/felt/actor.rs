//! The actor's own end: waits for commands and performs them below the mount's root.
//!
//! It opens the root by its path only to find the very mount that it was made for, never another one or the folder
//! underneath, and walks from there without following links and without entering other mounts.

use super::command::{Command, answer};
use crate::failure::EXIT_FAILED;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// `f_type` of a FUSE mount.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// How long the mount's root is held without a command, since it keeps the mount from being unmounted.
const ROOT_HELD_IDLE_MS: libc::c_int = 200;

/// How a path is walked: not out of the mount, not through links, not into what is mounted on a folder of it.
const WALK: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The process's whole life; answers its exit code. Commands come from standard input.
pub(crate) fn run(mountpoint: &Path, device: &str) -> u8 {
    leave_everything();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return EXIT_FAILED;
    };
    let mut place = Place {
        mountpoint: mountpoint.to_owned(),
        device: device.to_owned(),
        root: None,
    };
    match serve(&socket, &mut place) {
        Ok(()) => 0,
        Err(_) => EXIT_FAILED, // the daemon is gone, or no longer speaks the same language: it starts another one
    }
}

/// Keeps nothing of the daemon: it dies with it, and has none of its files.
fn leave_everything() {
    // SAFETY: both calls change only this process, which has opened nothing above its standard streams.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
    // Held by nothing: another mount's folder must not be kept busy by us.
    std::env::set_current_dir("/").ok();
}

fn serve(socket: &UnixStream, place: &mut Place) -> io::Result<()> {
    loop {
        if place.root.is_some() && !is_readable(socket, ROOT_HELD_IDLE_MS) {
            place.root = None;
        }
        let Some(command) = Command::read(socket)? else {
            return Ok(());
        };
        let errno = match place.perform(&command) {
            Ok(()) => 0,
            Err(errno) => errno.raw_os_error(),
        };
        answer(socket, errno)?;
    }
}

fn is_readable(socket: &UnixStream, timeout_ms: libc::c_int) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd, and the descriptor is open as long as `socket`.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) != 0 }
}

/// The mount to act on.
struct Place {
    mountpoint: PathBuf,
    /// `major:minor`, as in the mount table.
    device: String,
    root: Option<OwnedFd>,
}

impl Place {
    fn perform(&mut self, command: &Command) -> Result<(), Errno> {
        let root = match self.root.take() {
            Some(root) => root,
            None => self.open()?,
        };
        let root: &OwnedFd = self.root.insert(root);
        let root = root.as_fd();
        match command {
            Command::Create(path) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                open(&root, path, flags).map(drop)
            }
            Command::MakeFolder(path) => {
                let (parent, name) = walk(&root, path)?;
                rustix::fs::mkdirat(parent, name, Mode::empty())
            }
            Command::Modify(path) => modify(&root, path),
            // Not by opening it: watchers would see that, too.
            Command::Touch(path) if path.is_empty() => {
                rustix::fs::utimensat(root, "", &NOW, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
            }
            Command::Touch(path) => {
                let (parent, name) = walk(&root, path)?;
                rustix::fs::utimensat(parent, name, &NOW, AtFlags::SYMLINK_NOFOLLOW)
            }
            Command::Remove(path) => {
                let (parent, name) = walk(&root, path)?;
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
            }
            Command::RemoveFolder(path) => {
                let (parent, name) = walk(&root, path)?;
                rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
            }
            Command::Move { from, to } => {
                let ((from_parent, from), (to_parent, to)) = (walk(&root, from)?, walk(&root, to)?);
                rustix::fs::renameat(from_parent, from, to_parent, to)
            }
        }
    }

    /// The root of the mount, if it is the right one.
    fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.mountpoint, flags, Mode::empty())?;
        // Not `stat`, which may ask the daemon: the kernel alone knows the type and the device.
        let kind = rustix::fs::fstatfs(&root)?.f_type;
        let basic = rustix::fs::StatxFlags::TYPE;
        let no_question = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(&root, "", no_question, basic)?;
        let device = format!("{}:{}", found.stx_dev_major, found.stx_dev_minor);
        if kind == FUSE_SUPER_MAGIC && device == self.device {
            Ok(root)
        } else {
            Err(Errno::XDEV)
        }
    }
}

const NOW: Timestamps = Timestamps {
    last_access: time(UTIME_NOW),
    last_modification: time(UTIME_NOW),
};

/// A time of access would make it a change of attributes to watchers, and not of content.
const MODIFIED_NOW: Timestamps = Timestamps {
    last_access: time(UTIME_OMIT),
    last_modification: time(UTIME_NOW),
};

const fn time(nanoseconds: i64) -> Timespec {
    Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    }
}

/// Where the file may not be written by this user, it can still be touched by its owner: one event instead of three.
fn modify(root: &BorrowedFd<'_>, path: &[u8]) -> Result<(), Errno> {
    match open(root, path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => rustix::fs::futimens(file, &MODIFIED_NOW),
        Err(Errno::ACCESS | Errno::TXTBSY) => {
            let (parent, name) = walk(root, path)?;
            rustix::fs::utimensat(parent, name, &MODIFIED_NOW, AtFlags::SYMLINK_NOFOLLOW)
        }
        Err(error) => Err(error),
    }
}

fn open(root: &BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        WALK,
    )
}

/// The folder that holds the last part of a path, and that part.
fn walk<'path>(root: &BorrowedFd<'_>, path: &'path [u8]) -> Result<(OwnedFd, &'path [u8]), Errno> {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        _ => Ok((open(root, folder, OFlags::PATH | OFlags::DIRECTORY)?, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, root)
    }

    #[test]
    fn paths_never_lead_out() {
        let (dir, root) = folder();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        std::fs::write(outside.path().join("a.md"), "x").unwrap();
        symlink(outside.path().join("a.md"), dir.path().join("b.md")).unwrap();
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        for path in [&b"link/new.md"[..], b"../x.md", b"/etc/passwd", b"b.md"] {
            assert!(open(&root.as_fd(), path, create).is_err(), "{}", path.escape_ascii());
            assert!(
                open(&root.as_fd(), path, OFlags::WRONLY).is_err(),
                "{}",
                path.escape_ascii()
            );
        }
        for path in [&b"link/a.md"[..], b"..", b"a/..", b"", b"x/"] {
            assert!(walk(&root.as_fd(), path).is_err(), "{}", path.escape_ascii());
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_no_mount_is_never_acted_on() {
        let (dir, _) = folder();
        let mut place = Place {
            mountpoint: dir.path().to_owned(),
            device: "0:1".into(),
            root: None,
        };
        assert_eq!(place.perform(&Command::Create(b"a.md".to_vec())), Err(Errno::XDEV));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
