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

    /// How its texts were parsed; 0 for an index of before.
    pub(crate) fn parse_version(&self) -> Result<i64, IndexError> {
        self.run("read its state", |connection| {
            let sql = "SELECT value FROM state WHERE key = 'parse_version'";
            connection.query_row(sql, [], |row| row.get(0))
        })
    }

    /// How many notes there are.
    pub(crate) fn note_count(&self) -> Result<u64, IndexError> {
        self.run("count the notes", |connection| {
            number(connection, "SELECT count(*) FROM note")
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

    /// Links whose name no note bears. Those that names alone do not settle are left to [`Snapshot::placed_links`].
    pub(crate) fn unnamed_links(&self) -> Result<u64, IndexError> {
        let sql = "SELECT coalesce(sum(found), 0) FROM
            (SELECT key, slug_key, count(*) AS found FROM link WHERE is_file = 0 AND whole_key IS NULL
             GROUP BY key, slug_key) AS wanted
            WHERE NOT EXISTS (SELECT 1 FROM name WHERE name.key = wanted.key)
            AND NOT EXISTS (SELECT 1 FROM name WHERE name.key = wanted.slug_key)";
        self.run("count unresolved links", |connection| number(connection, sql))
    }

    /// The links that name more than a file name, call a permalink or a title that several notes have; those of one
    /// note and target together.
    pub(crate) fn placed_links(&self) -> Result<Vec<PlacedLinks>, IndexError> {
        let sql = "WITH unsettled AS (SELECT key FROM name WHERE kind <> 0
                AND key NOT IN (SELECT key FROM name WHERE kind = 0))
            SELECT l.kind, l.target, note.path, count(*) FROM link l JOIN note ON note.id = l.note_id
            WHERE l.is_file = 0 AND (l.whole_key IS NOT NULL OR l.key IN unsettled
                OR l.slug_key IN (SELECT key FROM name) AND l.key NOT IN (SELECT key FROM name))
            GROUP BY l.kind, l.target, note.id";
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

    /// The first `limit` warnings, by path; among them the notes whose permalink a note before them has.
    pub(crate) fn warnings(&self, limit: usize) -> Result<Vec<Warning>, IndexError> {
        let sql = "SELECT path, kind, message, ordinal FROM
                (SELECT note.path, warning.kind, warning.message, warning.ordinal
                 FROM warning JOIN note ON note.id = warning.note_id
                 UNION ALL
                 SELECT second.path, 6, 'The permalink ' || second.permalink || ' is also that of '
                    || CAST(min(first.path) AS TEXT), -1
                 FROM name JOIN note second ON second.id = name.note_id
                 JOIN note first ON first.permalink = second.permalink AND first.id <> second.id
                 WHERE name.kind = 3 AND (first.path < second.path
                    OR NOT EXISTS (SELECT 1 FROM name own WHERE own.note_id = first.id AND own.kind = 3))
                 GROUP BY second.id)
            ORDER BY path, ordinal LIMIT ?1";
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
        4 => WarningKind::Parser,
        5 => WarningKind::Property,
        _ => WarningKind::Permalink,
    }
}
