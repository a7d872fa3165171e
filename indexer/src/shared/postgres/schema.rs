//! The tables in PostgreSQL, in a schema of their own, and how an older database becomes a newer one.
//!
//! Owns the numbered migrations: all run in one transaction under an advisory lock, so that of two machines one does it.
//! `indexer/SCHEMA.md` describes the result.

use super::connection::{Connection, Parameter, Statement};
use crate::shared::SharedError;

/// "nfix": the lock that machines take which look at the schema.
const LOCK: i64 = 0x6e66_6978;

const MIGRATIONS: &[&[&str]] = &[V1, V2];

/// Text compares as bytes everywhere, as in SQLite.
const V1: &[&str] = &[
    "CREATE TABLE notefs.vault (
      id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      name TEXT COLLATE \"C\" NOT NULL UNIQUE,
      seq BIGINT NOT NULL DEFAULT 0
    )",
    "CREATE TABLE notefs.note (
      id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      vault_id BIGINT NOT NULL,
      seq BIGINT NOT NULL,
      path BYTEA NOT NULL,
      path_key TEXT COLLATE \"C\" NOT NULL,
      title TEXT COLLATE \"C\" NOT NULL,
      title_flat TEXT COLLATE \"C\" NOT NULL,
      type TEXT COLLATE \"C\" NOT NULL,
      permalink TEXT COLLATE \"C\" NOT NULL,
      created_ns BIGINT,
      modified_ns BIGINT,
      mtime_ns BIGINT NOT NULL,
      gone SMALLINT NOT NULL,
      etag TEXT COLLATE \"C\" NOT NULL,
      stored_ms BIGINT NOT NULL,
      writer TEXT COLLATE \"C\" NOT NULL,
      write_id TEXT COLLATE \"C\" NOT NULL,
      replaces TEXT COLLATE \"C\",
      parse_version BIGINT NOT NULL,
      changed TIMESTAMPTZ NOT NULL DEFAULT now(),
      UNIQUE (vault_id, path)
    )",
    "CREATE INDEX note_by_seq ON notefs.note (vault_id, seq)",
    "CREATE INDEX note_by_title ON notefs.note (vault_id, title_flat)",
    "CREATE INDEX note_by_time ON notefs.note (vault_id, coalesce(modified_ns, mtime_ns))",
    "CREATE TABLE notefs.note_text (
      note_id BIGINT PRIMARY KEY,
      total_bytes BIGINT NOT NULL,
      encoding SMALLINT NOT NULL,
      body_line INTEGER NOT NULL,
      head TEXT COLLATE \"C\" NOT NULL,
      body TEXT COLLATE \"C\" NOT NULL,
      words TSVECTOR NOT NULL
    )",
    "CREATE INDEX note_text_by_words ON notefs.note_text USING gin (words)",
    "CREATE TABLE notefs.link (
      note_id BIGINT NOT NULL, ordinal INTEGER NOT NULL, key TEXT COLLATE \"C\" NOT NULL, whole_key TEXT COLLATE \"C\",
      target TEXT COLLATE \"C\" NOT NULL, fragment TEXT COLLATE \"C\", alias TEXT COLLATE \"C\", kind SMALLINT NOT NULL,
      embed SMALLINT NOT NULL, is_file SMALLINT NOT NULL, line INTEGER NOT NULL, at BIGINT NOT NULL,
      slug_key TEXT COLLATE \"C\", relation TEXT COLLATE \"C\", context TEXT COLLATE \"C\",
      PRIMARY KEY (note_id, ordinal)
    )",
    // Long keys do not fit into an index.
    "CREATE INDEX link_by_key ON notefs.link (left(key, 256), is_file)",
    "CREATE TABLE notefs.heading (
      note_id BIGINT NOT NULL, ordinal INTEGER NOT NULL, level SMALLINT NOT NULL, line INTEGER NOT NULL,
      text TEXT COLLATE \"C\" NOT NULL, PRIMARY KEY (note_id, ordinal)
    )",
    "CREATE TABLE notefs.tag (
      note_id BIGINT NOT NULL, key TEXT COLLATE \"C\" NOT NULL, name TEXT COLLATE \"C\" NOT NULL, PRIMARY KEY (note_id, key)
    )",
    "CREATE INDEX tag_by_key ON notefs.tag (key, name)",
    "CREATE TABLE notefs.prop (
      note_id BIGINT NOT NULL, key TEXT COLLATE \"C\" NOT NULL, value JSONB NOT NULL
    )",
    "CREATE INDEX prop_by_note ON notefs.prop (note_id)",
    "CREATE INDEX prop_by_key ON notefs.prop (left(lower(key), 256))",
    "CREATE TABLE notefs.observation (
      note_id BIGINT NOT NULL, ordinal INTEGER NOT NULL, category TEXT COLLATE \"C\" NOT NULL,
      category_key TEXT COLLATE \"C\" NOT NULL, content TEXT COLLATE \"C\" NOT NULL, context TEXT COLLATE \"C\",
      tags JSONB NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (note_id, ordinal)
    )",
    "CREATE INDEX observation_by_category ON notefs.observation (left(category_key, 256))",
];

/// Links can be asked for by the names that they call, and a path is as long as it likes.
const V2: &[&str] = &[
    "ALTER TABLE notefs.note DROP CONSTRAINT note_vault_id_path_key",
    // Long paths do not fit into an index, so the rest of them is in it as a hash.
    "CREATE UNIQUE INDEX note_by_path ON notefs.note (vault_id, substr(path, 1, 1000), sha256(path))",
    "CREATE TABLE notefs.name (
      note_id BIGINT NOT NULL, key TEXT COLLATE \"C\" NOT NULL, kind SMALLINT NOT NULL
    )",
    "CREATE INDEX name_by_note ON notefs.name (note_id)",
    "CREATE INDEX name_by_key ON notefs.name (left(key, 256))",
    "CREATE INDEX link_by_whole_key ON notefs.link (left(whole_key, 256)) WHERE whole_key IS NOT NULL",
    "CREATE INDEX link_by_slug_key ON notefs.link (left(slug_key, 256)) WHERE slug_key IS NOT NULL",
    // The names of notes that are there already are known once they are told again: as they are, they are no known version.
    "UPDATE notefs.note SET etag = '' WHERE gone = 0",
];

/// Brings the database to the newest schema and answers the number of the vault, and whether the schema was an older one.
pub(super) async fn open(connection: &Connection, vault: &str) -> Result<(i64, bool), SharedError> {
    let done = newest(connection).await?;
    if done > MIGRATIONS.len() {
        let found = i64::try_from(done).unwrap_or(i64::MAX);
        return Err(SharedError::newer(connection.address(), found));
    }
    if done < MIGRATIONS.len() {
        migrate(connection).await?;
    }
    Ok((vault_id(connection, vault).await?, done < MIGRATIONS.len()))
}

/// How many migrations the database has had.
async fn newest(connection: &Connection) -> Result<usize, SharedError> {
    let action = "open the shared index";
    let exists = Statement::new("SELECT (to_regclass('notefs.migration') IS NOT NULL)::int::bigint");
    let rows = connection.query(action, &exists).await?;
    if rows.first().is_none_or(|row| row.integer(0) == 0) {
        return Ok(0);
    }
    let newest = Statement::new("SELECT coalesce(max(number), 0)::bigint FROM notefs.migration");
    let rows = connection.query(action, &newest).await?;
    Ok(rows
        .first()
        .map_or(0, |row| usize::try_from(row.integer(0)).unwrap_or(0)))
}

/// Applies what is missing, in one text that the server runs as one transaction: each migration looks itself whether another
/// machine was faster.
async fn migrate(connection: &Connection) -> Result<(), SharedError> {
    let mut script = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({LOCK}); CREATE SCHEMA IF NOT EXISTS notefs;
         CREATE TABLE IF NOT EXISTS notefs.migration (number BIGINT PRIMARY KEY, applied TIMESTAMPTZ NOT NULL DEFAULT now());"
    );
    for (at, statements) in MIGRATIONS.iter().enumerate() {
        let number = at + 1;
        let statements = statements.join(";\n");
        script.push_str(&format!(
            "DO $migration$ BEGIN IF NOT EXISTS (SELECT 1 FROM notefs.migration WHERE number = {number}) THEN
             {statements}; INSERT INTO notefs.migration (number) VALUES ({number}); END IF; END $migration$;"
        ));
    }
    script.push_str("COMMIT");
    connection.script("bring the shared index up to date", &script).await
}

async fn vault_id(connection: &Connection, vault: &str) -> Result<i64, SharedError> {
    let action = "open the shared index";
    let vault = || Parameter::Text(crate::shared::rows::clean(vault));
    let select = Statement::new("SELECT id FROM notefs.vault WHERE name = $1").with(vault());
    // Who may only read can open a vault that is there.
    if let Some(row) = connection.query(action, &select).await?.first() {
        return Ok(row.integer(0));
    }
    let insert = Statement::new("INSERT INTO notefs.vault (name) VALUES ($1) ON CONFLICT DO NOTHING").with(vault());
    connection.query(action, &insert).await?;
    let rows = connection.query(action, &select).await?;
    let id = rows.first().map(|row| row.integer(0));
    id.ok_or_else(|| SharedError::failed(connection.address(), action, "the vault cannot be made"))
}
