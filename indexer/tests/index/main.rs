//! The index as its users see it: changes in, answers out. One program, since linking is slow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers of tests too")]

mod basic_memory;
mod file;
mod hostile;
mod incremental;
mod knowledge;
mod links;
mod query;
mod random_bytes;
mod rewrite;
mod search;

use notefs_indexer::{Change, Index};
use tempfile::TempDir;

/// An index that lives as long as its folder.
struct Fixture {
    index: Index,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&folder.path().join("index.db")).unwrap();
        Self { index, folder }
    }

    /// One with these notes.
    fn with(notes: &[(&str, &str)]) -> Self {
        let fixture = Self::new();
        fixture
            .index
            .apply(notes.iter().map(|(path, text)| put(path, text)).collect(), 1)
            .unwrap();
        fixture
    }

    fn apply(&self, change: Change) {
        let seq = self.index.indexed_seq().unwrap() + 1;
        self.index.apply(vec![change], seq).unwrap();
    }

    /// The paths found, best first.
    fn found(&self, query: &str) -> Vec<String> {
        self.index
            .search(query, 100, 0)
            .unwrap()
            .into_iter()
            .map(|hit| hit.path)
            .collect()
    }

    /// Where the links of the note lead.
    fn targets(&self, path: &str) -> Vec<Option<String>> {
        self.index
            .links(path.as_bytes())
            .unwrap()
            .into_iter()
            .map(|link| link.resolved)
            .collect()
    }

    /// Which notes link here, and on which lines.
    fn inbound(&self, path: &str) -> Vec<(String, u32)> {
        let links = self.index.backlinks(path.as_bytes()).unwrap().into_iter();
        links.map(|link| (link.path, link.line)).collect()
    }
}

/// Random numbers that a seed repeats.
struct Random(u64);

impl Random {
    /// With the seed that an environment variable gives, else a new one; it is printed.
    #[allow(clippy::print_stdout, reason = "whoever sees a test fail needs its seed")]
    fn from_environment(variable: &str) -> (u64, Self) {
        let number = |name: &str| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
        let given = number(variable).or_else(|| number("NOTEFS_TEST_FIRST_SEED"));
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
        println!("{variable}={seed}");
        (seed, Self(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[(self.next() % of.len() as u64) as usize]
    }
}

fn put(path: &str, text: &str) -> Change {
    put_bytes(path.as_bytes(), text.as_bytes())
}

fn put_bytes(path: &[u8], bytes: &[u8]) -> Change {
    Change::Upsert {
        path: path.to_vec(),
        bytes: bytes.to_vec(),
        total_bytes: bytes.len() as u64,
        mtime_ns: 7,
    }
}

fn gone(path: &str) -> Change {
    Change::Gone { path: path.into() }
}

fn moved(from: &str, to: &str) -> Change {
    Change::Moved {
        from: from.into(),
        to: to.into(),
    }
}
