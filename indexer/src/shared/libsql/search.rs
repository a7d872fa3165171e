//! Search in libSQL: the expressions and conditions of `fts5`, and bm25 in the server.
//!
//! Owns the SELECT. Notes whose title is the query come first, then the best by rank, then by path. Does not cut snippets.

use super::Libsql;
use super::hrana::Statement;
use crate::fts5;
use crate::query::Query;
use crate::shared::SharedError;
use crate::shared::hits::{EXACT_TITLE_SCORE, Found, MAX_EXACT_TITLES, Page};
use crate::shared::rows::unhex;

impl Libsql {
    pub(in crate::shared) async fn search(&self, query: &Query, page: Page) -> Result<Vec<Found>, SharedError> {
        let (filters, filter_values) = fts5::filters(query);
        let mut statement = Statement::new("");
        let best = if query.wanted.is_empty() {
            format!(
                "SELECT id, path, title, 0.0 AS score FROM note WHERE vault_id = ? AND gone = 0{filters}
                 ORDER BY path LIMIT ? OFFSET ?"
            )
        } else {
            let wanted = fts5::all_of(&query.wanted, fts5::term);
            statement = statement
                .integer(self.vault_id)
                .text(query.plain_text().unwrap_or_default())
                .integer(MAX_EXACT_TITLES)
                .value(fts5::Value::Real(EXACT_TITLE_SCORE))
                .text(fts5::without_unwanted(&wanted, query));
            format!(
                "SELECT note.id AS id, note.path AS path, note.title AS title,
                   -rank + iif(note.id IN (SELECT id FROM note WHERE vault_id = ? AND gone = 0 AND title_flat = ? AND title_flat <> ''
                     ORDER BY path LIMIT ?), ?, 0.0) AS score
                 FROM full_text CROSS JOIN note ON note.id = full_text.rowid
                 WHERE full_text MATCH ? AND vault_id = ? AND gone = 0{filters}
                 ORDER BY score DESC, note.path LIMIT ? OFFSET ?"
            )
        };
        let sql = format!(
            "SELECT hex(best.path), best.title, best.score, substr(t.body, 1, ?), t.body_line
             FROM ({best}) AS best JOIN note_text AS t ON t.note_id = best.id ORDER BY best.score DESC, best.path"
        );
        // The scanned length stands first in the text, so it goes first among the parameters.
        let mut all = Statement::new(sql)
            .count(page.scanned_chars)
            .and(statement)
            .integer(self.vault_id);
        for value in filter_values {
            all = all.value(value);
        }
        let all = all.count(page.limit).count(page.offset);
        let answers = self.client.run("search the shared index", vec![all]).await?;
        let rows = answers.into_iter().flat_map(|answer| answer.rows);
        let found = rows.map(|row| Found {
            path: unhex(row.text(0)),
            title: row.text(1).to_owned(),
            score: row.real(2),
            body: row.text(3).to_owned(),
            body_line: usize::try_from(row.integer(4)).unwrap_or(1),
        });
        Ok(found.collect())
    }
}
