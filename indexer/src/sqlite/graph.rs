//! Reading links, names and tags as rows.
//!
//! Owns the SELECTs; which of several candidates a link means is decided by `resolve`.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Snapshot, offset, signed, unsigned};
use crate::error::IndexError;
use crate::model::LinkKind;
use crate::resolve::{Candidate, LookupKeys, NameKind};
use crate::text::{clip, floor_boundary};

/// Of a line longer than this, only the part around the link is shown, in bytes.
const MAX_LINE_BYTES: usize = 400;

/// A link out of a note.
pub(crate) struct OutboundRow {
    pub(crate) kind: LinkKind,
    pub(crate) embed: bool,
    pub(crate) is_file: bool,
    pub(crate) target: String,
    pub(crate) fragment: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) line: u32,
    pub(crate) keys: LookupKeys,
    pub(crate) relation: Option<String>,
    pub(crate) context: Option<String>,
}

/// A link that may lead to a note, with the note it is in.
pub(crate) struct InboundRow {
    pub(crate) link: OutboundRow,
    pub(crate) note_id: i64,
    pub(crate) path: Vec<u8>,
    /// Byte offset of the link in its note's text.
    pub(crate) at: usize,
}

const LINK_COLUMNS: &str = "l.kind, l.embed, l.is_file, l.target, l.fragment, l.alias, l.line, l.key, l.whole_key,
    l.slug_key, l.relation, l.context";

impl Snapshot<'_> {
    /// The id of the note at `path`.
    pub(crate) fn id_of(&self, path: &[u8]) -> Result<Option<i64>, IndexError> {
        self.run("look up a note", |connection| {
            let mut select = connection.prepare_cached("SELECT id FROM note WHERE path = ?1")?;
            select.query_row([path], |row| row.get(0)).optional()
        })
    }

    /// The path of a note.
    pub(crate) fn path_of(&self, note_id: i64) -> Result<Option<Vec<u8>>, IndexError> {
        self.run("look up a note", |connection| {
            let mut select = connection.prepare_cached("SELECT path FROM note WHERE id = ?1")?;
            select.query_row([note_id], |row| row.get(0)).optional()
        })
    }

    /// At most `limit` notes below a folder, with their paths.
    pub(crate) fn notes_below(&self, folder: &[u8], limit: usize) -> Result<Vec<(i64, Vec<u8>)>, IndexError> {
        // All below "folder/": '0' is the byte after '/'.
        let (low, high) = ([folder, b"/"].concat(), [folder, b"0"].concat());
        self.run("list notes", |connection| {
            let sql = "SELECT id, path FROM note WHERE path >= ?1 AND path < ?2 ORDER BY path LIMIT ?3";
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map(params![low, high, signed(limit)], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// The paths of the notes with a link that calls one of these names.
    pub(crate) fn notes_calling(&self, names: &[String]) -> Result<Vec<Vec<u8>>, IndexError> {
        let sql = "SELECT note.path FROM link l JOIN note ON note.id = l.note_id WHERE l.key = ?1
             UNION SELECT note.path FROM link l JOIN note ON note.id = l.note_id WHERE l.whole_key = ?1
             UNION SELECT note.path FROM link l JOIN note ON note.id = l.note_id WHERE l.slug_key = ?1";
        self.run("read backlinks", |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let mut paths = Vec::new();
            for name in names {
                for path in select.query_map([name], |row| row.get(0))? {
                    paths.push(path?);
                }
            }
            Ok(paths)
        })
    }

    /// The links to files that are no notes: the path of their note, how they are written, and their target.
    pub(crate) fn file_links(&self) -> Result<Vec<(Vec<u8>, LinkKind, String)>, IndexError> {
        let sql = "SELECT note.path, l.kind, l.target FROM link l JOIN note ON note.id = l.note_id WHERE l.is_file = 1";
        self.run("read links", |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, link_kind(row.get(1)?), row.get(2)?)))?;
            rows.collect()
        })
    }

    /// The links of the note, in the order of its text.
    pub(crate) fn links_of(&self, note_id: i64) -> Result<Vec<OutboundRow>, IndexError> {
        let sql = format!("SELECT {LINK_COLUMNS} FROM link l WHERE l.note_id = ?1 ORDER BY l.ordinal");
        self.run("read links", |connection| {
            connection
                .prepare_cached(&sql)?
                .query_map([note_id], outbound)?
                .collect()
        })
    }

    /// Every link that calls a name the note bears, by the path of its note and its place there.
    pub(crate) fn links_naming(&self, note_id: i64) -> Result<Vec<InboundRow>, IndexError> {
        let sql = format!(
            "SELECT {LINK_COLUMNS}, l.note_id, note.path, l.at FROM link l JOIN note ON note.id = l.note_id
             WHERE l.key IN (SELECT key FROM name WHERE note_id = ?1)
             UNION
             SELECT {LINK_COLUMNS}, l.note_id, note.path, l.at FROM link l JOIN note ON note.id = l.note_id
             WHERE l.whole_key IN (SELECT key FROM name WHERE note_id = ?1)
             UNION
             SELECT {LINK_COLUMNS}, l.note_id, note.path, l.at FROM link l JOIN note ON note.id = l.note_id
             WHERE l.slug_key IN (SELECT key FROM name WHERE note_id = ?1)
             ORDER BY note.path, l.at"
        );
        self.run("read backlinks", |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            let rows = select.query_map([note_id], inbound)?;
            rows.collect()
        })
    }

    /// Hands over every link that may lead to a note, by the path of its note, then by its place there.
    pub(crate) fn each_link(
        &self,
        mut take: impl FnMut(InboundRow) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let sql = format!(
            "SELECT {LINK_COLUMNS}, l.note_id, note.path, l.at FROM note JOIN link l ON note.id = l.note_id
             WHERE l.is_file = 0 ORDER BY note.path, l.ordinal"
        );
        let mut failed = None;
        self.run("read links", |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            for row in select.query_map([], inbound)? {
                if let Err(error) = take(row?) {
                    failed = Some(error);
                    break;
                }
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The notes that bear one of the names.
    pub(crate) fn candidates(&self, keys: &LookupKeys) -> Result<Vec<Candidate>, IndexError> {
        self.run("resolve a link", |connection| {
            let mut found = named(connection, &keys.name)?;
            for key in [&keys.whole, &keys.slug].into_iter().flatten() {
                found.append(&mut named(connection, key)?);
            }
            Ok(found)
        })
    }

    /// The title of a note and, for each offset, the line of its text that is there.
    pub(crate) fn lines_at(&self, note_id: i64, offsets: &[usize]) -> Result<(String, Vec<String>), IndexError> {
        self.run("read lines", |connection| {
            let sql = "SELECT title, text FROM note JOIN note_text ON note_id = id WHERE id = ?1";
            connection.prepare_cached(sql)?.query_row([note_id], |row| {
                let text = row.get_ref(1)?.as_str()?;
                Ok((row.get(0)?, offsets.iter().map(|at| line_at(text, *at)).collect()))
            })
        })
    }

    /// Tags and how many notes have each, most used first, then by name.
    pub(crate) fn tags(&self) -> Result<Vec<(String, u64)>, IndexError> {
        self.run("read tags", |connection| {
            // Spellings of one tag are counted together; max() prefers lower case.
            let sql = "SELECT max(name) AS shown, count(*) FROM tag GROUP BY key ORDER BY count(*) DESC, shown";
            connection
                .prepare_cached(sql)?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect()
        })
    }
}

fn named(connection: &Connection, key: &str) -> rusqlite::Result<Vec<Candidate>> {
    let sql = "SELECT name.note_id, name.kind, note.path, note.path_key FROM name JOIN note ON note.id = name.note_id
        WHERE name.key = ?1";
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map([key], |row| {
        let kind = match row.get(1)? {
            0 => NameKind::Stem,
            1 => NameKind::Title,
            2 => NameKind::Alias,
            3 => NameKind::Permalink,
            _ => NameKind::Slug,
        };
        let name_key = key.to_owned();
        Ok(Candidate {
            note_id: row.get(0)?,
            kind,
            name_key,
            path: row.get(2)?,
            path_key: row.get(3)?,
        })
    })?;
    rows.collect()
}

fn outbound(row: &Row<'_>) -> rusqlite::Result<OutboundRow> {
    Ok(OutboundRow {
        kind: link_kind(row.get(0)?),
        embed: row.get(1)?,
        is_file: row.get(2)?,
        target: row.get(3)?,
        fragment: row.get(4)?,
        alias: row.get(5)?,
        line: row.get(6)?,
        keys: LookupKeys {
            name: row.get(7)?,
            whole: row.get(8)?,
            slug: row.get(9)?,
        },
        relation: row.get(10)?,
        context: row.get(11)?,
    })
}

fn inbound(row: &Row<'_>) -> rusqlite::Result<InboundRow> {
    Ok(InboundRow {
        link: outbound(row)?,
        note_id: row.get(12)?,
        path: row.get(13)?,
        at: offset(row.get(14)?),
    })
}

pub(super) fn link_kind(code: i64) -> LinkKind {
    if code == 0 { LinkKind::Wiki } else { LinkKind::Markdown }
}

fn line_at(text: &str, at: usize) -> String {
    let at = floor_boundary(text, at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let start = start.max(floor_boundary(text, at.saturating_sub(MAX_LINE_BYTES / 4)));
    let line = text[start..].split('\n').next().unwrap_or("");
    clip(line, MAX_LINE_BYTES).trim().to_owned()
}
