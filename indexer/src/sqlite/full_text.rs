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

/// What a batch holds back of text before it writes early, in bytes.
const MAX_PENDING_BYTES: usize = 16 << 20;

const INSERT: &str = "INSERT INTO full_text (rowid, title, path, headings, tags, body, props)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE: &str = "INSERT INTO full_text (full_text, rowid, title, path, headings, tags, body, props)
    VALUES ('delete', ?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// The columns of one row, as the table sees them.
pub(super) type Columns = [String; 6];

/// A row that is out of date.
#[derive(Default)]
struct Stale {
    /// What the row holds; `None` for a note that had none.
    old: Option<Columns>,
    /// What it is to hold, if that is known without a look at the stored note.
    new: Option<Columns>,
}

/// Notes whose rows are out of date.
#[derive(Default)]
pub(super) struct Pending {
    rows: BTreeMap<i64, Stale>,
    bytes: usize,
}

impl Pending {
    /// Notes that a note is new: no row stands for it yet.
    pub(super) fn add(&mut self, id: i64) {
        self.rows.entry(id).or_default();
    }

    /// Notes that the note will change. Its stored text must still be the old one.
    pub(super) fn change(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<()> {
        if let Some(known) = self.rows.get_mut(&id) {
            known.new = None;
            return Ok(());
        }
        self.make_room(connection)?;
        let old = read(connection, id)?;
        self.bytes += size(&old);
        self.rows.insert(id, Stale { old, new: None });
        Ok(())
    }

    /// What a note that was added or will change is to hold, once it is stored so.
    pub(super) fn put(&mut self, connection: &Connection, id: i64, columns: Columns) -> rusqlite::Result<()> {
        let new = Some(columns);
        self.bytes += size(&new);
        if let Some(known) = self.rows.get_mut(&id) {
            known.new = new;
        }
        self.make_room(connection)
    }

    fn make_room(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.bytes > MAX_PENDING_BYTES {
            self.write(connection)?;
        }
        Ok(())
    }

    /// Brings the table up to date with the stored notes.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (id, stale) in std::mem::take(&mut self.rows) {
            if let Some(old) = stale.old {
                execute(connection, DELETE, id, &old)?;
            }
            let new = match stale.new {
                Some(new) => Some(new),
                None => read(connection, id)?,
            };
            if let Some(new) = new {
                execute(connection, INSERT, id, &new)?;
            }
        }
        self.bytes = 0;
        Ok(())
    }
}

fn size(columns: &Option<Columns>) -> usize {
    columns.iter().flatten().map(String::len).sum()
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
