//! Any text is a search, and any text is a query in SQL that changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use notefs_indexer::{Change, Index};
use std::sync::OnceLock;

const NOTE: &[u8] = b"---\ntype: thing\nn: 5\n---\n# Title\n\n- [fact] alpha #tag\n- uses [[b]]\n";

static INDEX: OnceLock<(tempfile::TempDir, Index)> = OnceLock::new();

fuzz_target!(|text: &str| {
    let (_, index) = INDEX.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = Index::open(&folder.path().join("index.db")).expect("a new index");
        let note = Change::Upsert {
            path: b"a.md".to_vec(),
            bytes: NOTE.to_vec(),
            total_bytes: NOTE.len() as u64,
            mtime_ns: 0,
        };
        index.apply(vec![note], 1).expect("a note");
        (folder, index)
    });
    index.search(text, 10, 0).expect("a search is never an error");
    // SQL may be wrong; it may not write.
    drop(index.query(text, 10));
    assert_eq!(index.stats().expect("an answer").notes, 1);
});
