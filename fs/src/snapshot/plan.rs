//! What a commit changes: the folder against the tree of the commit before.
//!
//! Owns which files are read again, told by what was seen of them last time, and what git does not keep. Reads no content.

use crate::failure::Failure;
use crate::walk::{Below, Entry, walk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// `100644`, `100755` or `120000`.
    pub(super) mode: String,
    /// The content's name.
    pub(super) id: String,
}

/// The files of a commit by path.
pub(super) type Tree = BTreeMap<Vec<u8>, Object>;

/// What tells that a file has changed since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file.
    pub(super) fn of(metadata: &std::fs::Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What the files were like that the last commit was made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    files: BTreeMap<Vec<u8>, (Stamp, Object)>,
}

impl Known {
    /// What the last snapshot has left here; nothing if there was none.
    pub(super) fn load(work: &Path) -> Known {
        let bytes = std::fs::read(work.join("known")).unwrap_or_default();
        // Anything else than what was written here only costs reading the files again.
        postcard::from_bytes(&bytes).unwrap_or_default()
    }

    /// Puts a commit's files together with how they were found.
    pub(super) fn of(tree: &Tree, seen: &BTreeMap<Vec<u8>, Stamp>) -> Known {
        let both = tree
            .iter()
            .filter_map(|(path, object)| Some((path.clone(), (*seen.get(path)?, object.clone()))));
        Known { files: both.collect() }
    }

    /// Keeps it for the next snapshot.
    pub(super) fn save(&self, work: &Path) -> Result<(), Failure> {
        let place = work.join("known");
        let draft = work.join("known.draft");
        let bytes = postcard::to_stdvec(self).map_err(Failure::io("describe what is in", work))?;
        std::fs::write(&draft, bytes).map_err(Failure::io("write", &draft))?;
        std::fs::rename(&draft, &place).map_err(Failure::io("write", &place))
    }

    fn object(&self, path: &[u8], stamp: Stamp, mode: &str) -> Option<&Object> {
        let (known, object) = self.files.get(path)?;
        (*known == stamp && object.mode == mode).then_some(object)
    }
}

/// A file to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) path: Vec<u8>,
    pub(super) place: PathBuf,
    pub(super) mode: &'static str,
    pub(super) stamp: Stamp,
    pub(super) size: u64,
}

/// The difference.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is new or may have changed.
    pub(super) puts: Vec<Put>,
    /// What is gone.
    pub(super) removals: Vec<Vec<u8>>,
    /// What git does not keep.
    pub(super) left_out: Vec<String>,
    /// Every file that was found.
    pub(super) seen: BTreeMap<Vec<u8>, Stamp>,
}

impl Plan {
    /// The first line of the commit's message, unless somebody gave one.
    pub(super) fn title(&self) -> String {
        format!("{} changed, {} removed", self.puts.len(), self.removals.len())
    }
}

/// Compares the folder with a tree.
pub(super) fn plan(folder: &Path, tree: &Tree, known: &Known) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    walk(folder, &mut |entry| {
        if is_git_folder(&entry.path) {
            plan.left_out.push(shown(&entry.path));
            return Ok(Below::Skip);
        }
        if !entry.metadata.is_dir() {
            look_at(&mut plan, entry, tree, known);
        }
        Ok(Below::Enter)
    })?;
    let gone = tree.keys().filter(|path| !plan.seen.contains_key(*path));
    plan.removals = gone.cloned().collect();
    Ok(plan)
}

fn look_at(plan: &mut Plan, entry: Entry, tree: &Tree, known: &Known) {
    let Some(mode) = mode_of(&entry.metadata) else {
        plan.left_out.push(shown(&entry.path));
        return;
    };
    let stamp = Stamp::of(&entry.metadata);
    plan.seen.insert(entry.path.clone(), stamp);
    let object = known.object(&entry.path, stamp, mode);
    if object.is_some() && object == tree.get(&entry.path) {
        return;
    }
    plan.puts.push(Put {
        path: entry.path,
        place: entry.place,
        mode,
        stamp,
        size: entry.metadata.size(),
    });
}

/// How git names what a file is; it knows no devices, pipes and sockets.
fn mode_of(metadata: &std::fs::Metadata) -> Option<&'static str> {
    const OWNER_EXECUTES: u32 = 0o100;
    let kind = metadata.file_type();
    match () {
        () if kind.is_symlink() => Some("120000"),
        () if kind.is_file() && metadata.mode() & OWNER_EXECUTES != 0 => Some("100755"),
        () if kind.is_file() => Some("100644"),
        () => None,
    }
}

/// A repository's own folder, or the file that stands for one, cannot be in a commit.
fn is_git_folder(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.eq_ignore_ascii_case(b".git")
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(id: &str) -> Object {
        Object {
            mode: "100644".into(),
            id: id.into(),
        }
    }

    #[test]
    fn only_what_differs_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["same.md", "edited.md", "new.md"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        let tree = Tree::from([
            (b"same.md".to_vec(), object("1")),
            (b"edited.md".to_vec(), object("2")),
            (b"gone.md".to_vec(), object("3")),
        ]);
        let first = plan(folder.path(), &tree, &Known::default()).unwrap();
        assert_eq!(first.puts.len(), 3);
        let known = Known::of(&tree, &first.seen);
        std::fs::write(folder.path().join("edited.md"), "longer than before").unwrap();
        let second = plan(folder.path(), &tree, &known).unwrap();
        let read: Vec<_> = second.puts.iter().map(|put| shown(&put.path)).collect();
        assert_eq!(read, ["edited.md", "new.md"]);
        assert_eq!(second.removals, [b"gone.md".to_vec()]);
        assert_eq!(second.left_out, [".git"]);
        assert_eq!(second.title(), "2 changed, 1 removed");
    }

    #[test]
    fn what_was_known_comes_back_and_damage_is_nothing_known() {
        let work = tempfile::tempdir().unwrap();
        std::fs::write(work.path().join("a"), "a").unwrap();
        let stamp = Stamp::of(&std::fs::metadata(work.path().join("a")).unwrap());
        let tree = Tree::from([(b"a".to_vec(), object("1"))]);
        let known = Known::of(&tree, &BTreeMap::from([(b"a".to_vec(), stamp)]));
        known.save(work.path()).unwrap();
        let loaded = Known::load(work.path());
        assert_eq!(loaded.object(b"a", stamp, "100644"), Some(&object("1")));
        assert_eq!(loaded.object(b"a", stamp, "100755"), None);
        std::fs::write(work.path().join("known"), b"\xff\xff").unwrap();
        assert!(Known::load(work.path()).files.is_empty());
    }
}
