//! Random steps as plain data.

use std::time::Duration;

use crate::proxy::Fault;

/// One thing that programs do, or that happens to the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a system call or a small row of them")]
pub enum Step {
    Create(&'static str),
    Folder(&'static str),
    Symlink(&'static str, &'static str),
    Link(&'static str, &'static str),
    Write(&'static str, Piece),
    Append(&'static str, Piece),
    /// The save of an editor: a temporary file, flushed, renamed over the note.
    Replace(&'static str, Piece),
    Truncate(&'static str, u64),
    Punch(&'static str, Piece),
    Read(&'static str),
    List(&'static str),
    Stat(&'static str),
    Unlink(&'static str),
    RemoveFolder(&'static str),
    /// With the flags of `renameat2`.
    Rename(&'static str, &'static str, u32),
    Chmod(&'static str, u32),
    SetTime(&'static str, i64),
    SetXattr(&'static str, u8),
    RemoveXattr(&'static str),
    /// Opens a file that stays open, in one of a few places.
    Open(usize, &'static str),
    WriteOpen(usize, Piece),
    ReadOpen(usize),
    Close(usize),
    Sync(&'static str),
    /// The store is spoilt in this way, for one in so many requests.
    Spoil(Fault, u32),
    Slow(Duration),
    Heal,
    Wait(Duration),
    /// Both trees are read and compared.
    Compare,
    /// `kill -9` and a new mount.
    Kill,
    /// An orderly end and a new mount.
    Restart,
    /// Everything is stored and forgotten here, and mounted anew.
    StartCold,
}

/// Where bytes go, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file.
    pub offset: u64,
    /// How many.
    pub length: usize,
    /// The first of them.
    pub byte: u8,
}

impl Piece {
    /// Its bytes.
    pub fn bytes(self) -> Vec<u8> {
        (0..self.length).map(|at| self.byte.wrapping_add(at as u8)).collect()
    }
}

/// Files that can be open at a time.
pub(super) const OPEN_MAX: usize = 3;

const PATHS: [&str; 14] = [
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
    "100%.txt",
];

const FAULTS: [Fault; 8] = [
    Fault::Unavailable,
    Fault::Refused(503, "SlowDown"),
    Fault::Refused(500, "InternalError"),
    Fault::Refused(403, "ExpiredToken"),
    Fault::Reset,
    Fault::DropReply,
    Fault::Truncated,
    Fault::WebPage,
];

/// A small generator: the same seed says the same.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

/// So many random steps.
pub fn random_steps(random: &mut Random, count: usize) -> Vec<Step> {
    (0..count).map(|_| random_step(random)).collect()
}

fn random_step(random: &mut Random) -> Step {
    let (path, other) = (random.of(&PATHS), random.of(&PATHS));
    let piece = Piece {
        offset: random.of(&[0, 0, 0, 7, 2_500, 65_000, 90_000]),
        length: random.of(&[1, 30, 3_000, 40_000, 70_000, 200_000]),
        byte: random.below(256) as u8,
    };
    let slot = random.below(OPEN_MAX);
    match random.below(64) {
        0..6 => Step::Create(path),
        6..9 => Step::Folder(path),
        9 => Step::Symlink(path, other),
        10 | 11 => Step::Link(path, other),
        12..16 => Step::Write(path, piece),
        16 | 17 => Step::Append(path, piece),
        18..21 => Step::Replace(path, piece),
        21 | 22 => Step::Truncate(path, random.of(&[0, 10, 5_000, 66_000, 150_000])),
        23 => Step::Punch(path, piece),
        24 | 25 => Step::Read(path),
        26 => Step::List(path),
        27 => Step::Stat(path),
        28 | 29 => Step::Unlink(path),
        30 => Step::RemoveFolder(path),
        31..34 => Step::Rename(path, other, 0),
        34 => Step::Rename(path, other, libc::RENAME_NOREPLACE),
        35 => Step::Rename(path, other, libc::RENAME_EXCHANGE),
        36 => Step::Chmod(path, random.of(&[0o600, 0o640, 0o755, 0o4711])),
        37 => Step::SetTime(path, random.of(&[-86_400, 1_000_000_000])),
        38 => Step::SetXattr(path, piece.byte),
        39 => Step::RemoveXattr(path),
        40 | 41 => Step::Open(slot, path),
        42..44 => Step::WriteOpen(slot, piece),
        44 => Step::ReadOpen(slot),
        45 => Step::Close(slot),
        46 => Step::Sync(path),
        choice => random_event(random, choice),
    }
}

fn random_event(random: &mut Random, choice: usize) -> Step {
    match choice {
        47..50 => Step::Spoil(random.of(&FAULTS), random.of(&[1, 1, 2, 3])),
        50 => Step::Slow(Duration::from_millis(random.of(&[0, 10, 80]))),
        51 | 52 => Step::Heal,
        53..61 => Step::Wait(Duration::from_millis(random.of(&[5, 30, 80, 250]))),
        61 => Step::Compare,
        62 => random.of(&[&Step::Kill, &Step::Kill, &Step::Restart]).clone(),
        _ => random.of(&[&Step::Kill, &Step::Compare, &Step::StartCold]).clone(),
    }
}
