//! The rows that hang on a note: its text, names, links, observations and the rest.
//!
//! Owns their INSERTs. Does not own what goes into which column (`columns`), nor the transaction they are written in (`batch`).

use rusqlite::{Statement, params};

use super::full_text::Columns;
use super::{Batch, signed};
use crate::columns::{self, encoding_code, link_code};
use crate::model::WarningKind;
use crate::parse::{Note, Observation, RawLink, Text, is_file};
use crate::resolve::{LookupKeys, NameKind};
use crate::text::fold;

const INSERT_NAME: &str = "INSERT OR IGNORE INTO name (key, note_id, kind) VALUES (?1, ?2, ?3)";

impl Batch<'_> {
    /// Stores the text, and answers the columns of the full text.
    pub(super) fn put_text(&self, id: i64, shown: &str, text: &Text, note: &Note) -> rusqlite::Result<Columns> {
        let (headings, tags, props) = (columns::headings(note), columns::tags(note), columns::props(note));
        self.prepare_cached(
            "INSERT OR REPLACE INTO note_text (note_id, total_bytes, encoding, body_at, headings, tags, props, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            signed(text.total_bytes),
            encoding_code(text.encoding),
            signed(note.body_at),
            headings,
            tags,
            props,
            text.text
        ])?;
        let body = text.text.get(note.body_at..).unwrap_or_default();
        Ok(columns::full_text([&note.title, shown, &headings, &tags, body, &props]))
    }

    /// The names of a note that has none yet; `slug` is the permalink that its path makes.
    pub(super) fn put_names(&self, id: i64, shown: &str, slug: &str, note: &Note) -> rusqlite::Result<()> {
        let mut insert = self.prepare_cached(INSERT_NAME)?;
        for (key, kind) in columns::names(note, shown, slug) {
            insert.execute(params![key, id, kind as i64])?;
        }
        Ok(())
    }

    /// The note has another path, whose permalink takes the old one's place; an author's own stays before it.
    pub(super) fn change_slug(&self, id: i64, shown: &str) -> rusqlite::Result<()> {
        let slug = columns::path_slug(shown);
        self.prepare_cached("DELETE FROM name WHERE note_id = ?1 AND kind = ?2")?
            .execute(params![id, NameKind::Slug as i64])?;
        if !slug.is_empty() {
            self.prepare_cached(INSERT_NAME)?
                .execute(params![fold::key(&slug), id, NameKind::Slug as i64])?;
        }
        self.prepare_cached(
            "UPDATE note SET permalink = ?2
             WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM name WHERE note_id = ?1 AND kind = ?3)",
        )?
        .execute(params![id, slug, NameKind::Permalink as i64])?;
        Ok(())
    }

    pub(super) fn put_links(&self, id: i64, links: &[RawLink]) -> rusqlite::Result<()> {
        if links.is_empty() {
            return Ok(());
        }
        let mut insert = self.prepare_cached(
            "INSERT INTO link (note_id, ordinal, key, whole_key, target, fragment, alias, kind, embed, is_file, line, at,
             slug_key, relation, context)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        for (ordinal, link) in links.iter().enumerate() {
            let keys = LookupKeys::of(link.kind, &link.target);
            insert.execute(params![
                id,
                signed(ordinal),
                keys.name,
                keys.whole,
                link.target,
                link.fragment,
                link.alias,
                link_code(link.kind),
                link.embed,
                is_file(link),
                link.line,
                signed(link.at),
                keys.slug,
                link.relation,
                link.context
            ])?;
        }
        Ok(())
    }

    pub(super) fn put_observations(&self, id: i64, observations: &[Observation]) -> rusqlite::Result<()> {
        if observations.is_empty() {
            return Ok(());
        }
        let mut insert = self.prepare_cached("INSERT INTO observation VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        for (ordinal, observation) in observations.iter().enumerate() {
            insert.execute(params![
                id,
                signed(ordinal),
                observation.category,
                fold::key(&observation.category),
                observation.content,
                observation.context,
                serde_json::Value::from(observation.tags.as_slice()).to_string(),
                observation.line
            ])?;
        }
        Ok(())
    }

    pub(super) fn put_parts(&self, id: i64, note: &Note) -> rusqlite::Result<()> {
        self.each(
            &note.headings,
            "INSERT INTO heading VALUES (?1, ?2, ?3, ?4, ?5)",
            |insert, ordinal, heading| insert.execute(params![id, ordinal, heading.level, heading.line, heading.text]),
        )?;
        self.each(
            &note.tags,
            "INSERT OR IGNORE INTO tag VALUES (?1, ?2, ?3)",
            |insert, _, tag| insert.execute(params![id, fold::key(tag), tag]),
        )?;
        self.each(
            &note.props,
            "INSERT OR REPLACE INTO prop VALUES (?1, ?2, ?3)",
            |insert, _, (key, value)| insert.execute(params![id, key, value.to_string()]),
        )?;
        self.each(
            &note.remarks,
            "INSERT INTO warning VALUES (?1, ?2, ?3, ?4)",
            |insert, ordinal, remark| insert.execute(params![id, ordinal, warning_code(remark.kind), remark.message]),
        )
    }

    /// Runs a statement for each, with its number; of nothing it is not even looked up.
    fn each<T>(
        &self,
        items: &[T],
        sql: &str,
        insert: impl Fn(&mut Statement<'_>, i64, &T) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let mut statement = self.prepare_cached(sql)?;
        for (ordinal, item) in items.iter().enumerate() {
            insert(&mut statement, signed(ordinal), item)?;
        }
        Ok(())
    }
}

fn warning_code(kind: WarningKind) -> i64 {
    match kind {
        WarningKind::NotUtf8 => 0,
        WarningKind::TooLarge => 1,
        WarningKind::Frontmatter => 2,
        WarningKind::TooMany => 3,
        WarningKind::Parser => 4,
        WarningKind::Property => 5,
        // Found when asked for, and never stored.
        WarningKind::Permalink => 6,
        WarningKind::NotShared => 7,
    }
}
