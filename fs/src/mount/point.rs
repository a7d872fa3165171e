//! The folder that is mounted on: may it be, and how it is kept unwritable while nothing is mounted.
//!
//! Owns checks of the mount table and the seal of the empty folder underneath, so that nothing is ever saved beside the
//! vault. Does not own mounting (`fuse`) nor the list of running mounts (`control/registry.rs`).
//!
//! The seal goes through a descriptor of the underlying folder that was opened before the mount, so it reaches that
//! folder and never the mount. It is set after mounting: `fusermount3` asks for a folder that its caller can write.

use crate::control::registry::absolute;
use crate::failure::Failure;
use rustix::fs::{IFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Holds the folder's mode from before, for the time after a crash.
const MODE_XATTR: &str = "user.notefs.mode";

/// The type of our mounts in the mount table.
const NOTEFS_KIND: &str = "fuse.notefs";

/// How long a daemon may take to show that it lives, or to die.
const LOOK_DEADLINE_SECONDS: u64 = 5;

/// Mode of a sealed folder.
const SEALED_MODE: u32 = 0o555;

/// Mode of a folder whose earlier mode nobody knows any more.
const UNKNOWN_MODE: u32 = 0o755;

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) path: PathBuf,
    /// The type, as in `fuse.notefs`.
    pub(crate) kind: String,
    /// The file system's own options.
    pub(crate) options: String,
}

/// What lies at a path that is about to be mounted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A folder (or nothing yet) without a notefs mount.
    Plain,
    /// A mount whose daemon answers.
    Live,
    /// A mount whose daemon is gone.
    Dead,
}

/// The mounts of this process's namespace, in the order they were made.
pub(crate) fn mount_table() -> Result<Vec<Mounted>, Failure> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read_to_string(path).map_err(Failure::io("read", path))?;
    Ok(table.lines().filter_map(parse_mount).collect())
}

/// `36 35 98:0 /root /mount\040point rw - ext4 /dev/sda rw` and the like.
fn parse_mount(line: &str) -> Option<Mounted> {
    let (front, back) = line.split_once(" - ")?;
    let path = front.split(' ').nth(4)?;
    let mut back = back.split(' ');
    let kind = back.next()?;
    Some(Mounted {
        path: unescape(path),
        kind: kind.to_owned(),
        options: back.nth(1).unwrap_or_default().to_owned(),
    })
}

/// The mount table writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|three| std::str::from_utf8(three).ok());
        match octal.and_then(|three| u8::from_str_radix(three, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Looks at a canonical path. Asks the mount table first, so that no other file system is touched.
pub(crate) fn look(dir: &Path) -> Result<Found, Failure> {
    let kind = mount_table()?
        .into_iter()
        .rev()
        .find(|mounted| mounted.path == dir)
        .map(|mounted| mounted.kind);
    match kind {
        Some(kind) if kind == "fuse" || kind.starts_with("fuse.") => match is_dead(dir) {
            true => Ok(Found::Dead),
            false if kind == NOTEFS_KIND => Ok(Found::Live),
            false => Ok(Found::Plain),
        },
        _ => Ok(Found::Plain),
    }
}

/// Whether the daemon of the mount at `dir` is gone. Not by `stat`, which the kernel answers from its cache, daemon or no
/// daemon: `statfs` always asks. A daemon that is being killed never answers, so the question waits for its end. A thread
/// asks, since a daemon may also hang; then it is not dead.
fn is_dead(dir: &Path) -> bool {
    let (sender, answer) = channel();
    let asked = dir.to_owned();
    std::thread::spawn(move || sender.send(rustix::fs::statfs(&asked).err()).ok());
    let answer = answer.recv_timeout(Duration::from_secs(LOOK_DEADLINE_SECONDS));
    // The abort of the connection, which ends the question, is the daemon's death too.
    matches!(answer, Ok(Some(Errno::NOTCONN | Errno::CONNABORTED)))
}

/// The notefs mount that a path leads into, if its daemon is gone. Nothing but mounts of notefs is asked.
pub(crate) fn dead_mount_around(path: &Path) -> Option<PathBuf> {
    let textual = absolute(path).ok()?;
    let real = beside_parent(&textual).unwrap_or_else(|_| textual.clone());
    let around = |mounted: &Mounted| {
        mounted.kind == NOTEFS_KIND && (textual.starts_with(&mounted.path) || real.starts_with(&mounted.path))
    };
    let mounts = mount_table().ok()?.into_iter().filter(around);
    let mount = mounts.max_by_key(|mounted| mounted.path.components().count())?.path;
    is_dead(&mount).then_some(mount)
}

/// The folder's absolute path without symlinks, made if its parent exists. A mount there is not asked, dead or alive.
pub(crate) fn locate(dir: &Path) -> Result<PathBuf, Failure> {
    if let Ok(path) = absolute(dir).and_then(|path| beside_parent(&path))
        && mount_table()?.iter().any(|mounted| mounted.path == path)
    {
        return Ok(path);
    }
    match std::fs::canonicalize(dir) {
        Ok(path) => Ok(path),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => beside_parent(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir(dir).map_err(|e| {
                Failure::new(format!("Could not create the folder {}: {e}", dir.display()))
                    .hint("Create it first, or mount where its parent exists and is yours")
            })?;
            std::fs::canonicalize(dir).map_err(Failure::io("find", dir))
        }
        Err(error) => Err(Failure::io("find", dir)(error)),
    }
}

/// For a last component that cannot be asked itself.
pub(crate) fn beside_parent(dir: &Path) -> Result<PathBuf, Failure> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Ok(dir.to_owned());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    Ok(std::fs::canonicalize(parent)
        .map_err(Failure::io("find", parent))?
        .join(name))
}

/// Refuses what is no folder, is not ours to mount on, or would hide files.
pub(crate) fn check_folder(dir: &Path, nonempty: bool) -> Result<(), Failure> {
    let metadata = std::fs::metadata(dir).map_err(Failure::io("look at", dir))?;
    if !metadata.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", dir.display())).hint("Name a folder to mount on"));
    }
    let user = rustix::process::geteuid();
    if !user.is_root() && metadata.uid() != user.as_raw() {
        return Err(
            Failure::new(format!("The folder {} belongs to another user", dir.display()))
                .hint("Mount on a folder of your own"),
        );
    }
    let mut entries = std::fs::read_dir(dir).map_err(Failure::io("list", dir))?;
    if !nonempty && entries.next().is_some() {
        return Err(Failure::new(format!(
            "The folder {} is not empty: a mount would hide its files",
            dir.display()
        ))
        .hint("Mount on an empty folder and copy the files into it, or hide them with --nonempty"));
    }
    Ok(())
}

/// The folder underneath a mount, held open from before the mount.
#[derive(Debug)]
pub(crate) struct Underneath {
    folder: OwnedFd,
    /// Its mode before it was sealed.
    pub(crate) mode: u32,
}

impl Underneath {
    /// Opens a folder on which nothing is mounted yet, and undoes a seal that an earlier daemon could not undo.
    pub(crate) fn open(dir: &Path) -> Result<Underneath, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = rustix::fs::open(dir, flags, Mode::empty()).map_err(Failure::io("open", dir))?;
        let metadata = rustix::fs::fstat(&folder).map_err(Failure::io("look at", dir))?;
        let mut underneath = Underneath {
            folder,
            mode: metadata.st_mode & 0o7777,
        };
        if let Some(mode) = underneath.sealed_mode() {
            underneath.mode = mode;
            underneath.unseal();
        }
        Ok(underneath)
    }

    /// The mode to go back to, if the folder is sealed.
    fn sealed_mode(&self) -> Option<u32> {
        let mut value = [0u8; 16];
        let recorded = rustix::fs::fgetxattr(&self.folder, MODE_XATTR, &mut value).ok();
        let recorded = recorded.and_then(|length| std::str::from_utf8(&value[..length]).ok());
        let recorded = recorded
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .filter(|mode| *mode <= 0o7777);
        let immutable = rustix::fs::ioctl_getflags(&self.folder).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE));
        recorded.or((immutable && self.mode == SEALED_MODE).then_some(UNKNOWN_MODE))
    }

    /// Makes the folder unwritable; for root, whom modes do not stop, immutable where the file system can.
    pub(crate) fn seal(&self) {
        let mode = format!("{:o}", self.mode);
        if let Err(error) = rustix::fs::fsetxattr(&self.folder, MODE_XATTR, mode.as_bytes(), XattrFlags::empty()) {
            tracing::debug!("The mode of the folder underneath could not be noted on it: {error}");
        }
        if let Err(error) = rustix::fs::fchmod(&self.folder, Mode::from_raw_mode(SEALED_MODE)) {
            tracing::warn!("The folder underneath could not be made unwritable: {error}");
        }
        let flags = rustix::fs::ioctl_getflags(&self.folder);
        let sealed = flags.and_then(|flags| rustix::fs::ioctl_setflags(&self.folder, flags | IFlags::IMMUTABLE));
        if let Err(error) = sealed {
            tracing::debug!("The folder underneath could not be made immutable: {error}");
        }
    }

    /// Gives the folder its old mode back.
    pub(crate) fn unseal(&self) {
        if let Ok(flags) = rustix::fs::ioctl_getflags(&self.folder)
            && flags.contains(IFlags::IMMUTABLE)
            && let Err(error) = rustix::fs::ioctl_setflags(&self.folder, flags - IFlags::IMMUTABLE)
        {
            tracing::warn!("The folder underneath stays immutable: {error}");
        }
        if let Err(error) = rustix::fs::fchmod(&self.folder, Mode::from_raw_mode(self.mode)) {
            tracing::warn!("The folder underneath stays unwritable: {error}");
        }
        rustix::fs::fremovexattr(&self.folder, MODE_XATTR).ok();
    }
}

/// Makes the cache folder, private.
pub(crate) fn prepare_cache(dir: &Path) -> Result<(), Failure> {
    private_folder(dir, notefs_cache::Replica::exists(dir))
}

/// Makes a private folder (0700) with its parents; refuses one that others may read and that is not surely a cache.
fn private_folder(dir: &Path, is_cache: bool) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The folders above, too: who may write there could put another cache in this one's place.
            return std::fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(dir)
                .map_err(Failure::io("create", dir));
        }
        Err(error) => return Err(Failure::io("look at", dir)(error)),
    };
    if !metadata.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", dir.display())).hint("Choose another one with --cache"));
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let empty = std::fs::read_dir(dir)
        .map_err(Failure::io("list", dir))?
        .next()
        .is_none();
    if !empty && !is_cache {
        return Err(Failure::new(format!(
            "The folder {} holds other files and is open to other users",
            dir.display()
        ))
        .hint("A cache holds your notes: choose a new or empty folder with --cache"));
    }
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, private).map_err(Failure::io("make private", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_lines_are_read() {
        let line = r"36 35 98:0 / /home/me/my\040notes rw,nosuid shared:1 - fuse.notefs s3://b rw,user_id=0";
        let mounted = parse_mount(line).unwrap();
        assert_eq!(
            mounted,
            Mounted {
                path: "/home/me/my notes".into(),
                kind: "fuse.notefs".into(),
                options: "rw,user_id=0".into()
            }
        );
        assert_eq!(unescape(r"a\134b\9"), Path::new(r"a\b\9"));
        assert_eq!(parse_mount("nonsense"), None);
    }

    #[test]
    fn a_sealed_folder_gets_its_mode_back() {
        let dir = std::env::temp_dir().join(format!("notefs-seal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)).unwrap();
        let underneath = Underneath::open(&dir).unwrap();
        underneath.seal();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, SEALED_MODE);
        underneath.unseal();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o750);
        std::fs::write(dir.join("note.md"), "works again").unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_folder_with_files_is_not_mounted_on() {
        let dir = std::env::temp_dir().join(format!("notefs-full-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(check_folder(&dir, false).is_ok());
        std::fs::write(dir.join("note.md"), "").unwrap();
        assert!(
            check_folder(&dir, false)
                .unwrap_err()
                .hint
                .unwrap()
                .contains("--nonempty")
        );
        assert!(check_folder(&dir, true).is_ok());
        assert!(check_folder(&dir.join("note.md"), true).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
