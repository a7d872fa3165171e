//! The shared index in PostgreSQL.
//!
//! Owns the SQL of all calls but search. Its parts: `connection` (one, reconnected when it breaks; `tls` for it), `schema`
//! (tables and migrations), `vector` (full text and queries as PostgreSQL's types), `search`, `knowledge` (tags, recent
//! notes, what is around one). Each write is one
//! transaction whose statements are sent together. Writers of one vault wait for each other at its row, so that numbers
//! become visible in their order.

mod connection;
mod knowledge;
mod schema;
mod search;
mod tls;
mod vector;

use serde_json::{Value as Json, json};

use self::connection::{Connection, Parameter, Statement};
use super::rows::{Rows, TextRow};
use super::version::rule;
use super::{ObjectVersion, SharedAddress, SharedError, SharedRow};

/// Tables keyed by `note_id` that a note fills anew each time.
const PARTS: [&str; 7] = ["note_text", "name", "link", "heading", "tag", "prop", "observation"];

/// The notes that the running transaction has changed: their numbers are beyond the vault's, which rises at its end.
const CHANGED: &str =
    "(SELECT id FROM notefs.note WHERE vault_id = $1 AND seq > (SELECT seq FROM notefs.vault WHERE id = $1))";

/// Bytes of a path that are in the index as they are, for the order; a row of an index takes less than the longest path.
const INDEXED_PATH_BYTES: usize = 1_000;

const ROW_COLUMNS: &str = "path, etag, stored_ms, writer, write_id, gone::bigint, seq, title";

/// One vault in a PostgreSQL database.
pub(super) struct Postgres {
    connection: Connection,
    vault_id: i64,
    /// The tables were made, or brought up to date, while this was opened.
    pub(super) was_older: bool,
}

impl Postgres {
    pub(super) async fn open(address: &SharedAddress, vault: &str) -> Result<Self, SharedError> {
        let connection = Connection::new(address)?;
        let (vault_id, was_older) = schema::open(&connection, vault).await?;
        Ok(Self {
            connection,
            vault_id,
            was_older,
        })
    }

    fn statement(&self, sql: impl Into<String>) -> Statement {
        Statement::new(sql).with(Parameter::Integer(self.vault_id))
    }

    pub(super) async fn apply(&self, rows: &Rows) -> Result<(), SharedError> {
        let statements = self.statements(rows);
        self.connection
            .transaction("write to the shared index", statements)
            .await
    }

    fn statements(&self, rows: &Rows) -> Vec<Statement> {
        let rows_of = |rows: &[Json]| Parameter::Text(serde_json::to_string(rows).unwrap_or_default());
        let mut statements = vec![
            self.statement("SELECT seq FROM notefs.vault WHERE id = $1 FOR UPDATE"),
            self.statement(upsert()).with(rows_of(&rows.notes)),
        ];
        statements.extend(
            PARTS.map(|table| self.statement(format!("DELETE FROM notefs.{table} WHERE note_id IN {CHANGED}"))),
        );
        let texts: Vec<Json> = rows.texts.iter().map(text_row).collect();
        let tables: [(&str, &str, &[Json]); 7] = [
            ("note_text", "bigint smallint integer text text tsvector", &texts),
            ("name", "text smallint", &rows.names),
            (
                "link",
                "integer text text text text text smallint smallint smallint integer bigint text text text",
                &rows.links,
            ),
            ("heading", "integer smallint integer text", &rows.headings),
            ("tag", "text text", &rows.tags),
            ("prop", "text jsonb", &rows.props),
            (
                "observation",
                "integer text text text text jsonb integer",
                &rows.observations,
            ),
        ];
        for (table, types, rows) in tables.into_iter().filter(|(_, _, rows)| !rows.is_empty()) {
            statements.push(self.statement(insert(table, types)).with(rows_of(rows)));
        }
        let advance = format!("UPDATE notefs.vault SET seq = seq + $2 WHERE id = $1 AND EXISTS {CHANGED}");
        let count = i64::try_from(rows.count).unwrap_or(i64::MAX);
        statements.push(self.statement(advance).with(Parameter::Integer(count)));
        statements
    }

    pub(super) async fn changes_after(&self, cursor: u64, limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM notefs.note WHERE vault_id = $1
             AND seq > (SELECT CASE WHEN seq < $2 THEN 0 ELSE $2 END FROM notefs.vault WHERE id = $1) ORDER BY seq LIMIT $3"
        );
        let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
        self.rows(self.statement(sql).with(Parameter::Integer(cursor)).count(limit))
            .await
    }

    pub(super) async fn row(&self, path: &[u8]) -> Result<Option<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM notefs.note WHERE vault_id = $1 AND {}",
            is_path("$2")
        );
        let rows = self
            .rows(self.statement(sql).with(Parameter::Bytes(path.to_owned())))
            .await?;
        Ok(rows.into_iter().next())
    }

    /// `paths` is a JSON list of paths in hexadecimal digits.
    pub(super) async fn rows_at(&self, paths: &str) -> Result<Vec<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM jsonb_array_elements_text($2::jsonb) AS wanted (digits)
             JOIN notefs.note ON vault_id = $1 AND {}",
            is_path("decode(digits, 'hex')")
        );
        self.rows(self.statement(sql).with(Parameter::Text(paths.to_owned())))
            .await
    }

    pub(super) async fn paths_after(&self, path: &[u8], limit: usize) -> Result<Vec<SharedRow>, SharedError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM notefs.note
             WHERE vault_id = $1 AND substr(path, 1, {INDEXED_PATH_BYTES}) >= substr($2, 1, {INDEXED_PATH_BYTES}) AND path > $2
             ORDER BY substr(path, 1, {INDEXED_PATH_BYTES}), path LIMIT $3"
        );
        self.rows(self.statement(sql).with(Parameter::Bytes(path.to_owned())).count(limit))
            .await
    }

    pub(super) async fn forget_gone(&self, days: u32) -> Result<u64, SharedError> {
        let sql = "WITH forgotten AS (DELETE FROM notefs.note WHERE vault_id = $1 AND gone = 1
              AND changed <= now() - make_interval(days => $2::int) RETURNING 1)
            SELECT count(*) FROM forgotten";
        let statement = self.statement(sql).with(Parameter::Integer(i64::from(days)));
        let rows = self.connection.query("forget what is gone", &statement).await?;
        Ok(rows.first().map_or(0, |row| u64::try_from(row.integer(0)).unwrap_or(0)))
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<SharedRow>, SharedError> {
        let rows = self.connection.query("read the shared index", &statement).await?;
        Ok(rows.iter().map(shared_row).collect())
    }
}

/// The condition that a note's path is this value, in the words of the index.
fn is_path(value: &str) -> String {
    format!(
        "substr(path, 1, {INDEXED_PATH_BYTES}) = substr({value}, 1, {INDEXED_PATH_BYTES}) AND sha256(path) = sha256({value})"
    )
}

fn upsert() -> String {
    let types = "text text text text text bigint bigint bigint smallint text bigint text text text bigint";
    format!(
        "INSERT INTO notefs.note AS note (vault_id, seq, path, path_key, title, title_flat, type, permalink, created_ns,
           modified_ns, mtime_ns, gone, etag, stored_ms, writer, write_id, replaces, parse_version)
         SELECT $1, (SELECT seq FROM notefs.vault WHERE id = $1) + 1 + (j ->> 0)::bigint, decode(j ->> 1, 'hex'), {}
         FROM jsonb_array_elements($2::jsonb) AS j
         ON CONFLICT (vault_id, substr(path, 1, {INDEXED_PATH_BYTES}), sha256(path)) DO UPDATE SET seq = excluded.seq, path_key = excluded.path_key,
           title = CASE excluded.gone WHEN 1 THEN note.title ELSE excluded.title END, title_flat = excluded.title_flat,
           type = excluded.type, permalink = excluded.permalink, created_ns = excluded.created_ns,
           modified_ns = excluded.modified_ns, mtime_ns = excluded.mtime_ns, gone = excluded.gone, etag = excluded.etag,
           stored_ms = excluded.stored_ms, writer = excluded.writer, write_id = excluded.write_id,
           replaces = excluded.replaces, parse_version = excluded.parse_version, changed = now()
         WHERE {}",
        values(2, types),
        rule()
    )
}

/// Rows of a table whose first column is the note: those of changes that won.
fn insert(table: &str, types: &str) -> String {
    format!(
        "INSERT INTO notefs.{table} SELECT note.id, {} FROM jsonb_array_elements($2::jsonb) AS j JOIN notefs.note AS note
         ON note.vault_id = $1 AND note.seq = (SELECT seq FROM notefs.vault WHERE id = $1) + 1 + (j ->> 0)::bigint",
        values(1, types)
    )
}

fn values(first: usize, types: &str) -> String {
    let typed = types.split(' ').zip(first..);
    let values: Vec<String> = typed.map(|(kind, at)| format!("(j ->> {at})::{kind}")).collect();
    values.join(", ")
}

fn text_row(row: &TextRow) -> Json {
    json!([
        row.at,
        row.total_bytes,
        row.encoding,
        row.body_line(),
        row.head,
        row.body,
        vector::document(&row.searchable),
    ])
}

fn shared_row(row: &connection::Row) -> SharedRow {
    SharedRow {
        path: row.bytes(0),
        version: ObjectVersion {
            etag: row.text(1),
            stored_ms: row.integer(2),
            writer: row.text(3),
            write_id: row.text(4),
        },
        gone: row.integer(5) != 0,
        seq: u64::try_from(row.integer(6)).unwrap_or(0),
        title: row.text(7),
    }
}
