//! Names of conflict copies: `name (conflict from HOST 2026-11-21 14-03-22).md`, an ordinary name that fits everywhere.

use crate::types::{NAME_LENGTH_MAX_BYTES, Timestamp};

/// The name for the copy of `name` made by `host` at `when`; `nth` tells several of one second apart.
pub(crate) fn conflict_name(name: &[u8], host: &str, when: Timestamp, nth: u32) -> Vec<u8> {
    let dot = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|at| *at > 0)
        .unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(40)
        .collect();
    let number = if nth == 0 {
        String::new()
    } else {
        format!(" {}", nth + 1)
    };
    let mark = format!(" (conflict from {host} {}{number})", date(when));
    let room = NAME_LENGTH_MAX_BYTES.saturating_sub(mark.len() + extension.len());
    let mut end = stem.len().min(room);
    while end > 0 && stem.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    [&stem[..end], mark.as_bytes(), extension].concat()
}

/// UTC, as `2026-11-21 14-03-22`: no character that any file system refuses.
fn date(when: Timestamp) -> String {
    when.to_utc_text().replace('T', " ").replace('Z', "").replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_who_and_when_and_keeps_its_ending() {
        let when = Timestamp {
            seconds: 1_795_269_802,
            nanoseconds: 0,
        };
        let name = conflict_name(b"idea.md", "laptop", when, 0);
        assert_eq!(
            String::from_utf8(name).unwrap(),
            "idea (conflict from laptop 2026-11-21 14-03-22).md"
        );
        let name = conflict_name(b".profile", "a b/c", when, 1);
        assert_eq!(
            String::from_utf8(name).unwrap(),
            ".profile (conflict from abc 2026-11-21 14-03-22 2)"
        );
        let long = conflict_name("ä".repeat(127).as_bytes(), "laptop", when, 0);
        assert!(long.len() <= 255 && String::from_utf8(long).is_ok());
    }
}
