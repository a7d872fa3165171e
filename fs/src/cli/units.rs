//! Sizes and durations as people write and read them.
//!
//! Owns parsing and display of units. The build script compiles this file too, so it uses nothing of the crate.

use std::time::Duration;

/// Parses `512M`, `10G`, `64KiB` or a plain count of bytes; units are powers of 1,024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("`{text}` is no size; write it like 512M or 10G")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no size; write it like 512M or 10G"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("`{text}` is too large"))
}

/// Parses `250ms`, `5s`, `2m` or `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let refused = || format!("`{text}` is no duration; write it like 250ms, 5s, 2m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit_ms: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is too long"))
}

/// Parses a count of things a second, at least 1.
pub(crate) fn parse_rate(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err(format!("`{text}` is no count per second; write it like 50")),
    }
}

/// How long something is kept, or that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep(pub(crate) Option<Duration>);

/// Parses `off` or a duration, as in `30d`.
pub(crate) fn parse_keep(text: &str) -> Result<Keep, String> {
    match text.trim() {
        "off" => Ok(Keep(None)),
        text => match parse_duration(text) {
            Ok(time) if !time.is_zero() => Ok(Keep(Some(time))),
            _ => Err(format!(
                "`{text}` is no time to keep things; write it like 30d or 12h, or off"
            )),
        },
    }
}

/// `1.4 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// `1,204`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 files`, `1 file`, `2 entries`, `2 keys`.
pub(crate) fn show_things(count: u64, thing: &str) -> String {
    let counted = show_count(count);
    match thing.strip_suffix("ry") {
        _ if count == 1 => format!("{counted} {thing}"),
        Some(stem) => format!("{counted} {stem}ries"),
        None => format!("{counted} {thing}s"),
    }
}

/// `250 ms`, `12 s`, `4 min`, `3 h`, `2 days`.
pub(crate) fn show_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_one_or_many() {
        assert_eq!(show_things(1, "entry"), "1 entry");
        assert_eq!(show_things(2, "entry"), "2 entries");
        assert_eq!(show_things(2, "key"), "2 keys");
        assert_eq!(show_things(1_000, "file"), "1,000 files");
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("512m"), Ok(512 << 20));
        assert_eq!(parse_size(" 10G "), Ok(10 << 30));
        assert_eq!(parse_size("10 GiB"), Ok(10 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "G",
            "-1",
            "1.5G",
            "10X",
            "99999999999999999999",
            "99999999999T",
            "ten",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "5", "s", "-5s", "1.5s", "5 parsecs", "99999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_count(1204), "1,204");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_things(1, "file"), "1 file");
        assert_eq!(show_ms(59_000), "59 s");
        assert_eq!(show_ms(600_000), "10 min");
    }
}
