//! The table of pins, and the rows that a look for missing content reads.

use super::Tables;
use super::query::unsigned;
use super::record::Mutation;
use crate::error::Result;
use crate::types::Ino;
use rusqlite::params;

/// One name of a file with content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinnedRow {
    pub(crate) ino: Ino,
    pub(crate) parent: Ino,
    pub(crate) name: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mtime_s: i64,
}

impl Tables {
    pub(super) fn load_pins(&mut self) -> rusqlite::Result<()> {
        self.pins.clear();
        let mut pins = self.connection.prepare("SELECT dir, name FROM pin")?;
        let mut rows = pins.query([])?;
        while let Some(row) = rows.next()? {
            self.pins.entry(unsigned(row, 0)?).or_default().insert(row.get(1)?);
        }
        Ok(())
    }

    pub(super) fn apply_to_pins(&mut self, mutation: &Mutation<'_>) -> Result<()> {
        match mutation {
            Mutation::PutPin { dir, name } => {
                self.pins.entry(*dir).or_default().insert(name.clone());
                self.execute("INSERT OR REPLACE INTO pin VALUES (?1, ?2)", params![*dir as i64, name])
            }
            Mutation::DropPin { dir, name } => {
                if let Some(names) = self.pins.get_mut(dir) {
                    names.remove(name);
                    if names.is_empty() {
                        self.pins.remove(dir);
                    }
                }
                self.execute(
                    "DELETE FROM pin WHERE dir = ?1 AND name = ?2",
                    params![*dir as i64, name],
                )
            }
            other => self.apply_to_moves(other),
        }
    }

    /// A folder has gone, and its pins with it.
    pub(super) fn drop_pins_of(&mut self, dir: Ino) -> Result<()> {
        match self.pins.remove(&dir) {
            Some(_) => self.execute("DELETE FROM pin WHERE dir = ?1", params![dir as i64]),
            None => Ok(()),
        }
    }

    /// At most `limit` names of files with content, as of the last commit, in the order of inode, folder and name, after the one given.
    pub(crate) fn rows_to_pin(&mut self, after: (Ino, Ino, &[u8]), limit: usize) -> Result<Vec<PinnedRow>> {
        let sql = "SELECT i.ino, d.parent, d.name, i.size, i.mtime_s FROM inode i JOIN dentry d ON d.ino = i.ino \
                   WHERE i.ino >= ?1 AND (i.ino > ?1 OR (d.parent, d.name) > (?2, ?3)) AND i.kind = 0 AND i.size > 0 \
                   ORDER BY i.ino, d.parent, d.name LIMIT ?4";
        let (ino, parent, name) = after;
        self.many(sql, params![ino as i64, parent as i64, name, limit as i64], |row| {
            Ok(PinnedRow {
                ino: unsigned(row, 0)?,
                parent: unsigned(row, 1)?,
                name: row.get(2)?,
                size: unsigned(row, 3)?,
                mtime_s: row.get(4)?,
            })
        })
    }

    /// At most `limit` directories after `dir` whose names are not known, as of the last commit, in order.
    pub(crate) fn unlisted_after(&mut self, dir: Ino, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode WHERE kind = 1 AND known = 0 AND ino > ?1 AND nlink > 0 ORDER BY ino LIMIT ?2";
        self.many(sql, params![dir as i64, limit as i64], |row| unsigned(row, 0))
    }
}
