//! The piece of a note that shows why it was found.
//!
//! Owns finding the words of a query in a text and cutting one line around the densest place. The full-text table
//! decided what matched; here it is only shown, so a missed mark costs nothing. Work is bounded per note.

use crate::query::{Prefix, Query};
use crate::text::{clip, floor_boundary, fold, tokens};

/// Comes before each match in a snippet: a control character, which cannot be in the text shown.
pub const MARK_START: char = '\u{2}';
/// Comes after each match in a snippet.
pub const MARK_END: char = '\u{3}';

/// Text searched for matches per note, in bytes.
pub(crate) const MAX_SCANNED_BYTES: usize = 256 << 10;
/// Matches looked at per note.
const MAX_MATCHES: usize = 64;
/// Text shown, in bytes.
const SNIPPET_BYTES: usize = 200;
/// Of these, shown before the first match.
const LEAD_BYTES: usize = 40;

/// The snippet without its marks.
pub fn plain_snippet(snippet: &str) -> String {
    marked_snippet(snippet, "", "")
}

/// The snippet with other marks, for example the codes of a terminal.
pub fn marked_snippet(snippet: &str, start: &str, end: &str) -> String {
    let mut out = String::with_capacity(snippet.len() + 16);
    for c in snippet.chars() {
        match c {
            MARK_START => out.push_str(start),
            MARK_END => out.push_str(end),
            other => out.push(other),
        }
    }
    out
}

/// What to look for: each needle a sequence of folded words.
pub(crate) struct Needles(Vec<Needle>);

struct Needle {
    words: Vec<String>,
    prefix: bool,
}

struct Match {
    needle: usize,
    start: usize,
    end: usize,
}

impl Needles {
    pub(crate) fn new(query: &Query) -> Self {
        let needles = query.wanted.iter().filter(|term| !term.title_only);
        let needles = needles.map(|term| Needle {
            words: tokens::words(&term.text),
            prefix: term.prefix != Prefix::No,
        });
        Self(needles.filter(|needle| !needle.words.is_empty()).collect())
    }

    /// The snippet of `body`, and where in it the first match is.
    pub(crate) fn snippet(&self, body: &str) -> (String, Option<usize>) {
        let scanned = clip(body, MAX_SCANNED_BYTES);
        let matches = self.find(scanned);
        let shown = densest(&matches);
        let Some(first) = shown.first() else {
            return (cut(scanned, skip_blank(scanned), &[]), None);
        };
        (
            cut(scanned, first.start.saturating_sub(LEAD_BYTES), shown),
            Some(first.start),
        )
    }

    fn find(&self, text: &str) -> Vec<Match> {
        let mut found = Vec::new();
        let mut folded = String::new();
        let mut at = 0;
        while let Some(word) = tokens::next_word(text, at) {
            at = word.end;
            folded.clear();
            fold::push_folded(&text[word.clone()], false, &mut folded);
            for (needle, wanted) in self.0.iter().enumerate() {
                if let Some(end) = wanted.matches(&folded, text, word.end) {
                    found.push(Match {
                        needle,
                        start: word.start,
                        end,
                    });
                    at = end;
                    break;
                }
            }
            if found.len() == MAX_MATCHES {
                break;
            }
        }
        found
    }
}

impl Needle {
    /// Where the match ends that begins with the word `folded`, which itself ends at `end`.
    fn matches(&self, folded: &str, text: &str, end: usize) -> Option<usize> {
        let last = self.words.len() - 1;
        let fits = |index: usize, word: &str| {
            let wanted = self.words[index].as_str();
            word == wanted || index == last && self.prefix && word.starts_with(wanted)
        };
        if !fits(0, folded) {
            return None;
        }
        let mut end = end;
        for index in 1..=last {
            let word = tokens::next_word(text, end)?;
            if !fits(index, &fold::strip(&text[word.clone()])) {
                return None;
            }
            end = word.end;
        }
        Some(end)
    }
}

/// The matches within one snippet's length that show the most different needles; the earliest such place.
fn densest(matches: &[Match]) -> &[Match] {
    let mut best = (0, 0..0);
    for (index, first) in matches.iter().enumerate() {
        let fits = |found: &&Match| found.end <= first.start + SNIPPET_BYTES - LEAD_BYTES;
        let count = matches[index..].iter().take_while(fits).count().max(1);
        let inside = &matches[index..index + count];
        let seen = inside.iter().fold(0_u64, |seen, found| seen | 1 << (found.needle % 64));
        if seen.count_ones() > best.0 {
            best = (seen.count_ones(), index..index + count);
        }
    }
    &matches[best.1]
}

fn skip_blank(text: &str) -> usize {
    text.find(|c: char| !c.is_whitespace()).unwrap_or(0)
}

/// One line from `from` on, whitespace collapsed, the matches marked.
fn cut(text: &str, from: usize, matches: &[Match]) -> String {
    let start = word_start(text, floor_boundary(text, from));
    let end = matches
        .last()
        .map_or(start, |found| found.end)
        .max(start + SNIPPET_BYTES);
    let end = floor_boundary(text, end);
    let mut out = String::with_capacity(end - start + 16);
    if skip_blank(text) < start {
        out.push('…');
    }
    let mut at = start;
    for found in matches {
        push_line(&text[at..found.start], &mut out);
        out.push(MARK_START);
        push_line(clip(&text[found.start..found.end], SNIPPET_BYTES), &mut out);
        out.push(MARK_END);
        at = found.end;
    }
    push_line(&text[at..end], &mut out);
    out.truncate(out.trim_end().len());
    if !text[end..].trim().is_empty() {
        out.push('…');
    }
    out
}

/// Moves forward to the next word if `at` is inside one, though not far.
fn word_start(text: &str, at: usize) -> usize {
    if at == 0 || text[..at].ends_with(char::is_whitespace) {
        return at;
    }
    let near = clip(&text[at..], LEAD_BYTES / 2);
    near.find(char::is_whitespace)
        .map_or(at, |space| text.len() - text[at + space..].trim_start().len())
}

fn push_line(text: &str, out: &mut String) {
    for c in text.chars() {
        if !(c.is_whitespace() || c.is_control()) {
            out.push(c);
        } else if !out.ends_with([' ', '…']) && !out.is_empty() {
            out.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    fn shown(query: &str, body: &str) -> String {
        let (snippet, _) = Needles::new(&parse(query)).snippet(body);
        marked_snippet(&snippet, "<", ">")
    }

    #[test]
    fn matches_are_marked() {
        assert_eq!(shown("cafe", "In the CAFÉ\n\n there"), "In the <CAFÉ> there");
        assert_eq!(shown("\"new york\"", "new  york, new yorks"), "<new york>, new yorks");
        assert_eq!(shown("rel", "related reliefs"), "<related> <reliefs>");
        assert_eq!(shown("天気", "今日は天気がいい"), "今日は<天気>がいい");
        assert_eq!(shown("x", " \n only text"), "only text");
        assert_eq!(shown("a", "a\u{2}b\u{3}"), "<a> b");
    }

    #[test]
    fn the_densest_place_is_shown() {
        let body = format!("alpha {} alpha beta {}", "filler ".repeat(100), "filler ".repeat(100));
        let snippet = shown("alpha beta", &body);
        assert!(snippet.contains("<alpha> <beta>"), "{snippet}");
        assert!(
            snippet.starts_with('…') && snippet.ends_with('…') && snippet.len() < 300,
            "{snippet}"
        );
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let snippet = shown(
            "needle",
            &format!("{}needle{}", "x".repeat(1 << 20), "y".repeat(1 << 20)),
        );
        assert!(snippet.len() < 400);
        assert!(shown("ab", &"ab".repeat(1 << 19)).len() < 700);
        assert!(shown("é", &"é\u{301}".repeat(1 << 17)).len() < 700);
    }
}
