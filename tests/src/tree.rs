//! A snapshot of a file tree, with all that a file system should keep, and readable differences between two.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::sigv4::hex;
use crate::sys;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device.
    Special,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Everything comparable, by name.
    pub facts: BTreeMap<&'static str, String>,
    /// Its inode; comparable only within one mount.
    pub ino: u64,
}

/// All names below a folder.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Entries by path below the folder.
    pub entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Reads everything below `root`.
    pub fn read(root: &Path) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut todo = vec![PathBuf::new()];
        while let Some(folder) = todo.pop() {
            let listing = std::fs::read_dir(root.join(&folder)).with_context(|| format!("listing {folder:?}"))?;
            for name in listing {
                let below = folder.join(name?.file_name());
                let entry = Entry::read(&root.join(&below)).with_context(|| format!("reading {below:?}"))?;
                if entry.kind == Kind::Folder {
                    todo.push(below.clone());
                }
                ensure!(
                    tree.entries.insert(below.clone(), entry).is_none(),
                    "{below:?} is listed twice"
                );
            }
        }
        tree.mark_hard_links();
        Ok(tree)
    }

    /// Names of one inode tell their first name, so that a copy of a tree shows the same groups.
    fn mark_hard_links(&mut self) {
        let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
        for (path, entry) in &mut self.entries {
            if entry.kind != Kind::Folder {
                let group = first.entry(entry.ino).or_insert_with(|| path.clone());
                entry.facts.insert("same inode as", group.display().to_string());
            }
        }
    }

    /// Drops facts that a comparison is not about.
    pub fn without(mut self, facts: &[&str]) -> Tree {
        for entry in self.entries.values_mut() {
            entry.facts.retain(|name, _| !facts.contains(name));
        }
        self
    }

    /// Drops the names below (and at) this path.
    pub fn without_path(mut self, path: &str) -> Tree {
        self.entries.retain(|given, _| !given.starts_with(path));
        self
    }

    /// Each difference as a line.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            let Some(twin) = other.entries.get(path) else {
                lines.push(format!("{path:?}: only before"));
                continue;
            };
            for (name, value) in &entry.facts {
                let now = twin.facts.get(name).map_or("nothing", String::as_str);
                if now != value {
                    lines.push(format!("{path:?}: {name} was {value}, is {now}"));
                }
            }
        }
        let new = other.entries.keys().filter(|path| !self.entries.contains_key(*path));
        lines.extend(new.map(|path| format!("{path:?}: only after")));
        lines
    }

    /// Fails with the first differences, if there are any.
    pub fn assert_same(&self, other: &Tree, what: &str) -> Result<()> {
        let lines = self.differences(other);
        let shown = lines.iter().take(30).cloned().collect::<Vec<_>>().join("\n  ");
        ensure!(
            lines.is_empty(),
            "{what}: {} differences in {} names\n  {shown}",
            lines.len(),
            self.entries.len()
        );
        Ok(())
    }
}

impl Entry {
    fn read(path: &Path) -> Result<Entry> {
        let meta = path.symlink_metadata()?;
        let file_type = meta.file_type();
        let kind = match file_type {
            _ if file_type.is_dir() => Kind::Folder,
            _ if file_type.is_symlink() => Kind::Symlink,
            _ if file_type.is_file() => Kind::File,
            _ => Kind::Special,
        };
        let time = if kind == Kind::Folder { "folder mtime" } else { "mtime" };
        let mut facts = BTreeMap::from([
            ("mode", format!("{:o}", meta.mode())),
            ("owner", format!("{}:{}", meta.uid(), meta.gid())),
            (time, format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())),
        ]);
        match kind {
            Kind::File => {
                facts.insert("size", meta.size().to_string());
                facts.insert("content", hash_of(path)?);
                facts.insert("links", meta.nlink().to_string());
                facts.insert("xattrs", xattrs_of(path)?);
            }
            Kind::Symlink => {
                facts.insert("target", path.read_link()?.display().to_string());
            }
            Kind::Special => {
                let which = (
                    file_type.is_fifo(),
                    file_type.is_socket(),
                    file_type.is_block_device(),
                    meta.rdev(),
                );
                facts.insert("device", format!("{which:?}"));
            }
            Kind::Folder => {
                facts.insert("xattrs", xattrs_of(path)?);
            }
        }
        Ok(Entry {
            kind,
            facts,
            ino: meta.ino(),
        })
    }
}

fn hash_of(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut Writer(&mut hasher))?;
    Ok(hex(&hasher.finalize()[..8]))
}

struct Writer<'a>(&'a mut Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The attributes that users set; what notefs answers about itself is left out. A file system that knows no attributes has none.
fn xattrs_of(path: &Path) -> Result<String> {
    let mut pairs = Vec::new();
    let listed = match sys::list_xattrs(path) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        listed => listed?,
    };
    for name in listed {
        if name.starts_with("user.") && !name.starts_with("user.notefs.") {
            let value = sys::get_xattr(path, &name)?;
            pairs.push(format!("{name}={}", OsString::from_vec(value).to_string_lossy()));
        }
    }
    pairs.sort();
    Ok(pairs.join(","))
}
