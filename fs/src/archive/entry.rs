//! What an archive says of one file, folder or link.
//!
//! Owns the fields and how bytes are spelt that are no text. Reads and writes no files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line. What is not said is left as it is by an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The path below the folder, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// The path otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_base64: Option<String>,
    /// What it is; none in lines that continue a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    /// Permissions with setuid, setgid and sticky, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gid: Option<u32>,
    /// When it was modified: seconds since 1970, a point, nine digits of nanoseconds after that second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtime: Option<String>,
    /// The device, of devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<(u32, u32)>,
    /// Extended attributes, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<String, String>,
    /// The file is another name of this one, which has come before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) same_as: Option<Bytes>,
    /// Where this content begins, in lines that continue a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    /// A file's content or a link's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Bytes>,
    /// What the index knows of a note, for readers; an import makes nothing of it, since it follows from the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<serde_json::Value>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    Fifo,
    Socket,
    BlockDevice,
    CharDevice,
}

/// Bytes: as text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bytes {
    Text(String),
    Base64(String),
}

impl Bytes {
    pub(super) fn of(bytes: Vec<u8>) -> Bytes {
        match String::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(error) => Bytes::Base64(encoded(error.as_bytes())),
        }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Bytes::Text(text) => Ok(text.clone().into_bytes()),
            Bytes::Base64(text) => decoded(text),
        }
    }
}

impl Line {
    /// A line about this path.
    pub(super) fn of(path: &[u8]) -> Line {
        match std::str::from_utf8(path) {
            Ok(path) => Line {
                path: Some(path.to_owned()),
                ..Line::default()
            },
            Err(_) => Line {
                path_base64: Some(encoded(path)),
                ..Line::default()
            },
        }
    }

    /// The path.
    pub(super) fn path(&self) -> Result<Vec<u8>, String> {
        match (&self.path, &self.path_base64) {
            (Some(path), None) => Ok(path.clone().into_bytes()),
            (None, Some(path)) => decoded(path),
            _ => Err("a line has no path, or two".into()),
        }
    }

    /// The mode as a number.
    pub(super) fn mode(&self) -> Result<Option<u32>, String> {
        let parse = |mode: &String| u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777);
        match &self.mode {
            None => Ok(None),
            Some(mode) => parse(mode).map(Some).ok_or_else(|| format!("{mode:?} is no mode")),
        }
    }

    /// The time in seconds and nanoseconds.
    pub(super) fn mtime(&self) -> Result<Option<(i64, u32)>, String> {
        let parse = |time: &str| {
            let (seconds, nanos) = time.split_once('.')?;
            let nanos = nanos.parse().ok().filter(|_| nanos.len() == 9)?;
            Some((seconds.parse().ok()?, nanos))
        };
        match &self.mtime {
            None => Ok(None),
            Some(time) => parse(time).map(Some).ok_or_else(|| format!("{time:?} is no time")),
        }
    }
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_nothing_that_is_not_known_and_comes_back() {
        let line = Line {
            kind: Some(Kind::File),
            mtime: Some("-1.000000005".into()),
            mode: Some("4755".into()),
            content: Some(Bytes::of(b"\xff".to_vec())),
            ..Line::of(b"a/\xfe.md")
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"path_base64":"YS/+Lm1k","kind":"file","mode":"4755","mtime":"-1.000000005","content":{"base64":"/w=="}}"#
        );
        let read: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(read, line);
        assert_eq!(read.path().unwrap(), b"a/\xfe.md");
        assert_eq!(read.mtime().unwrap(), Some((-1, 5)));
        assert_eq!(read.mode().unwrap(), Some(0o4755));
    }

    #[test]
    fn nonsense_is_named() {
        let bad = Line {
            mode: Some("99".into()),
            mtime: Some("1.5".into()),
            ..Line::default()
        };
        assert!(bad.path().is_err() && bad.mode().is_err() && bad.mtime().is_err());
    }
}
