//! Times and bytes as printable ASCII.
//!
//! Owns the spelling only: rclone's decimal seconds for times; percent-encoding, or base64url after `*` where that is
//! shorter, for bytes.

use crate::types::Timestamp;

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// As rclone: signed decimal seconds, up to nine decimals, none where there are none.
pub(in crate::store) fn time_to_text(time: Timestamp) -> String {
    let nanos = i128::from(time.seconds) * NANOS_PER_SECOND + i128::from(time.nanoseconds);
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let text = format!(
        "{sign}{}.{:09}",
        size / NANOS_PER_SECOND.unsigned_abs(),
        size % NANOS_PER_SECOND.unsigned_abs()
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Decimals beyond nanoseconds are cut off, as other tools write floats.
pub(super) fn time_from_text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || !digits(whole) || !digits(decimals) {
        return None;
    }
    let fraction: String = decimals.chars().chain(std::iter::repeat('0')).take(9).collect();
    let size = whole.parse::<i128>().ok()? * NANOS_PER_SECOND + fraction.parse::<i128>().ok()?;
    let nanos = if negative { -size } else { size };
    Some(Timestamp {
        seconds: i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).ok()?,
        nanoseconds: u32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).ok()?,
    })
}

/// Never holds `=`, `,` or white space; empty only for no bytes.
pub(super) fn bytes_to_text(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~/:@+!-".contains(byte);
    let percent_size = bytes.iter().map(|byte| if plain(byte) { 1 } else { 3 }).sum::<usize>();
    if percent_size > bytes.len() * 4 / 3 + 2 {
        return base64url(bytes);
    }
    let mut text = String::with_capacity(percent_size);
    for byte in bytes {
        if plain(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The inverse of [`bytes_to_text`].
pub(super) fn bytes_from_text(text: &str) -> Option<Vec<u8>> {
    if let Some(base64) = text.strip_prefix('*') {
        return base64url_decoded(base64);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    Some(bytes)
}

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::from("*");
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(BASE64URL[(group >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

fn base64url_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for byte in chunk {
            group = group << 6 | BASE64URL.iter().position(|known| known == byte)? as u32;
        }
        group <<= 6 * (4 - chunk.len());
        let count = chunk.len().checked_sub(1).filter(|count| *count > 0)?;
        bytes.extend_from_slice(&group.to_be_bytes()[1..=count]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelt_as_rclone_does() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1_700_000_000, 0, "1700000000"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
            (-1, 500_000_000, "-0.5"),
            (-2, 999_999_999, "-1.000000001"),
            (253_402_300_800, 1, "253402300800.000000001"),
        ] {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(time_to_text(time), text);
            assert_eq!(time_from_text(text), Some(time));
        }
        assert_eq!(time_from_text("10.1234567899").unwrap().nanoseconds, 123_456_789);
        for garbage in [
            "",
            "-",
            ".",
            ".5",
            "1e9",
            "NaN",
            "1.2.3",
            "+1",
            "99999999999999999999",
            "2023-11-14T22:13:20Z",
        ] {
            assert_eq!(time_from_text(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn bytes_of_every_length_and_value_come_back() {
        for length in 0..40 {
            for seed in 0..60_usize {
                let bytes: Vec<u8> = (0..length)
                    .map(|i: usize| (i.wrapping_mul(97) ^ seed.wrapping_mul(31)) as u8)
                    .collect();
                let text = bytes_to_text(&bytes);
                assert!(
                    text.bytes().all(|b| b.is_ascii_graphic() && b != b'=' && b != b','),
                    "{text}"
                );
                assert_eq!(bytes_from_text(&text), Some(bytes));
            }
        }
        assert_eq!(bytes_to_text(b"../a b.md"), "../a%20b.md");
        assert_eq!(bytes_from_text("%4"), None);
        assert_eq!(bytes_from_text("*A"), None);
        assert_eq!(bytes_from_text("*????"), None);
    }
}
