//! Writing: one transaction of changes, with the sequence number they lead to.
//!
//! Owns the transaction, the notes as wholes, and their moves. A batch that is dropped without [`Batch::commit`] never
//! was. Does not own the full-text table (`full_text`) nor the rows that hang on a note (`parts`).
//! Does not parse; what a note means comes in as [`Note`].

use std::sync::MutexGuard;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::full_text::Pending;
use super::{Database, signed, unsigned};
use crate::columns::{encoding_code, path_slug};
use crate::error::IndexError;
use crate::note_path::is_note;
use crate::parse::{Encoding, Note, Text};
use crate::text::fold;
use crate::text::tokens::flat;

/// Tables keyed by `note_id` that a note fills anew each time.
const PARTS: [&str; 7] = [
    "DELETE FROM name WHERE note_id = ?1",
    "DELETE FROM link WHERE note_id = ?1",
    "DELETE FROM heading WHERE note_id = ?1",
    "DELETE FROM tag WHERE note_id = ?1",
    "DELETE FROM prop WHERE note_id = ?1",
    "DELETE FROM observation WHERE note_id = ?1",
    "DELETE FROM warning WHERE note_id = ?1",
];

/// A folder that cannot exist.
const INTERIM: &[u8] = b"\0moving";

/// An open transaction.
pub(crate) struct Batch<'a> {
    database: &'a Database,
    connection: MutexGuard<'a, Connection>,
    pending: Pending,
    /// The id of the next new note, once one was asked for: nobody else writes meanwhile.
    next_id: Option<i64>,
    /// A path at which nothing was just now; empty if none was looked for.
    absent: Vec<u8>,
    is_open: bool,
}

impl Database {
    /// Begins a transaction.
    pub(crate) fn begin(&self) -> Result<Batch<'_>, IndexError> {
        let connection = self.writer();
        if !connection.is_autocommit() {
            connection
                .execute_batch("ROLLBACK")
                .map_err(self.failed("end a broken batch"))?;
        }
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(self.failed("begin a batch"))?;
        Ok(Batch {
            database: self,
            connection,
            pending: Pending::default(),
            next_id: None,
            absent: Vec::new(),
            is_open: true,
        })
    }
}

impl Batch<'_> {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> IndexError + '_ {
        self.database.failed(action)
    }

    /// If the note at `path` has exactly this text already, takes over the time and says so.
    pub(crate) fn touch(&mut self, path: &[u8], text: &Text, mtime_ns: i64) -> Result<bool, IndexError> {
        self.try_touch(path, text, mtime_ns)
            .map_err(self.failed("compare a note"))
    }

    fn try_touch(&mut self, path: &[u8], text: &Text, mtime_ns: i64) -> rusqlite::Result<bool> {
        let Some(id) = self.id_of(path)? else {
            path.clone_into(&mut self.absent);
            return Ok(false);
        };
        let mut statement =
            self.prepare_cached("SELECT total_bytes, encoding, text FROM note_text WHERE note_id = ?1")?;
        let is_same = statement.query_row([id], |row| {
            Ok(row.get::<_, i64>(0)? == signed(text.total_bytes)
                && row.get::<_, i64>(1)? == encoding_code(text.encoding)
                && row.get_ref(2)?.as_bytes()? == text.text.as_bytes())
        })?;
        if is_same {
            self.prepare_cached("UPDATE note SET mtime_ns = ?2 WHERE id = ?1")?
                .execute(params![id, mtime_ns])?;
        }
        Ok(is_same)
    }

    /// The note at `path` now means this.
    pub(crate) fn put(&mut self, path: &[u8], text: &Text, note: &Note, mtime_ns: i64) -> Result<(), IndexError> {
        self.try_put(path, text, note, mtime_ns)
            .map_err(self.failed("write a note"))
    }

    fn try_put(&mut self, path: &[u8], text: &Text, note: &Note, mtime_ns: i64) -> rusqlite::Result<()> {
        // Usually it was just looked for, to compare it.
        let known = if self.absent == path { None } else { self.id_of(path)? };
        self.absent.clear();
        let id = match known {
            Some(id) => {
                self.change_full_text(id)?;
                for delete in PARTS {
                    self.prepare_cached(delete)?.execute([id])?;
                }
                id
            }
            None => {
                let id = self.next_id()?;
                self.pending.add(id);
                id
            }
        };
        let shown = String::from_utf8_lossy(path);
        let slug = path_slug(&shown);
        self.prepare_cached(
            "INSERT INTO note (id, path, path_key, title, title_flat, mtime_ns, type, created_ns, modified_ns, permalink)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET title = excluded.title, title_flat = excluded.title_flat,
             mtime_ns = excluded.mtime_ns, type = excluded.type, created_ns = excluded.created_ns,
             modified_ns = excluded.modified_ns, permalink = excluded.permalink",
        )?
        .execute(params![
            id,
            path,
            fold::key(&shown),
            note.title,
            flat(&note.title),
            mtime_ns,
            note.note_type,
            note.created_ns,
            note.modified_ns,
            note.permalink.as_deref().unwrap_or(&slug)
        ])?;
        let columns = self.put_text(id, &shown, text, note)?;
        self.pending.put(&self.connection, id, columns)?;
        self.put_names(id, &shown, &slug, note)?;
        self.put_links(id, &note.links)?;
        self.put_observations(id, &note.observations)?;
        self.put_parts(id, note)
    }

    /// There is no note at `path`.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), IndexError> {
        let removed = self
            .id_of(path)
            .and_then(|id| id.map_or(Ok(()), |id| self.remove_id(id)));
        removed.map_err(self.failed("remove a note"))
    }

    fn remove_id(&mut self, id: i64) -> rusqlite::Result<()> {
        self.change_full_text(id)?;
        for delete in PARTS {
            self.prepare_cached(delete)?.execute([id])?;
        }
        self.prepare_cached("DELETE FROM note_text WHERE note_id = ?1")?
            .execute([id])?;
        self.prepare_cached("DELETE FROM note WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// The note at `from` is at `to` now and is the same note; there is none at `to` yet. What it means is written next.
    pub(crate) fn move_note(&mut self, from: &[u8], to: &[u8]) -> Result<(), IndexError> {
        let moved = self
            .id_of(from)
            .and_then(|id| id.map_or(Ok(()), |id| self.rename(id, to)));
        moved.map_err(self.failed("move a note"))
    }

    /// The paths of all notes.
    pub(crate) fn paths(&self) -> Result<Vec<Vec<u8>>, IndexError> {
        let paths = self
            .prepare_cached("SELECT path FROM note ORDER BY id")
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect());
        paths.map_err(self.failed("list the notes"))
    }

    /// Moves the notes below the directory `from`; only paths and the permalinks they make change, no meaning. A note that is at its
    /// destination already is kept.
    pub(crate) fn move_folder(&mut self, from: &[u8], to: &[u8]) -> Result<(), IndexError> {
        let moved = if is_below(from, to) || is_below(to, from) {
            // One folder holds the other: old and new paths may be the same for different notes.
            self.try_move_folder(from, INTERIM)
                .and_then(|()| self.try_move_folder(INTERIM, to))
        } else {
            self.try_move_folder(from, to)
        };
        moved.map_err(self.failed("move notes"))
    }

    fn try_move_folder(&mut self, from: &[u8], to: &[u8]) -> rusqlite::Result<()> {
        // All below "from/": '0' is the byte after '/'.
        let (low, high) = ([from, b"/"].concat(), [from, b"0"].concat());
        let moving: Vec<(i64, Vec<u8>)> = self
            .prepare_cached("SELECT id, path FROM note WHERE path >= ?1 AND path < ?2 ORDER BY path")?
            .query_map(params![low, high], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, path) in moving {
            let new_path = [to, &path[from.len()..]].concat();
            if !is_note(&new_path) {
                self.remove_id(id)?;
                continue;
            }
            match self.id_of(&new_path)? {
                // It came with a batch that knew of this move already, so it is newer.
                Some(_) => self.remove_id(id)?,
                None => self.rename(id, &new_path)?,
            }
        }
        Ok(())
    }

    fn rename(&mut self, id: i64, path: &[u8]) -> rusqlite::Result<()> {
        self.change_full_text(id)?;
        let path_key = fold::key(&String::from_utf8_lossy(path));
        let mut update = self.prepare_cached("UPDATE note SET path = ?2, path_key = ?3 WHERE id = ?1")?;
        update.execute(params![id, path, path_key])?;
        self.change_slug(id, &String::from_utf8_lossy(path))
    }

    /// Whether there is a note at `path`.
    pub(crate) fn contains(&self, path: &[u8]) -> Result<bool, IndexError> {
        let found = self.id_of(path).map_err(self.failed("look for a note"))?;
        Ok(found.is_some())
    }

    /// The text of the note at `path` and its time, if there is one.
    pub(crate) fn text_of(&self, path: &[u8]) -> Result<Option<(Text, i64)>, IndexError> {
        let found = self
            .prepare_cached(
                "SELECT t.text, t.total_bytes, t.encoding, note.mtime_ns
                 FROM note JOIN note_text t ON t.note_id = note.id WHERE note.path = ?1",
            )
            .and_then(|mut select| select.query_row([path], read_text).optional());
        found.map_err(self.failed("read a note"))
    }

    /// Forgets every note.
    pub(crate) fn clear(&mut self) -> Result<(), IndexError> {
        let tables = "DELETE FROM note; DELETE FROM note_text; DELETE FROM name; DELETE FROM link; DELETE FROM heading;
            DELETE FROM tag; DELETE FROM prop; DELETE FROM warning; DELETE FROM observation;
            INSERT INTO full_text (full_text) VALUES ('delete-all')";
        self.pending = Pending::default();
        self.next_id = None;
        self.execute_batch(tables).map_err(self.failed("clear"))
    }

    /// Notes that all texts are parsed as this program parses them, and keeps the sequence number.
    pub(crate) fn commit_parsed(self, version: i64) -> Result<(), IndexError> {
        let seq = self
            .prepare_cached("UPDATE state SET value = ?1 WHERE key = 'parse_version'")
            .and_then(|mut update| update.execute([version]))
            .and_then(|_| {
                self.prepare_cached("SELECT value FROM state WHERE key = 'indexed_seq'")?
                    .query_row([], |row| row.get(0))
            });
        let seq = seq.map_err(self.failed("stamp a batch"))?;
        self.commit(unsigned(seq))
    }

    /// Makes the batch durable, together with the sequence number it leads to.
    pub(crate) fn commit(mut self, seq: u64) -> Result<(), IndexError> {
        let written = self.pending.write(&self.connection);
        written.map_err(self.failed("write the full text"))?;
        let stamped = self
            .prepare_cached("UPDATE state SET value = ?1 WHERE key = 'indexed_seq'")
            .and_then(|mut update| update.execute([signed(seq)]));
        stamped.map_err(self.failed("stamp a batch"))?;
        self.execute_batch("COMMIT").map_err(self.failed("commit a batch"))?;
        self.is_open = false;
        Ok(())
    }

    /// To be called before anything searchable of the note changes.
    fn change_full_text(&mut self, id: i64) -> rusqlite::Result<()> {
        self.pending.change(&self.connection, id)
    }

    fn next_id(&mut self) -> rusqlite::Result<i64> {
        let id = match self.next_id {
            Some(id) => id,
            None => self
                .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM note")?
                .query_row([], |row| row.get(0))?,
        };
        self.next_id = Some(id + 1);
        Ok(id)
    }

    fn id_of(&self, path: &[u8]) -> rusqlite::Result<Option<i64>> {
        self.prepare_cached("SELECT id FROM note WHERE path = ?1")?
            .query_row([path], |row| row.get(0))
            .optional()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // If even this fails, the next batch tries again before it begins.
            let rolled_back = self.connection.execute_batch("ROLLBACK");
            rolled_back.unwrap_or_else(|error| tracing::warn!(%error, "Cannot roll back a batch of the index"));
        }
    }
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

fn read_text(row: &Row<'_>) -> rusqlite::Result<(Text, i64)> {
    let text: String = row.get(0)?;
    let total_bytes = unsigned(row.get(1)?);
    let encoding = match row.get(2)? {
        0 => Encoding::Utf8,
        1 => Encoding::Lossy,
        _ => Encoding::Utf16,
    };
    let is_prefix = total_bytes > crate::MAX_NOTE_BYTES;
    Ok((
        Text {
            text,
            encoding,
            is_prefix,
            total_bytes,
        },
        row.get(3)?,
    ))
}
