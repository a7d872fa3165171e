//! File names (any bytes but `/` and NUL) as key segments (text that every store and its listing carry), and back.
//!
//! Owns the escape `%XX`. Most names are their own segment. Escaped are control characters, the backslash, bytes that
//! are no UTF-8, U+FFFE and U+FFFF (no XML tells them), and white space at either end (OpenDAL cuts it off); and, so that this can be undone, a literal `%XX` that would read as such
//! an escape becomes `%25XX`. Everything else, `100%.md`, `a%41b` or `caf%C3%A9.md`, stays as it is. Nothing is
//! normalised. For every name, `unescape_segment(&escape_name(name)) == name`.

/// A piece of a name or segment, told apart by whether it reads as an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    /// Text that stands for itself.
    Text(&'a str),
    /// A byte that cannot stand for itself.
    Raw(u8),
    /// `%XX` or `%25…25XX`, as written; `depth` counts the 25s.
    Token { text: &'a str, depth: usize, value: u8 },
}

/// The key segment of a file name.
pub fn escape_name(name: &[u8]) -> String {
    let pieces = pieces_of_name(name);
    let mut segment = String::with_capacity(name.len() + 8);
    let mut index = 0;
    while index < pieces.len() {
        let run_end = index + high_run(&pieces[index..]);
        if run_end > index {
            let at_edge = index == 0 || run_end == pieces.len();
            let plain = pieces[index..run_end]
                .iter()
                .all(|piece| matches!(piece, Piece::Token { .. }))
                && !run_decodes(&pieces[index..run_end], at_edge);
            pieces[index..run_end]
                .iter()
                .for_each(|piece| push_escaped(&mut segment, *piece, !plain));
            index = run_end;
            continue;
        }
        push_escaped(&mut segment, pieces[index], true);
        index += 1;
    }
    segment
}

/// The file name of a key segment: the inverse of [`escape_name`]. Several segments may give one name; only one of them
/// is canonical.
pub fn unescape_segment(segment: &str) -> Vec<u8> {
    let pieces = pieces_of_text(segment, 0, segment.len());
    let mut name = Vec::with_capacity(segment.len());
    let mut index = 0;
    while index < pieces.len() {
        let run_end = index + high_run(&pieces[index..]);
        if run_end > index {
            let at_edge = index == 0 || run_end == pieces.len();
            let decodes = run_decodes(&pieces[index..run_end], at_edge);
            pieces[index..run_end]
                .iter()
                .for_each(|piece| push_unescaped(&mut name, *piece, decodes));
            index = run_end;
            continue;
        }
        push_unescaped(&mut name, pieces[index], true);
        index += 1;
    }
    name
}

/// Whether this segment is the one that [`escape_name`] gives for its file name. Two keys that are both canonical never
/// share a file name.
pub fn is_canonical(segment: &str) -> bool {
    escape_name(&unescape_segment(segment)) == segment
}

/// Bytes below 0x80 that never stand for themselves in a segment.
fn is_escaped_ascii(byte: u8) -> bool {
    matches!(byte, 0x01..=0x1F | 0x7F | b'\\')
}

/// Characters that no listing can tell: XML has no place for them, and SeaweedFS answers another one instead.
fn is_unlistable(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn pieces_of_name(name: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    for chunk in name.utf8_chunks() {
        push_name_text(&mut pieces, chunk.valid(), offset, name.len());
        offset += chunk.valid().len() + chunk.invalid().len();
        pieces.extend(chunk.invalid().iter().map(|byte| Piece::Raw(*byte)));
    }
    pieces
}

/// Splits the valid UTF-8 `text`, which begins at `offset` of a name of `total` bytes.
fn push_name_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str, offset: usize, total: usize) {
    let first = text
        .chars()
        .next()
        .filter(|c| offset == 0 && c.is_whitespace())
        .map_or(0, char::len_utf8);
    let rest = &text[first..];
    let ends = offset + text.len() == total;
    let last = rest
        .chars()
        .next_back()
        .filter(|c| ends && c.is_whitespace())
        .map_or(0, char::len_utf8);
    pieces.extend(text.as_bytes()[..first].iter().map(|byte| Piece::Raw(*byte)));
    let middle = &rest[..rest.len() - last];
    for piece in pieces_of_text(middle, offset + first, total) {
        match piece {
            Piece::Text(text) => push_without_controls(pieces, text),
            token => pieces.push(token),
        }
    }
    pieces.extend(
        rest.as_bytes()[rest.len() - last..]
            .iter()
            .map(|byte| Piece::Raw(*byte)),
    );
}

fn push_without_controls<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    let mut start = 0;
    let lost = |c: char| is_unlistable(c) || (c.is_ascii() && is_escaped_ascii(c as u8));
    for (index, found) in text.match_indices(lost) {
        if start < index {
            pieces.push(Piece::Text(&text[start..index]));
        }
        pieces.extend(found.bytes().map(Piece::Raw));
        start = index + found.len();
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
}

/// Splits text into plain text and tokens; `offset` and `total` place it in the whole name.
fn pieces_of_text(text: &str, offset: usize, total: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut index) = (0, 0);
    while let Some(found) = text[index..].find('%') {
        let at = index + found;
        let Some((length, depth, value)) = token_at(&text.as_bytes()[at..]) else {
            index = at + 1;
            continue;
        };
        let at_edge = offset + at == 0 || offset + at + length == total;
        if !(is_escaped_ascii(value) || value >= 0x80 || (value == b' ' && at_edge)) {
            index = at + 1;
            continue;
        }
        if start < at {
            pieces.push(Piece::Text(&text[start..at]));
        }
        pieces.push(Piece::Token {
            text: &text[at..at + length],
            depth,
            value,
        });
        start = at + length;
        index = start;
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
    pieces
}

/// Reads `%25…25XX` at the start of `bytes`: its length, how many 25s, and XX. XX itself is not 25.
fn token_at(bytes: &[u8]) -> Option<(usize, usize, u8)> {
    let mut at = 1;
    let mut depth = 0;
    loop {
        let value = hex_digit(*bytes.get(at)?)? << 4 | hex_digit(*bytes.get(at + 1)?)?;
        if value != b'%' {
            return Some((at + 2, depth, value));
        }
        depth += 1;
        at += 2;
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// How many pieces from the start are bytes from 0x80 up, raw or as `%XX`: they are judged together, as UTF-8 is.
fn high_run(pieces: &[Piece<'_>]) -> usize {
    pieces.iter().take_while(|piece| high_byte(**piece).is_some()).count()
}

fn high_byte(piece: Piece<'_>) -> Option<u8> {
    match piece {
        Piece::Raw(value) | Piece::Token { depth: 0, value, .. } if value >= 0x80 => Some(value),
        _ => None,
    }
}

/// Whether a run of `%XX` stands for its bytes: not if they are plain text, which would never have been escaped.
fn run_decodes(run: &[Piece<'_>], at_edge: bool) -> bool {
    let bytes: Vec<u8> = run.iter().copied().filter_map(high_byte).collect();
    match std::str::from_utf8(&bytes) {
        Ok(text) => text.chars().all(|c| is_unlistable(c) || (at_edge && c.is_whitespace())),
        Err(_) => true,
    }
}

fn push_escaped(segment: &mut String, piece: Piece<'_>, deepen: bool) {
    use std::fmt::Write;
    match piece {
        Piece::Text(text) => segment.push_str(text),
        Piece::Raw(byte) => {
            let _ = write!(segment, "%{byte:02X}");
        }
        Piece::Token { text, .. } => {
            segment.push_str(if deepen { "%25" } else { "%" });
            segment.push_str(&text[1..]);
        }
    }
}

fn push_unescaped(name: &mut Vec<u8>, piece: Piece<'_>, decodes: bool) {
    match piece {
        Piece::Text(text) => name.extend_from_slice(text.as_bytes()),
        Piece::Raw(byte) => name.push(byte),
        Piece::Token { depth: 0, value, .. } if decodes => name.push(value),
        Piece::Token { text, depth: 0, .. } => name.extend_from_slice(text.as_bytes()),
        Piece::Token { text, .. } => {
            name.push(b'%');
            name.extend_from_slice(&text.as_bytes()[3..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_every_store_carries_are_their_own_segment() {
        for name in [
            "note.md",
            "100%.md",
            "a%41b",
            "a%25b",
            "100%25.md",
            "caf%C3%A9.md",
            "My%20Note.md",
            "ü/".trim_end_matches('/'),
            "e\u{301}",
            "\u{e9}",
            "a b",
            "%",
            "%%",
            "%2",
            "%0a",
            "a+b&c?#~*:'\"<>|",
            "\u{1F600}",
            "日本語",
            "a\u{a0}b",
        ] {
            assert_eq!(escape_name(name.as_bytes()), name);
            assert_eq!(unescape_segment(name), name.as_bytes());
            assert!(is_canonical(name), "{name}");
        }
    }

    #[test]
    fn what_would_be_lost_is_escaped() {
        for (name, segment) in [
            (&b"a\nb"[..], "a%0Ab"),
            (b"a\\b", "a%5Cb"),
            (b"\xFF\xFE", "%FF%FE"),
            (b"caf\xE9.md", "caf%E9.md"),
            (b" a ", "%20a%20"),
            (b" ", "%20"),
            (b"  ", "%20%20"),
            (b"a%0Ab", "a%250Ab"),
            (b"a%250Ab", "a%25250Ab"),
            (b"%20a", "%2520a"),
            (b"a%FF", "a%25FF"),
            (b"\xC2\xA0\xC2\xA0", "%C2%A0%C2%A0"),
            (b"%C2%A0", "%25C2%25A0"),
            (b"%C3\xA9", "%25C3%A9"),
            (b"\x7F", "%7F"),
            (b"a\xEF\xBF\xBE", "a%EF%BF%BE"),
            (b"%EF%BF%BE", "%25EF%25BF%25BE"),
        ] {
            assert_eq!(escape_name(name), segment);
            assert_eq!(unescape_segment(segment), name);
            assert!(is_canonical(segment), "{segment}");
        }
    }

    #[test]
    fn foreign_segments_that_share_a_name_are_told_apart() {
        for foreign in ["a\nb", "a\\b", " a", "%FF%C3%A9", "\u{a0}"] {
            assert!(!is_canonical(foreign), "{foreign:?}");
            assert!(is_canonical(&escape_name(&unescape_segment(foreign))));
        }
    }

    /// Names made of the awkward parts, so that escapes meet in every combination.
    #[test]
    fn every_name_comes_back_from_its_segment() {
        const PARTS: [&[u8]; 26] = [
            b"%",
            b"2",
            b"5",
            b"0",
            b"A",
            b"C",
            b"3",
            b"9",
            b" ",
            b"\n",
            b"\\",
            b"\xC3",
            b"\xA9",
            b"\xC2\xA0",
            b"\xFF",
            b"\xE2\x80",
            b"\xE2\x80\x83",
            b"%C3",
            b"%A9",
            b"%25",
            b"%20",
            b"%C2%A0",
            b"x",
            b"\xF0\x9F",
            b"\xEF\xBF\xBE",
            b"%EF%BF%BF",
        ];
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        for round in 0..400_000 {
            let mut name = Vec::new();
            random ^= random << 13;
            for _ in 0..1 + round % 7 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                name.extend_from_slice(PARTS[(random >> 20) as usize % PARTS.len()]);
            }
            let segment = escape_name(&name);
            assert_eq!(unescape_segment(&segment), name, "{name:?} -> {segment:?}");
            assert_eq!(segment.trim(), segment, "{name:?}");
            assert!(segment.bytes().all(|byte| !is_escaped_ascii(byte)));
        }
    }

    #[test]
    fn every_name_of_up_to_two_bytes_comes_back() {
        for first in 1..=255_u8 {
            assert_eq!(unescape_segment(&escape_name(&[first])), [first]);
            for second in 1..=255_u8 {
                assert_eq!(unescape_segment(&escape_name(&[first, second])), [first, second]);
            }
        }
    }
}
