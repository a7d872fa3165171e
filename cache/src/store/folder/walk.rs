//! Listings of a folder in the order of a bucket: keys by their bytes, a directory as its name with a slash.
//!
//! Owns what is listed: regular files, and directories as prefixes and markers. Links, pipes and devices are not.

use super::super::{ETag, Listed, ObjectInfo};
use super::describe::{Failure, info_of, is_marked};
use super::files::{Folder, TEMPORARY};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Lines of one page.
const PAGE_LENGTH_MAX: usize = 1000;

pub(super) struct Walk {
    folder: Arc<Folder>,
    recursive: bool,
    /// Entries that are still due, of each directory on the way down.
    stack: Vec<std::vec::IntoIter<Line>>,
    /// The directory to begin with; none once it is on the stack.
    start: Option<Line>,
}

struct Line {
    path: PathBuf,
    /// Ends with a slash if it is a directory.
    key: String,
}

impl Walk {
    pub(super) fn new(folder: Arc<Folder>, prefix: &str, recursive: bool) -> Result<Walk, Failure> {
        let below = prefix.strip_suffix('/').unwrap_or(prefix);
        let strange = |part: &str| matches!(part, "" | "." | "..");
        if !prefix.is_empty() && (!prefix.ends_with('/') || below.split('/').any(strange)) {
            return Err(Failure::Refused("this prefix cannot be asked for"));
        }
        let start = Some(Line {
            path: folder.root().join(below),
            key: prefix.to_owned(),
        });
        Ok(Walk {
            folder,
            recursive,
            stack: Vec::new(),
            start,
        })
    }

    pub(super) fn page(&mut self) -> Result<Vec<Listed>, Failure> {
        let mut page = Vec::new();
        if let Some(start) = self.start.take() {
            page.extend(self.enter(&start)?);
        }
        while page.len() < PAGE_LENGTH_MAX {
            let Some(entries) = self.stack.last_mut() else { break };
            let Some(line) = entries.next() else {
                self.stack.pop();
                continue;
            };
            if !line.key.ends_with('/') {
                page.extend(file_line(&line)?);
            } else if self.recursive {
                page.extend(self.enter(&line)?);
            } else {
                page.push(Listed {
                    key: line.key,
                    object: None,
                });
            }
        }
        if page.is_empty() {
            self.folder.check_root()?;
        }
        Ok(page)
    }

    /// Goes into a directory; tells its own line if it is a marker.
    fn enter(&mut self, directory: &Line) -> Result<Option<Listed>, Failure> {
        let Some(mut lines) = self.read(directory)? else {
            return Ok(None);
        };
        lines.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let marker = !directory.key.is_empty() && (lines.is_empty() || is_marked(&directory.path));
        self.stack.push(lines.into_iter());
        let metadata = match directory.path.symlink_metadata() {
            Ok(metadata) if marker => metadata,
            _ => return Ok(None),
        };
        let etag = ETag(format!("{:x}-directory", metadata.ino()));
        let object = ObjectInfo {
            size: 0,
            etag,
            ..info_of(&metadata)
        };
        Ok(Some(Listed {
            key: directory.key.clone(),
            object: Some(object),
        }))
    }

    fn read(&self, directory: &Line) -> Result<Option<Vec<Line>>, Failure> {
        let link = directory
            .path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_symlink());
        let entries = match std::fs::read_dir(&directory.path) {
            Ok(entries) if !link => entries,
            Ok(_) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return self.folder.check_root().map(|()| None);
            }
            Err(error) => return Err(Failure::Disk(error)),
        };
        let mut lines = Vec::new();
        for entry in entries {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::Disk(error)),
            };
            // Bytes that are no text become NUL, which no key may have: such a file is told, and never mistaken.
            let name = String::from_utf8_lossy(entry.file_name().as_bytes()).replace('\u{fffd}', "\0");
            let slash = if kind.is_dir() { "/" } else { "" };
            let line = Line {
                path: entry.path(),
                key: format!("{}{name}{slash}", directory.key),
            };
            if (kind.is_dir() || kind.is_file()) && !is_own(&line) {
                lines.push(line);
            }
        }
        Ok(Some(lines))
    }
}

/// The store's own folder for drafts, and `.notefs` if there is nothing else in it.
fn is_own(line: &Line) -> bool {
    let Some(key) = line.key.strip_suffix('/') else {
        return false;
    };
    let alone =
        || std::fs::read_dir(&line.path).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == "tmp"));
    key == TEMPORARY || (key == ".notefs" && alone())
}

/// `None` if the file has gone meanwhile.
fn file_line(line: &Line) -> Result<Option<Listed>, Failure> {
    match line.path.symlink_metadata() {
        Ok(metadata) => Ok(Some(Listed {
            key: line.key.clone(),
            object: Some(info_of(&metadata)),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Disk(error)),
    }
}
