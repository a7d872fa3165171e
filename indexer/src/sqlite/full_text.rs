//! Keeping the full-text table in step with the notes of a batch.
//!
//! The table keeps no text, so a row leaves it only by being handed what was put in; and it takes rows fast only in
//! the order of their ids. So a batch notes here which notes change, with what they were, and all is written once at
//! its end, in order, however often a note changed in between.
//!
//! (FTS5's own way to delete, `contentless_delete`, was measured: its tombstones are hashed so that neighbouring ids
//! collide, which made updates five times and searches after them twice as slow.)

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::offset;
use crate::columns::full_text;

/// What a batch holds back of old text before it writes early, in bytes.
const MAX_PENDING_BYTES: usize = 16 << 20;

const INSERT: &str = "INSERT INTO full_text (rowid, title, path, headings, tags, body, props)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE: &str = "INSERT INTO full_text (full_text, rowid, title, path, headings, tags, body, props)
    VALUES ('delete', ?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// The columns of one row, as the table sees them.
type Columns = [String; 6];

/// Notes whose rows are out of date, and what these rows hold; `None` for notes that had none.
#[derive(Default)]
pub(super) struct Pending {
    rows: BTreeMap<i64, Option<Columns>>,
    bytes: usize,
}

impl Pending {
    /// Notes that a note is new: no row stands for it yet.
    pub(super) fn add(&mut self, id: i64) {
        self.rows.entry(id).or_insert(None);
    }

    /// Notes that the note will change. Its stored text must still be the old one.
    pub(super) fn change(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<()> {
        if self.rows.contains_key(&id) {
            return Ok(());
        }
        if self.bytes > MAX_PENDING_BYTES {
            self.write(connection)?;
        }
        let old = read(connection, id)?;
        self.bytes += old.iter().flatten().map(String::len).sum::<usize>();
        self.rows.insert(id, old);
        Ok(())
    }

    /// Brings the table up to date with the stored notes.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (id, old) in std::mem::take(&mut self.rows) {
            if let Some(old) = old {
                execute(connection, DELETE, id, &old)?;
            }
            if let Some(new) = read(connection, id)? {
                execute(connection, INSERT, id, &new)?;
            }
        }
        self.bytes = 0;
        Ok(())
    }
}

fn execute(connection: &Connection, sql: &str, id: i64, columns: &Columns) -> rusqlite::Result<()> {
    let [title, path, headings, tags, body, props] = columns;
    connection
        .prepare_cached(sql)?
        .execute(params![id, title, path, headings, tags, body, props])?;
    Ok(())
}

/// The row of a note, made from what is stored: the same when it goes in and when it comes out again.
fn read(connection: &Connection, id: i64) -> rusqlite::Result<Option<Columns>> {
    let sql = "SELECT note.title, note.path, t.headings, t.tags, t.text, t.props, t.body_at
        FROM note JOIN note_text t ON t.note_id = note.id WHERE note.id = ?1";
    connection.prepare_cached(sql)?.query_row([id], columns).optional()
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    let text = |column| -> rusqlite::Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
    let path = String::from_utf8_lossy(row.get_ref(1)?.as_bytes()?);
    let body = text(4)?.get(offset(row.get(6)?)..).unwrap_or_default();
    Ok(full_text([text(0)?, &path, text(2)?, text(3)?, body, text(5)?]))
}
