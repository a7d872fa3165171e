//! What a folder holds.
//!
//! Owns the order and the bound: however many names a folder has, only those of one answer are kept. Does not own what a note says.

use super::arguments::{List, ROWS_MAX};
use super::problem::{Kind, Problem};
use super::vault::Vault;
use crate::beneath::Missing;
use notefs_cache::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `list`.
pub(super) fn list(vault: &Vault, wanted: &List) -> Result<Value, Problem> {
    let visit = vault.visit()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match wanted.folder.as_str() {
        "" | "." => openat(CWD, &vault.mountpoint, flags, Mode::empty()),
        path => {
            let place = visit.reach(path, Missing::Left)?;
            openat(CWD, place.as_ref(), flags, Mode::empty())
        }
    };
    let folder = opened.map_err(|errno| visit.io(&wanted.folder, &errno.into()))?;
    // By its descriptor: the name may lead elsewhere by now.
    let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let entries = std::fs::read_dir(&place).map_err(|error| visit.io(&wanted.folder, &error))?;
    let mut names = First::new(wanted.after.as_deref(), wanted.limit.clamp(1, ROWS_MAX) as usize);
    for entry in entries {
        names.take(entry.map_err(|error| visit.io(&wanted.folder, &error))?.file_name());
    }
    let (names, next) = names.end();
    let entries: Vec<Value> = names.iter().filter_map(|name| entry(&place, name)).collect();
    Ok(json!({"folder": wanted.folder, "entries": entries, "next_after": next}))
}

/// The first names of a folder behind one of them.
struct First {
    after: Option<OsString>,
    limit: usize,
    names: BTreeSet<OsString>,
}

impl First {
    fn new(after: Option<&str>, limit: usize) -> First {
        First {
            after: after.map(OsString::from),
            limit,
            names: BTreeSet::new(),
        }
    }

    fn take(&mut self, name: OsString) {
        if self.after.as_ref().is_none_or(|after| name > *after) {
            self.names.insert(name);
            // One more than is shown tells that there are more.
            if self.names.len() > self.limit + 1 {
                self.names.pop_last();
            }
        }
    }

    /// The names, and the last of them if there are more.
    fn end(mut self) -> (Vec<OsString>, Option<String>) {
        let has_more = self.names.len() > self.limit;
        if has_more {
            self.names.pop_last();
        }
        let last = self.names.last().filter(|_| has_more);
        let last = last.map(|name| name.to_string_lossy().into_owned());
        (self.names.into_iter().collect(), last)
    }
}

/// One entry; none if it has gone meanwhile.
fn entry(folder: &Path, name: &OsStr) -> Option<Value> {
    let place = folder.join(name);
    let found = std::fs::symlink_metadata(&place).ok()?;
    let modified = Timestamp {
        seconds: found.mtime(),
        nanoseconds: 0,
    };
    let mut entry = json!({
        "name": name.to_string_lossy(),
        "kind": kind(&found),
        "modified": modified.to_utc_text(),
    });
    if found.is_file() {
        entry["size_bytes"] = found.len().into();
    }
    if found.is_symlink() {
        let target = std::fs::read_link(&place).unwrap_or_default();
        entry["target"] = target.to_string_lossy().into();
    }
    if name.to_str().is_none() {
        entry["problem"] = json!(Kind::BadPath);
    }
    Some(entry)
}

fn kind(found: &Metadata) -> &'static str {
    if found.is_dir() {
        "folder"
    } else if found.is_symlink() {
        "link"
    } else if found.is_file() {
        "file"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_names_are_in_order_and_miss_none() {
        let names = ["c", "a", "é", "b", "d"];
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut first = First::new(after.as_deref(), 2);
            for name in names {
                first.take(name.into());
            }
            let (page, next) = first.end();
            assert!(page.len() <= 2);
            seen.extend(page);
            if next.is_none() {
                break;
            }
            after = next;
        }
        assert_eq!(seen, ["a", "b", "c", "d", "é"]);
    }
}
