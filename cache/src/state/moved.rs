//! The table of moves that programs of this machine have made, kept until somebody has worked them off.

use super::Tables;
use super::query::unsigned;
use super::record::{Moved, Mutation};
use crate::error::Result;
use rusqlite::params;

impl Tables {
    pub(super) fn apply_to_moves(&mut self, mutation: &Mutation<'_>) -> Result<()> {
        match mutation {
            Mutation::PutMoved(moved) => self.execute(
                "INSERT OR REPLACE INTO moved VALUES (?1, ?2, ?3, ?4)",
                params![moved.id as i64, moved.from, moved.to, moved.at_ms as i64],
            ),
            Mutation::DropMoved(id) => self.execute("DELETE FROM moved WHERE id = ?1", params![*id as i64]),
            _ => Ok(()),
        }
    }

    /// The moves that are recorded, in their order.
    pub(crate) fn moves(&mut self) -> Result<Vec<Moved>> {
        let sql = "SELECT id, \"from\", \"to\", at_ms FROM moved ORDER BY id";
        self.many(sql, [], |row| {
            Ok(Moved {
                id: unsigned(row, 0)?,
                from: row.get(1)?,
                to: row.get(2)?,
                at_ms: unsigned(row, 3)?,
            })
        })
    }

    /// The number for the next move, and how many are recorded.
    pub(crate) fn next_move(&mut self) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(max(id), 0) + 1, count(*) FROM moved";
        let next = self.one(sql, [], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
        Ok(next.unwrap_or((1, 0)))
    }
}
