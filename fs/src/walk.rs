//! A walk over a folder in an order that depends on names alone.
//!
//! Owns the order and what it stays out of: other file systems below the folder. Does not own what is done with an entry.

use crate::failure::Failure;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Something below the folder.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) place: PathBuf,
    /// Its path below the folder.
    pub(crate) path: Vec<u8>,
    /// What it is; links are not followed.
    pub(crate) metadata: Metadata,
}

/// Whether a walk goes on below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// It does.
    Enter,
    /// It does not.
    Skip,
}

/// Visits everything below `root`, a folder before what is in it, siblings by the bytes of their names. What vanishes meanwhile is
/// left out.
pub(crate) fn walk(root: &Path, visit: &mut dyn FnMut(Entry) -> Result<Below, Failure>) -> Result<(), Failure> {
    let device = std::fs::symlink_metadata(root)
        .map_err(Failure::io("look at", root))?
        .dev();
    let mut waiting = names_in(root)?;
    while let Some(place) = waiting.pop() {
        let metadata = match std::fs::symlink_metadata(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.map_err(Failure::io("look at", &place))?,
        };
        if metadata.dev() != device {
            continue;
        }
        let is_folder = metadata.is_dir();
        let below = place.strip_prefix(root).unwrap_or(&place);
        let path = below.as_os_str().as_bytes().to_vec();
        let entry = Entry {
            place: place.clone(),
            path,
            metadata,
        };
        if visit(entry)? == Below::Enter && is_folder {
            waiting.extend(names_in(&place)?);
        }
    }
    Ok(())
}

/// The entries of a folder, last name first.
fn names_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::io("list", folder))?,
    };
    let mut names: Vec<OsString> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .map_err(Failure::io("list", folder))?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_names_and_folders_come_before_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/z", "b/a", "a.md", "b.md", "c/skipped"] {
            let place = folder.path().join(name);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, name).unwrap();
        }
        let mut seen = Vec::new();
        walk(folder.path(), &mut |entry| {
            let path = String::from_utf8(entry.path).unwrap();
            let below = if path == "c" { Below::Skip } else { Below::Enter };
            seen.push(path);
            Ok(below)
        })
        .unwrap();
        assert_eq!(seen, ["a.md", "b", "b/a", "b/z", "b.md", "c"]);
    }
}
