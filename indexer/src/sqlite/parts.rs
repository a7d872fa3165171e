//! The rows that hang on a note: its text, names, links, observations and the rest.
//!
//! Owns their INSERTs. Does not own what goes into which column (`columns`), nor the transaction they are written in (`batch`).

use rusqlite::params;

use super::{Batch, signed};
use crate::columns::{self, encoding_code, link_code};
use crate::model::WarningKind;
use crate::note_path::stem;
use crate::parse::{Note, Observation, RawLink, Text, is_file};
use crate::resolve::{LookupKeys, NameKind};
use crate::text::fold;

impl Batch<'_> {
    pub(super) fn put_text(&self, id: i64, text: &Text, note: &Note) -> rusqlite::Result<()> {
        self.prepare_cached(
            "INSERT OR REPLACE INTO note_text (note_id, total_bytes, encoding, body_at, headings, tags, props, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            signed(text.total_bytes),
            encoding_code(text.encoding),
            signed(note.body_at),
            columns::headings(note),
            columns::tags(note),
            columns::props(note),
            text.text
        ])?;
        Ok(())
    }

    /// The names of a note that has none yet; `slug` is the permalink that its path makes.
    pub(super) fn put_names(&self, id: i64, shown: &str, slug: &str, note: &Note) -> rusqlite::Result<()> {
        self.put_name(id, stem(shown), NameKind::Stem)?;
        self.put_name(id, &note.title, NameKind::Title)?;
        for alias in &note.aliases {
            self.put_name(id, alias, NameKind::Alias)?;
        }
        if let Some(permalink) = &note.permalink {
            self.put_name(id, permalink, NameKind::Permalink)?;
        }
        self.put_slug(id, slug)
    }

    fn put_slug(&self, id: i64, slug: &str) -> rusqlite::Result<()> {
        if slug.is_empty() {
            return Ok(());
        }
        self.put_name(id, slug, NameKind::Slug)
    }

    /// The note has another path, whose permalink takes the old one's place; an author's own stays before it.
    pub(super) fn change_slug(&self, id: i64, shown: &str) -> rusqlite::Result<()> {
        let slug = columns::path_slug(shown);
        self.prepare_cached("DELETE FROM name WHERE note_id = ?1 AND kind = ?2")?
            .execute(params![id, NameKind::Slug as i64])?;
        self.put_slug(id, &slug)?;
        self.prepare_cached(
            "UPDATE note SET permalink = ?2
             WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM name WHERE note_id = ?1 AND kind = ?3)",
        )?
        .execute(params![id, slug, NameKind::Permalink as i64])?;
        Ok(())
    }

    fn put_name(&self, id: i64, name: &str, kind: NameKind) -> rusqlite::Result<()> {
        let mut insert = self.prepare_cached("INSERT OR IGNORE INTO name (key, note_id, kind) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![fold::key(name), id, kind as i64])?;
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
        let mut insert = self.prepare_cached("INSERT INTO heading VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for (ordinal, heading) in note.headings.iter().enumerate() {
            insert.execute(params![id, signed(ordinal), heading.level, heading.line, heading.text])?;
        }
        let mut insert = self.prepare_cached("INSERT OR IGNORE INTO tag VALUES (?1, ?2, ?3)")?;
        for tag in &note.tags {
            insert.execute(params![id, fold::key(tag), tag])?;
        }
        let mut insert = self.prepare_cached("INSERT OR REPLACE INTO prop VALUES (?1, ?2, ?3)")?;
        for (key, value) in &note.props {
            insert.execute(params![id, key, value.to_string()])?;
        }
        let mut insert = self.prepare_cached("INSERT INTO warning VALUES (?1, ?2, ?3, ?4)")?;
        for (ordinal, remark) in note.remarks.iter().enumerate() {
            insert.execute(params![id, signed(ordinal), warning_code(remark.kind), remark.message])?;
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
    }
}
