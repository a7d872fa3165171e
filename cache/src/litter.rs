//! What systems strew about: which names that are, and which files are therefore kept on this machine alone.
//!
//! A file or folder is *kept here* while all its names are such names, or lie in folders of such names, and the bucket holds neither an object
//! of it nor one under its key. What the bucket holds once stays stored, whatever it is called, so that no rename can lose it;
//! and what gets an ordinary name is owed like anything else.
//!
//! Owns the names and that rule. Does not own uploading (`push`), which asks here what the bucket is to show.

use crate::error::Result;
use crate::state::{Dentry, Tables};
use crate::store::unescape_segment;
use crate::types::{Ino, ROOT_INO};

/// Names that macOS makes on any disk that it writes to.
const NAMES: [&str; 6] = [
    ".DS_Store",
    ".Spotlight-V100",
    ".Trashes",
    ".fseventsd",
    ".TemporaryItems",
    ".apdisk",
];

/// Begins the name of a file for what macOS could not attach to the file of the name that follows.
const DOUBLE_PREFIX: &[u8] = b"._";

/// What Finder notes about a folder: worth nothing without the folder.
const FOLDER_VIEW: &[u8] = b".DS_Store";

/// Names read under one look.
const CHILDREN_PER_STEP: usize = 16;

/// Whether macOS strews files of this name about.
pub fn is_litter(name: &[u8]) -> bool {
    let doubles = name.len() > DOUBLE_PREFIX.len() && name.starts_with(DOUBLE_PREFIX);
    doubles || NAMES.iter().any(|known| known.as_bytes() == name)
}

/// Whether a key's file, or a folder that it lies in, has such a name.
pub(crate) fn lies_in_litter(key: &str) -> bool {
    key.split('/').any(|segment| is_litter(&unescape_segment(segment)))
}

impl Tables {
    /// The keys under which the bucket is to hold an inode, one for each name that it shows.
    pub(crate) fn wanted_keys(&mut self, ino: Ino) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for name in self.names_of(ino)? {
            if let Ok(key) = self.key_of(&name)? {
                keys.push(key.as_str().to_owned());
            }
        }
        let litter: Vec<bool> = keys.iter().map(|key| lies_in_litter(key)).collect();
        if self.stores_litter || !litter.contains(&true) {
            return Ok(keys);
        }
        let is_stored = !self.remotes_of(ino)?.is_empty();
        if is_stored && !litter.contains(&false) {
            return Ok(keys);
        }
        let mut wanted = Vec::new();
        for (key, is_litter) in keys.into_iter().zip(litter) {
            if !is_litter || self.remote(&key)?.is_some() {
                wanted.push(key);
            }
        }
        Ok(wanted)
    }

    /// Whether an inode with a name is to stay on this machine alone.
    pub(crate) fn is_kept_here(&mut self, ino: Ino) -> Result<bool> {
        Ok(ino != ROOT_INO && !self.names_of(ino)?.is_empty() && self.wanted_keys(ino)?.is_empty())
    }

    /// Whether the bucket is to show anything in a directory, but for a name that is `leaving` it.
    pub(crate) fn shows_children(&mut self, dir: Ino, leaving: Option<&[u8]>) -> Result<bool> {
        let mut cookie = 0;
        loop {
            let children = self.children(dir, cookie, CHILDREN_PER_STEP)?;
            let Some(last) = children.last() else { return Ok(false) };
            cookie = last.cookie;
            for child in children.iter().filter(|child| leaving != Some(&child.name)) {
                if !is_litter(&child.name) || !self.is_kept_here(child.ino)? {
                    return Ok(true);
                }
            }
        }
    }

    /// The names in a directory, if there is nothing but what is worth nothing without it.
    pub(crate) fn only_folder_views(&mut self, dir: Ino) -> Result<Option<Vec<Dentry>>> {
        let children = self.children(dir, 0, CHILDREN_PER_STEP)?;
        for child in &children {
            let goes = child.name == FOLDER_VIEW && self.is_kept_here(child.ino)?;
            if !goes || self.inode(child.ino)?.is_none_or(|inode| inode.is_dir()) {
                return Ok(None);
            }
        }
        Ok(Some(children))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litter_is_known_by_its_whole_name() {
        for name in [
            "._note.md",
            "._.DS_Store",
            ".DS_Store",
            ".Trashes",
            ".fseventsd",
            ".apdisk",
        ] {
            assert!(is_litter(name.as_bytes()), "{name}");
        }
        for name in [
            "._",
            "a._b",
            "_.md",
            ".DS_Store.md",
            ".ds_store",
            "DS_Store",
            ".Trash",
            ".trashes2",
        ] {
            assert!(!is_litter(name.as_bytes()), "{name}");
        }
        assert!(lies_in_litter(".Trashes/501/note.md") && lies_in_litter("a/._b/c") && !lies_in_litter("a/b.md"));
    }
}
