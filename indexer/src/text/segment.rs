//! Scripts written without spaces, cut into overlapping pairs.
//!
//! SQLite's tokenizer takes a run of such text for one word, so a word inside it would never be found. [`segment`]
//! rewrites each run `c1 c2 … cn` as `c1c2 c2c3 … cn`: one token per character, each holding its successor. A word
//! of n characters is then the phrase of its n-1 pairs, and a single character is a prefix, which [`phrase`] builds
//! for a query. Text in other scripts passes through untouched, without a copy.
//! Does not own the full-text table nor the query grammar.

use std::borrow::Cow;

use super::fold;

/// Ranges of letters that run together: Thai, Lao, Myanmar, Khmer, Hangul (words take endings), kana, Bopomofo, Han.
const SPACELESS: &[(char, char)] = &[
    ('\u{e01}', '\u{edf}'),
    ('\u{1000}', '\u{109f}'),
    ('\u{1100}', '\u{11ff}'),
    ('\u{1780}', '\u{17d3}'),
    ('\u{2e80}', '\u{2fdf}'),
    ('\u{3005}', '\u{3007}'),
    ('\u{3041}', '\u{309a}'),
    ('\u{309d}', '\u{309f}'),
    ('\u{30a1}', '\u{30fa}'),
    ('\u{30fc}', '\u{31bf}'),
    ('\u{31f0}', '\u{31ff}'),
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{a960}', '\u{a97f}'),
    ('\u{ac00}', '\u{d7fb}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{ff66}', '\u{ff9f}'),
    ('\u{20000}', '\u{3fffd}'),
];

/// Whether this character belongs to a script whose words are not separated by spaces.
pub(crate) fn is_spaceless(c: char) -> bool {
    c >= '\u{e01}' && SPACELESS.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// The text as the full-text table is to see it.
pub(crate) fn segment(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.chars().any(is_spaceless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Run(run) => push_pairs(&run, true, &mut out),
        }
    }
    Cow::Owned(out)
}

/// A word or phrase of a query as one full-text phrase, and whether its last token is to match as a prefix.
pub(crate) fn phrase(text: &str) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut prefix = false;
    let mut pieces = pieces(text).peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            // Inside a text the last character is followed by anything, so the query must not ask for its end.
            Piece::Run(run) => {
                let at_end = pieces.peek().is_none();
                prefix = at_end && run.len() == 1;
                push_pairs(&run, !at_end || prefix, &mut out);
            }
        }
    }
    (out, prefix)
}

fn push_pairs(run: &[char], with_last: bool, out: &mut String) {
    for pair in run.windows(2) {
        out.push(' ');
        out.extend(pair);
    }
    if let (true, Some(last)) = (with_last, run.last()) {
        out.push(' ');
        out.push(*last);
    }
    out.push(' ');
}

enum Piece<'a> {
    Plain(&'a str),
    Run(Vec<char>),
}

/// Longest run kept in one piece, in characters; a longer one only loses the pair across the cut.
const MAX_RUN_CHARS: usize = 1 << 16;

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        if !is_spaceless(first) {
            let end = rest.find(is_spaceless).unwrap_or(rest.len());
            let (plain, after) = rest.split_at(end);
            rest = after;
            return Some(Piece::Plain(plain));
        }
        let mut run: Vec<char> = Vec::new();
        let mut end = 0;
        for (at, c) in rest.char_indices() {
            if !is_spaceless(c) || run.len() == MAX_RUN_CHARS {
                break;
            }
            end = at + c.len_utf8();
            match run.last().and_then(|last| fold::compose(*last, c)) {
                Some(joined) => *run.last_mut()? = joined,
                None => run.push(c),
            }
        }
        rest = &rest[end..];
        Some(Piece::Run(run))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_scripts_pass_untouched() {
        for text in ["plain", "naïve “quoted” text → мир", ""] {
            assert!(matches!(segment(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn runs_become_pairs() {
        assert_eq!(segment("今日は").trim(), "今日 日は は");
        assert_eq!(
            segment("a今日b").split_whitespace().collect::<Vec<_>>(),
            ["a", "今日", "日", "b"]
        );
        let decomposed = "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}";
        assert_eq!(segment(decomposed).trim(), "한국 국");
    }

    #[test]
    fn a_query_does_not_ask_where_the_run_ends() {
        assert_eq!(phrase("天気"), (" 天気 ".to_owned(), false));
        assert_eq!(phrase("天"), (" 天 ".to_owned(), true));
        assert_eq!(phrase("天気x"), (" 天気 気 x".to_owned(), false));
        assert_eq!(phrase("word"), ("word".to_owned(), false));
    }
}
