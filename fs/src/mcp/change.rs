//! What a change makes of a note's text, and which part of a text is shown.
//!
//! Owns versions, replacing and paging: functions of texts alone. Does not own files.

use super::arguments::Edit;
use super::problem::{Kind, Problem};
use sha2::{Digest, Sha256};

/// Bytes of the digest in a version.
const VERSION_BYTES: usize = 16;

/// The version of a content: the same on every machine, and of no other content.
pub(super) fn version(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest[..VERSION_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Refuses a version that the caller has not seen.
pub(super) fn expect(path: &str, content: &[u8], wanted: Option<&str>) -> Result<(), Problem> {
    let is = version(content);
    match wanted {
        Some(wanted) if wanted != is => Err(Problem::new(
            Kind::Changed,
            path,
            format!("The note is not version {wanted} any more: somebody has changed it"),
            "Read it again, apply your change to what it says now, and call this tool with the version that `read` gives",
        )),
        _ => Ok(()),
    }
}

/// The text after an edit.
pub(super) fn edited(text: &str, edit: &Edit) -> Result<String, Problem> {
    let Some(old) = &edit.old_text else {
        return Ok(appended(text, &edit.new_text));
    };
    if old.is_empty() {
        return Err(Problem::new(
            Kind::BadArguments,
            "old_text",
            "The text to replace is empty",
            "Leave old_text out to add new_text at the end, or name the text to replace",
        ));
    }
    let count = text.matches(old.as_str()).count();
    match count {
        0 => Err(Problem::new(
            Kind::NoMatch,
            &edit.path,
            "The note does not hold old_text as it was given",
            "Read the note: it may have changed, or blanks and line ends differ; copy old_text from what `read` gives",
        )),
        1 => Ok(text.replacen(old.as_str(), &edit.new_text, 1)),
        _ if edit.all => Ok(text.replace(old.as_str(), &edit.new_text)),
        _ => Err(Problem::new(
            Kind::NoMatch,
            &edit.path,
            format!("The note holds old_text {count} times"),
            "Give more of the text around the place that you mean, or set all to true to replace each",
        )),
    }
}

/// A text with more at its end, on a line of its own.
fn appended(text: &str, more: &str) -> String {
    let separator = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    [text, separator, more].concat()
}

/// The part of a text that begins at a byte, no longer than `limit_bytes`, and where the next one begins. It ends between two
/// characters, and after a line if that leaves half of it.
pub(super) fn page(text: &str, offset_bytes: usize, limit_bytes: usize) -> (&str, Option<usize>) {
    let start = text.floor_char_boundary(offset_bytes);
    let rest = &text[start..];
    if rest.len() <= limit_bytes {
        return (rest, None);
    }
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let whole = rest.floor_char_boundary(limit_bytes).max(first);
    let lines = rest[..whole].rfind('\n').map_or(0, |at| at + 1);
    let end = if lines >= whole / 2 && lines > 0 { lines } else { whole };
    (&rest[..end], Some(start + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: Option<&str>, new: &str, all: bool) -> Edit {
        Edit {
            path: "a.md".to_owned(),
            old_text: old.map(str::to_owned),
            new_text: new.to_owned(),
            all,
            version: None,
        }
    }

    #[test]
    fn an_edit_says_which_text_it_means() {
        let text = "one two one\n";
        let kind = |edit: &Edit| edited(text, edit).map_err(|problem| problem.kind);
        assert_eq!(kind(&edit(Some("two"), "2", false)).unwrap(), "one 2 one\n");
        assert_eq!(kind(&edit(Some("one"), "1", false)), Err(Kind::NoMatch));
        assert_eq!(kind(&edit(Some("one"), "1", true)).unwrap(), "1 two 1\n");
        assert_eq!(kind(&edit(Some("three"), "3", true)), Err(Kind::NoMatch));
        assert_eq!(kind(&edit(Some(""), "x", false)), Err(Kind::BadArguments));
        assert_eq!(kind(&edit(None, "- three\n", false)).unwrap(), "one two one\n- three\n");
        assert_eq!(edited("no end", &edit(None, "x", false)).unwrap(), "no end\nx");
    }

    #[test]
    fn a_version_stands_for_one_content() {
        let seen = version(b"one");
        assert_eq!(seen.len(), 2 * VERSION_BYTES);
        assert!(expect("a.md", b"one", Some(&seen)).is_ok());
        assert!(expect("a.md", b"one", None).is_ok());
        let problem = expect("a.md", b"two", Some(&seen)).unwrap_err();
        assert_eq!((problem.kind, problem.retryable), (Kind::Changed, false));
    }

    #[test]
    fn pages_are_the_whole_text_and_cut_no_character() {
        let text = "first line\nשורה שנייה\n💥💥💥💥\nlast";
        for limit in 1..=text.len() + 1 {
            let (mut seen, mut next) = (String::new(), Some(0));
            while let Some(offset) = next {
                let (part, after) = page(text, offset, limit);
                assert!(!part.is_empty() && part.len() <= limit.max(4), "{limit}: {part:?}");
                seen.push_str(part);
                next = after;
            }
            assert_eq!(seen, text, "{limit}");
        }
        assert_eq!(page(text, 10_000, 5), ("", None));
    }
}
