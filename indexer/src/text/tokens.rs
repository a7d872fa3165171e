//! Where the words of a text are.
//!
//! Owns the split into words (runs of letters and digits; one token per character in spaceless scripts) with their
//! byte ranges. Used to mark hits in snippets and to compare a query with a title. Does not decide what matches in
//! the full-text table.

use std::ops::Range;

use super::fold;
use super::segment::is_spaceless;

/// Bytes of one word compared; what follows is ignored.
const MAX_WORD_BYTES: usize = 256;

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || fold::is_accent(c)
}

/// The byte range of the next word at or after `from`.
pub(crate) fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let tail = &text[from..];
    let start = tail.find(|c: char| c.is_alphanumeric() || is_spaceless(c))?;
    let word = &tail[start..];
    let first = word.chars().next()?;
    let len = if is_spaceless(first) {
        first.len_utf8()
    } else {
        word.find(|c: char| !is_word(c) || is_spaceless(c))
            .unwrap_or(word.len())
    };
    Some(from + start..from + start + len)
}

/// The words of `text`, folded without accents.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(word) = next_word(text, at) {
        at = word.end;
        out.push(fold::strip(super::clip(&text[word], MAX_WORD_BYTES)));
    }
    out
}

/// The words joined by one space: equal for two titles that differ in case, accents and punctuation only.
pub(crate) fn flat(text: &str) -> String {
    words(text).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_mixed_text() {
        assert_eq!(
            words("Hello, Wörld! 今日は x2"),
            ["hello", "world", "今", "日", "は", "x2"]
        );
        assert_eq!(words("e\u{301}te\u{301} -- !"), ["ete"]);
        assert_eq!(flat("  The  Café—Notes "), "the cafe notes");
        assert!(words("!?").is_empty());
    }
}
