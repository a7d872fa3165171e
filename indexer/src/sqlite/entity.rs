//! Reading notes as entities: what they are and what they say.
//!
//! Owns the SELECTs. Does not own links (`graph`).

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};

use super::{Snapshot, signed};
use crate::error::IndexError;
use crate::model::{Entity, Observation};
use crate::text::date;

/// A note with its id.
pub(crate) struct NoteRow {
    pub(crate) id: i64,
    pub(crate) entity: Entity,
}

const NOTE_COLUMNS: &str = "id, path, title, type, permalink, created_ns, coalesce(modified_ns, mtime_ns)";

impl Snapshot<'_> {
    /// The note with this id.
    pub(crate) fn note(&self, id: i64) -> Result<Option<NoteRow>, IndexError> {
        let sql = format!("SELECT {NOTE_COLUMNS} FROM note WHERE id = ?1");
        self.run("read a note", |connection| {
            connection.prepare_cached(&sql)?.query_row([id], note_row).optional()
        })
    }

    /// All notes, by path.
    pub(crate) fn notes(&self) -> Result<Vec<NoteRow>, IndexError> {
        let sql = format!("SELECT {NOTE_COLUMNS} FROM note ORDER BY path");
        self.run("list the notes", |connection| {
            connection.prepare_cached(&sql)?.query_map([], note_row)?.collect()
        })
    }

    /// The notes below a folder that were changed last, newest first.
    pub(crate) fn recent(&self, below: &[u8], limit: usize) -> Result<Vec<Entity>, IndexError> {
        // All below "folder/": '0' is the byte after '/'.
        let (low, high) = ([below, b"/"].concat(), [below, b"0"].concat());
        let sql = format!(
            "SELECT {NOTE_COLUMNS} FROM note WHERE ?1 OR (path >= ?2 AND path < ?3)
             ORDER BY coalesce(modified_ns, mtime_ns) DESC, path LIMIT ?4"
        );
        self.run("list recent notes", |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            let rows = select.query_map(params![below.is_empty(), low, high, signed(limit)], |row| {
                note_row(row).map(|row| row.entity)
            })?;
            rows.collect()
        })
    }

    /// The facts in a note, in the order of its text.
    pub(crate) fn observations_of(&self, note_id: i64) -> Result<Vec<Observation>, IndexError> {
        let sql = "SELECT category, content, context, tags, line FROM observation WHERE note_id = ?1 ORDER BY ordinal";
        self.run("read observations", |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map([note_id], |row| {
                Ok(Observation {
                    category: row.get(0)?,
                    content: row.get(1)?,
                    context: row.get(2)?,
                    tags: serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default(),
                    line: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The frontmatter of a note.
    pub(crate) fn properties_of(&self, note_id: i64) -> Result<Map<String, Value>, IndexError> {
        self.run("read properties", |connection| {
            let mut select =
                connection.prepare_cached("SELECT key, value FROM prop WHERE note_id = ?1 ORDER BY key")?;
            let rows = select.query_map([note_id], |row| {
                let value = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
                Ok((row.get(0)?, value))
            })?;
            rows.collect()
        })
    }

    /// The tags of a note, by name.
    pub(crate) fn tags_of(&self, note_id: i64) -> Result<Vec<String>, IndexError> {
        self.run("read tags", |connection: &Connection| {
            let mut select = connection.prepare_cached("SELECT name FROM tag WHERE note_id = ?1 ORDER BY key")?;
            select.query_map([note_id], |row| row.get(0))?.collect()
        })
    }
}

fn note_row(row: &Row<'_>) -> rusqlite::Result<NoteRow> {
    let path_bytes: Vec<u8> = row.get(1)?;
    Ok(NoteRow {
        id: row.get(0)?,
        entity: Entity {
            path: String::from_utf8_lossy(&path_bytes).into_owned(),
            path_bytes,
            title: row.get(2)?,
            note_type: row.get(3)?,
            permalink: row.get(4)?,
            created: row.get::<_, Option<i64>>(5)?.map(date::shown),
            modified: date::shown(row.get(6)?),
        },
    })
}
