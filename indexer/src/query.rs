//! What the user typed, as data.
//!
//! Owns the small grammar: words (all must match, the last also as a prefix), `"exact phrases"`, `word*`, `-word`,
//! and `tag:` `path:` `title:` filters, each also with a minus or a quoted value. Everything else, brackets, operators,
//! stray quotes, is text: there is no query that is an error. Does not know any database's syntax.

use crate::text::{clip, segment, tokens};

/// Longest query read, in bytes.
const MAX_QUERY_BYTES: usize = 2_048;
/// Terms used of a query; each costs the database a list.
const MAX_TERMS: usize = 32;

/// A word or phrase to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) text: String,
    pub(crate) prefix: Prefix,
    pub(crate) title_only: bool,
}

/// Whether longer words match too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Only the word.
    No,
    /// The word, and behind it longer ones: a word still being typed.
    Also,
    /// Any word that begins so.
    Yes,
}

/// A parsed query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) wanted: Vec<Term>,
    pub(crate) unwanted: Vec<Term>,
    pub(crate) tags: Vec<String>,
    pub(crate) unwanted_tags: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) unwanted_paths: Vec<String>,
}

/// The shortest last word that also matches as a prefix, in bytes: fewer letters match nearly every note, and gathering
/// all words that begin so takes longer than the rest of the search.
const MIN_PREFIX_BYTES: usize = 3;

impl Query {
    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it has words and nothing else, so that a title can be equal to it.
    pub(crate) fn plain_text(&self) -> Option<String> {
        let words: Vec<&str> = self
            .wanted
            .iter()
            .filter(|term| !term.title_only)
            .map(|term| term.text.as_str())
            .collect();
        (!words.is_empty()).then(|| tokens::flat(&words.join(" ")))
    }
}

/// Reads a query.
pub(crate) fn parse(input: &str) -> Query {
    let cleaned: String = clip(input, MAX_QUERY_BYTES)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut query = Query::default();
    let mut rest = cleaned.trim();
    while !rest.is_empty() {
        let (piece, after) = next_piece(rest);
        rest = after.trim_start();
        add(&mut query, &piece, rest.is_empty());
    }
    query
}

struct Piece<'a> {
    minus: bool,
    field: Option<Field>,
    text: &'a str,
    quoted: bool,
}

#[derive(Clone, Copy)]
enum Field {
    Tag,
    Path,
    Title,
}

const FIELDS: [(&str, Field); 3] = [("tag:", Field::Tag), ("path:", Field::Path), ("title:", Field::Title)];

fn next_piece(input: &str) -> (Piece<'_>, &str) {
    let minus = input.starts_with('-') && input.len() > 1 && !input[1..].starts_with(char::is_whitespace);
    let mut rest = if minus { &input[1..] } else { input };
    let mut field = None;
    for (name, kind) in FIELDS {
        let has_value = rest.len() > name.len() && !rest.as_bytes()[name.len()].is_ascii_whitespace();
        if has_value && rest.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            field = Some(kind);
            rest = &rest[name.len()..];
            break;
        }
    }
    if let Some(inner) = rest.strip_prefix('"') {
        let end = inner.find('"').unwrap_or(inner.len());
        let after = inner.get(end + 1..).unwrap_or("");
        return (
            Piece {
                minus,
                field,
                text: &inner[..end],
                quoted: true,
            },
            after,
        );
    }
    // A quote that opens within a word opens a phrase.
    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
    (
        Piece {
            minus,
            field,
            text: &rest[..end],
            quoted: false,
        },
        &rest[end..],
    )
}

fn add(query: &mut Query, piece: &Piece<'_>, is_last: bool) {
    if query.wanted.len() + query.unwanted.len() + query.tags.len() + query.paths.len() >= MAX_TERMS {
        return;
    }
    let text = piece.text.trim();
    let (list, value) = match (piece.field, piece.minus) {
        (Some(Field::Tag), false) => (&mut query.tags, text.trim_start_matches('#').trim_matches('/')),
        (Some(Field::Tag), true) => (&mut query.unwanted_tags, text.trim_start_matches('#').trim_matches('/')),
        (Some(Field::Path), false) => (&mut query.paths, text),
        (Some(Field::Path), true) => (&mut query.unwanted_paths, text),
        (Some(Field::Title) | None, _) => {
            add_term(query, piece, is_last);
            return;
        }
    };
    if !value.is_empty() && list.len() < MAX_TERMS {
        list.push(value.to_owned());
    }
}

fn add_term(query: &mut Query, piece: &Piece<'_>, is_last: bool) {
    // What has no letter has no token, and the database would find nothing for it.
    if tokens::next_word(piece.text, 0).is_none() {
        return;
    }
    let starred = !piece.quoted && piece.text.ends_with('*');
    let text = piece.text.trim_end_matches('*').to_owned();
    let ends_in_word = text
        .chars()
        .next_back()
        .is_some_and(|c| c.is_alphanumeric() && !segment::is_spaceless(c));
    let prefix = if starred && ends_in_word {
        Prefix::Yes
    } else if is_last && !piece.quoted && !piece.minus && ends_in_word && text.len() >= MIN_PREFIX_BYTES {
        Prefix::Also
    } else {
        Prefix::No
    };
    let term = Term {
        text,
        prefix,
        title_only: matches!(piece.field, Some(Field::Title)),
    };
    if piece.minus {
        query.unwanted.push(term)
    } else {
        query.wanted.push(term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(input: &str) -> Vec<(String, Prefix)> {
        parse(input)
            .wanted
            .into_iter()
            .map(|term| (term.text, term.prefix))
            .collect()
    }

    #[test]
    fn words_phrases_and_prefixes() {
        assert_eq!(
            wanted("foo bar"),
            [("foo".into(), Prefix::No), ("bar".into(), Prefix::Also)]
        );
        assert_eq!(
            wanted("fo* \"exact one\""),
            [("fo".into(), Prefix::Yes), ("exact one".into(), Prefix::No)]
        );
        assert_eq!(wanted("a\"b c"), [("a".into(), Prefix::No), ("b c".into(), Prefix::No)]);
        assert_eq!(wanted("天気"), [("天気".into(), Prefix::No)]);
    }

    #[test]
    fn filters_and_exclusions() {
        let query = parse("plan -draft tag:#work/x -tag:old PATH:\"a b\" title:roadmap");
        assert_eq!(query.unwanted[0].text, "draft");
        assert_eq!(query.tags, ["work/x"]);
        assert_eq!(query.unwanted_tags, ["old"]);
        assert_eq!(query.paths, ["a b"]);
        assert!(query.wanted[1].title_only);
        assert_eq!(query.plain_text().as_deref(), Some("plan"));
    }

    #[test]
    fn syntax_of_databases_is_text() {
        for empty in [
            "", "  ", "\"", "\"\"", "*", "-", "--", "()", "tag:", "!!! ???", "\0", ":",
        ] {
            assert!(parse(empty).is_empty() || !parse(empty).wanted.is_empty(), "{empty:?}");
        }
        assert!(parse("\"\" * () -").is_empty());
        assert_eq!(
            wanted("AND OR"),
            [("AND".into(), Prefix::No), ("OR".into(), Prefix::No)]
        );
        assert_eq!(wanted("a:b"), [("a:b".into(), Prefix::Also)]);
        assert!(parse(&"x ".repeat(5_000)).wanted.len() <= MAX_TERMS);
        parse("é:\"title:日");
    }
}
