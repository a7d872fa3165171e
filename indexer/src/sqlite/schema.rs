//! The tables, and how an older file becomes a newer one.
//!
//! Owns the numbered migrations: `user_version` counts how many a file has had; each runs in its own transaction. What
//! notes mean is versioned apart (`parse_version` in `state`): after a change of that, the texts that the index holds are
//! parsed again, and nothing is fetched. `indexer/SCHEMA.md` describes the result to those who read it.

use std::path::Path;

use rusqlite::Connection;

use super::{signed, translate};
use crate::columns::RANK;
use crate::error::IndexError;

/// "nfix": marks the file as ours, so that a mistyped path never harms another program's database.
const APPLICATION_ID: i64 = 0x6e66_6978;

const MIGRATIONS: &[&str] = &[V1, V2];

const V1: &str = "
CREATE TABLE state (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO state VALUES ('indexed_seq', 0);

CREATE TABLE note (
  id INTEGER PRIMARY KEY,
  path BLOB NOT NULL UNIQUE,   -- bytes below the root
  path_key TEXT NOT NULL,      -- lower case, decomposed: how links and path: filters see it
  title TEXT NOT NULL,
  title_flat TEXT NOT NULL,    -- its words only, without case and accents
  mtime_ns INTEGER NOT NULL
);
CREATE INDEX note_by_title ON note (title_flat);

-- The text and what else of it is searchable, apart from note so that scans of note stay short.
CREATE TABLE note_text (
  note_id INTEGER PRIMARY KEY,
  total_bytes INTEGER NOT NULL,
  encoding INTEGER NOT NULL,   -- 0 UTF-8, 1 with replaced bytes, 2 UTF-16
  body_at INTEGER NOT NULL,    -- byte offset after the frontmatter
  headings TEXT NOT NULL,
  tags TEXT NOT NULL,
  props TEXT NOT NULL,
  text TEXT NOT NULL
);

-- Every name a link can call a note by.
CREATE TABLE name (
  key TEXT NOT NULL,
  note_id INTEGER NOT NULL,
  kind INTEGER NOT NULL,       -- 0 file name without extension, 1 title, 2 alias
  PRIMARY KEY (key, note_id, kind)
) WITHOUT ROWID;
CREATE INDEX name_by_note ON name (note_id);

CREATE TABLE link (
  note_id INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  key TEXT NOT NULL,           -- the last part of the target, as in name.key
  whole_key TEXT,              -- the whole target, where it differs
  target TEXT NOT NULL,
  fragment TEXT,
  alias TEXT,
  kind INTEGER NOT NULL,       -- 0 wiki, 1 Markdown
  embed INTEGER NOT NULL,
  is_file INTEGER NOT NULL,    -- means an attachment, which is never a note
  line INTEGER NOT NULL,
  at INTEGER NOT NULL,         -- byte offset in note_text.text
  PRIMARY KEY (note_id, ordinal)
) WITHOUT ROWID;
CREATE INDEX link_by_key ON link (key, is_file);
CREATE INDEX link_by_whole_key ON link (whole_key) WHERE whole_key IS NOT NULL;

CREATE TABLE heading (
  note_id INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  level INTEGER NOT NULL,
  line INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (note_id, ordinal)
) WITHOUT ROWID;

CREATE TABLE tag (
  note_id INTEGER NOT NULL,
  key TEXT NOT NULL,           -- folded
  name TEXT NOT NULL,
  PRIMARY KEY (note_id, key)
) WITHOUT ROWID;
CREATE INDEX tag_by_key ON tag (key, name);

CREATE TABLE prop (
  note_id INTEGER NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,         -- JSON
  PRIMARY KEY (note_id, key)
) WITHOUT ROWID;
CREATE INDEX prop_by_key ON prop (key);

CREATE TABLE warning (
  note_id INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (note_id, ordinal)
) WITHOUT ROWID;

-- Spaceless scripts come in as pairs of characters; the text itself is in note_text.
CREATE VIRTUAL TABLE full_text USING fts5 (
  title, path, headings, tags, body, props,
  content = '',
  tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO full_text (full_text, rank) VALUES ('hashsize', 8388608);
-- Twice the default: each word is written again less often, and searches are as fast.
INSERT INTO full_text (full_text, rank) VALUES ('automerge', 8);
";

/// The knowledge graph. The columns of old rows are filled by parsing their texts again.
const V2: &str = "
INSERT INTO state VALUES ('parse_version', 0);

ALTER TABLE note ADD COLUMN type TEXT NOT NULL DEFAULT 'note';
ALTER TABLE note ADD COLUMN permalink TEXT NOT NULL DEFAULT '';  -- the author's, else a slug of the path
ALTER TABLE note ADD COLUMN created_ns INTEGER;                  -- as the frontmatter says
ALTER TABLE note ADD COLUMN modified_ns INTEGER;                 -- as the frontmatter says
CREATE INDEX note_by_type ON note (type COLLATE NOCASE);
CREATE INDEX note_by_permalink ON note (permalink);
CREATE INDEX note_by_time ON note (coalesce(modified_ns, mtime_ns));

ALTER TABLE link ADD COLUMN slug_key TEXT;  -- the target as a permalink, where it differs from both other keys
ALTER TABLE link ADD COLUMN relation TEXT;  -- the type a list item gives it; NULL is links_to
ALTER TABLE link ADD COLUMN context TEXT;
CREATE INDEX link_by_slug_key ON link (slug_key) WHERE slug_key IS NOT NULL;

CREATE TABLE observation (
  note_id INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  category TEXT NOT NULL,
  category_key TEXT NOT NULL,  -- folded
  content TEXT NOT NULL,
  context TEXT,
  tags TEXT NOT NULL,          -- JSON list
  line INTEGER NOT NULL,
  PRIMARY KEY (note_id, ordinal)
) WITHOUT ROWID;
CREATE INDEX observation_by_category ON observation (category_key);

CREATE VIEW notes AS
  SELECT id, CAST(path AS TEXT) AS path, title, type, permalink,
    strftime('%Y-%m-%dT%H:%M:%SZ', created_ns / 1000000000, 'unixepoch') AS created,
    strftime('%Y-%m-%dT%H:%M:%SZ', coalesce(modified_ns, mtime_ns) / 1000000000, 'unixepoch') AS modified,
    (SELECT total_bytes FROM note_text WHERE note_id = id) AS bytes
  FROM note;
CREATE VIEW links AS
  SELECT CAST(note.path AS TEXT) AS path, link.line, CASE link.kind WHEN 0 THEN 'wiki' ELSE 'markdown' END AS kind,
    coalesce(link.relation, 'links_to') AS relation, link.target, link.fragment, link.alias, link.context, link.embed
  FROM link JOIN note ON note.id = link.note_id;
CREATE VIEW observations AS
  SELECT CAST(note.path AS TEXT) AS path, observation.line, observation.category, observation.content,
    observation.context, observation.tags
  FROM observation JOIN note ON note.id = observation.note_id;
CREATE VIEW tags AS
  SELECT CAST(note.path AS TEXT) AS path, tag.name AS tag FROM tag JOIN note ON note.id = tag.note_id;
CREATE VIEW properties AS
  SELECT CAST(note.path AS TEXT) AS path, prop.key, json_extract(prop.value, '$') AS value,
    json_type(prop.value) AS type
  FROM prop JOIN note ON note.id = prop.note_id;
CREATE VIEW headings AS
  SELECT CAST(note.path AS TEXT) AS path, heading.line, heading.level, heading.text
  FROM heading JOIN note ON note.id = heading.note_id;
";

/// Checks that the file is ours to use and brings it to the newest schema.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), IndexError> {
    let failed = |error| translate(path, "open", error);
    let found = pragma(connection, "user_version").map_err(failed)?;
    let owner = pragma(connection, "application_id").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if owner != APPLICATION_ID && (tables > 0 || owner != 0 || found != 0) {
        return Err(IndexError::Foreign { path: path.to_owned() });
    }
    let known = signed(MIGRATIONS.len());
    if found > known {
        return Err(IndexError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    // A crash loses whole transactions at most, and their seq with them: they are applied again.
    let settings =
        "PRAGMA page_size = 8192; PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA temp_store = memory;
        PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 67108864";
    connection.execute_batch(settings).map_err(failed)?;
    migrate(connection).map_err(failed)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Asked again under the lock: another process may just have done it.
        if pragma(&transaction, "user_version")? <= signed(index) {
            transaction.execute_batch(migration)?;
            transaction.execute("INSERT INTO full_text (full_text, rank) VALUES ('rank', ?1)", [RANK])?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", signed(index + 1))?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
