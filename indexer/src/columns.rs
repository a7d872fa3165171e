//! What of a note goes into which column, for every database.
//!
//! Owns the joined texts that are searched, the numbers that stand for kinds, and the permalink of a note. Does not write
//! anything (`sqlite`, `shared`), nor parse (`parse`).

use std::collections::BTreeSet;

use crate::model::LinkKind;
use crate::note_path::{split_extension, stem};
use crate::parse::{Encoding, Note, searchable};
use crate::resolve::NameKind;
use crate::text::fold;
use crate::text::segment::segment;
use crate::text::slug::slug;

/// The weights of a match in the columns of `full_text`: title, path, headings, tags, body, props.
pub(crate) const RANK: &str = "bm25(10.0, 3.0, 5.0, 5.0, 1.0, 2.0)";

/// The headings and aliases, a line each.
pub(crate) fn headings(note: &Note) -> String {
    joined(note.headings.iter().map(|heading| &heading.text).chain(&note.aliases))
}

/// The tags, a line each.
pub(crate) fn tags(note: &Note) -> String {
    joined(&note.tags)
}

/// The words in the properties that have no column of their own.
pub(crate) fn props(note: &Note) -> String {
    let mut props = String::new();
    let own_column = |key: &str| matches!(key, "title" | "tags" | "aliases");
    for (_, value) in note.props.iter().filter(|(key, _)| !own_column(key)) {
        searchable(value, &mut props);
    }
    props
}

/// The columns of the full text: title, path, headings, tags, body, props, with spaceless scripts in pairs.
pub(crate) fn full_text([title, path, headings, tags, body, props]: [&str; 6]) -> [String; 6] {
    let path = split_extension(path).0;
    [title, path, headings, tags, body, props].map(|part| segment(part).into_owned())
}

/// The permalink that a path makes.
pub(crate) fn path_slug(shown: &str) -> String {
    slug(split_extension(shown).0)
}

pub(crate) fn link_code(kind: LinkKind) -> i64 {
    match kind {
        LinkKind::Wiki => 0,
        LinkKind::Markdown => 1,
    }
}

pub(crate) fn encoding_code(encoding: Encoding) -> i64 {
    match encoding {
        Encoding::Utf8 => 0,
        Encoding::Lossy => 1,
        Encoding::Utf16 => 2,
    }
}

/// The names by which links call a note, folded, each once: of the path `shown`, whose permalink is `slug`, and of what the note says.
pub(crate) fn names(note: &Note, shown: &str, slug: &str) -> BTreeSet<(String, NameKind)> {
    let mut names = BTreeSet::from([
        (fold::key(stem(shown)), NameKind::Stem),
        (fold::key(&note.title), NameKind::Title),
    ]);
    names.extend(note.aliases.iter().map(|alias| (fold::key(alias), NameKind::Alias)));
    names.extend(
        note.permalink
            .as_deref()
            .map(|own| (fold::key(own), NameKind::Permalink)),
    );
    if !slug.is_empty() {
        names.insert((fold::key(slug), NameKind::Slug));
    }
    names
}

fn joined<'a>(parts: impl IntoIterator<Item = &'a String>) -> String {
    parts.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
