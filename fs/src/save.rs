//! Saving a note as editors do: a draft beside it, flushed, renamed over it.
//!
//! Owns that a note is always whole, keeps its mode and extended attributes, and that no draft stays behind when saving fails. Does not
//! own whether the note may be replaced.

use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest list of attribute names, and the longest value, that Linux has.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Attributes that answer questions to notefs and are not stored.
const VIRTUAL_XATTRS: &str = "user.notefs.";

/// A note's next content, in a file beside it that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    draft: PathBuf,
    note: PathBuf,
    is_used: bool,
}

impl Draft {
    /// Writes and flushes it, with the note's mode and attributes.
    pub(crate) fn write(note: &Path, content: &[u8]) -> io::Result<Draft> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not the note's name and more, which could be too long.
        let path = note.with_file_name(format!(".notefs-save-{}-{count}.tmp", std::process::id()));
        let mode = std::fs::symlink_metadata(note)?.permissions().mode();
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode & 0o7777)
            .open(&path)?;
        let draft = Draft {
            draft: path,
            note: note.to_owned(),
            is_used: false,
        };
        file.write_all(content)?;
        copy_attributes(note, &draft.draft)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Makes it the note.
    pub(crate) fn replace(mut self) -> io::Result<()> {
        std::fs::rename(&self.draft, &self.note)?;
        self.is_used = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_used {
            // Nothing but our own file is left behind otherwise.
            std::fs::remove_file(&self.draft).ok();
        }
    }
}

/// Where there are no attributes, there is nothing to keep.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let count = listxattr(from, names.as_mut_slice()).unwrap_or(0);
    let names = String::from_utf8_lossy(&names[..count]).into_owned();
    let kept = |name: &&str| name.starts_with("user.") && !name.starts_with(VIRTUAL_XATTRS);
    let mut value = vec![0; XATTR_BYTES_MAX];
    for name in names.split('\0').filter(kept) {
        let count = getxattr(from, name, value.as_mut_slice())?;
        setxattr(to, name, &value[..count], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_replaced_whole_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("a.md");
        std::fs::write(&note, "one").unwrap();
        std::fs::set_permissions(&note, PermissionsExt::from_mode(0o640)).unwrap();
        let given_up = Draft::write(&note, b"never").unwrap();
        drop(given_up);
        let draft = Draft::write(&note, b"two").unwrap();
        assert_eq!(std::fs::read(&note).unwrap(), b"one");
        draft.replace().unwrap();
        assert_eq!(std::fs::read(&note).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&note).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a draft is left");
        assert!(Draft::write(&folder.path().join("none.md"), b"x").is_err());
    }
}
