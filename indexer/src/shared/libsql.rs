//! The shared index in libSQL: Turso, or a `sqld` of one's own.
//!
//! Owns the SQL of all calls but search. Its parts: `hrana` (the protocol, over HTTP), `schema` (tables and migrations),
//! `search`, `knowledge` (tags, recent notes, what is around one). Each write is one transaction in one request, which the server ends by itself if a statement fails; no
//! transaction ever waits for this machine.

mod hrana;
mod knowledge;
mod schema;
mod search;

use serde_json::Value as Json;

use self::hrana::{Client, Row, Statement};
use super::rows::{Rows, hex, unhex};
use super::version::rule;
use super::{ObjectVersion, SharedAddress, SharedError, SharedRow};

/// Tables keyed by `note_id` that a note fills anew each time. The full text comes first: it leaves by what `note_text` holds.
const PARTS: [&str; 8] = [
    "DELETE FROM full_text WHERE rowid IN",
    "DELETE FROM note_text WHERE note_id IN",
    "DELETE FROM name WHERE note_id IN",
    "DELETE FROM link WHERE note_id IN",
    "DELETE FROM heading WHERE note_id IN",
    "DELETE FROM tag WHERE note_id IN",
    "DELETE FROM prop WHERE note_id IN",
    "DELETE FROM observation WHERE note_id IN",
];

/// The notes that the running transaction has changed: their numbers are beyond the vault's, which rises at its end.
const CHANGED: &str = "(SELECT id FROM note WHERE vault_id = ?1 AND seq > (SELECT seq FROM vault WHERE id = ?1))";

const ROW_COLUMNS: &str = "hex(path), etag, stored_ms, writer, write_id, gone, seq, title";

/// One vault in a libSQL database.
pub(super) struct Libsql {
    client: Client,
    vault_id: i64,
    /// The tables were made, or brought up to date, while this was opened.
    pub(super) was_older: bool,
}

impl Libsql {
    pub(super) async fn open(address: &SharedAddress, vault: &str) -> Result<Self, SharedError> {
        let client = Client::new(address)?;
        let (vault_id, was_older) = schema::open(&client, vault).await?;
        Ok(Self {
            client,
            vault_id,
            was_older,
        })
    }

    pub(super) async fn apply(&self, rows: &Rows) -> Result<(), SharedError> {
        let statements = self.statements(rows);
        self.client.transaction("write to the shared index", statements).await?;
        Ok(())
    }

    fn statements(&self, rows: &Rows) -> Vec<Statement> {
        let vault = || Statement::new("").integer(self.vault_id);
        let mut statements = vec![vault().sql(upsert()).rows(&rows.notes)];
        statements.extend(PARTS.map(|delete| vault().sql(format!("{delete} {CHANGED}"))));
        let texts: Vec<Json> = rows.texts.iter().map(text_row).collect();
        let tables = [
            ("note_text", 12, &texts),
            ("name", 3, &rows.names),
            ("link", 15, &rows.links),
            ("heading", 5, &rows.headings),
            ("tag", 3, &rows.tags),
            ("prop", 3, &rows.props),
            ("observation", 8, &rows.observations),
        ];
        for (table, columns, rows) in tables.into_iter().filter(|(_, _, rows)| !rows.is_empty()) {
            statements.push(vault().sql(insert(table, columns)).rows(rows));
        }
        statements.push(vault().sql(format!(
            "INSERT INTO full_text (rowid, title, path, headings, tags, body, props)
             SELECT note_id, title, path, headings, tags, body, props FROM searchable WHERE note_id IN {CHANGED}"
        )));
        let advance = format!("UPDATE vault SET seq = seq + ?2 WHERE id = ?1 AND EXISTS {CHANGED}");
        statements.push(
            vault()
                .sql(advance)
                .integer(i64::try_from(rows.count).unwrap_or(i64::MAX)),
        );
        statements
    }

    pub(super) async fn changes_after(&self, cursor: u64, limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM note WHERE vault_id = ?1 AND seq > (SELECT iif(seq < ?2, 0, ?2) FROM vault WHERE id = ?1)
             ORDER BY seq LIMIT ?3"
        );
        let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
        self.rows(Statement::new(sql).integer(self.vault_id).integer(cursor).count(limit))
            .await
    }

    pub(super) async fn row(&self, path: &[u8]) -> Result<Option<SharedRow>, SharedError> {
        let sql = format!("SELECT {ROW_COLUMNS} FROM note WHERE vault_id = ?1 AND path = unhex(?2)");
        let rows = self
            .rows(Statement::new(sql).integer(self.vault_id).text(hex(path)))
            .await?;
        Ok(rows.into_iter().next())
    }

    /// `paths` is a JSON list of paths in hexadecimal digits.
    pub(super) async fn rows_at(&self, paths: &str) -> Result<Vec<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM note WHERE vault_id = ?1 AND path IN (SELECT unhex(value) FROM json_each(?2))"
        );
        self.rows(Statement::new(sql).integer(self.vault_id).text(paths)).await
    }

    pub(super) async fn paths_after(&self, path: &[u8], limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let sql =
            format!("SELECT {ROW_COLUMNS} FROM note WHERE vault_id = ?1 AND path > unhex(?2) ORDER BY path LIMIT ?3");
        self.rows(Statement::new(sql).integer(self.vault_id).text(hex(path)).count(limit))
            .await
    }

    pub(super) async fn forget_gone(&self, days: u32) -> Result<u64, SharedError> {
        let sql = "DELETE FROM note WHERE vault_id = ?1 AND gone = 1 AND changed_s <= unixepoch() - ?2 * 86400";
        let statement = Statement::new(sql).integer(self.vault_id).integer(i64::from(days));
        let answer = self.client.run("forget what is gone", vec![statement]).await?;
        Ok(answer.first().map_or(0, |rows| rows.affected))
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<SharedRow>, SharedError> {
        let answers = self.client.run("read the shared index", vec![statement]).await?;
        Ok(answers
            .into_iter()
            .flat_map(|answer| answer.rows)
            .map(shared_row)
            .collect())
    }
}

fn upsert() -> String {
    format!(
        "INSERT INTO note (vault_id, seq, path, path_key, title, title_flat, type, permalink, created_ns, modified_ns, mtime_ns,
           gone, etag, stored_ms, writer, write_id, replaces, parse_version)
         SELECT ?1, (SELECT seq FROM vault WHERE id = ?1) + 1 + (j.value ->> 0), unhex(j.value ->> 1), j.value ->> 2,
           {}
         FROM json_each(?2) AS j WHERE true
         ON CONFLICT (vault_id, path) DO UPDATE SET seq = excluded.seq, path_key = excluded.path_key,
           title = iif(excluded.gone, note.title, excluded.title), title_flat = excluded.title_flat, type = excluded.type,
           permalink = excluded.permalink, created_ns = excluded.created_ns, modified_ns = excluded.modified_ns,
           mtime_ns = excluded.mtime_ns, gone = excluded.gone, etag = excluded.etag, stored_ms = excluded.stored_ms,
           writer = excluded.writer, write_id = excluded.write_id, replaces = excluded.replaces,
           parse_version = excluded.parse_version, changed_s = unixepoch()
         WHERE {}",
        values(3, 17),
        rule()
    )
}

/// Rows of a table whose first column is the note: those of changes that won.
fn insert(table: &str, columns: usize) -> String {
    format!(
        "INSERT INTO {table} SELECT note.id, {} FROM json_each(?2) AS j CROSS JOIN note
         WHERE note.vault_id = ?1 AND note.seq = (SELECT seq FROM vault WHERE id = ?1) + 1 + (j.value ->> 0)",
        values(1, columns)
    )
}

fn values(first: usize, end: usize) -> String {
    let values: Vec<String> = (first..end).map(|column| format!("j.value ->> {column}")).collect();
    values.join(", ")
}

/// The body of a text without spaceless scripts is its own searchable form, and is stored once.
fn text_row(row: &super::rows::TextRow) -> Json {
    let [title, path, headings, tags, body, props] = &row.searchable;
    let body = (*body != row.body).then_some(body);
    serde_json::json!([
        row.at,
        row.total_bytes,
        row.encoding,
        row.body_line(),
        row.head,
        row.body,
        title,
        path,
        headings,
        tags,
        body,
        props,
    ])
}

fn shared_row(row: Row) -> SharedRow {
    SharedRow {
        path: unhex(row.text(0)),
        version: ObjectVersion {
            etag: row.text(1).to_owned(),
            stored_ms: row.integer(2),
            writer: row.text(3).to_owned(),
            write_id: row.text(4).to_owned(),
        },
        gone: row.integer(5) != 0,
        seq: u64::try_from(row.integer(6)).unwrap_or(0),
        title: row.text(7).to_owned(),
    }
}
