//! What the user typed, as data.
//!
//! Owns the small grammar: words (all must match, the last also as a prefix), `"exact phrases"`, `word*`, `-word`,
//! and filters such as `tag:` and `before:`, each also with a minus or a quoted value. Everything else, brackets,
//! operators, stray quotes, dates that are none, is text: there is no query that is an error. Does not know any
//! database's syntax.

use crate::text::{clip, date, segment, tokens};

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
    pub(crate) filters: Vec<Filter>,
}

/// A condition on notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) test: Test,
    /// Whether notes that pass are the ones not wanted.
    pub(crate) is_unwanted: bool,
}

/// What a filter looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// The tag, or one below it.
    Tag(String),
    /// A part of the path.
    Path(String),
    /// The type.
    Type(String),
    /// The category of an observation.
    Category(String),
    /// Changed before this moment, in nanoseconds since 1970.
    Before(i64),
    /// Changed at this moment or later.
    After(i64),
    /// A property of the frontmatter and, unless it only has to be there, how it compares with a value.
    Property(String, Option<(Comparison, String)>),
}

/// How a property compares with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The value, or a list that holds it.
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
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
    /// The value.
    text: &'a str,
    /// With the name of the field, should it turn out to be none.
    whole: &'a str,
    quoted: bool,
}

#[derive(Clone, Copy)]
enum Field {
    Tag,
    Path,
    Title,
    Type,
    Category,
    Before,
    After,
    Property,
}

const FIELDS: [(&str, Field); 8] = [
    ("tag:", Field::Tag),
    ("path:", Field::Path),
    ("title:", Field::Title),
    ("type:", Field::Type),
    ("category:", Field::Category),
    ("before:", Field::Before),
    ("after:", Field::After),
    ("prop:", Field::Property),
];

const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

fn next_piece(input: &str) -> (Piece<'_>, &str) {
    let minus = input.starts_with('-') && input.len() > 1 && !input[1..].starts_with(char::is_whitespace);
    let mut rest = if minus { &input[1..] } else { input };
    let whole = rest;
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
                whole: &inner[..end],
                quoted: true,
            },
            after,
        );
    }
    // A quote that opens within a word opens a phrase, and one behind a comparison the value.
    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
    if matches!(field, Some(Field::Property)) && rest[..end].ends_with(['=', '<', '>']) && rest[end..].starts_with('"')
    {
        let close = rest[end + 1..].find('"').map_or(rest.len(), |at| end + 1 + at);
        let after = rest.get(close + 1..).unwrap_or("");
        let text = &rest[..close];
        return (
            Piece {
                minus,
                field,
                text,
                whole: text,
                quoted: false,
            },
            after,
        );
    }
    (
        Piece {
            minus,
            field,
            text: &rest[..end],
            whole: &whole[..whole.len() - (rest.len() - end)],
            quoted: false,
        },
        &rest[end..],
    )
}

fn add(query: &mut Query, piece: &Piece<'_>, is_last: bool) {
    if query.wanted.len() + query.unwanted.len() + query.filters.len() >= MAX_TERMS {
        return;
    }
    match test(piece) {
        Ok(Some(test)) => query.filters.push(Filter {
            test,
            is_unwanted: piece.minus,
        }),
        Ok(None) => {}
        Err(NoFilter) => add_term(query, piece, is_last),
    }
}

/// A piece that is text.
struct NoFilter;

/// The filter that a piece is; `None` if it lacks a value.
fn test(piece: &Piece<'_>) -> Result<Option<Test>, NoFilter> {
    let text = piece.text.trim();
    let value = |make: fn(String) -> Test, text: &str| Ok((!text.is_empty()).then(|| make(text.to_owned())));
    let moment = || date::nanoseconds(text).ok_or(NoFilter);
    match piece.field {
        Some(Field::Tag) => value(Test::Tag, text.trim_start_matches('#').trim_matches('/')),
        Some(Field::Path) => value(Test::Path, text),
        Some(Field::Type) => value(Test::Type, text),
        Some(Field::Category) => value(Test::Category, text),
        Some(Field::Before) => Ok(Some(Test::Before(moment()?))),
        Some(Field::After) => Ok(Some(Test::After(moment()?))),
        Some(Field::Property) => Ok(property(text)),
        Some(Field::Title) | None => Err(NoFilter),
    }
}

fn property(text: &str) -> Option<Test> {
    let at = text.find(['<', '>', '=']).unwrap_or(text.len());
    let (key, rest) = (text[..at].trim(), &text[at..]);
    let comparison = COMPARISONS
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)));
    let compared = comparison.map(|(comparison, value)| (comparison, value.trim_start_matches('"').to_owned()));
    (!key.is_empty()).then(|| Test::Property(key.to_owned(), compared))
}

fn add_term(query: &mut Query, piece: &Piece<'_>, is_last: bool) {
    let title_only = matches!(piece.field, Some(Field::Title));
    let text = if title_only { piece.text } else { piece.whole };
    // What has no letter has no token, and the database would find nothing for it.
    if tokens::next_word(text, 0).is_none() {
        return;
    }
    let starred = !piece.quoted && text.ends_with('*');
    let text = text.trim_end_matches('*').to_owned();
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
        title_only,
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
        let filter = |test, is_unwanted| Filter { test, is_unwanted };
        assert_eq!(
            query.filters,
            [
                filter(Test::Tag("work/x".into()), false),
                filter(Test::Tag("old".into()), true),
                filter(Test::Path("a b".into()), false)
            ]
        );
        assert!(query.wanted[1].title_only);
        assert_eq!(query.plain_text().as_deref(), Some("plan"));
    }

    fn filter(input: &str) -> Test {
        let query = parse(input);
        assert!(
            query.wanted.is_empty() && query.filters.len() == 1,
            "{input}: {query:?}"
        );
        query.filters.into_iter().next().map(|filter| filter.test).unwrap()
    }

    #[test]
    fn filters_of_every_kind() {
        assert_eq!(filter("type:Meeting"), Test::Type("Meeting".into()));
        assert_eq!(
            filter("category:\"open question\""),
            Test::Category("open question".into())
        );
        assert_eq!(filter("before:1970-01-02"), Test::Before(86_400_000_000_000));
        assert_eq!(filter("-after:1970"), Test::After(0));
        let property = |key: &str, compared: Option<(Comparison, &str)>| {
            Test::Property(key.to_owned(), compared.map(|(sign, value)| (sign, value.to_owned())))
        };
        assert_eq!(filter("prop:status"), property("status", None));
        assert_eq!(
            filter("prop:status=done"),
            property("status", Some((Comparison::Equal, "done")))
        );
        assert_eq!(
            filter("prop:n>=1.5"),
            property("n", Some((Comparison::GreaterOrEqual, "1.5")))
        );
        assert_eq!(
            filter("prop:who=\"A B\""),
            property("who", Some((Comparison::Equal, "A B")))
        );
        assert_eq!(
            filter("prop:\"two words=x\""),
            property("two words", Some((Comparison::Equal, "x")))
        );
        assert_eq!(wanted("before:tomorrow"), [("before:tomorrow".into(), Prefix::Also)]);
        assert!(parse("prop:= type:\"\" category:").filters.is_empty());
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
