//! What no Markdown parser knows: `#tags`, and wiki links in plain text.
//!
//! Owns the two scanners, linear in the text, and the reading of a link's target (fragment, percent escapes, what is
//! external). Does not know where code or links are: the caller passes only text that may hold tags.

use std::ops::Range;

use super::{MAX_TARGET_BYTES, Note, RawLink};
use crate::model::LinkKind;
use crate::text;

/// Finds `#tags` in `source[range]`; what comes before the range decides about a tag at its start.
pub(super) fn tags(note: &mut Note, source: &str, range: Range<usize>) {
    let mut at = range.start;
    while let Some(hash) = source[at..range.end].find('#').map(|offset| at + offset) {
        let start = hash + 1;
        let end = start
            + source[start..range.end]
                .find(|c| !is_tag_char(c))
                .unwrap_or(range.end - start);
        let tag = source[start..end].trim_end_matches(['/', '-']);
        if opens_tag(source[..hash].chars().next_back()) && tag.contains(|c: char| !c.is_ascii_digit() && c != '/') {
            note.add_tag(tag);
        }
        at = end;
    }
}

fn opens_tag(before: Option<char>) -> bool {
    before.is_none_or(|c| c.is_whitespace() || "([{,;:\"'>|*_~".contains(c) || is_punctuation(c))
}

fn is_tag_char(c: char) -> bool {
    match c {
        '_' | '-' | '/' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => !c.is_whitespace() && !c.is_control() && !is_punctuation(c),
    }
}

/// Dashes, quotes and dots beyond ASCII, general, CJK and full width.
fn is_punctuation(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{301f}' | '\u{ff01}'..='\u{ff0f}'
        | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' | '\u{a1}'..='\u{a9}'
        | '\u{ab}'..='\u{b1}' | '\u{b4}'..='\u{b9}' | '\u{bb}' | '\u{bf}')
}

/// Finds `[[wiki links]]` in `source[range]`, whose first line is `line` of the file.
pub(super) fn wiki_links(note: &mut Note, source: &str, range: Range<usize>, mut line: u32) {
    let mut at = range.start;
    while let Some(open) = source[at..range.end].find("[[").map(|offset| at + offset) {
        line += lines_in(&source[at..open]);
        let inner = open + 2;
        // A wiki link ends on its line.
        let rest = &source[inner..range.end];
        let rest = &rest[..rest.find('\n').unwrap_or(rest.len())];
        at = inner;
        if let Some(end) = rest.find("]]") {
            // The innermost opening counts: `[[a [[b]]` links to b.
            let skip = rest[..end].rfind("[[").map_or(0, |nested| nested + 2);
            let embed = skip == 0 && source[..open].ends_with('!');
            let (target, alias) = split_alias(&rest[skip..end]);
            if !push_link(note, LinkKind::Wiki, embed, (target, alias), (line, open)) {
                return;
            }
            at = inner + end + 2;
        }
    }
}

fn split_alias(inner: &str) -> (&str, Option<&str>) {
    inner.split_once('|').map_or((inner, None), |(target, alias)| {
        (target.trim_end_matches('\\'), Some(alias))
    })
}

pub(super) fn lines_in(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Adds the link unless it is external, empty or too long. False when the note holds no more links.
pub(super) fn push_link(
    note: &mut Note,
    kind: LinkKind,
    embed: bool,
    (target, alias): (&str, Option<&str>),
    (line, at): (u32, usize),
) -> bool {
    if target.len() > MAX_TARGET_BYTES || is_external(target) {
        return true;
    }
    let (target, fragment) = target
        .split_once('#')
        .map_or((target, None), |(page, rest)| (page, Some(rest)));
    let target = match kind {
        LinkKind::Wiki => target.trim().to_owned(),
        LinkKind::Markdown => percent_decoded(target.split('?').next().unwrap_or(target)),
    };
    if target.is_empty() {
        return true;
    }
    let kept = |text: &str| Some(text::clip(text.trim(), MAX_TARGET_BYTES).to_owned()).filter(|text| !text.is_empty());
    let alias = alias.and_then(kept);
    note.add_link(RawLink {
        kind,
        embed,
        target,
        fragment: fragment.and_then(kept),
        alias,
        line,
        at,
        relation: None,
        context: None,
    })
}

/// A URL with a scheme, or one that names a host.
fn is_external(target: &str) -> bool {
    let Some((scheme, rest)) = target.split_once(':') else {
        return target.starts_with("//");
    };
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    // `[[Meeting: plan]]` is a title: what follows a scheme is a slash, unless the scheme is known to do without.
    let is_url = rest.starts_with('/') || OPAQUE_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    is_scheme && is_url && !rest.starts_with(char::is_whitespace) || target.starts_with("//")
}

/// Schemes whose URLs do not go on with a slash.
const OPAQUE_SCHEMES: &[&str] = &[
    "mailto",
    "tel",
    "data",
    "javascript",
    "about",
    "urn",
    "magnet",
    "sms",
    "news",
    "callto",
];

fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let pair = (byte == b'%').then(|| {
            let mut ahead = bytes.clone();
            Some((hex(ahead.next()?)? << 4 | hex(ahead.next()?)?, ahead))
        });
        match pair.flatten() {
            Some((decoded, ahead)) => {
                out.push(decoded);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
