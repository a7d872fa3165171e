//! Scripts of random steps as plain data, and the tree that each step should lead to.

use notefs_cache::store::StoreErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a path is. Files carry a number of their own, so that a renamed file is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File { id: u64, bytes: Arc<Vec<u8>>, mode: u32 },
    Symlink,
}

pub(crate) type Tree = BTreeMap<String, Node>;

/// What the replica has said about a step, by the step's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Begun(usize),
    Done(usize),
    /// Everything before this step is synced.
    Synced(usize),
    /// The machine is started anew after a kill.
    Restarted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Create(&'static str),
    Folder(&'static str),
    Symlink(&'static str),
    Write {
        path: &'static str,
        offset: usize,
        length: usize,
        byte: u8,
    },
    Truncate {
        path: &'static str,
        size: usize,
    },
    Punch {
        path: &'static str,
        offset: usize,
        length: usize,
    },
    Chmod {
        path: &'static str,
        mode: u32,
    },
    Read(&'static str),
    Remove(&'static str),
    Rename {
        from: &'static str,
        to: &'static str,
        exchange: bool,
    },
    Sync,
    KeepHouse,
    Push,
    Wait(u64),
    Restart {
        kill: bool,
    },
    Fail {
        kind: StoreErrorKind,
        count: u32,
    },
    LoseReplies(u32),
    /// The store is away, or back.
    Away(bool),
    /// The credentials have expired, or are good again.
    Expired(bool),
    /// Each call takes so many milliseconds from now on.
    Slow(u64),
    /// A push, and the step in the middle of it: within the call of the store that has this number.
    During {
        call: usize,
        step: Box<Step>,
    },
}

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

const PATHS: [&str; 13] = [
    "a.md",
    "b.md",
    "c",
    "d",
    "d/a.md",
    "d/b.md",
    "d/e",
    "d/e/a.md",
    "é.md",
    "x%0Ay",
    "line\nbreak.md",
    "c/a.md",
    "c/d",
];
const LENGTHS: [usize; 7] = [1, 30, 3000, 40_000, 70_000, 130_000, 200_000];
const SIZES: [usize; 6] = [0, 10, 5000, 66_000, 100_000, 150_000];
const FAULTS: [StoreErrorKind; 6] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::SlowDown,
    StoreErrorKind::Garbled,
    StoreErrorKind::Unavailable,
    StoreErrorKind::Unauthorised,
    StoreErrorKind::Unavailable,
];

/// Random steps; store faults among them if `faults`.
pub(crate) fn random_steps(random: &mut Random, count: usize, faults: bool) -> Vec<Step> {
    (0..count).map(|_| random_step(random, faults)).collect()
}

fn random_step(random: &mut Random, faults: bool) -> Step {
    match random.below(if faults { 46 } else { 36 }) {
        choice @ 0..36 => plain_step(random, choice),
        choice => random_fault(random, choice),
    }
}

fn plain_step(random: &mut Random, choice: usize) -> Step {
    let path = random.of(&PATHS);
    match choice {
        0..5 => Step::Create(path),
        5 | 6 => Step::Folder(path),
        7 => Step::Symlink(path),
        8..14 => Step::Write {
            path,
            offset: random.of(&[0, 0, 0, 7, 2500, 65_000, 90_000]),
            length: random.of(&LENGTHS),
            byte: random.below(255) as u8 + 1,
        },
        14 | 15 => Step::Truncate {
            path,
            size: random.of(&SIZES),
        },
        16 => Step::Punch {
            path,
            offset: random.of(&[0, 100, 66_000]),
            length: random.of(&LENGTHS),
        },
        17 => Step::Chmod {
            path,
            mode: random.of(&[0o600, 0o640, 0o755]),
        },
        18 | 19 => Step::Remove(path),
        20..24 => Step::Rename {
            from: path,
            to: random.of(&PATHS),
            exchange: random.below(4) == 0,
        },
        24 => Step::Read(path),
        25..28 => Step::Sync,
        28 | 29 => Step::KeepHouse,
        30..33 => Step::Push,
        33 => Step::Wait(random.of(&[1, 300, 20_000])),
        34 => Step::Restart { kill: true },
        _ => Step::Restart {
            kill: random.below(2) == 0,
        },
    }
}

fn random_fault(random: &mut Random, choice: usize) -> Step {
    match choice {
        36 => Step::Away(random.below(3) == 0),
        37 => Step::Fail {
            kind: random.of(&FAULTS),
            count: 1 + random.below(4) as u32,
        },
        38 | 39 => Step::LoseReplies(1 + random.below(3) as u32),
        40 => Step::Expired(random.below(3) == 0),
        41 => Step::Slow(random.of(&[0, 0, 40, 900, 31_000])),
        _ => {
            let call = random.below(5);
            // What programs do, and the house-keeping; no pushes and restarts.
            let choice = random.below(30);
            let step = Box::new(plain_step(random, choice));
            Step::During { call, step }
        }
    }
}

/// What a step makes of a tree; `None` where POSIX refuses it.
pub(crate) fn apply(tree: &Tree, step: &Step, id: u64) -> Option<Tree> {
    let parent_is_there = |path: &str| {
        path.rsplit_once('/')
            .is_none_or(|(parent, _)| tree.get(parent) == Some(&Node::Folder))
    };
    let mut next = tree.clone();
    match step {
        Step::During { step, .. } => return apply(tree, step, id),
        Step::Create(path) | Step::Folder(path) | Step::Symlink(path) => {
            if !parent_is_there(path) || tree.contains_key(*path) {
                return None;
            }
            let node = match step {
                Step::Folder(_) => Node::Folder,
                Step::Symlink(_) => Node::Symlink,
                _ => Node::File {
                    id,
                    bytes: Arc::default(),
                    mode: 0o644,
                },
            };
            next.insert((*path).to_owned(), node);
        }
        Step::Remove(path) => {
            if !below(tree, path).is_empty() {
                return None;
            }
            next.remove(*path)?;
        }
        Step::Rename { from, to, exchange } => {
            return rename(tree, from, to, *exchange).filter(|_| parent_is_there(to));
        }
        Step::Chmod { path, mode: new } => match next.get_mut(*path)? {
            Node::File { mode, .. } => *mode = *new,
            _ => return None,
        },
        Step::Write { path, .. } | Step::Truncate { path, .. } | Step::Punch { path, .. } => {
            match next.get_mut(*path)? {
                Node::File { bytes, .. } => edit(Arc::make_mut(bytes), step),
                _ => return None,
            }
        }
        Step::Read(path) if !matches!(tree.get(*path), Some(Node::File { .. })) => return None,
        _ => {}
    }
    Some(next)
}

fn edit(bytes: &mut Vec<u8>, step: &Step) {
    match *step {
        Step::Write {
            offset, length, byte, ..
        } => {
            bytes.resize(bytes.len().max(offset + length), 0);
            bytes[offset..offset + length].fill(byte);
        }
        Step::Truncate { size, .. } => bytes.resize(size, 0),
        Step::Punch { offset, length, .. } => {
            let end = bytes.len().min(offset + length);
            if offset < end {
                bytes[offset..end].fill(0);
            }
        }
        _ => {}
    }
}

fn below(tree: &Tree, path: &str) -> Vec<String> {
    let prefix = format!("{path}/");
    tree.keys()
        .filter(|other| other.starts_with(&prefix))
        .cloned()
        .collect()
}

fn rename(tree: &Tree, from: &str, to: &str, exchange: bool) -> Option<Tree> {
    let (source, target) = (tree.get(from)?, tree.get(to));
    if from == to {
        return Some(tree.clone());
    }
    if to.starts_with(&format!("{from}/")) || (exchange && from.starts_with(&format!("{to}/"))) {
        return None;
    }
    let both_folders = |node: &Node| (*node == Node::Folder) == (*source == Node::Folder);
    let allowed = match target {
        None => !exchange,
        Some(_) if exchange => true,
        Some(node) => both_folders(node) && below(tree, to).is_empty(),
    };
    if !allowed {
        return None;
    }
    let mut next = tree.clone();
    let mut take = |path: &str| -> Vec<(String, Node)> {
        let mut paths = below(tree, path);
        paths.push(path.to_owned());
        paths.iter().filter_map(|path| next.remove_entry(path)).collect()
    };
    let (moved, back) = (take(from), take(to));
    let renamed = |(path, node): (String, Node), old: &str, new: &str| (format!("{new}{}", &path[old.len()..]), node);
    if exchange {
        next.extend(back.into_iter().map(|entry| renamed(entry, to, from)));
    }
    next.extend(moved.into_iter().map(|entry| renamed(entry, from, to)));
    Some(next)
}

/// The same but for the files' numbers, line by line where not.
pub(crate) fn differences(seen: &Tree, wanted: &Tree) -> Vec<String> {
    let anonymous = |node: Option<&Node>| match node {
        Some(Node::File { bytes, mode, .. }) => Some(Node::File {
            id: 0,
            bytes: bytes.clone(),
            mode: *mode,
        }),
        other => other.cloned(),
    };
    let shown = |node: Option<&Node>| match node {
        Some(Node::File { bytes, mode, .. }) => format!("{} bytes from {:?}, {mode:o}", bytes.len(), bytes.first()),
        other => format!("{other:?}"),
    };
    let paths: std::collections::BTreeSet<&String> = seen.keys().chain(wanted.keys()).collect();
    let differ = paths
        .into_iter()
        .filter(|path| anonymous(seen.get(*path)) != anonymous(wanted.get(*path)));
    differ
        .map(|path| format!("{path:?} is {}, not {}", shown(seen.get(path)), shown(wanted.get(path))))
        .collect()
}
