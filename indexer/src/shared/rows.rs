//! Changes as rows: what a batch sends to a database.
//!
//! Owns parsing the notes of a batch and laying them out, a JSON list of rows for each table; the first value of a row is the
//! place of its change in the batch. NUL, which PostgreSQL takes in no text, becomes U+FFFD for every database, so that all
//! hold the same. Does not know SQL, and leaves the full text to each database ([`Searchable`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::SharedChange;
use super::version::{Claim, ObjectVersion, replaces};
use crate::columns;
use crate::note_path::{is_note, stem};
use crate::parse::{self, Note, Text, is_file};
use crate::resolve::LookupKeys;
use crate::text::{fold, tokens};

/// Text that one transaction carries, in bytes; a single longer note goes alone.
const MAX_BATCH_BYTES: u64 = 2 << 20;

/// The columns that full text is made of: title, path, headings, tags, body, props.
pub(super) type Searchable = [String; 6];

/// The rows of one batch.
#[derive(Default)]
pub(super) struct Rows {
    /// How many changes there are.
    pub(super) count: usize,
    pub(super) notes: Vec<Value>,
    pub(super) texts: Vec<TextRow>,
    pub(super) names: Vec<Value>,
    pub(super) links: Vec<Value>,
    pub(super) headings: Vec<Value>,
    pub(super) tags: Vec<Value>,
    pub(super) props: Vec<Value>,
    pub(super) observations: Vec<Value>,
}

/// The text of one change.
pub(super) struct TextRow {
    pub(super) at: usize,
    pub(super) total_bytes: i64,
    pub(super) encoding: i64,
    pub(super) head: String,
    pub(super) body: String,
    pub(super) searchable: Searchable,
}

impl TextRow {
    /// On which line of the file the body begins, from 1.
    pub(super) fn body_line(&self) -> usize {
        1 + self.head.bytes().filter(|byte| *byte == b'\n').count()
    }
}

impl SharedChange {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Upsert { path, .. } | Self::Gone { path, .. } => path,
        }
    }

    fn version(&self) -> &ObjectVersion {
        match self {
            Self::Upsert { version, .. } | Self::Gone { version, .. } => version,
        }
    }

    fn replaced(&self) -> Option<&str> {
        match self {
            Self::Upsert { replaces, .. } => replaces.as_deref().filter(|etag| !etag.is_empty()),
            Self::Gone { .. } => None,
        }
    }

    fn claim(&self) -> Claim<'_> {
        Claim {
            version: self.version(),
            replaces: self.replaced(),
            gone: matches!(self, Self::Gone { .. }),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Upsert { bytes, .. } => bytes.len() as u64,
            Self::Gone { .. } => 0,
        }
    }
}

/// The changes of notes, cut into batches of at most `max` changes; of several changes of one path in a batch the one that
/// stands.
pub(super) fn batches(changes: &[SharedChange], max: usize) -> Vec<Vec<&SharedChange>> {
    let mut batches = Vec::new();
    let mut batch: BTreeMap<&[u8], &SharedChange> = BTreeMap::new();
    let mut bytes = 0;
    for change in changes.iter().filter(|change| is_note(change.path())) {
        if batch.len() == max || (!batch.is_empty() && bytes + change.bytes() > MAX_BATCH_BYTES) {
            batches.push(std::mem::take(&mut batch).into_values().collect());
            bytes = 0;
        }
        bytes += change.bytes();
        let standing = batch.entry(change.path()).or_insert(change);
        if replaces(change.claim(), standing.claim()) {
            *standing = change;
        }
    }
    batches.push(batch.into_values().collect());
    batches.retain(|batch: &Vec<_>| !batch.is_empty());
    batches
}

impl Rows {
    /// Adds one change, parsing its note.
    pub(super) fn add(&mut self, change: &SharedChange) {
        let at = self.count;
        self.count += 1;
        let shown = clean(&String::from_utf8_lossy(change.path()));
        match change {
            SharedChange::Gone { .. } => {
                let note = Note {
                    title: stem(&shown).to_owned(),
                    ..Note::default()
                };
                self.add_note(at, change, &shown, &note, 0);
            }
            SharedChange::Upsert {
                path,
                bytes,
                total_bytes,
                mtime_ns,
                ..
            } => {
                let text = parse::read(bytes.clone(), *total_bytes);
                let note = parse::parse(path, &text);
                self.add_note(at, change, &shown, &note, *mtime_ns);
                self.add_text(at, &shown, &text, &note);
                self.add_names(at, &shown, &note);
                self.add_parts(at, &note);
            }
        }
    }

    fn add_note(&mut self, at: usize, change: &SharedChange, shown: &str, note: &Note, mtime_ns: i64) {
        let version = change.version();
        let permalink = note.permalink.clone().unwrap_or_else(|| columns::path_slug(shown));
        let title = clean(&note.title);
        self.notes.push(json!([
            at,
            hex(change.path()),
            clean(&fold::key(shown)),
            title,
            tokens::flat(&title),
            clean(&note.note_type),
            clean(&permalink),
            note.created_ns,
            note.modified_ns,
            mtime_ns,
            i64::from(matches!(change, SharedChange::Gone { .. })),
            clean(&version.etag),
            version.stored_ms,
            clean(&version.writer),
            clean(&version.write_id),
            change.replaced().map(clean),
            parse::VERSION,
        ]));
    }

    fn add_names(&mut self, at: usize, shown: &str, note: &Note) {
        let names = columns::names(note, shown, &columns::path_slug(shown));
        let names: BTreeSet<(String, i64)> = names.iter().map(|(key, kind)| (clean(key), *kind as i64)).collect();
        self.names
            .extend(names.iter().map(|(key, kind)| json!([at, key, kind])));
    }

    fn add_text(&mut self, at: usize, shown: &str, text: &Text, note: &Note) {
        let (head, body) = text.text.split_at_checked(note.body_at).unwrap_or(("", &text.text));
        let columns = [
            &note.title,
            shown,
            &columns::headings(note),
            &columns::tags(note),
            body,
            &columns::props(note),
        ];
        self.texts.push(TextRow {
            at,
            total_bytes: i64::try_from(text.total_bytes).unwrap_or(i64::MAX),
            encoding: columns::encoding_code(text.encoding),
            head: clean(head),
            body: clean(body),
            searchable: columns::full_text(columns).map(|column| clean(&column)),
        });
    }

    fn add_parts(&mut self, at: usize, note: &Note) {
        for (ordinal, link) in note.links.iter().enumerate() {
            let keys = LookupKeys::of(link.kind, &link.target);
            self.links.push(json!([
                at,
                ordinal,
                clean(&keys.name),
                keys.whole.as_deref().map(clean),
                clean(&link.target),
                link.fragment.as_deref().map(clean),
                link.alias.as_deref().map(clean),
                columns::link_code(link.kind),
                i64::from(link.embed),
                i64::from(is_file(link)),
                link.line,
                link.at,
                keys.slug.as_deref().map(clean),
                link.relation.as_deref().map(clean),
                link.context.as_deref().map(clean),
            ]));
        }
        for (ordinal, heading) in note.headings.iter().enumerate() {
            let row = json!([at, ordinal, heading.level, heading.line, clean(&heading.text)]);
            self.headings.push(row);
        }
        let tags: BTreeMap<String, String> = note.tags.iter().rev().map(|tag| (fold::key(tag), clean(tag))).collect();
        self.tags
            .extend(tags.iter().map(|(key, tag)| json!([at, clean(key), tag])));
        let props: BTreeMap<String, String> = note
            .props
            .iter()
            .map(|(key, value)| (clean(key), clean_value(value).to_string()))
            .collect();
        self.props
            .extend(props.iter().map(|(key, value)| json!([at, key, value])));
        for (ordinal, observation) in note.observations.iter().enumerate() {
            self.observations.push(json!([
                at,
                ordinal,
                clean(&observation.category),
                clean(&fold::key(&observation.category)),
                clean(&observation.content),
                observation.context.as_deref().map(clean),
                clean_value(&Value::from(observation.tags.as_slice())).to_string(),
                observation.line,
            ]));
        }
    }
}

/// The text without NUL.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn clean_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(list) => list.iter().map(clean_value).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (clean(key), clean_value(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits stand for; what is none is left out.
pub(super) fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsert(path: &str, etag: &str, stored_ms: i64, text: &str) -> SharedChange {
        SharedChange::Upsert {
            path: path.into(),
            version: ObjectVersion {
                etag: etag.into(),
                stored_ms,
                writer: String::new(),
                write_id: String::new(),
            },
            replaces: None,
            bytes: text.into(),
            total_bytes: text.len() as u64,
            mtime_ns: 1,
        }
    }

    #[test]
    fn one_change_of_a_path_stands_in_a_batch() {
        let changes = [
            upsert("b.md", "2", 2, "new"),
            upsert("b.md", "1", 1, "old"),
            upsert("a.md", "1", 1, "x"),
            upsert("x.png", "1", 1, "no note"),
        ];
        let batches = batches(&changes, 64);
        let paths: Vec<_> = batches.iter().flatten().map(|change| change.path()).collect();
        assert_eq!(paths, [b"a.md", b"b.md"]);
        assert_eq!(batches[0][1].version().etag, "2");
    }

    #[test]
    fn batches_are_bounded() {
        let long = "x".repeat(1 << 20);
        let changes: Vec<_> = (0..7).map(|n| upsert(&format!("{n}.md"), "e", 1, &long)).collect();
        let sizes: Vec<_> = batches(&changes, 64).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 2, 1]);
        let sizes: Vec<_> = batches(&changes, 1).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1; 7]);
        assert!(batches(&[], 64).is_empty());
    }

    #[test]
    fn no_text_holds_nul() {
        let mut rows = Rows::default();
        rows.add(&upsert(
            "a\0.md",
            "e\0",
            1,
            "---\nk: \"a\\0b\"\ntags: [\"x\\0y\"]\n---\n# t\0\n- [c\0] o\0 #t\0g\n[[a\0|b]]",
        ));
        let texts = rows
            .texts
            .iter()
            .map(|text| format!("{}{}{:?}", text.head, text.body, text.searchable));
        let all = [
            &rows.notes,
            &rows.names,
            &rows.links,
            &rows.headings,
            &rows.tags,
            &rows.props,
            &rows.observations,
        ];
        let all = all.map(|rows| Value::from(rows.clone()).to_string());
        let all = format!("{}{}", all.concat(), texts.collect::<String>());
        assert!(!all.contains('\0') && !all.contains("\\u0000"), "{all}");
        assert_eq!(unhex(&hex(b"a\0\xff")), b"a\0\xff");
    }
}
