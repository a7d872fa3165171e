//! The tables of `state.db`, and the refusal of files that are not ours to touch.

use crate::error::{Error, Result};
use rusqlite::Connection;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `PRAGMA application_id`: "ntfs" was taken; this is "notf".
const APPLICATION_ID: i64 = 0x6e6f_7466;

/// `PRAGMA user_version` that this program writes; it reads every one before.
const VERSION: i64 = 1 + MIGRATIONS.len() as i64;

/// The tables of version 1.
const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inode (
  ino INTEGER PRIMARY KEY, kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
  rdev INTEGER NOT NULL, nlink INTEGER NOT NULL, size INTEGER NOT NULL,
  atime_s INTEGER NOT NULL, atime_ns INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_s INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  content_version INTEGER NOT NULL, meta_version INTEGER NOT NULL, base_version INTEGER NOT NULL,
  place INTEGER NOT NULL, known INTEGER NOT NULL, link_id INTEGER NOT NULL,
  parent INTEGER NOT NULL, text BLOB NOT NULL, segment TEXT);
CREATE INDEX inode_orphans ON inode (ino) WHERE nlink = 0;
CREATE TABLE dentry (
  parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL, cookie INTEGER NOT NULL, segment TEXT,
  PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE INDEX dentry_order ON dentry (parent, cookie);
CREATE INDEX dentry_ino ON dentry (ino);
CREATE TABLE content (ino INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE blob (ino INTEGER PRIMARY KEY, present BLOB NOT NULL);
CREATE TABLE xattr (ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (ino, name)) WITHOUT ROWID;
CREATE TABLE remote (
  key TEXT PRIMARY KEY, ino INTEGER NOT NULL, etag TEXT NOT NULL,
  content_version INTEGER NOT NULL, meta_version INTEGER NOT NULL, noted INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX remote_ino ON remote (ino);
CREATE TABLE dirty (ino INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL, subtree INTEGER NOT NULL);
CREATE TABLE change (seq INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE backlog (ino INTEGER PRIMARY KEY);
CREATE TABLE link (link_id INTEGER PRIMARY KEY, ino INTEGER NOT NULL);
CREATE TABLE skipped (key TEXT PRIMARY KEY, reason TEXT NOT NULL, alias TEXT) WITHOUT ROWID;
";

/// What each further version adds to the one before, from version 2 on.
const MIGRATIONS: [&str; 4] = [
    "
CREATE TABLE base (key TEXT PRIMARY KEY, etag TEXT NOT NULL, metadata BLOB NOT NULL, bytes BLOB);
CREATE TABLE attempt (key TEXT NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY (key, ino)) WITHOUT ROWID;
CREATE TABLE conflict (ino INTEGER PRIMARY KEY, record BLOB NOT NULL);
",
    "
CREATE TABLE pin (dir INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (dir, name)) WITHOUT ROWID;
CREATE INDEX inode_unlisted ON inode (ino) WHERE kind = 1 AND known = 0;
",
    "
CREATE TABLE moved (id INTEGER PRIMARY KEY, \"from\" BLOB NOT NULL, \"to\" BLOB NOT NULL, at_ms INTEGER NOT NULL);
",
    "
CREATE TABLE tried (
  key TEXT NOT NULL, nth INTEGER NOT NULL, replaces TEXT NOT NULL, metadata BLOB NOT NULL, text BLOB,
  PRIMARY KEY (key, nth)) WITHOUT ROWID;
",
];

/// Opens `state.db`, making it if it is not there; refuses one that is damaged, foreign or newer, and leaves it untouched.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    if path.exists() {
        check(path)?;
    } else {
        make(path)?;
    }
    let connection = Connection::open(path).map_err(|error| unusable(path, &error.to_string()))?;
    configure(&connection).map_err(|error| unusable(path, &error.to_string()))?;
    let version: i64 = pragma(&connection, "user_version").map_err(|error| unusable(path, &error.to_string()))?;
    if version < VERSION {
        migrate(&connection, version).map_err(|error| unusable(path, &error.to_string()))?;
    }
    Ok(connection)
}

/// Makes the file under another name first: a power cut in the middle must not leave one that nobody can open.
fn make(path: &Path) -> Result<()> {
    let draft = path.with_extension("draft");
    let broken = |error: std::io::Error| unusable(path, &error.to_string());
    for ending in ["", "-wal", "-shm", "-journal"] {
        let left_over = draft.with_extension(format!("draft{ending}"));
        match std::fs::remove_file(&left_over) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(broken(error)),
            _ => {}
        }
    }
    let made = Connection::open(&draft).and_then(|connection| {
        connection.execute_batch("PRAGMA synchronous=FULL; PRAGMA journal_mode=WAL;")?;
        migrate(&connection, 0)?;
        connection.close().map_err(|(_, error)| error)
    });
    made.map_err(|error| unusable(path, &error.to_string()))?;
    let flushed = File::open(&draft).and_then(|file| file.sync_all());
    flushed.and_then(|()| std::fs::rename(&draft, path)).map_err(broken)
}

/// Brings the tables from `version` (0: there are none) to the newest, all or nothing.
fn migrate(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    let tables = if version == 0 { TABLES } else { "" };
    let steps = MIGRATIONS[(version.max(1) - 1) as usize..].concat();
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {tables} {steps} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT;"
    ))
}

/// A connection that only moves committed pages from the log into the file.
pub(crate) fn open_for_checkpoints(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA cache_size=-256;")?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(96);
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;
         PRAGMA cache_size=-8000; PRAGMA cache_spill=OFF; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;",
    )
}

/// Looks before anything is opened for writing, so that a foreign file is not even given a log.
fn check(path: &Path) -> Result<()> {
    let mut head = [0; 100];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut head, 0));
    match read {
        Ok(()) => {}
        Err(_) if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) => return Ok(()),
        Err(error) => return Err(unusable(path, &error.to_string())),
    }
    let number = |at: usize| i64::from(u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    if &head[..16] != b"SQLite format 3\0" {
        return Err(unusable(path, "it is not a database, or it is damaged"));
    }
    let (version, application) = (number(60), number(68));
    if application != APPLICATION_ID && version != 0 {
        return Err(unusable(path, "another program wrote it"));
    }
    if version > VERSION {
        let why = format!("a newer notefs wrote it (format {version}; this program knows {VERSION})");
        return Err(unusable(path, &why));
    }
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE);
    let verdict: rusqlite::Result<String> =
        connection.and_then(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(unusable(path, &verdict)),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::Unusable(format!(
        "The cache database {} cannot be used: {why}\n\nHint: It was left as it is. Unsaved edits may be in it: keep a copy. Then \
         mount with another --cache folder, or move this one aside to start afresh from the bucket.",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_every_older_version_opens_and_keeps_its_rows() {
        for version in 1..VERSION {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.db");
            let old = Connection::open(&path).unwrap();
            let steps = MIGRATIONS[..version as usize - 1].concat();
            let made =
                format!("{TABLES} {steps} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={version};");
            old.execute_batch(&made).unwrap();
            old.execute("INSERT INTO meta VALUES ('writer', 'w')", []).unwrap();
            drop(old);
            let opened = open(&path).unwrap();
            let kept: String = opened
                .query_row("SELECT value FROM meta", [], |row| row.get(0))
                .unwrap();
            assert_eq!(
                (kept.as_str(), pragma(&opened, "user_version").unwrap()),
                ("w", VERSION)
            );
            for table in ["base", "attempt", "conflict", "pin", "moved", "tried"] {
                opened.execute_batch(&format!("SELECT count(*) FROM {table}")).unwrap();
            }
        }
    }
}
