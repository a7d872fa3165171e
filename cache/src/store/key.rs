//! Keys of objects that can be written and read back as they are, and how they map to names in the folder.
//!
//! Owns [`ObjectKey`], the reasons why a key is none ([`KeyProblem`]), and the reversible mapping between file names and
//! key segments. Does not own aliases for keys that cannot be shown as they are: that is the replica's.

mod escape;

pub use escape::{escape_name, is_canonical, unescape_segment};

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest key, in bytes, of S3 and most of its kin.
pub const KEY_LENGTH_MAX_BYTES: usize = 1024;

/// The key of an object below the store's prefix, checked: it names one object, and the adapters carry it unchanged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

/// Why a key of the bucket cannot be a path of the folder, or cannot be reached at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum KeyProblem {
    /// No characters at all.
    #[error("The key is empty")]
    Empty,
    /// Longer than [`KEY_LENGTH_MAX_BYTES`].
    #[error("The key is longer than 1,024 bytes")]
    TooLong,
    /// `a//b`, `/a`: the store's client would silently reach another object.
    #[error("The key has an empty part between two slashes, so that it names no file")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("The key has a part \".\" or \"..\", which would lead to another folder")]
    DotSegment,
    /// A NUL byte, which no file name can hold; also what a folder store tells for bytes of a name that are no text.
    #[error("The key has a NUL character, which no file name can hold, or bytes that are no text")]
    Nul,
    /// Ends with a slash: a directory's marker, not a file.
    #[error("The key ends with a slash, so that it names a directory")]
    TrailingSlash,
    /// White space at either end of the whole key, which the store's client cuts off.
    #[error("The key begins or ends with white space, which is lost on the way to the store")]
    OuterSpace,
}

impl ObjectKey {
    /// Checks a key as a listing tells it, or as the replica builds it from escaped names.
    pub fn parse(raw: &str) -> Result<ObjectKey, KeyProblem> {
        if raw.is_empty() {
            return Err(KeyProblem::Empty);
        }
        if raw.len() > KEY_LENGTH_MAX_BYTES {
            return Err(KeyProblem::TooLong);
        }
        if raw.contains('\0') {
            return Err(KeyProblem::Nul);
        }
        if raw.len() > 1 && raw.ends_with('/') && !raw.ends_with("//") {
            return Err(KeyProblem::TrailingSlash);
        }
        if raw.split('/').any(str::is_empty) {
            return Err(KeyProblem::EmptySegment);
        }
        if raw.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(KeyProblem::DotSegment);
        }
        if raw.trim().len() != raw.len() {
            return Err(KeyProblem::OuterSpace);
        }
        Ok(ObjectKey(raw.to_owned()))
    }

    /// The key as the store knows it, below the store's prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: what the escaped file name is.
    pub fn last_segment(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ObjectKey {
    type Err = KeyProblem;

    fn from_str(raw: &str) -> Result<ObjectKey, KeyProblem> {
        ObjectKey::parse(raw)
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = KeyProblem;

    fn try_from(raw: String) -> Result<ObjectKey, KeyProblem> {
        ObjectKey::parse(&raw)
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> String {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_name_a_file_are_taken_and_others_refused_by_reason() {
        for good in [
            "a",
            "a/b.md",
            "a b/ü&+%#?.md",
            "tab\there",
            "back\\slash",
            "...",
            "a/..b",
            ".notefs/feed/x",
            "a\u{1}b",
        ] {
            assert_eq!(ObjectKey::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(1025);
        for (bad, problem) in [
            ("", KeyProblem::Empty),
            (long.as_str(), KeyProblem::TooLong),
            ("a//b", KeyProblem::EmptySegment),
            ("/a", KeyProblem::EmptySegment),
            ("/", KeyProblem::EmptySegment),
            ("a//", KeyProblem::EmptySegment),
            ("a/", KeyProblem::TrailingSlash),
            ("../x", KeyProblem::DotSegment),
            ("a/./b", KeyProblem::DotSegment),
            ("a\0b", KeyProblem::Nul),
            (" a", KeyProblem::OuterSpace),
            ("a\u{3000}", KeyProblem::OuterSpace),
        ] {
            assert_eq!(ObjectKey::parse(bad), Err(problem), "{bad:?}");
        }
        assert!(ObjectKey::parse(&"x".repeat(1024)).is_ok());
    }

    #[test]
    fn json_holds_a_plain_string_and_is_checked_when_read() {
        let key = ObjectKey::parse("a/b").unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"a/b\"");
        assert_eq!(serde_json::from_str::<ObjectKey>("\"a/b\"").unwrap(), key);
        assert!(serde_json::from_str::<ObjectKey>("\"a//b\"").is_err());
    }
}
