//! What libSQL is asked of tags, of recent notes, and of what is around a note.
//!
//! Owns the SELECTs. Does not resolve links: the notes that a link may mean are handed out with their texts.

use super::Libsql;
use super::hrana::{Row, Statement};
use crate::model::{Change, Entity};
use crate::shared::SharedError;
use crate::shared::hits::{change, entity};
use crate::shared::rows::{hex, unhex};

const ACTION: &str = "ask the shared index";

/// Notes around one: `?2` is its path in hexadecimal digits.
const AROUND: &str = "WITH target AS (SELECT id FROM note WHERE vault_id = ?1 AND path = unhex(?2) AND gone = 0),
    called AS (SELECT key FROM name WHERE note_id IN target),
    naming AS (SELECT note_id, key, whole_key, slug_key FROM link WHERE key IN called
      UNION SELECT note_id, key, whole_key, slug_key FROM link WHERE whole_key IN called
      UNION SELECT note_id, key, whole_key, slug_key FROM link WHERE slug_key IN called
      UNION SELECT note_id, key, whole_key, slug_key FROM link WHERE note_id IN target),
    meant AS (SELECT key FROM naming UNION SELECT whole_key FROM naming UNION SELECT slug_key FROM naming),
    around AS (SELECT id FROM target UNION SELECT note_id FROM naming UNION SELECT note_id FROM name WHERE key IN meant)
  SELECT hex(path), head, body, mtime_ns FROM note JOIN note_text ON note_id = id
  WHERE vault_id = ?1 AND gone = 0 AND id IN around AND EXISTS (SELECT 1 FROM target)
  ORDER BY id NOT IN target, path LIMIT ?3";

impl Libsql {
    pub(in crate::shared) async fn tags(&self, limit: usize) -> Result<Vec<(String, u64)>, SharedError> {
        let sql =
            "SELECT max(name) AS shown, count(*) FROM note JOIN tag ON note_id = id WHERE vault_id = ?1 AND gone = 0
            GROUP BY key ORDER BY count(*) DESC, shown LIMIT ?2";
        let rows = self
            .ask(Statement::new(sql).integer(self.vault_id).count(limit))
            .await?;
        let tag = |row: &Row| (row.text(0).to_owned(), u64::try_from(row.integer(1)).unwrap_or(0));
        Ok(rows.iter().map(tag).collect())
    }

    /// The range is that of the paths below a folder, in hexadecimal digits.
    pub(in crate::shared) async fn recent(
        &self,
        everywhere: bool,
        (low, high): (String, String),
        limit: usize,
    ) -> Result<Vec<Entity>, SharedError> {
        let sql = "SELECT hex(path), title, type, permalink, created_ns, coalesce(modified_ns, mtime_ns) FROM note
            WHERE vault_id = ?1 AND gone = 0 AND (?2 OR (path >= unhex(?3) AND path < unhex(?4)))
            ORDER BY coalesce(modified_ns, mtime_ns) DESC, path LIMIT ?5";
        let statement = Statement::new(sql).integer(self.vault_id).integer(everywhere.into());
        let rows = self.ask(statement.text(low).text(high).count(limit)).await?;
        let entities = rows.iter().map(|row| {
            let texts = [1, 2, 3].map(|column| row.text(column).to_owned());
            entity((unhex(row.text(0)), texts, [row.number(4), row.number(5)]))
        });
        Ok(entities.collect())
    }

    pub(in crate::shared) async fn around(&self, path: &[u8], limit: usize) -> Result<Vec<Change>, SharedError> {
        let statement = Statement::new(AROUND)
            .integer(self.vault_id)
            .text(hex(path))
            .count(limit);
        let rows = self.ask(statement).await?;
        let texts = |row: &Row| [row.text(1).to_owned(), row.text(2).to_owned()];
        let changes = rows
            .iter()
            .map(|row| change(unhex(row.text(0)), texts(row), row.integer(3)));
        Ok(changes.collect())
    }

    async fn ask(&self, statement: Statement) -> Result<Vec<Row>, SharedError> {
        let answers = self.client.run(ACTION, vec![statement]).await?;
        Ok(answers.into_iter().flat_map(|answer| answer.rows).collect())
    }
}
