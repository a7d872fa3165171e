//! What PostgreSQL is asked of tags, of recent notes, and of what is around a note.
//!
//! Owns the SELECTs. Does not resolve links: the notes that a link may mean are handed out with their texts.

use super::connection::{Parameter, Row, Statement};
use super::{Postgres, is_path};
use crate::model::{Change, Entity};
use crate::shared::SharedError;
use crate::shared::hits::{change, entity};

const ACTION: &str = "ask the shared index";

impl Postgres {
    pub(in crate::shared) async fn tags(&self, limit: usize) -> Result<Vec<(String, u64)>, SharedError> {
        let sql = "SELECT max(name) AS shown, count(*) FROM notefs.note JOIN notefs.tag ON note_id = id
            WHERE vault_id = $1 AND gone = 0 GROUP BY key ORDER BY count(*) DESC, shown LIMIT $2";
        let rows = self.connection.query(ACTION, &self.statement(sql).count(limit)).await?;
        let tag = |row: &Row| (row.text(0), u64::try_from(row.integer(1)).unwrap_or(0));
        Ok(rows.iter().map(tag).collect())
    }

    /// The range is that of the paths below a folder, in hexadecimal digits.
    pub(in crate::shared) async fn recent(
        &self,
        everywhere: bool,
        (low, high): (String, String),
        limit: usize,
    ) -> Result<Vec<Entity>, SharedError> {
        let sql = "SELECT path, title, type, permalink, created_ns, coalesce(modified_ns, mtime_ns) FROM notefs.note
            WHERE vault_id = $1 AND gone = 0 AND ($2 = 1 OR (path >= decode($3, 'hex') AND path < decode($4, 'hex')))
            ORDER BY coalesce(modified_ns, mtime_ns) DESC, path LIMIT $5";
        let statement = self.statement(sql).with(Parameter::Integer(everywhere.into()));
        let statement = statement
            .with(Parameter::Text(low))
            .with(Parameter::Text(high))
            .count(limit);
        let rows = self.connection.query(ACTION, &statement).await?;
        let entities = rows.iter().map(|row| {
            let texts = [1, 2, 3].map(|column| row.text(column));
            entity((row.bytes(0), texts, [row.number(4), row.number(5)]))
        });
        Ok(entities.collect())
    }

    pub(in crate::shared) async fn around(&self, path: &[u8], limit: usize) -> Result<Vec<Change>, SharedError> {
        let path = Parameter::Bytes(path.to_owned());
        let rows = self
            .connection
            .query(ACTION, &self.around_statement(path, limit))
            .await?;
        let texts = |row: &Row| [row.text(1), row.text(2)];
        Ok(rows
            .iter()
            .map(|row| change(row.bytes(0), texts(row), row.integer(3)))
            .collect())
    }

    fn around_statement(&self, path: Parameter, limit: usize) -> Statement {
        // Each key is looked up by its beginning, which is all that the index has.
        let naming = ["key", "whole_key", "slug_key"].map(|column| {
            format!(
                "SELECT link.note_id, link.key, whole_key, slug_key FROM called JOIN notefs.link
                 ON left(link.{column}, 256) = left(called.key, 256) AND link.{column} = called.key"
            )
        });
        let sql = format!(
            "WITH target AS (SELECT id FROM notefs.note WHERE vault_id = $1 AND gone = 0 AND {}),
               called AS (SELECT key FROM notefs.name WHERE note_id IN (SELECT id FROM target)),
               naming AS ({} UNION SELECT note_id, key, whole_key, slug_key FROM notefs.link
                 WHERE note_id IN (SELECT id FROM target)),
               meant AS (SELECT key FROM naming UNION SELECT whole_key FROM naming UNION SELECT slug_key FROM naming),
               around AS (SELECT id FROM target UNION SELECT note_id FROM naming
                 UNION SELECT name.note_id FROM meant JOIN notefs.name
                   ON left(name.key, 256) = left(meant.key, 256) AND name.key = meant.key)
             SELECT path, head, body, mtime_ns FROM notefs.note JOIN notefs.note_text ON note_id = id
             WHERE vault_id = $1 AND gone = 0 AND id IN (SELECT id FROM around) AND EXISTS (SELECT 1 FROM target)
             ORDER BY id NOT IN (SELECT id FROM target), path LIMIT $3",
            is_path("$2"),
            naming.join(" UNION "),
        );
        self.statement(sql).with(path).count(limit)
    }
}
