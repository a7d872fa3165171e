//! Bytes to text: byte order marks, UTF-16 with a mark, everything else as UTF-8 with replacement.
//!
//! Owns [`Text`], which remembers how it was read, so that the same remarks can be made again without the bytes.

use crate::model::{MAX_NOTE_BYTES, WarningKind};

use super::Remark;

/// How the bytes of a note were encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// Not quite UTF-8: invalid bytes were replaced by U+FFFD.
    Lossy,
    /// UTF-16 with a byte order mark.
    Utf16,
}

/// A decoded note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) encoding: Encoding,
    /// Whether the file is longer than what was decoded.
    pub(crate) is_prefix: bool,
    /// Size of the file.
    pub(crate) total_bytes: u64,
}

impl Text {
    /// What was strange about the bytes.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if self.encoding == Encoding::Lossy {
            let message = "Not UTF-8: invalid bytes are indexed as U+FFFD".to_owned();
            remarks.push(Remark {
                kind: WarningKind::NotUtf8,
                message,
            });
        }
        if self.is_prefix {
            let message = format!(
                "{} bytes long: only the first {MAX_NOTE_BYTES} bytes are indexed",
                self.total_bytes
            );
            remarks.push(Remark {
                kind: WarningKind::TooLarge,
                message,
            });
        }
        remarks
    }
}

/// Decodes a note of which `bytes` are the beginning.
pub(crate) fn read(mut bytes: Vec<u8>, total_bytes: u64) -> Text {
    let max = usize::try_from(MAX_NOTE_BYTES).unwrap_or(usize::MAX);
    let is_prefix = bytes.len() > max || total_bytes > bytes.len() as u64;
    bytes.truncate(max);
    let total_bytes = total_bytes.max(bytes.len() as u64);
    let (text, encoding) = match bytes.as_slice() {
        [0xff, 0xfe, units @ ..] => utf16(units, u16::from_le_bytes),
        [0xfe, 0xff, units @ ..] => utf16(units, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest.to_vec(), is_prefix),
        _ => utf8(bytes, is_prefix),
    };
    Text {
        text,
        encoding,
        is_prefix,
        total_bytes,
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> (String, Encoding) {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    let mut encoding = Encoding::Utf16;
    let text = char::decode_utf16(units)
        .map(|decoded| {
            decoded.unwrap_or_else(|_| {
                encoding = Encoding::Lossy;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    (text, encoding)
}

fn utf8(mut bytes: Vec<u8>, is_prefix: bool) -> (String, Encoding) {
    if let Err(error) = std::str::from_utf8(&bytes) {
        if !(is_prefix && error.error_len().is_none()) {
            return (String::from_utf8_lossy(&bytes).into_owned(), Encoding::Lossy);
        }
        // The prefix was cut within a character: that is no fault of the note.
        bytes.truncate(error.valid_up_to());
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, Encoding::Utf8),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Encoding::Lossy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Text {
        read(bytes.to_vec(), bytes.len() as u64)
    }

    #[test]
    fn marks_and_encodings() {
        assert_eq!(all(b"\xef\xbb\xbfa").text, "a");
        assert_eq!(all(b"\xff\xfeh\0i\0").text, "hi");
        assert_eq!(all(b"\xfe\xff\0h\0i").text, "hi");
        assert_eq!(all(b"caf\xe9").encoding, Encoding::Lossy);
        assert_eq!(all(b"caf\xe9").text, "caf\u{fffd}");
        assert_eq!(
            all(b"\xff\xfe\0\xd8").encoding,
            Encoding::Lossy,
            "half a surrogate pair"
        );
        assert_eq!(all("né".as_bytes()).remarks(), []);
    }

    #[test]
    fn a_prefix_may_end_within_a_character() {
        let cut = read("né".as_bytes()[..2].to_vec(), 3);
        assert_eq!((cut.text.as_str(), cut.encoding), ("n", Encoding::Utf8));
        assert_eq!(cut.remarks().len(), 1);
        let long = read(vec![b'x'; 5 << 20], 5 << 20);
        assert_eq!(long.text.len() as u64, MAX_NOTE_BYTES);
        assert!(long.is_prefix && long.remarks()[0].message.contains("5242880"));
    }
}
