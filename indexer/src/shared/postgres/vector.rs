//! Full text as PostgreSQL's types: notes as `tsvector`, words of a query as `tsquery`.
//!
//! Owns the tokens, which are those of the SQLite side (its tokenizer's rules over the same segmented columns), and so lets the
//! server neither split nor stem. Weights stand for columns: A title, B headings and tags, C path and properties, D body.
//! Every token is a quoted lexeme, so that nothing is syntax. Ranks nothing.

use std::collections::BTreeMap;

use crate::query::{Prefix, Query, Term};
use crate::shared::rows::Searchable;
use crate::text::segment::{self, is_spaceless};
use crate::text::{clip, fold};

/// Longest token, in bytes; PostgreSQL takes 2046.
const MAX_TOKEN_BYTES: usize = 512;
/// Text of the tokens of one note, in bytes; PostgreSQL takes a vector of 1 MiB with all positions. Later words of a longer
/// note are not found.
const MAX_VECTOR_BYTES: usize = 700_000;
/// The last position that PostgreSQL keeps apart: beyond it, and for more occurrences of a word than it keeps, a word is
/// found but not as part of a phrase.
const MAX_POSITION: usize = 16_383;
/// Positions that PostgreSQL keeps of one token.
const MAX_POSITIONS: usize = 255;
/// Positions between two columns, so that no phrase goes across.
const COLUMN_GAP: usize = 2;
/// What a token and a position take beside the text, in bytes.
const TOKEN_OVERHEAD_BYTES: usize = 8;

/// The columns in the order in which they are kept when a note is too long, with their weights: of title, path, headings,
/// tags, body and props the body is last.
const COLUMNS: [(usize, char); 6] = [(0, 'A'), (2, 'B'), (3, 'B'), (1, 'C'), (5, 'C'), (4, 'D')];

/// A note as a `tsvector`.
pub(super) fn document(searchable: &Searchable) -> String {
    let mut positions: BTreeMap<String, Vec<(usize, char)>> = BTreeMap::new();
    let mut bytes = 0;
    let mut at = 0;
    for (column, weight) in COLUMNS {
        at += COLUMN_GAP;
        for token in tokens(&searchable[column]) {
            if bytes > MAX_VECTOR_BYTES {
                break;
            }
            at += 1;
            let length = token.len();
            let known = positions.entry(token).or_default();
            if known.is_empty() {
                bytes += length + TOKEN_OVERHEAD_BYTES;
            }
            if known.len() < MAX_POSITIONS && (at < MAX_POSITION || known.is_empty()) {
                known.push((at.min(MAX_POSITION), weight));
                bytes += 2;
            }
        }
    }
    let lexemes = positions.iter().map(|(token, positions)| {
        let positions: Vec<String> = positions.iter().map(|(at, weight)| format!("{at}{weight}")).collect();
        format!("'{token}':{}", positions.join(","))
    });
    lexemes.collect::<Vec<_>>().join(" ")
}

/// All that is wanted, as a `tsquery`; `None` if there are no words wanted.
pub(super) fn wanted(query: &Query) -> Option<String> {
    let wanted: Vec<String> = query.wanted.iter().filter_map(term).collect();
    (!wanted.is_empty()).then(|| wanted.join(" & "))
}

/// One of the words not wanted or more, as a `tsquery`.
pub(super) fn unwanted(query: &Query) -> Option<String> {
    let unwanted: Vec<String> = query.unwanted.iter().filter_map(term).collect();
    (!unwanted.is_empty()).then(|| unwanted.join(" | "))
}

fn term(term: &Term) -> Option<String> {
    let (text, ends_open) = segment::phrase(&term.text);
    let tokens: Vec<String> = tokens(&text).collect();
    let last = tokens.len().checked_sub(1)?;
    let weight = if term.title_only { "A" } else { "" };
    let is_prefix = ends_open || term.prefix != Prefix::No;
    let lexemes = tokens.iter().enumerate().map(|(at, token)| {
        let star = if at == last && is_prefix { "*" } else { "" };
        let colon = if weight.is_empty() && star.is_empty() { "" } else { ":" };
        format!("'{token}'{colon}{star}{weight}")
    });
    Some(format!("({})", lexemes.collect::<Vec<_>>().join(" <-> ")))
}

/// Runs of letters and digits, folded as SQLite's `unicode61 remove_diacritics 2` folds them: without accents where that makes
/// an ASCII letter, and without some combining marks. The spaceless scripts are cut already, and keep their characters.
fn tokens(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_token = |c: char| c.is_alphanumeric() || is_dropped(c) || ('\u{e000}'..='\u{f8ff}').contains(&c);
    text.split(move |c| !is_token(c)).filter_map(|word| {
        let mut token = String::with_capacity(word.len());
        let lower = clip(word, MAX_TOKEN_BYTES).chars().flat_map(char::to_lowercase);
        for c in lower.filter(|c| !is_dropped(*c)) {
            if c.is_ascii() || is_spaceless(c) {
                token.push(c);
                continue;
            }
            let bare = fold::strip(c.encode_utf8(&mut [0; 4]));
            if bare.is_ascii() {
                token.push_str(&bare);
            } else {
                token.push(c);
            }
        }
        (!token.is_empty()).then_some(token)
    })
}

/// The combining marks that SQLite's tokenizer skips; all others part words.
fn is_dropped(c: char) -> bool {
    match (c as u32).checked_sub(0x300) {
        Some(bit @ 0..32) => 0x0802_9fdf_u32 >> bit & 1 == 1,
        Some(bit @ 32..50) => 0x0003_61f8_u32 >> (bit - 32) & 1 == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    fn columns(title: &str, body: &str) -> Searchable {
        let mut columns = Searchable::default();
        columns[0] = segment::segment(title).into_owned();
        columns[4] = segment::segment(body).into_owned();
        columns
    }

    #[test]
    fn a_note_is_its_tokens_with_places() {
        let vector = document(&columns("Café's 日本", "cafe 'x' \\ x"));
        assert_eq!(vector, "'cafe':3A,17D 's':4A 'x':18D,19D '日本':5A '本':6A");
        assert_eq!(document(&columns("", " ' \\ ")), "");
    }

    #[test]
    fn a_query_is_quoted_lexemes() {
        let wanted = |text: &str| wanted(&parse(text)).unwrap_or_default();
        assert_eq!(wanted("\"a b\" né"), "('a' <-> 'b') & ('ne':*)");
        assert_eq!(wanted("title:foo* -bar x"), "('foo':*A) & ('x')");
        assert_eq!(wanted("'a'|b & !c:*"), "('a' <-> 'b') & ('c')");
        assert_eq!(wanted("日"), "('日':*)");
        assert_eq!(unwanted(&parse("-a -\"b c\"")).unwrap(), "('a') | ('b' <-> 'c')");
    }

    #[test]
    fn a_long_note_stays_below_the_limit() {
        let words: String = (0..400_000).map(|n| format!("word{n} the ")).collect();
        let vector = document(&columns("t", &words));
        assert!(vector.len() < 2 * MAX_VECTOR_BYTES, "{}", vector.len());
        assert!(vector.contains("'word0':") && !vector.contains("'word399999'"));
        let longest = vector.split(' ').map(|lexeme| lexeme.split(',').count()).max();
        assert_eq!(longest, Some(MAX_POSITIONS));
    }
}
