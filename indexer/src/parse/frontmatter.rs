//! The YAML block at the head of a note.
//!
//! Owns finding the block, its bounds, and turning it into typed properties, title, aliases and tags. A block that
//! is no YAML mapping is not an error: it stays part of the searchable text. Wiki links in values are links.
//! Does not write frontmatter, and reads nothing below the block.

use saphyr::{Scalar, Yaml};
use serde_json::{Map, Value};

use super::{MAX_ALIASES, MAX_NAME_BYTES, Note, inline};
use crate::model::WarningKind;
use crate::text;

/// Largest block that is read as YAML, in bytes.
const MAX_FRONTMATTER_BYTES: usize = 64 << 10;
/// Nodes that YAML aliases may unfold to: an alias can repeat a long text as well as a deep one.
const MAX_ALIAS_NODES: usize = 1_000;
/// Top-level keys kept per note.
const MAX_PROPS: usize = 500;
/// Longest property key, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// Where the block is: its YAML, and where the note goes on after the closing line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) yaml_at: usize,
    pub(super) yaml_end: usize,
    pub(super) body_at: usize,
}

/// Finds the block: a first line `---` and a later line `---` or `...`.
pub(super) fn split(source: &str) -> Option<Block> {
    let mut lines = source.split_inclusive('\n');
    let first = lines.next()?;
    if first.trim_end() != "---" {
        return None;
    }
    let mut at = first.len();
    for line in lines {
        if matches!(line.trim_end(), "---" | "...") {
            return Some(Block {
                yaml_at: first.len(),
                yaml_end: at,
                body_at: at + line.len(),
            });
        }
        at += line.len();
    }
    None
}

/// Reads the block into the note and returns its title, if it names one.
pub(super) fn apply(note: &mut Note, source: &str, block: &Block) -> Option<String> {
    let yaml = &source[block.yaml_at..block.yaml_end];
    if yaml.len() > MAX_FRONTMATTER_BYTES {
        let message = format!("The frontmatter is larger than {MAX_FRONTMATTER_BYTES} bytes and is indexed as text");
        note.remark(WarningKind::Frontmatter, message);
        return None;
    }
    inline::wiki_links(note, source, block.yaml_at..block.yaml_end, 2);
    match load(yaml) {
        Ok(props) => {
            note.body_at = block.body_at;
            let title = props
                .iter()
                .find(|(key, _)| key == "title")
                .and_then(|(_, value)| scalar(value));
            names(note, &props);
            note.props = props;
            if note.props.len() > MAX_PROPS {
                note.props.truncate(MAX_PROPS);
                note.too_many("properties", MAX_PROPS);
            }
            title.filter(|title| !title.trim().is_empty())
        }
        Err(reason) => {
            let message = format!("The frontmatter is indexed as text: {}", text::clip(&reason, 200));
            note.remark(WarningKind::Frontmatter, message);
            None
        }
    }
}

fn names(note: &mut Note, props: &[(String, Value)]) {
    for (key, value) in props {
        match key.to_ascii_lowercase().as_str() {
            "tags" | "tag" => tags(note, value),
            "aliases" | "alias" => {
                let aliases = items(value).into_iter().map(|alias| alias.trim().to_owned());
                note.aliases
                    .extend(aliases.filter(|alias| !alias.is_empty()).take(MAX_ALIASES));
            }
            "type" => note.note_type = text::clip(items(value).join(", ").trim(), MAX_NAME_BYTES).to_owned(),
            "permalink" => permalink(note, value),
            "created" => note.created_ns = moment(note, key, value),
            "modified" | "updated" => note.modified_ns = moment(note, key, value),
            "title" if !matches!(value, Value::Null) && scalar(value).is_none() => wrong_type(note, key),
            _ => {}
        }
    }
}

fn permalink(note: &mut Note, value: &Value) {
    let Some(permalink) = scalar(value) else {
        if !value.is_null() {
            wrong_type(note, "permalink");
        }
        return;
    };
    let permalink = permalink.trim().trim_matches('/');
    if permalink.len() > MAX_NAME_BYTES {
        let message = format!("The permalink is longer than {MAX_NAME_BYTES} bytes and is not used");
        note.remark(WarningKind::Property, message);
    } else if !permalink.is_empty() {
        note.permalink = Some(permalink.to_owned());
    }
}

/// The moment that a property names, with a remark if it names none.
fn moment(note: &mut Note, key: &str, value: &Value) -> Option<i64> {
    let moment = scalar(value).and_then(|text| text::date::nanoseconds(&text));
    if moment.is_none() && !value.is_null() {
        note.remark(
            WarningKind::Property,
            format!("`{key}` in the frontmatter is no date such as 2026-01-31 or 2026-01-31T12:00:00Z"),
        );
    }
    moment
}

fn wrong_type(note: &mut Note, key: &str) {
    let message = format!("`{key}` in the frontmatter is no text and is not used");
    note.remark(WarningKind::Property, message);
}

fn tags(note: &mut Note, value: &Value) {
    match value {
        Value::String(list) => {
            for tag in list.split(|c: char| c == ',' || c.is_whitespace()) {
                note.add_tag(tag);
            }
        }
        other => {
            for tag in items(other) {
                note.add_tag(&tag);
            }
        }
    }
}

fn items(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(scalar).collect(),
        other => scalar(other).into_iter().collect(),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn load(yaml: &str) -> Result<Vec<(String, Value)>, String> {
    let documents = load_bounded(yaml)?;
    match documents.into_iter().next() {
        None => Ok(Vec::new()),
        Some(Yaml::Value(Scalar::Null)) => Ok(Vec::new()),
        Some(Yaml::Mapping(map)) => Ok(map
            .into_iter()
            .map(|(key, value)| (text::clip(&key_text(&json(key)), MAX_KEY_BYTES).to_owned(), json(value)))
            .collect()),
        Some(_) => Err("it is no list of `key: value`".to_owned()),
    }
}

fn load_bounded(yaml: &str) -> Result<Vec<Yaml<'_>>, String> {
    let mut parser = saphyr_parser::Parser::new_from_str(yaml);
    let mut loader = saphyr::YamlLoader::<Yaml<'_>>::default();
    loader.alias_limit(MAX_ALIAS_NODES);
    parser.load(&mut loader, true).map_err(|error| error.to_string())?;
    match loader.error() {
        Some(error) => Err(error.to_string()),
        None => Ok(loader.into_documents()),
    }
}

/// A YAML node as JSON. The parser bounds its depth, the alias limit its size.
fn json(node: Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) | Yaml::BadValue | Yaml::Alias(_) => Value::Null,
        Yaml::Value(Scalar::Boolean(flag)) => Value::Bool(flag),
        Yaml::Value(Scalar::Integer(number)) => Value::from(number),
        // Not a number and the infinities have no JSON: they stay the text they were.
        Yaml::Value(Scalar::FloatingPoint(number)) => serde_json::Number::from_f64(number.into_inner())
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        Yaml::Value(Scalar::String(text)) | Yaml::Representation(text, ..) => Value::String(text.into_owned()),
        Yaml::Sequence(list) => Value::Array(list.into_iter().map(json).collect()),
        Yaml::Mapping(map) => {
            let entries = map.into_iter().map(|(key, value)| (key_text(&json(key)), json(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Yaml::Tagged(_, inner) => json(*inner),
    }
}

fn key_text(key: &Value) -> String {
    scalar(key).unwrap_or_else(|| key.to_string())
}

/// The words in property values, for the full-text table.
pub(crate) fn searchable(value: &Value, out: &mut String) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| searchable(item, out)),
        Value::Object(map) => map.values().for_each(|item| searchable(item, out)),
        Value::Bool(_) | Value::Null => {}
        other => {
            if let Some(text) = scalar(other) {
                out.push_str(&text);
                out.push('\n');
            }
        }
    }
}
