//! Keys of the trash: `.notefs/trash/20261125/222659.123-deleted-1a2b3c4d/ideas/note.md`, composed and understood.

use crate::store::{is_canonical, unescape_segment};
use crate::types::Timestamp;
use serde::{Deserialize, Serialize};

/// Where all copies lie.
pub(crate) const PREFIX: &str = ".notefs/trash/";

const DAY_SECONDS: i64 = 86_400;

/// Characters of a writer's name in a copy's.
const ID_LENGTH: usize = 8;

/// Why a version went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Its file was deleted.
    Deleted,
    /// Newer content took its place.
    Overwritten,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Why::Deleted => "deleted",
            Why::Overwritten => "overwritten",
        }
    }
}

/// A version in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// The path that it had below the mount.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Names this version among those of its path.
    pub version: String,
    /// When it went, by the clock of the machine that removed it.
    pub when: Timestamp,
    /// Why.
    pub why: Why,
    /// Its size in bytes.
    pub size: u64,
    /// The key of the copy.
    pub key: String,
}

pub(super) fn compose(key: &str, when: Timestamp, why: Why, writer: &str) -> String {
    let (day, time) = stamp(when);
    let id: String = writer.chars().take(ID_LENGTH).collect();
    format!("{PREFIX}{day}/{time}-{}-{id}/{key}", why.as_str())
}

/// Day and time of day, as `20261125` and `222659.123`, in UTC.
fn stamp(when: Timestamp) -> (String, String) {
    let text = when.to_utc_text();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let time: String = time.chars().filter(char::is_ascii_digit).collect();
    (
        day.replace('-', ""),
        format!("{time}.{:03}", when.nanoseconds / 1_000_000),
    )
}

/// What a key of the trash says; `None` if it is none.
pub(super) fn parse(key: &str, size: u64) -> Option<Trashed> {
    let mut parts = key.strip_prefix(PREFIX)?.splitn(3, '/');
    let (day, mark, original) = (parts.next()?, parts.next()?, parts.next()?);
    let mut words = mark.splitn(3, '-');
    let (time, why, id) = (words.next()?, words.next()?, words.next()?);
    let why = match why {
        "deleted" => Why::Deleted,
        "overwritten" => Why::Overwritten,
        _ => return None,
    };
    let (hms, ms) = time.split_once('.')?;
    let hms = digits(hms, 6)?;
    let second = hms / 10_000 * 3600 + hms / 100 % 100 * 60 + hms % 100;
    let when = Timestamp {
        seconds: day_start_seconds(day)? + second,
        nanoseconds: digits(ms, 3)? as u32 * 1_000_000,
    };
    Some(Trashed {
        path: path_of(original),
        version: format!("{day}T{time}-{id}"),
        when,
        why,
        size,
        key: key.to_owned(),
    })
}

fn digits(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// The first second of a day written as `20261125`, since 1970.
pub(super) fn day_start_seconds(day: &str) -> Option<i64> {
    let number = digits(day, 8)?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Howard Hinnant's days_from_civil.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * DAY_SECONDS)
}

/// The path that a key stands for, without aliases.
fn path_of(key: &str) -> Vec<u8> {
    let names = key.split('/').map(|segment| match is_canonical(segment) {
        true => unescape_segment(segment),
        false => segment.as_bytes().to_vec(),
    });
    names.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_composed_is_understood() {
        for seconds in [0, 951_782_400, 1_795_645_619, 4_102_444_799, 951_868_799] {
            let when = Timestamp {
                seconds,
                nanoseconds: 123_000_000,
            };
            for (key, why) in [("a.md", Why::Deleted), ("ideas/b c/über.md", Why::Overwritten)] {
                let name = compose(key, when, why, "1a2b3c4d5e6f7788");
                let found = parse(&name, 5).unwrap();
                assert_eq!((found.when, found.why, found.size), (when, why, 5), "{name}");
                assert_eq!(found.path, key.as_bytes());
                assert_eq!(found.key, name);
            }
        }
    }

    #[test]
    fn a_version_is_named_by_its_time() {
        let when = Timestamp {
            seconds: 1_795_645_619,
            nanoseconds: 7_000_000,
        };
        let name = compose("a.md", when, Why::Deleted, "1a2b3c4d5e6f7788");
        assert_eq!(name, ".notefs/trash/20261125/222659.007-deleted-1a2b3c4d/a.md");
        assert_eq!(parse(&name, 0).unwrap().version, "20261125T222659.007-1a2b3c4d");
    }

    #[test]
    fn strange_keys_are_passed_over() {
        for key in [
            "a.md",
            ".notefs/trash/",
            ".notefs/trash/20261125/x/a",
            ".notefs/trash/20261325/222659.123-deleted-x/a",
            ".notefs/trash/20261125/222659-deleted-x/a",
            ".notefs/trash/20261125/222659.123-moved-x/a",
            ".notefs/trash/20261125/222659.123-deleted-x",
        ] {
            assert_eq!(parse(key, 0), None, "{key}");
        }
    }
}
