//! The `---` header at the top of a text: merged key by key, by its lines and nothing else, so that nothing is reformatted.
//!
//! A key at the left margin begins a block that reaches to the next one. Two sides may each change, add or remove blocks of their own;
//! one block changed on both sides in two ways is a conflict. A header that is not such a list of keys is merged by lines.

use super::{lines, pick};
use std::collections::HashSet;

/// A header's own lines and what stands between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header<'t> {
    open: &'t str,
    inner: &'t str,
    close: &'t str,
}

/// What stands before the first key, and each key with its lines.
struct Blocks<'t> {
    preamble: &'t str,
    keys: Vec<(&'t str, &'t str)>,
}

/// Merges texts that may have headers; `None` is a conflict.
pub(super) fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let [(base, base_body), (ours, our_body), (theirs, their_body)] = [base, ours, theirs].map(split);
    let body = lines(base_body, our_body, their_body)?;
    let header = match pick(&base, &ours, &theirs) {
        Some(header) => header.map_or_else(String::new, |header| [header.open, header.inner, header.close].concat()),
        None => {
            let (ours, theirs) = (ours?, theirs?);
            let base = base.unwrap_or(Header { inner: "", ..ours });
            let inner = match (blocks(base.inner), blocks(ours.inner), blocks(theirs.inner)) {
                (Some(base), Some(ours), Some(theirs)) => by_keys(&base, &ours, &theirs)?,
                _ => lines(base.inner, ours.inner, theirs.inner)?,
            };
            let open = pick(&base.open, &ours.open, &theirs.open).unwrap_or(&ours.open);
            let close = pick(&base.close, &ours.close, &theirs.close).unwrap_or(&ours.close);
            [open, inner.as_str(), close].concat()
        }
    };
    Some(header + &body)
}

/// A text's header, if it has one, and the rest.
fn split(text: &str) -> (Option<Header<'_>>, &str) {
    let mut rest = text.split_inclusive('\n');
    let Some(open) = rest.next().filter(|line| line.trim_end() == "---") else {
        return (None, text);
    };
    let mut at = open.len();
    for line in rest {
        if matches!(line.trim_end(), "---" | "...") {
            let header = Header {
                open,
                inner: &text[open.len()..at],
                close: line,
            };
            return (Some(header), &text[at + line.len()..]);
        }
        at += line.len();
    }
    (None, text)
}

/// The blocks of a header; `None` if it is not a plain list of keys, or if one stands there twice.
fn blocks(inner: &str) -> Option<Blocks<'_>> {
    let mut starts: Vec<(&str, usize)> = Vec::new();
    let mut at = 0;
    for line in inner.split_inclusive('\n') {
        let bare = line.trim_end();
        let filler = bare.is_empty() || bare.starts_with('#');
        let continues = line.starts_with([' ', '\t', '-']);
        if !filler && continues && starts.is_empty() {
            return None;
        }
        if !filler && !continues {
            starts.push((key(bare)?, at));
        }
        at += line.len();
    }
    let mut seen = HashSet::new();
    if !starts.iter().all(|(key, _)| seen.insert(*key)) {
        return None;
    }
    let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([inner.len()]);
    let keys = starts
        .iter()
        .zip(ends)
        .map(|((key, at), end)| (*key, &inner[*at..end]))
        .collect();
    let preamble = &inner[..starts.first().map_or(inner.len(), |(_, at)| *at)];
    Some(Blocks { preamble, keys })
}

/// The key that a line at the left margin begins with, with its quotes.
fn key(line: &str) -> Option<&str> {
    let quote = line.chars().next().filter(|first| matches!(first, '"' | '\''));
    let end = match quote {
        Some(quote) => 1 + line[1..].find(quote)? + 1,
        None if line.starts_with(['?', '[', '{', '&', '*', '!', '|', '>', '%', '@', '`', ',', ']', '}']) => {
            return None;
        }
        None => line.find(": ").or_else(|| line.strip_suffix(':').map(str::len))?,
    };
    let rest = &line[end..];
    (rest == ":" || rest.starts_with(": ")).then(|| &line[..end])
}

fn by_keys(base: &Blocks<'_>, ours: &Blocks<'_>, theirs: &Blocks<'_>) -> Option<String> {
    let find = |blocks: &Blocks<'_>, key: &str| {
        blocks
            .keys
            .iter()
            .find(|(known, _)| *known == key)
            .map(|block| block.1.to_owned())
    };
    let value = |key: &str| -> Option<Option<String>> {
        let (base, ours, theirs) = (find(base, key), find(ours, key), find(theirs, key));
        pick(&base, &ours, &theirs).cloned()
    };
    // The side that moved keys about gives the order; the other one's new keys are put where they stand there.
    let (lead, other) = if keeps_order(base, ours) && !keeps_order(base, theirs) {
        (theirs, ours)
    } else {
        (ours, theirs)
    };
    let mut merged: Vec<(&str, String)> = Vec::new();
    for (key, _) in &lead.keys {
        merged.extend(value(key)?.map(|text| (*key, text)));
    }
    let mut before: Option<&str> = None;
    for (key, _) in &other.keys {
        if !lead.keys.iter().any(|(known, _)| known == key)
            && let Some(text) = value(key)?
        {
            let at = before.and_then(|before| merged.iter().position(|(known, _)| *known == before));
            merged.insert(at.map_or(0, |at| at + 1), (key, text));
        }
        if merged.iter().any(|(known, _)| known == key) {
            before = Some(key);
        }
    }
    let preamble = lines(base.preamble, ours.preamble, theirs.preamble)?;
    Some(merged.into_iter().fold(preamble, |all, (_, text)| all + &text))
}

/// Whether the keys that both have stand in the same order.
fn keeps_order(base: &Blocks<'_>, side: &Blocks<'_>) -> bool {
    let both = |of: &Blocks<'_>, with: &Blocks<'_>| -> Vec<String> {
        let shared = of
            .keys
            .iter()
            .filter(|(key, _)| with.keys.iter().any(|(known, _)| known == key));
        shared.map(|(key, _)| (*key).to_owned()).collect()
    };
    both(base, side) == both(side, base)
}
