//! From bytes to what a note means. Pure functions, no database, no file system.
//!
//! [`read`] decodes, [`parse`] splits off the frontmatter and collects title, type, permalink, headings, tags, links,
//! observations and properties.
//! Nothing here fails: whatever is strange becomes a [`Remark`], and the text is kept. Every list has a named bound,
//! so that a note made to hurt costs bounded time and memory; third-party parsers run under `catch_unwind`.
//! Does not resolve links (`resolve`) and does not decide which files are notes (`note_path`).

mod decode;
mod frontmatter;
mod inline;
mod markdown;
mod semantics;
mod spots;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

pub(crate) use decode::{Encoding, Text, read};
pub(crate) use frontmatter::searchable;
pub(crate) use spots::{Spot, spots, written};

use crate::model::{LinkKind, WarningKind};
use crate::{note_path, text};

/// Longest title kept, in bytes.
const MAX_TITLE_BYTES: usize = 512;
/// Longest heading kept, in bytes.
const MAX_HEADING_BYTES: usize = 512;
/// Longest tag kept, in bytes; a longer one is no tag.
const MAX_TAG_BYTES: usize = 128;
/// Longest link target, fragment or alias, in bytes; a link with a longer target is no link.
const MAX_TARGET_BYTES: usize = 1024;
/// Links kept per note.
const MAX_LINKS: usize = 10_000;
/// Headings kept per note.
const MAX_HEADINGS: usize = 2_000;
/// Different tags kept per note.
const MAX_TAGS: usize = 500;
/// Aliases kept per note.
const MAX_ALIASES: usize = 100;
/// Observations kept per note.
const MAX_OBSERVATIONS: usize = 5_000;
/// Longest type of a note, and longest permalink, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// The type of a note that names none.
const PLAIN_TYPE: &str = "note";

/// Rises with every change of what notes mean; an index made with an older one parses its texts again.
pub(crate) const VERSION: i64 = 3;

/// A heading, with its level 1 to 6 and its line in the file, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) level: u8,
    pub(crate) line: u32,
    pub(crate) text: String,
}

/// A link as written; see [`crate::Link`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawLink {
    pub(crate) kind: LinkKind,
    pub(crate) embed: bool,
    pub(crate) target: String,
    pub(crate) fragment: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) line: u32,
    /// Byte offset in the text.
    pub(crate) at: usize,
    /// The type that a list item gives it; `None` is a plain `links_to`.
    pub(crate) relation: Option<String>,
    /// The remark in parentheses behind a typed link.
    pub(crate) context: Option<String>,
}

/// A fact in a note: `[category] content #tag (context)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) category: String,
    pub(crate) content: String,
    pub(crate) context: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) line: u32,
}

/// The type of the link at byte `at` of a run.
#[derive(Debug, PartialEq, Eq)]
struct TypedLink {
    relation: String,
    context: Option<String>,
    at: usize,
}

/// Something strange, before it is tied to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) kind: WarningKind,
    pub(crate) message: String,
}

/// What a note means.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Note {
    pub(crate) title: String,
    /// What kind of thing it describes, as its frontmatter says; "note" otherwise.
    pub(crate) note_type: String,
    /// The permalink its author gave it.
    pub(crate) permalink: Option<String>,
    /// When it was made and last changed, as its frontmatter says, in nanoseconds since 1970.
    pub(crate) created_ns: Option<i64>,
    pub(crate) modified_ns: Option<i64>,
    pub(crate) aliases: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) headings: Vec<Heading>,
    pub(crate) links: Vec<RawLink>,
    pub(crate) observations: Vec<Observation>,
    /// Top-level frontmatter keys and their typed values.
    pub(crate) props: Vec<(String, Value)>,
    /// Byte offset where the searchable body begins: after a frontmatter that was understood.
    pub(crate) body_at: usize,
    pub(crate) remarks: Vec<Remark>,
}

impl Note {
    fn remark(&mut self, kind: WarningKind, message: impl Into<String>) {
        self.remarks.push(Remark {
            kind,
            message: message.into(),
        });
    }

    fn add_tag(&mut self, tag: &str) {
        let tag = tag.trim().trim_start_matches('#').trim_matches('/');
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES || self.tags.iter().any(|known| known == tag) {
            return;
        }
        if self.tags.len() < MAX_TAGS {
            self.tags.push(tag.to_owned());
        } else {
            self.too_many("tags", MAX_TAGS);
        }
    }

    fn add_link(&mut self, link: RawLink) -> bool {
        let room = self.links.len() < MAX_LINKS;
        if room {
            self.links.push(link);
        } else {
            self.too_many("links", MAX_LINKS);
        }
        room
    }

    fn add_heading(&mut self, heading: Heading) {
        if self.headings.len() < MAX_HEADINGS {
            self.headings.push(heading);
        } else {
            self.too_many("headings", MAX_HEADINGS);
        }
    }

    fn observations_are_full(&self) -> bool {
        self.observations.len() > MAX_OBSERVATIONS
    }

    fn add_observation(&mut self, observation: Observation) {
        if self.observations.len() < MAX_OBSERVATIONS {
            self.observations.push(observation);
        } else {
            self.too_many("observations", MAX_OBSERVATIONS);
        }
    }

    /// Gives the wiki link at this byte its type. It is among the newest.
    fn set_relation(&mut self, at: usize, typed: TypedLink) {
        let mut newest = self.links.iter_mut().rev().take_while(|link| link.at >= at);
        if let Some(link) = newest.find(|link| link.at == at && link.kind == LinkKind::Wiki) {
            link.relation = Some(typed.relation);
            link.context = typed.context;
        }
    }

    /// `bm_parse_semantics: false` turns observations and relations off.
    fn has_semantics(&self) -> bool {
        let switch = self.props.iter().find(|(key, _)| key == "bm_parse_semantics");
        switch.is_none_or(|(_, value)| *value != Value::Bool(false))
    }

    fn too_many(&mut self, what: &str, max: usize) {
        let message = format!("More than {max} {what}: only the first {max} are kept");
        if self.remarks.last().is_none_or(|last| last.message != message) {
            self.remark(WarningKind::TooMany, message);
        }
    }
}

/// Collects what the note at `path` means.
pub(crate) fn parse(path: &[u8], source: &Text) -> Note {
    let mut note = Note {
        remarks: source.remarks(),
        ..Note::default()
    };
    let mut frontmatter_title = None;
    if note_path::is_markdown(path) {
        let block = frontmatter::split(&source.text);
        if let Some(block) = &block {
            let outcome = guarded(&mut note, "frontmatter", |note| {
                frontmatter::apply(note, &source.text, block)
            });
            frontmatter_title = outcome.flatten();
        }
        let markdown_at = block.map_or(0, |block| block.body_at);
        guarded(&mut note, "Markdown", |note| {
            markdown::collect(note, &source.text, markdown_at)
        });
    }
    let lossy = String::from_utf8_lossy(path);
    let first_heading = note
        .headings
        .iter()
        .find(|heading| heading.level == 1 && !heading.text.is_empty());
    let title = frontmatter_title.or_else(|| first_heading.map(|heading| heading.text.clone()));
    let title = title.unwrap_or_else(|| note_path::stem(&lossy).to_owned());
    note.title = text::clip(&title, MAX_TITLE_BYTES).to_owned();
    if note.note_type.is_empty() {
        note.note_type = PLAIN_TYPE.to_owned();
    }
    note
}

/// Whether a link names a file that is never a note: a Markdown link with any extension but a note's, a wiki link only with a known one.
pub(crate) fn is_file(link: &RawLink) -> bool {
    let (bare, note_extension) = note_path::split_extension(&link.target);
    let has_extension = std::path::Path::new(bare).extension().is_some();
    note_extension.is_none() && (note_path::is_attachment(bare) || link.kind == LinkKind::Markdown && has_extension)
}

/// Runs a parser on the note; if it panics, what it collected is dropped and the note stays plain text.
fn guarded<T>(note: &mut Note, what: &str, parser: impl FnOnce(&mut Note) -> T) -> Option<T> {
    let mut attempt = note.clone();
    match catch_unwind(AssertUnwindSafe(|| parser(&mut attempt))) {
        Ok(value) => {
            *note = attempt;
            Some(value)
        }
        Err(_) => {
            note.remark(
                WarningKind::Parser,
                format!("The {what} parser gave up: the note is indexed as plain text"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
