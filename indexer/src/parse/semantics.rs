//! Observations and relations, as Basic Memory writes them.
//!
//! Owns the two judgements on one run of inline text (a list item's, a paragraph's or a heading's): `[category] text
//! #tag (context)` is an observation, and in a list item `type [[Target]] (context)` gives its link a type. Pure and linear
//! in the text. Does not know where such runs are (`markdown`).

use super::{Observation, TypedLink};
use crate::text;

/// Longest observation kept, in bytes.
const MAX_OBSERVATION_BYTES: usize = 4 << 10;
/// Longest category, relation type or context kept, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Tags kept of one observation.
const MAX_OBSERVATION_TAGS: usize = 50;
/// The category of an observation that only has a tag.
const PLAIN_CATEGORY: &str = "note";

/// The observation that a run of text is, if it is one.
pub(super) fn observation(run: &str, line: u32) -> Option<Observation> {
    let joined: Vec<&str> = run.trim().lines().map(str::trim_start).collect();
    let joined = joined.join("\n");
    let whole = joined.strip_suffix(" #bm:links_to").unwrap_or(&joined).trim_end();
    if ["[ ]", "[x]", "[-]"].iter().any(|mark| whole.starts_with(mark)) || is_lone_link(whole) {
        return None;
    }
    let (category, rest) = match categorised(whole) {
        Some(found) => found,
        None if words_with_tags(whole).next().is_some() => (PLAIN_CATEGORY, whole),
        None => return None,
    };
    let (content, context) = split_context(rest.trim());
    if content.is_empty() {
        return None;
    }
    let tags = words_with_tags(content).take(MAX_OBSERVATION_TAGS).map(str::to_owned);
    Some(Observation {
        category: text::clip(category, MAX_NAME_BYTES).to_owned(),
        content: text::clip(content, MAX_OBSERVATION_BYTES).to_owned(),
        context: context.map(|context| text::clip(context, MAX_NAME_BYTES).to_owned()),
        tags: tags.collect(),
        line,
    })
}

/// `[text](url)` or `[[target]]` and nothing else.
fn is_lone_link(whole: &str) -> bool {
    let Some(inner) = whole.strip_prefix('[') else {
        return false;
    };
    if let Some(target) = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix("]]")) {
        return !target.contains("]]");
    }
    let Some((_, url)) = inner.split_once("](") else {
        return false;
    };
    url.find(')') == Some(url.len().saturating_sub(1)) && !inner.contains('\n')
}

/// Category and text of `[category] text`; the text ends with the line.
fn categorised(whole: &str) -> Option<(&str, &str)> {
    let (category, rest) = whole.strip_prefix('[')?.split_once(']')?;
    let text = rest
        .lines()
        .next()
        .filter(|text| text.starts_with(char::is_whitespace))?;
    let category = category.trim();
    let mut letters = category.chars();
    let is_name = match (letters.next(), letters.next()) {
        (None, _) => false,
        (Some(only), None) => only.is_alphanumeric() && !only.eq_ignore_ascii_case(&'x'),
        _ => !category.contains(['(', ')', '[', '\n']) && !is_clock(category),
    };
    (is_name && !text.trim().is_empty()).then_some((category, text))
}

/// `0:11`, `00:01:02.5` or a range of such.
fn is_clock(category: &str) -> bool {
    category.contains(':')
        && category
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | ' ' | '-'))
}

/// From the last opening parenthesis on, a text that ends with the closing one is context.
fn split_context(text: &str) -> (&str, Option<&str>) {
    let Some(inner) = text.strip_suffix(')') else {
        return (text, None);
    };
    match inner.rfind('(') {
        Some(at) => (text[..at].trim_end(), Some(inner[at + 1..].trim())),
        None => (text, None),
    }
}

/// The tags in words that begin with `#`: `#a#b` is two.
fn words_with_tags(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .filter(|word| word.starts_with('#'))
        .flat_map(|word| word.split('#').filter(|tag| !tag.is_empty()))
}

/// The type that a list item gives its one link. `masked` is the item's text with code struck out by backticks.
pub(super) fn typed_link(masked: &str) -> Option<TypedLink> {
    let at = masked.find("[[")?;
    let before = &masked[..at];
    let after = &masked[at + 2..];
    let close = after.find("]]")?;
    if before.ends_with(['\\', '!']) || after[..close].contains("[[") || after[..close].contains('\n') {
        return None;
    }
    let rest = after[close + 2..].trim();
    let context = if rest.is_empty() {
        None
    } else {
        Some(rest.strip_prefix('(')?.strip_suffix(')')?)
    };
    let name = |text: &str| text::clip(text.trim(), MAX_NAME_BYTES).to_owned();
    Some(TypedLink {
        relation: name(relation_type(before.trim())?),
        context: context.map(name).filter(|context| !context.is_empty()),
        at,
    })
}

/// One word, or words in quotes.
fn relation_type(prefix: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        let quoted = prefix.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(quoted) = quoted {
            return (!quoted.trim().is_empty() && !quoted.contains(quote)).then_some(quoted);
        }
    }
    let is_word =
        !prefix.is_empty() && !prefix.contains(|c: char| c.is_whitespace() || c == '`') && !prefix.starts_with('[');
    is_word.then_some(prefix)
}
