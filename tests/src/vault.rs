//! Made-up vaults of notes, the same for the same seed: links, tags, frontmatter, attachments, several scripts.

use std::path::Path;

use anyhow::{Context, Result};

use crate::store::Store;

/// A file of a vault.
#[derive(Clone, Debug)]
pub struct VaultFile {
    /// Path below the vault, with slashes.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Numbers that look random and are the same for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence for `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

const FOLDERS: [&str; 8] = [
    "",
    "ideas/",
    "journal/2026/",
    "people/",
    "projects/notefs/",
    "reading/",
    "日本語/",
    "été/",
];
const TAGS: [&str; 7] = [
    "storage",
    "fuse",
    "todo",
    "reading-list",
    "projekt/größe",
    "検索",
    "draft",
];
const WORDS: [&str; 28] = [
    "bucket",
    "note",
    "the",
    "folder",
    "crash",
    "editor",
    "and",
    "latency",
    "index",
    "of",
    "ledger",
    "replica",
    "merge",
    "a",
    "garden",
    "river",
    "conflict",
    "to",
    "mount",
    "kernel",
    "naïve",
    "Größe",
    "検索",
    "全文",
    "가나다",
    "searching",
    "durable",
    "with",
];

/// A vault of `count` notes and a few attachments.
pub fn generate(count: usize, seed: u64) -> Vec<VaultFile> {
    let mut random = Random::new(seed);
    let mut files: Vec<VaultFile> = (0..count).map(|number| note(number, count, &mut random)).collect();
    for number in 0..(count / 50).max(1) {
        let size = 1_000 + random.below(60_000);
        let bytes = (0..size).map(|_| random.below(256) as u8).collect();
        files.push(VaultFile {
            path: format!("assets/image{number}.png"),
            bytes,
        });
    }
    files
}

/// The path of note `number`.
pub fn note_path(number: usize) -> String {
    format!("{}note {number:05}.md", FOLDERS[number % FOLDERS.len()])
}

fn note(number: usize, count: usize, random: &mut Random) -> VaultFile {
    let mut text = String::new();
    if number.is_multiple_of(3) {
        text.push_str(&format!(
            "---\ntitle: Note {number}\ntags: [{}]\nstatus: open\n---\n",
            random.pick(&TAGS)
        ));
    }
    text.push_str(&format!(
        "# Note {number}\n\nunique{number:05} #{}\n",
        random.pick(&TAGS)
    ));
    for _ in 0..1 + random.below(6) {
        text.push_str(&format!("\n## {}\n\n", random.pick(&WORDS)));
        for _ in 0..20 + random.below(120) {
            text.push_str(random.pick(&WORDS));
            text.push(' ');
        }
        let target = random.below(count);
        text.push_str(&format!(
            "\n\nSee [[note {target:05}]] and [that](<{}>).\n",
            note_path(target)
        ));
    }
    VaultFile {
        path: note_path(number),
        bytes: text.into_bytes(),
    }
}

/// Writes the files below `folder`.
pub fn write_to(files: &[VaultFile], folder: &Path) -> Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().context("path without a parent")?)?;
        std::fs::write(&path, &file.bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Puts the files into a store, as another tool would.
pub fn put_to(files: &[VaultFile], store: &Store) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            while let Some(file) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                store.put(&file.path, &file.bytes)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })
}
