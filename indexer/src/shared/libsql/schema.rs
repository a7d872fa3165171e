//! The tables in libSQL, and how an older database becomes a newer one.
//!
//! Owns the numbered migrations: each runs in its own transaction with the row of `migration` that says so, so that of two
//! machines one does it. `indexer/SCHEMA.md` describes the result.

use super::hrana::{Client, Statement};
use crate::columns::RANK;
use crate::shared::SharedError;

const MIGRATIONS: &[&[&str]] = &[V1, V2];

/// Each look applies one migration, or finds that another machine has; the last one finds all done, and one is to spare.
const MIGRATION_TRIES: usize = MIGRATIONS.len() + 2;

const V1: &[&str] = &[
    "CREATE TABLE vault (
      id INTEGER PRIMARY KEY,
      name TEXT NOT NULL UNIQUE,     -- the identity of the store
      seq INTEGER NOT NULL DEFAULT 0 -- the number of its last change
    )",
    "CREATE TABLE note (
      id INTEGER PRIMARY KEY,
      vault_id INTEGER NOT NULL,
      seq INTEGER NOT NULL,          -- when the row changed last, counted by vault
      path BLOB NOT NULL,
      path_key TEXT NOT NULL,
      title TEXT NOT NULL,
      title_flat TEXT NOT NULL,
      type TEXT NOT NULL,
      permalink TEXT NOT NULL,
      created_ns INTEGER,
      modified_ns INTEGER,
      mtime_ns INTEGER NOT NULL,
      gone INTEGER NOT NULL,         -- 1 for a tombstone, which has no other rows
      etag TEXT NOT NULL,
      stored_ms INTEGER NOT NULL,    -- by the store's clock
      writer TEXT NOT NULL,
      write_id TEXT NOT NULL,
      replaces TEXT,                 -- the etag of the version it was made from
      parse_version INTEGER NOT NULL,
      changed_s INTEGER NOT NULL DEFAULT (unixepoch()),
      UNIQUE (vault_id, path)
    )",
    "CREATE INDEX note_by_seq ON note (vault_id, seq)",
    "CREATE INDEX note_by_title ON note (vault_id, title_flat)",
    "CREATE INDEX note_by_time ON note (vault_id, coalesce(modified_ns, mtime_ns))",
    "CREATE TABLE note_text (
      note_id INTEGER PRIMARY KEY,
      total_bytes INTEGER NOT NULL,
      encoding INTEGER NOT NULL,
      body_line INTEGER NOT NULL,    -- the line of the file where the body begins, from 1
      head TEXT NOT NULL,            -- the frontmatter
      body TEXT NOT NULL,
      words_title TEXT NOT NULL,     -- what is searched, spaceless scripts in pairs
      words_path TEXT NOT NULL,
      words_headings TEXT NOT NULL,
      words_tags TEXT NOT NULL,
      words_body TEXT,               -- NULL where it is the body itself
      words_props TEXT NOT NULL
    )",
    "CREATE TABLE link (
      note_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, key TEXT NOT NULL, whole_key TEXT, target TEXT NOT NULL, fragment TEXT,
      alias TEXT, kind INTEGER NOT NULL, embed INTEGER NOT NULL, is_file INTEGER NOT NULL, line INTEGER NOT NULL,
      at INTEGER NOT NULL, slug_key TEXT, relation TEXT, context TEXT,
      PRIMARY KEY (note_id, ordinal)
    ) WITHOUT ROWID",
    "CREATE INDEX link_by_key ON link (key, is_file)",
    "CREATE TABLE heading (
      note_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, level INTEGER NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL,
      PRIMARY KEY (note_id, ordinal)
    ) WITHOUT ROWID",
    "CREATE TABLE tag (
      note_id INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
      PRIMARY KEY (note_id, key)
    ) WITHOUT ROWID",
    "CREATE INDEX tag_by_key ON tag (key, name)",
    "CREATE TABLE prop (
      note_id INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
      PRIMARY KEY (note_id, key)
    ) WITHOUT ROWID",
    "CREATE INDEX prop_by_key ON prop (key COLLATE NOCASE)",
    "CREATE TABLE observation (
      note_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, category TEXT NOT NULL, category_key TEXT NOT NULL,
      content TEXT NOT NULL, context TEXT, tags TEXT NOT NULL, line INTEGER NOT NULL,
      PRIMARY KEY (note_id, ordinal)
    ) WITHOUT ROWID",
    "CREATE INDEX observation_by_category ON observation (category_key)",
    "CREATE VIEW searchable AS
      SELECT note_id, words_title AS title, words_path AS path, words_headings AS headings, words_tags AS tags,
        coalesce(words_body, body) AS body, words_props AS props
      FROM note_text",
    "CREATE VIRTUAL TABLE full_text USING fts5 (
      title, path, headings, tags, body, props,
      content = 'searchable', content_rowid = 'note_id', tokenize = 'unicode61 remove_diacritics 2'
    )",
];

/// Links can be asked for by the names that they call.
const V2: &[&str] = &[
    "CREATE TABLE name (             -- every name a link can call a note by, as in the index of one machine
      note_id INTEGER NOT NULL, key TEXT NOT NULL, kind INTEGER NOT NULL,
      PRIMARY KEY (key, note_id, kind)
    ) WITHOUT ROWID",
    "CREATE INDEX name_by_note ON name (note_id)",
    "CREATE INDEX link_by_whole_key ON link (whole_key) WHERE whole_key IS NOT NULL",
    "CREATE INDEX link_by_slug_key ON link (slug_key) WHERE slug_key IS NOT NULL",
    // The names of notes that are there already are known once they are told again: as they are, they are no known version.
    "UPDATE note SET etag = '' WHERE gone = 0",
];

/// Brings the database to the newest schema and answers the number of the vault, and whether the schema was an older one.
pub(super) async fn open(client: &Client, vault: &str) -> Result<(i64, bool), SharedError> {
    let mut was_older = false;
    let action = "open the shared index";
    let table = "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, applied_s INTEGER NOT NULL DEFAULT (unixepoch()))";
    for _ in 0..MIGRATION_TRIES {
        // Asked without writing first: most machines find all done.
        let found = client
            .run(
                action,
                vec![Statement::new(
                    "SELECT count(*) FROM sqlite_schema WHERE name = 'migration'",
                )],
            )
            .await?;
        let is_new = found
            .first()
            .and_then(|answer| answer.rows.first())
            .is_none_or(|row| row.integer(0) == 0);
        if is_new {
            client.run(action, vec![Statement::new(table)]).await?;
        }
        let newest = Statement::new("SELECT coalesce(max(number), 0) FROM migration");
        let found = client.run(action, vec![newest]).await?;
        let found = found
            .first()
            .and_then(|answer| answer.rows.first())
            .map_or(0, |row| row.integer(0));
        let done = usize::try_from(found).unwrap_or(0);
        if done > MIGRATIONS.len() {
            return Err(SharedError::newer(client.address(), found));
        }
        if done == MIGRATIONS.len() {
            return Ok((vault_id(client, vault).await?, was_older));
        }
        was_older = true;
        migrate(client, done).await?;
    }
    Err(SharedError::busy(
        client.address(),
        action,
        "other machines are at its schema",
    ))
}

/// Applies the migration after the first `done`, unless another machine does.
async fn migrate(client: &Client, done: usize) -> Result<(), SharedError> {
    let action = "bring the shared index up to date";
    let number = i64::try_from(done + 1).unwrap_or(i64::MAX);
    let claim = Statement::new("INSERT INTO migration (number) VALUES (?)").integer(number);
    let statements = MIGRATIONS[done].iter().map(|sql| Statement::new(*sql));
    let rank = Statement::new("INSERT INTO full_text (full_text, rank) VALUES ('rank', ?)").text(RANK);
    let all = std::iter::once(claim).chain(statements).chain([rank]).collect();
    match client.transaction(action, all).await {
        Err(error) if error.to_string().contains("UNIQUE constraint failed: migration") => Ok(()),
        other => other.map(drop),
    }
}

async fn vault_id(client: &Client, vault: &str) -> Result<i64, SharedError> {
    let action = "open the shared index";
    let select = || Statement::new("SELECT id FROM vault WHERE name = ?").text(vault);
    let id = |answers: &[super::hrana::Answer]| Some(answers.last()?.rows.first()?.integer(0));
    // A token that may only read can open a vault that is there.
    if let Some(id) = id(&client.run(action, vec![select()]).await?) {
        return Ok(id);
    }
    let insert = Statement::new("INSERT INTO vault (name) VALUES (?) ON CONFLICT DO NOTHING").text(vault);
    let answers = client.run(action, vec![insert, select()]).await?;
    id(&answers).ok_or_else(|| SharedError::failed(client.address(), action, "the vault cannot be made"))
}
