//! What there is in the virtual folder, and what it is called.
//!
//! Owns places, their inode numbers, the names of links and where these lead: pure functions. Does not own the answers.

use crate::filesystem::virtual_folder::Question;
use notefs_cache::{Ino, NAME_LENGTH_MAX_BYTES};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::Arc;

/// Inode numbers from here on are of the virtual folder; a replica's own, which it counts from 1, do not come so far. Below 2^63, since
/// some programs take the number for a signed one.
pub(super) const FIRST_INO: Ino = 1 << 62;

/// What a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The virtual folder itself.
    Top,
    /// The folder of searches: each name in it is a query.
    Searches,
    /// The tags below this one; all, if it is empty.
    Tags(String),
    /// The vault's folders and notes, each note as a folder of the links to it; below this path.
    Backlinks(Vec<u8>),
    /// The answers to a question.
    Answers(Question),
    /// A link to a note: its target.
    Link(Vec<u8>),
    /// The state of the mount, as it was when it was looked up.
    Status(Arc<[u8]>),
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its path below the virtual folder.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) what: What,
}

impl Place {
    /// The virtual folder itself.
    pub(super) fn top() -> Place {
        Place {
            path: Vec::new(),
            what: What::Top,
        }
    }

    /// A place in this folder.
    pub(super) fn child(&self, name: &[u8], what: What) -> Place {
        let path = match self.path.is_empty() {
            true => name.to_vec(),
            false => [&self.path[..], b"/", name].concat(),
        };
        Place { path, what }
    }

    /// A link in this folder to a note, relative, so that it holds wherever the vault is mounted.
    pub(super) fn link(&self, name: &[u8], note: &[u8]) -> Place {
        // Out of the virtual folder, and out of each folder on the way to this one.
        let depth = 1 + self.path.split(|byte| *byte == b'/').count();
        let target = [b"../".repeat(depth), note.to_vec()].concat();
        self.child(name, What::Link(target))
    }

    /// Its name.
    pub(super) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The path of the folder that it lies in; none above the virtual folder.
    pub(super) fn folder(&self) -> Option<&[u8]> {
        match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some(&self.path[..at]),
            None => (!self.path.is_empty()).then_some(&[]),
        }
    }

    /// Its inode number. A folder keeps its number; what has a content has one for each content, since the kernel remembers
    /// contents by the number.
    pub(super) fn ino(&self) -> Ino {
        match &self.what {
            What::Link(target) => number(&[&self.path, b"\0link\0", target]),
            What::Status(text) => number(&[&self.path, b"\0status\0", text]),
            _ => folder_ino(&self.path),
        }
    }
}

/// The inode number of a folder of this path.
pub(super) fn folder_ino(path: &[u8]) -> Ino {
    number(&[path])
}

fn number(parts: &[&[u8]]) -> Ino {
    let digest = parts
        .iter()
        .fold(Sha256::new(), |digest, part| digest.chain_update(part));
    let digest = digest.finalize();
    let number = digest[..8]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    FIRST_INO | (number & (FIRST_INO - 1))
}

/// Whether a name may be a query. Programs look for `.git` and the like wherever they are, and would find it.
pub(super) fn is_query(name: &[u8]) -> bool {
    !name.is_empty() && name[0] != b'.' && name.len() <= NAME_LENGTH_MAX_BYTES
}

/// Names of links to notes in the order of their rank, best first: the names sort as the notes do.
pub(super) fn ranked(notes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let names = notes.iter().enumerate();
    names
        .map(|(rank, note)| shortened(&format!("{:03} ", rank + 1), note))
        .collect()
}

/// Names of links to notes: those of the notes; where one is taken, with a number.
pub(super) fn plain(notes: &[Vec<u8>], taken: HashSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut taken = taken;
    let mut names = Vec::with_capacity(notes.len());
    for note in notes {
        let mut name = shortened("", note);
        let mut number = 2;
        while taken.contains(&name) {
            name = numbered(note, number);
            number += 1;
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

fn base(note: &[u8]) -> &[u8] {
    note.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// A note's own name behind a prefix, its end cut off if both are too long.
fn shortened(prefix: &str, note: &[u8]) -> Vec<u8> {
    let mut name = [prefix.as_bytes(), base(note)].concat();
    name.truncate(NAME_LENGTH_MAX_BYTES);
    name
}

/// `plan (2).md`.
fn numbered(note: &[u8], number: usize) -> Vec<u8> {
    let base = base(note);
    let dot = base.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    let (stem, extension) = base.split_at(dot.unwrap_or(base.len()));
    let suffix = [format!(" ({number})").as_bytes(), extension].concat();
    let room = NAME_LENGTH_MAX_BYTES.saturating_sub(suffix.len());
    let mut name = [&stem[..stem.len().min(room)], &suffix].concat();
    name.truncate(NAME_LENGTH_MAX_BYTES);
    name
}

/// The next parts of the tags below `prefix`: of `work/now` and `work/then`, below `work`, `now` and `then`.
pub(super) fn tags_below(tags: &[String], prefix: &str) -> Vec<String> {
    let below = tags.iter().filter_map(|tag| match prefix {
        "" => Some(tag.as_str()),
        _ => tag.strip_prefix(prefix)?.strip_prefix('/'),
    });
    let mut parts: Vec<String> = below
        .filter_map(|rest| rest.split('/').next())
        .filter(|part| !part.is_empty() && *part != "." && *part != ".." && part.len() <= NAME_LENGTH_MAX_BYTES)
        .map(str::to_owned)
        .collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(paths: &[&str]) -> Vec<Vec<u8>> {
        paths.iter().map(|path| path.as_bytes().to_vec()).collect()
    }

    fn text(names: Vec<Vec<u8>>) -> Vec<String> {
        names
            .into_iter()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }

    #[test]
    fn a_link_leads_out_of_the_folder_from_any_depth() {
        let recent = Place::top().child(b"recent", What::Answers(Question::Recent));
        let link = recent.link(b"001 plan.md", b"projects/plan.md");
        assert_eq!(link.what, What::Link(b"../../projects/plan.md".to_vec()));
        assert_eq!(
            (link.name(), link.folder()),
            (&b"001 plan.md"[..], Some(&b"recent"[..]))
        );
        let tags = Place::top().child(b"tags", What::Tags(String::new()));
        let deep = tags
            .child(b"work", What::Tags("work".into()))
            .child(b"now", What::Tags("work/now".into()));
        assert_eq!(
            deep.link(b"a.md", b"a.md").what,
            What::Link(b"../../../../a.md".to_vec())
        );
        assert_eq!(Place::top().folder(), None);
        assert_eq!(recent.folder(), Some(&b""[..]));
    }

    #[test]
    fn inode_numbers_are_of_a_range_of_their_own_and_follow_the_content() {
        let folder = Place::top().child(b"recent", What::Answers(Question::Recent));
        let (one, two) = (folder.link(b"a", b"one.md"), folder.link(b"a", b"two.md"));
        assert_ne!(one.ino(), two.ino());
        assert_eq!(folder.ino(), folder_ino(b"recent"));
        for place in [Place::top(), folder, one, two] {
            assert!((FIRST_INO..FIRST_INO << 1).contains(&place.ino()));
        }
    }

    #[test]
    fn names_are_unique_and_fit() {
        assert_eq!(text(ranked(&notes(&["b/z.md", "a.md"]))), ["001 z.md", "002 a.md"]);
        let same = notes(&["a/plan.md", "b/plan.md", "c/plan.md", "d/plan", "e/.md", "f/.md"]);
        let taken = HashSet::from([b"plan".to_vec()]);
        let expected = ["plan.md", "plan (2).md", "plan (3).md", "plan (2)", ".md", ".md (2)"];
        assert_eq!(text(plain(&same, taken)), expected);
        let long = format!("{}.md", "x".repeat(252));
        let many = vec![long.into_bytes(); 3];
        for names in [plain(&many, HashSet::new()), ranked(&many)] {
            let unique: HashSet<_> = names.iter().collect();
            assert_eq!(unique.len(), 3);
            assert!(names.iter().all(|name| name.len() <= NAME_LENGTH_MAX_BYTES));
        }
    }

    #[test]
    fn tags_are_folders_of_tags() {
        let tags: Vec<String> = [
            "work/now",
            "work",
            "work/now/today",
            "home",
            "worker",
            "../evil",
            "work/",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(tags_below(&tags, ""), ["home", "work", "worker"]);
        assert_eq!(tags_below(&tags, "work"), ["now"]);
        assert_eq!(tags_below(&tags, "work/now"), ["today"]);
        assert!(tags_below(&tags, "none").is_empty());
    }

    #[test]
    fn what_programs_look_for_everywhere_is_no_query() {
        assert!(is_query("\"two words\" tag:x".as_bytes()));
        for name in [&b""[..], b".git", b".", b"..", &[b'x'; 256]] {
            assert!(!is_query(name));
        }
    }
}
