//! Counts, warnings, and the sequence number the index stands for.

use rusqlite::Connection;

use super::graph::link_kind;
use super::{Database, Snapshot, signed, unsigned};
use crate::error::IndexError;
use crate::model::{IndexStats, LinkKind, Warning, WarningKind};

/// How often a note has a link to one target.
pub(crate) struct PlacedLinks {
    pub(crate) kind: LinkKind,
    pub(crate) target: String,
    pub(crate) path: Vec<u8>,
    pub(crate) count: u64,
}

impl Snapshot<'_> {
    /// The sequence number the index stands for.
    pub(crate) fn indexed_seq(&self) -> Result<u64, IndexError> {
        self.run("read its state", |connection| {
            number(connection, "SELECT value FROM state WHERE key = 'indexed_seq'")
        })
    }

    /// Counts, without the unresolved links and the size.
    pub(crate) fn counts(&self) -> Result<IndexStats, IndexError> {
        self.run("count", |connection| {
            Ok(IndexStats {
                notes: number(connection, "SELECT count(*) FROM note")?,
                links: number(connection, "SELECT count(*) FROM link")?,
                tags: number(connection, "SELECT count(DISTINCT key) FROM tag")?,
                warnings: number(connection, "SELECT count(*) FROM warning")?,
                indexed_seq: number(connection, "SELECT value FROM state WHERE key = 'indexed_seq'")?,
                ..IndexStats::default()
            })
        })
    }

    /// Links whose name no note bears. Links that name a place as well are left to [`Snapshot::placed_links`].
    pub(crate) fn unnamed_links(&self) -> Result<u64, IndexError> {
        let sql = "SELECT coalesce(sum(found), 0) FROM
            (SELECT key, count(*) AS found FROM link WHERE is_file = 0 AND whole_key IS NULL GROUP BY key) AS wanted
            WHERE NOT EXISTS (SELECT 1 FROM name WHERE name.key = wanted.key)";
        self.run("count unresolved links", |connection| number(connection, sql))
    }

    /// The links that name more than a file name, those of one note and target together.
    pub(crate) fn placed_links(&self) -> Result<Vec<PlacedLinks>, IndexError> {
        let sql = "SELECT l.kind, l.target, note.path, count(*) FROM link l JOIN note ON note.id = l.note_id
            WHERE l.whole_key IS NOT NULL AND l.is_file = 0 GROUP BY l.kind, l.target, note.id";
        self.run("count unresolved links", |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map([], |row| {
                let kind = link_kind(row.get(0)?);
                Ok(PlacedLinks {
                    kind,
                    target: row.get(1)?,
                    path: row.get(2)?,
                    count: unsigned(row.get(3)?),
                })
            })?;
            rows.collect()
        })
    }

    /// The first `limit` warnings, by path.
    pub(crate) fn warnings(&self, limit: usize) -> Result<Vec<Warning>, IndexError> {
        let sql = "SELECT note.path, warning.kind, warning.message FROM warning JOIN note ON note.id = warning.note_id
            ORDER BY note.path, warning.ordinal LIMIT ?1";
        self.run("read warnings", |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let limit = signed(limit);
            let rows = select.query_map([limit], |row| {
                let path_bytes: Vec<u8> = row.get(0)?;
                let path = String::from_utf8_lossy(&path_bytes).into_owned();
                Ok(Warning {
                    path,
                    path_bytes,
                    kind: warning_kind(row.get(1)?),
                    message: row.get(2)?,
                })
            })?;
            rows.collect()
        })
    }
}

impl Database {
    /// Size of the file and its write-ahead log, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        size(self.path()) + size(std::path::Path::new(&log))
    }
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
        .map(unsigned)
}

fn warning_kind(code: i64) -> WarningKind {
    match code {
        0 => WarningKind::NotUtf8,
        1 => WarningKind::TooLarge,
        2 => WarningKind::Frontmatter,
        3 => WarningKind::TooMany,
        _ => WarningKind::Parser,
    }
}
