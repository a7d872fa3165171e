//! Prints how fast the index fills and answers: `cargo run --release -p notefs-indexer --example search_bench [NOTES [fill]]`; with
//! `fill` only the first row.
//!
//! Notes of about 2 KB with frontmatter, headings, tags, links, words distributed as in language, a tenth of them
//! Chinese. Times are processor time of the one thread at work, so that a
//! busy machine does not blur them; waiting for the disk is not in them. Owns no assertion: it shows, tests judge.

#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::time::Duration;

use notefs_indexer::{Change, Index, IndexError};

const BATCH_NOTES: usize = 500;
const QUERIES_PER_KIND: usize = 200;
const VOCABULARY: u64 = 20_000;

struct Clock(Duration);

impl Clock {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Few words are common and many rare, roughly as Zipf has it.
    fn word(&mut self) -> String {
        let even = self.below(1 << 20) as f64 / f64::from(1 << 20);
        spell(((VOCABULARY as f64).powf(even) - 1.0) as u64)
    }
}

fn spell(rank: u64) -> String {
    const COMMON: [&str; 12] = [
        "the", "note", "of", "and", "to", "in", "is", "project", "for", "that", "on", "with",
    ];
    if let Some(word) = COMMON.get(rank as usize) {
        return (*word).to_owned();
    }
    let (mut word, mut rest) = (String::new(), rank * 7_919 % 1_000_003);
    for _ in 0..3 {
        word.push(b"bcdfghklmnprstvz"[(rest % 16) as usize] as char);
        word.push(b"aeiou"[(rest / 16 % 5) as usize] as char);
        rest /= 80;
    }
    word
}

fn note(random: &mut Random, number: usize) -> Vec<u8> {
    let mut text = format!(
        "---\ntags: [{}, area/{}]\nstatus: {}\ncreated: 2026-01-{:02}\n---\n# Note {number} {}\n\n",
        random.word(),
        random.below(20),
        random.word(),
        random.below(28) + 1,
        random.word()
    );
    while text.len() < 2_000 {
        match random.below(12) {
            0 => text.push_str(&format!("\n\n## {} {}\n\n", random.word(), random.word())),
            1 => text.push_str(&format!("[[note-{}|{}]] ", random.below(10_000), random.word())),
            2 => text.push_str(&format!("#{} ", random.word())),
            3 if number.is_multiple_of(10) => text.push_str("今日は天気がいいから散歩に行きましょう。"),
            _ => (0..12).for_each(|_| text.push_str(&format!("{} ", random.word()))),
        }
    }
    text.into_bytes()
}

fn path(number: usize) -> Vec<u8> {
    format!("area-{}/topic-{}/note-{number}.md", number % 10, number % 97).into_bytes()
}

fn fill(index: &Index, notes: &[Vec<u8>]) -> Result<Duration, IndexError> {
    let mut total = Duration::ZERO;
    for (batch, chunk) in notes.chunks(BATCH_NOTES).enumerate() {
        let changes = chunk.iter().enumerate().map(|(at, bytes)| Change::Upsert {
            path: path(batch * BATCH_NOTES + at),
            bytes: bytes.clone(),
            total_bytes: bytes.len() as u64,
            mtime_ns: 0,
        });
        let changes: Vec<_> = changes.collect();
        let start = Clock::start();
        index.apply(changes, batch as u64 + 1)?;
        total += start.elapsed();
    }
    Ok(total)
}

fn quantiles(name: &str, mut times: Vec<Duration>, found: usize) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name:<34} p50 {:>7.2} ms  p99 {:>7.2} ms  ({found} found)",
        at(0.5),
        at(0.99)
    );
}

fn ask(index: &Index, name: &str, mut query: impl FnMut() -> String) -> Result<(), IndexError> {
    let mut times = Vec::new();
    let mut found = 0;
    index.search(&query(), 20, 0)?;
    for _ in 0..QUERIES_PER_KIND {
        let query = query();
        let start = Clock::start();
        found = index.search(&query, 20, 0)?.len();
        times.push(start.elapsed());
    }
    quantiles(name, times, found);
    Ok(())
}

fn searches(index: &Index, notes: usize) -> Result<(), IndexError> {
    let mut random = Random(77);
    ask(index, "one rare word", || spell(5_000 + random.below(10_000)) + " ")?;
    ask(index, "the commonest word", || "the ".to_owned())?;
    ask(index, "three common words", || "the note project".to_owned())?;
    ask(index, "eight common words", || {
        "the note of and to in is project".to_owned()
    })?;
    let mut random = Random(78);
    ask(index, "two words of the language", || {
        format!("{} {}", random.word(), random.word())
    })?;
    let mut random = Random(79);
    ask(index, "two letters, as prefix", || {
        spell(random.below(VOCABULARY))[..2].to_owned()
    })?;
    ask(index, "one letter and a star", || "n*".to_owned())?;
    ask(index, "phrase", || "\"of the\"".to_owned())?;
    ask(index, "tag filter and common word", || "tag:area/7 the".to_owned())?;
    ask(index, "path filter and common word", || "path:area-3 the".to_owned())?;
    ask(index, "without a word", || "the -project".to_owned())?;
    ask(index, "two Chinese characters", || "天気".to_owned())?;
    ask(index, "one Chinese character", || "行".to_owned())?;
    let mut random = Random(80);
    ask(index, "exact title", || format!("note {}", random.below(notes as u64)))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let index = Index::open(&folder.path().join("index.db"))?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let notes: Vec<Vec<u8>> = (0..count).map(|number| note(&mut random, number)).collect();
    let bytes: usize = notes.iter().map(Vec::len).sum();
    let speed = |name: &str, took: Duration, per: usize| {
        println!(
            "{name:<34} {:>8.2} s  {:>8.0} notes/s",
            took.as_secs_f64(),
            per as f64 / took.as_secs_f64()
        );
    };
    speed("index from empty", fill(&index, &notes)?, count);
    if std::env::args().nth(2).as_deref() == Some("fill") {
        return Ok(());
    }
    let stats = index.stats()?;
    println!(
        "{:<34} {:.1} MB for {:.1} MB of notes",
        "disk",
        stats.disk_bytes as f64 / 1e6,
        bytes as f64 / 1e6
    );
    speed("same content again", fill(&index, &notes)?, count);
    let changed: Vec<Vec<u8>> = (0..count / 5).map(|number| note(&mut random, number)).collect();
    speed("other content", fill(&index, &changed)?, count / 5);
    let start = Clock::start();
    index.apply(
        vec![Change::Moved {
            from: b"area-3".to_vec(),
            to: b"moved".to_vec(),
        }],
        1,
    )?;
    speed("a folder with a tenth moved", start.elapsed(), count / 10);
    let mut singles = Vec::new();
    for (number, bytes) in (0..QUERIES_PER_KIND).map(|number| (number, note(&mut random, number))) {
        let total_bytes = bytes.len() as u64;
        let start = Clock::start();
        index.apply(
            vec![Change::Upsert {
                path: path(number),
                bytes,
                total_bytes,
                mtime_ns: 1,
            }],
            2,
        )?;
        singles.push(start.elapsed());
    }
    quantiles("one note in its own batch", singles, 1);
    searches(&index, count)?;
    let start = Clock::start();
    let backlinks = index.backlinks(&path(4))?.len();
    quantiles("backlinks", vec![start.elapsed()], backlinks);
    let start = Clock::start();
    let stats = index.stats()?;
    quantiles(
        "statistics",
        vec![start.elapsed()],
        usize::try_from(stats.unresolved_links)?,
    );
    Ok(())
}
