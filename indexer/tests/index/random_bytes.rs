//! Whatever bytes a note and a query are made of, they are indexed and answered, in bounded time.

use std::time::{Duration, Instant};

use super::{Fixture, Random, put_bytes};

const ROUNDS: u64 = 400;
const SEED_VARIABLE: &str = "NOTEFS_BYTES_SEED";
/// Generous, for a busy machine; what it guards against is minutes.
const MAX_PER_NOTE: Duration = Duration::from_secs(30);

/// What notes are made of, so that random ones come near everything that is parsed.
const PIECES: &[&[u8]] = &[
    b"---\n",
    b"---\r\n",
    b"title: ",
    b"permalink: ",
    b"type: ",
    b"modified: 2026-01-02",
    b"tags: [a, ",
    b"&a [*a]",
    b": *a\n",
    b"? !!binary ",
    b"[[",
    b"]]",
    b"![[",
    b"|",
    b"#",
    b"#^",
    b"- [",
    b"] ",
    b"- \"part of\" [[x]] (",
    b")",
    b"](",
    b"%zz%",
    b"```\n",
    b"`",
    b"> ",
    b"\n\n",
    b"\n",
    b"  ",
    b"\t",
    b"\\",
    b"| a |\n|---|\n",
    b"<div>",
    b"<!--",
    b"\xff\xfe",
    b"\xf0\x9f",
    b"\xed\xa0\x80",
    "\u{202e}א💥".as_bytes(),
    "天気".as_bytes(),
    b"\0",
    b"\x1b[31m",
    b"[x]: y \"z\n",
    b"****__",
];

fn bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.next() % 60 {
        match random.next() % 4 {
            0 => bytes.extend(random.next().to_le_bytes()),
            1 => bytes.extend(b"word "),
            _ => bytes.extend(PIECES[(random.next() % PIECES.len() as u64) as usize]),
        }
    }
    bytes
}

#[test]
fn random_notes_are_indexed_and_random_queries_answered() {
    let (seed, mut random) = Random::from_environment(SEED_VARIABLE);
    let fixture = Fixture::new();
    for round in 0..ROUNDS {
        let path = format!("d{}/n{}.md", random.next() % 3, random.next() % 20);
        let note = bytes(&mut random);
        let start = Instant::now();
        fixture.apply(put_bytes(path.as_bytes(), &note));
        let query = String::from_utf8_lossy(&bytes(&mut random)).into_owned();
        fixture.index.search(&query, 10, 0).unwrap();
        // SQL made of a note's bytes is refused or answered, never more.
        drop(fixture.index.query(&query, 10));
        assert!(fixture.index.context(path.as_bytes(), 2, 50).unwrap().is_some());
        assert!(start.elapsed() < MAX_PER_NOTE, "round {round}, {SEED_VARIABLE}={seed}");
    }
    fixture.index.orphans(100).unwrap();
    fixture.index.unresolved(100).unwrap();
    fixture.index.graph(100).unwrap();
    fixture.index.warnings(1_000).unwrap();
    assert!(fixture.index.stats().unwrap().notes > 0);
}
