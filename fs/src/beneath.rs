//! Places below a folder that are reached without following any link.
//!
//! Owns that a path from elsewhere, an archive or a repository, never leads out of the folder. Does not own what is done there.

use crate::failure::Failure;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
    shown: PathBuf,
}

/// What is done about folders on the way that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are made.
    Made,
    /// Nothing.
    Left,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// It is none below the folder.
    NoPath,
    /// One of its folders cannot be entered.
    At {
        /// Which.
        name: String,
        /// Why.
        error: Errno,
    },
}

/// A name in a folder that is held open.
#[derive(Debug)]
pub(crate) struct Place {
    _folder: OwnedFd,
    path: PathBuf,
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Place {
    /// Another name in the same folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }
}

impl Beneath {
    /// Everything below this folder.
    pub(crate) fn new(folder: &Path) -> Result<Beneath, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(folder, flags, Mode::empty()).map_err(Failure::io("open", folder))?;
        Ok(Beneath {
            root,
            shown: folder.to_path_buf(),
        })
    }

    /// Where a path leads; folders on the way are made.
    pub(crate) fn place(&self, path: &[u8]) -> Result<Place, Failure> {
        self.reach(path, Missing::Made).map_err(|unreached| {
            let shown = String::from_utf8_lossy(path);
            match unreached {
                Unreached::NoPath => Failure::new(format!("{shown:?} is no path below {}", self.shown.display())),
                Unreached::At { name, error } => {
                    let in_the_way = self.shown.join(OsStr::from_bytes(path));
                    Failure::new(format!("Could not reach {}: {error}", in_the_way.display()))
                        .hint(format!("Move away what is at {name:?}, if it is no folder"))
                }
            }
        })
    }

    /// The same, with the reason as data, and folders that are missing made or not.
    pub(crate) fn reach(&self, path: &[u8], missing: Missing) -> Result<Place, Unreached> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let is_plain = |part: &&[u8]| !part.is_empty() && **part != *b"." && **part != *b".." && !part.contains(&0);
        if !parts.iter().all(is_plain) {
            return Err(Unreached::NoPath);
        }
        let (name, folders) = parts.split_last().unwrap_or((&parts[0], &[]));
        let at = |name: &[u8]| {
            let name = String::from_utf8_lossy(name).into_owned();
            move |error| Unreached::At { name, error }
        };
        let mut folder = self.root.try_clone().map_err(|error| {
            let code = error.raw_os_error().unwrap_or(libc::EMFILE);
            at(b".")(Errno::from_raw_os_error(code))
        })?;
        for part in folders {
            folder = enter(&folder, part, missing).map_err(at(part))?;
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(OsStr::from_bytes(name));
        Ok(Place { _folder: folder, path })
    }

    /// The device that the folder lies on.
    pub(crate) fn device(&self) -> Result<u64, Errno> {
        fstat(&self.root).map(|found| found.st_dev)
    }
}

fn enter(folder: &OwnedFd, name: &[u8], missing: Missing) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let enter = || openat2(folder, OsStr::from_bytes(name), flags, Mode::empty(), resolve);
    match enter() {
        Err(Errno::NOENT) if missing == Missing::Made => {
            match mkdirat(folder, OsStr::from_bytes(name), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => enter(),
                Err(error) => Err(error),
            }
        }
        entered => entered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let beneath = Beneath::new(folder.path()).unwrap();
        std::fs::write(beneath.place(b"a/b/c.md").unwrap(), "c").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("a/b/c.md")).unwrap(), "c");
        assert!(beneath.place(b"link/c.md").is_err());
        for path in ["", "/etc/passwd", "../a", "a/../../b", "a//b", ".", "a/.", "a\0b"] {
            assert!(beneath.place(path.as_bytes()).is_err(), "{path:?}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        let lost = beneath.reach(b"none/c.md", Missing::Left).unwrap_err();
        let expected = Unreached::At {
            name: "none".to_owned(),
            error: Errno::NOENT,
        };
        assert_eq!(lost, expected);
        assert!(!folder.path().join("none").exists());
    }
}
