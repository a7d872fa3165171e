//! Any bytes are a note: indexed, asked about, moved and removed again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use notefs_indexer::{Change, Index};
use std::sync::OnceLock;

static INDEX: OnceLock<(tempfile::TempDir, Index)> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let (_, index) = INDEX.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = Index::open(&folder.path().join("index.db")).expect("a new index");
        (folder, index)
    });
    let note = Change::Upsert {
        path: b"a.md".to_vec(),
        bytes: bytes.to_vec(),
        total_bytes: bytes.len() as u64,
        mtime_ns: 0,
    };
    index.apply(vec![note], 1).expect("a note is never an error");
    index.context(b"a.md", 2, 10).expect("an answer").expect("the note");
    index.unresolved(10).expect("an answer");
    index.warnings(10).expect("an answer");
    let moved = Change::Moved {
        from: b"a.md".to_vec(),
        to: b"b.txt".to_vec(),
    };
    index.apply(vec![moved], 2).expect("a move");
    let gone = Change::Gone {
        path: b"b.txt".to_vec(),
    };
    index.apply(vec![gone], 3).expect("a removal");
    assert_eq!(index.stats().expect("an answer").links, 0, "rows of a note stayed behind");
});
