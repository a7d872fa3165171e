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
    let (days, second) = (when.seconds.div_euclid(86_400), when.seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}-{:02}-{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Days since 1970 to a date of the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
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
