//! The database file: private, refused when strange, never overwritten.

use std::os::unix::fs::PermissionsExt as _;

use notefs_indexer::{Index, IndexError};

use super::{Fixture, put};

#[test]
fn the_file_and_its_log_are_private() {
    let fixture = Fixture::with(&[("a.md", "text")]);
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let mode = std::fs::metadata(fixture.folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_was_applied_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.db");
    let index = Index::open(&path).unwrap();
    assert_eq!(index.indexed_seq().unwrap(), 0);
    index.apply(vec![put("a.md", "hello")], 41).unwrap();
    drop(index);
    let index = Index::open(&path).unwrap();
    assert_eq!(index.indexed_seq().unwrap(), 41);
    assert_eq!(index.search("hello", 10, 0).unwrap().len(), 1);
    index.clear(42).unwrap();
    assert_eq!(index.indexed_seq().unwrap(), 42);
    assert_eq!(index.stats().unwrap().notes, 0);
    assert!(index.search("hello", 10, 0).unwrap().is_empty());
    index.apply(vec![put("a.md", "hello again")], 43).unwrap();
    assert_eq!(index.search("hello", 10, 0).unwrap().len(), 1);
}

#[test]
fn a_damaged_newer_or_foreign_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.db");
    std::fs::write(&damaged, "no database".repeat(100)).unwrap();
    let error = Index::open(&damaged).err().unwrap();
    assert!(matches!(error, IndexError::Corrupt { .. }) && !error.is_retryable());
    assert!(
        error.to_string().contains("damaged.db") && error.to_string().contains("index rebuild"),
        "{error}"
    );
    assert_eq!(std::fs::read(&damaged).unwrap(), "no database".repeat(100).as_bytes());

    for (name, sql) in [
        ("newer", "PRAGMA user_version = 99"),
        ("foreign", "PRAGMA application_id = 7"),
    ] {
        let path = folder.path().join(name);
        drop(Index::open(&path).unwrap());
        change(&path, sql);
        let before = std::fs::read(&path).unwrap();
        let error = Index::open(&path).err().unwrap();
        match name {
            "newer" => assert!(matches!(error, IndexError::Newer { found: 99, .. }), "{error}"),
            _ => assert!(matches!(error, IndexError::Foreign { .. }), "{error}"),
        }
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name} was written to");
    }
    let missing = Index::open(&folder.path().join("no/such/folder.db")).err().unwrap();
    assert!(matches!(missing, IndexError::Open { .. }), "{missing}");
}

/// Changes a header field, which needs no SQLite: user_version is at byte 60, application_id at 68.
fn change(path: &std::path::Path, sql: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let (at, value) = if sql.contains("user_version") {
        (60, 99_u32)
    } else {
        (68, 7)
    };
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn readers_and_the_writer_do_not_wait_for_each_other() {
    let fixture = Fixture::with(&[("a.md", "shared word")]);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(!fixture.found("shared").is_empty());
                    fixture.index.stats().unwrap();
                }
            });
        }
        for seq in 2..60 {
            fixture
                .index
                .apply(vec![put("b.md", &format!("shared {seq}"))], seq)
                .unwrap();
        }
    });
    assert_eq!(fixture.index.indexed_seq().unwrap(), 59);
}
