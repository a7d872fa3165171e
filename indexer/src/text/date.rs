//! Dates as people write them in frontmatter and queries, as nanoseconds since 1970.
//!
//! Owns `2026`, `2026-01`, `2026-01-02`, and a day with a time `T14:03[:22[.5]]`, with `Z` or an offset; without one
//! it is UTC, since the index has no place. Anything else is no date. Does not know the time it is.

const NANOSECONDS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The first moment that `text` names.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let (day, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim())),
        None => (text, None),
    };
    let seconds = days(day, time.is_some())?.checked_mul(DAY_SECONDS)?;
    let (of_day, fraction) = match time {
        Some(time) => of_day(time)?,
        None => (0, 0),
    };
    seconds
        .checked_add(of_day)?
        .checked_mul(NANOSECONDS)?
        .checked_add(fraction)
}

/// A moment as `2026-01-02T03:04:05Z`.
pub(crate) fn shown(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(NANOSECONDS);
    let (day, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Howard Hinnant's `civil_from_days`.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, date)
}

fn days(day: &str, whole: bool) -> Option<i64> {
    let mut parts = day.split('-');
    let year = number(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |month| number(month, 2))?;
    let date = parts.next();
    if parts.next().is_some() || (whole && date.is_none()) {
        return None;
    }
    let date = date.map_or(Some(1), |date| number(date, 2))?;
    ((1..=12).contains(&month) && (1..=month_days(year, month)).contains(&date))
        .then(|| days_since_1970(year, month, date))
}

fn month_days(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds since midnight in UTC, and nanoseconds beyond them.
fn of_day(time: &str) -> Option<(i64, i64)> {
    let (time, offset) = if let Some(time) = time.strip_suffix(['Z', 'z']) {
        (time, 0)
    } else if let Some(at) = time.rfind(['+', '-']) {
        let sign = if time[at..].starts_with('-') { -1 } else { 1 };
        let digits = time[at + 1..].replace(':', "");
        let (hours, minutes) = match digits.len() {
            2 => (number(&digits, 2)?, 0),
            4 => (number(&digits[..2], 2)?, number(&digits[2..], 2)?),
            _ => return None,
        };
        (time[..at].trim(), sign * (hours * 3_600 + minutes * 60))
    } else {
        (time, 0)
    };
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (second, fraction) = match parts
        .next()
        .map(|second| second.split_once('.').unwrap_or((second, "0")))
    {
        Some((second, fraction)) => (number(second, 2)?, nanos(fraction)?),
        None => (0, 0),
    };
    let is_time = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    is_time.then_some((hour * 3_600 + minute * 60 + second - offset, fraction))
}

fn nanos(fraction: &str) -> Option<i64> {
    let digits = format!("{:0<9}", super::clip(fraction, 9));
    number(&digits, 9)
}

fn number(digits: &str, length: usize) -> Option<i64> {
    let is_number = digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{nanoseconds, shown};

    #[test]
    fn dates_of_every_form() {
        let second = 1_000_000_000;
        for (text, seconds) in [
            ("1970", 0),
            ("1970-02", 31 * 86_400),
            ("2026-01-02", 1_767_312_000),
            ("2026-01-02T03:04:05Z", 1_767_323_045),
            ("2026-01-02 03:04", 1_767_323_040),
            ("2026-01-02T03:04:05+02:00", 1_767_315_845),
            ("2026-01-02T03:04:05-0130", 1_767_328_445),
            ("2024-02-29", 1_709_164_800),
            ("1969-12-31", -86_400),
        ] {
            assert_eq!(nanoseconds(text), Some(seconds * second), "{text}");
        }
        assert_eq!(nanoseconds("1970-01-01T00:00:00.25Z"), Some(250_000_000));
        for none in [
            "",
            "26",
            "2026-13",
            "2026-02-29",
            "2026-1-2",
            "tomorrow",
            "2026-01-02T25:00",
            "2026T10:00",
            "9999-12-31x",
            "２０２６",
            "2026-01-02T1",
        ] {
            assert_eq!(nanoseconds(none), None, "{none}");
        }
        assert_eq!(nanoseconds("9999-12-31"), None, "beyond what nanoseconds can count");
    }

    #[test]
    fn a_moment_is_shown_as_it_is_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59Z",
            "2026-12-31T12:34:56Z",
            "1969-12-31T23:00:00Z",
            "2100-03-01T00:00:00Z",
        ] {
            assert_eq!(nanoseconds(text).map(shown).as_deref(), Some(text));
        }
    }
}
