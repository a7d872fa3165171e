//! What a difference means: pure functions from what is known here and what the bucket shows.

use crate::state::Remote;
use std::collections::{HashMap, HashSet};

/// What is to be done about one key of a complete listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As known, or known better here.
    Nothing,
    /// Nobody here knows the key.
    Appeared,
    /// Another version than the one known.
    Changed,
    /// Known here, and not there any more.
    Vanished,
}

/// Judges a key by its row and the ETag that a look showed (`None`: no object), where the look began after the operation `began`.
pub(super) fn judge(known: Option<&Remote>, shown: Option<&str>, began: u64) -> Verdict {
    match (known, shown) {
        (Some(known), _) if known.noted > began || known.etag.is_empty() => Verdict::Nothing,
        (Some(known), Some(etag)) if known.etag == etag => Verdict::Nothing,
        (Some(_), Some(_)) => Verdict::Changed,
        (Some(_), None) => Verdict::Vanished,
        (None, Some(_)) => Verdict::Appeared,
        (None, None) => Verdict::Nothing,
    }
}

/// An object that came or went in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) key: String,
    pub(super) etag: String,
    pub(super) size: u64,
    /// The key before, as its writer tells.
    pub(super) moved_from: Option<String>,
}

/// Which of the objects that came are ones that went: by the word of their writer, else by an ETag that went once and came once. Empty
/// objects are all alike, so only a word tells them apart. Answers new key -> old key.
pub(super) fn pair_moves(came: &[Trace], went: &[Trace]) -> HashMap<String, String> {
    let mut left: HashSet<&str> = went.iter().map(|trace| trace.key.as_str()).collect();
    let mut moves = HashMap::new();
    for trace in came {
        if let Some(from) = trace.moved_from.as_deref().filter(|from| left.remove(from)) {
            moves.insert(trace.key.clone(), from.to_owned());
        }
    }
    let once = |traces: &[Trace]| {
        let mut seen: HashMap<String, Option<String>> = HashMap::new();
        for trace in traces.iter().filter(|trace| trace.size > 0) {
            seen.entry(trace.etag.clone())
                .and_modify(|key| *key = None)
                .or_insert_with(|| Some(trace.key.clone()));
        }
        seen
    };
    let (came, went) = (once(came), once(went));
    for (etag, to) in came {
        if let (Some(to), Some(Some(from))) = (to, went.get(&etag))
            && !moves.contains_key(&to)
            && left.remove(from.as_str())
        {
            moves.insert(to, from.clone());
        }
    }
    moves
}

/// Whether `new` is `old` with something added: then nobody who reads on can see two versions.
pub(super) fn only_appends(old: &[u8], new: &[u8]) -> bool {
    new.len() >= old.len() && new.starts_with(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(etag: &str, noted: u64) -> Remote {
        Remote {
            key: "a".into(),
            ino: 7,
            etag: etag.into(),
            content_version: 1,
            meta_version: 1,
            noted,
        }
    }

    #[test]
    fn a_look_that_began_earlier_knows_less() {
        assert_eq!(judge(Some(&row("e", 3)), Some("e"), 5), Verdict::Nothing);
        assert_eq!(judge(Some(&row("e", 3)), Some("f"), 5), Verdict::Changed);
        assert_eq!(judge(Some(&row("e", 3)), None, 5), Verdict::Vanished);
        assert_eq!(judge(None, Some("e"), 5), Verdict::Appeared);
        assert_eq!(judge(None, None, 5), Verdict::Nothing);
        assert_eq!(judge(Some(&row("e", 6)), Some("f"), 5), Verdict::Nothing);
        assert_eq!(judge(Some(&row("e", 6)), None, 5), Verdict::Nothing);
        assert_eq!(judge(Some(&row("", 3)), None, 5), Verdict::Nothing, "a write under way");
        assert_eq!(judge(Some(&row("", 3)), Some("f"), 5), Verdict::Nothing);
    }

    fn trace(key: &str, etag: &str, size: u64, from: Option<&str>) -> Trace {
        Trace {
            key: key.into(),
            etag: etag.into(),
            size,
            moved_from: from.map(str::to_owned),
        }
    }

    #[test]
    fn a_move_is_known_by_its_writers_word_or_by_a_tag_that_went_once_and_came_once() {
        let pairs = |came: &[Trace], went: &[Trace]| {
            let mut pairs: Vec<_> = pair_moves(came, went).into_iter().collect();
            pairs.sort();
            pairs
        };
        let pair = |to: &str, from: &str| (to.to_owned(), from.to_owned());
        let went = [trace("a", "e", 3, None)];
        assert_eq!(pairs(&[trace("b", "e", 3, None)], &went), [pair("b", "a")]);
        assert_eq!(pairs(&[trace("b", "f", 3, Some("a"))], &went), [pair("b", "a")]);
        assert_eq!(pairs(&[trace("b", "f", 3, None)], &went), []);
        let two = [trace("b", "e", 3, None), trace("c", "e", 3, None)];
        assert_eq!(pairs(&two, &went), [], "two candidates");
        let told = [trace("b", "e", 3, None), trace("c", "e", 3, Some("a"))];
        assert_eq!(pairs(&told, &went), [pair("c", "a")]);
        let empty = [trace("a", "e", 0, None)];
        assert_eq!(
            pairs(&[trace("b", "e", 0, None)], &empty),
            [],
            "empty objects are all alike"
        );
        assert_eq!(pairs(&[trace("b", "e", 0, Some("a"))], &empty), [pair("b", "a")]);
        assert_eq!(
            pairs(&[trace("b", "e", 3, Some("x"))], &[]),
            [],
            "what did not go was copied"
        );
    }

    #[test]
    fn an_append_keeps_what_was_read() {
        assert!(only_appends(b"ab", b"abc") && only_appends(b"", b"x") && only_appends(b"ab", b"ab"));
        assert!(!only_appends(b"ab", b"ac") && !only_appends(b"ab", b"a"));
    }
}
