//! What travels with an object as user metadata, and its ASCII encoding on the wire.
//!
//! Owns the names and the spelling of each value, ours and those of rclone and s3fs that mean the same. Does not own
//! where metadata is kept locally, nor what to assume where an object carries none: that is the replica's.

mod encoding;

pub(super) use encoding::time_to_text;

use super::{StoreError, StoreErrorKind, StoreResult};
use crate::types::{FileKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that names and values of an object's user metadata may take together (S3 refuses more than 2,048 bytes).
pub const USER_METADATA_MAX_BYTES: usize = 2_000;

const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const RDEV: &str = "rdev";
// Letters only: Azure takes no hyphens, and some proxies drop underscores.
const TARGET: &str = "notefstarget";
const XATTRS: &str = "notefsxattrs";
const LINK_ID: &str = "notefslink";
const WRITE_ID: &str = "notefswrite";

const KIND_MASK: u32 = 0o170_000;

/// User metadata as the store keeps it: lower-case names, printable ASCII values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserMetadata(BTreeMap<String, String>);

/// What the replica wants to travel with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMetadata {
    /// File type.
    pub kind: FileKind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Device number of a device node, else 0.
    pub rdev: u64,
    /// Target of a symlink, else empty.
    pub target: Vec<u8>,
    /// Extended attributes, in order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Shared by all objects that are hard links of one file.
    pub link_id: Option<String>,
    /// Unique to each write, so that a writer knows its own object when it meets it.
    pub write_id: String,
}

/// What could be understood of an object's user metadata; anything may be missing in objects of other tools.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartialMetadata {
    /// File type.
    pub kind: Option<FileKind>,
    /// Permission bits, 0 to 0o7777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of content.
    pub mtime: Option<Timestamp>,
    /// Device number.
    pub rdev: Option<u64>,
    /// Target of a symlink.
    pub target: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Shared by all objects that are hard links of one file.
    pub link_id: Option<String>,
    /// Unique to each write by notefs.
    pub write_id: Option<String>,
}

impl UserMetadata {
    /// No metadata.
    pub fn new() -> UserMetadata {
        UserMetadata::default()
    }

    /// Sets a value. The name is lower-cased, as HTTP does; a value must be printable ASCII to reach a store.
    pub fn insert(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_ascii_lowercase(), value.into());
    }

    /// The value of a name, which is lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Takes over the time of the last change of content.
    pub(crate) fn set_mtime_of(&mut self, other: &UserMetadata) {
        if let Some(mtime) = other.get(MTIME) {
            self.insert(MTIME, mtime);
        }
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The write id of the notefs that wrote the object, if one did.
    pub fn write_id(&self) -> Option<&str> {
        self.get(WRITE_ID)
    }

    /// What S3 counts against its limit: bytes of names and values.
    pub fn encoded_size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Refuses what no store carries, before anything is sent.
    pub(super) fn check(&self, target: &str) -> StoreResult<()> {
        let name_ok =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let value_ok = |value: &str| {
            !value.is_empty() && value.bytes().all(|b| matches!(b, b' '..=b'~')) && value.trim().len() == value.len()
        };
        match self.iter().find(|(name, value)| !name_ok(name) || !value_ok(value)) {
            None => Ok(()),
            Some((name, _)) => Err(StoreError {
                kind: StoreErrorKind::Refused,
                operation: "write",
                target: target.to_owned(),
                message: format!("the metadata {name:?} is not printable ASCII"),
                advice: String::new(),
                retryable: false,
            }),
        }
    }
}

impl<N: AsRef<str>, V: Into<String>> FromIterator<(N, V)> for UserMetadata {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> UserMetadata {
        let mut user = UserMetadata::new();
        pairs
            .into_iter()
            .for_each(|(name, value)| user.insert(name.as_ref(), value));
        user
    }
}

impl ObjectMetadata {
    /// Spells it out as user metadata.
    pub fn encode(&self) -> UserMetadata {
        let mut user = UserMetadata::new();
        user.insert(MODE, format!("{:o}", kind_bits(self.kind) | (self.mode & 0o7777)));
        user.insert(UID, self.uid.to_string());
        user.insert(GID, self.gid.to_string());
        user.insert(MTIME, time_to_text(self.mtime));
        if self.rdev != 0 {
            user.insert(RDEV, format!("{:x}", self.rdev));
        }
        if !self.target.is_empty() {
            user.insert(TARGET, encoding::bytes_to_text(&self.target));
        }
        if !self.xattrs.is_empty() {
            let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
                format!("{}={}", encoding::bytes_to_text(name), encoding::bytes_to_text(value))
            };
            user.insert(XATTRS, self.xattrs.iter().map(pair).collect::<Vec<_>>().join(","));
        }
        if let Some(id) = self.link_id.as_ref().filter(|id| !id.is_empty()) {
            user.insert(LINK_ID, encoding::bytes_to_text(id.as_bytes()));
        }
        if !self.write_id.is_empty() {
            user.insert(WRITE_ID, self.write_id.clone());
        }
        user
    }

    /// Understands what it can; a value that makes no sense is as if it were missing.
    pub fn decode(user: &UserMetadata) -> PartialMetadata {
        let mode = user.get(MODE).and_then(parse_mode);
        let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        PartialMetadata {
            kind: mode.and_then(|mode| kind_of_bits(mode & KIND_MASK)),
            mode: mode.map(|mode| mode & 0o7777),
            uid: user.get(UID).and_then(|text| text.trim().parse().ok()),
            gid: user.get(GID).and_then(|text| text.trim().parse().ok()),
            mtime: user.get(MTIME).and_then(encoding::time_from_text),
            rdev: user
                .get(RDEV)
                .and_then(|text| u64::from_str_radix(text.trim(), 16).ok()),
            target: user.get(TARGET).and_then(encoding::bytes_from_text),
            xattrs: user.get(XATTRS).and_then(parse_xattrs),
            link_id: user.get(LINK_ID).and_then(encoding::bytes_from_text).and_then(utf8),
            write_id: user.write_id().map(str::to_owned),
        }
    }

    /// The size of [`ObjectMetadata::encode`]'s result; must not exceed [`USER_METADATA_MAX_BYTES`].
    pub fn encoded_size(&self) -> usize {
        self.encode().encoded_size()
    }
}

/// rclone writes octal; s3fs writes decimal, which is told by the file type's bits.
fn parse_mode(text: &str) -> Option<u32> {
    let sensible =
        |mode: &u32| *mode <= 0o177_777 && (mode & KIND_MASK == 0 || kind_of_bits(mode & KIND_MASK).is_some());
    let text = text.trim();
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = u32::from_str_radix(digits, 8).ok().filter(sensible);
    octal.or_else(|| text.parse().ok().filter(|mode| sensible(mode) && mode & KIND_MASK != 0))
}

fn parse_xattrs(text: &str) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((encoding::bytes_from_text(name)?, encoding::bytes_from_text(value)?))
    };
    text.split(',').map(pair).collect()
}

fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Fifo => 0o010_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::Directory => 0o040_000,
        FileKind::BlockDevice => 0o060_000,
        FileKind::File => 0o100_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Socket => 0o140_000,
    }
}

fn kind_of_bits(bits: u32) -> Option<FileKind> {
    match bits {
        0o010_000 => Some(FileKind::Fifo),
        0o020_000 => Some(FileKind::CharDevice),
        0o040_000 => Some(FileKind::Directory),
        0o060_000 => Some(FileKind::BlockDevice),
        0o100_000 => Some(FileKind::File),
        0o120_000 => Some(FileKind::Symlink),
        0o140_000 => Some(FileKind::Socket),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ObjectMetadata {
        ObjectMetadata {
            kind: FileKind::File,
            mode: 0o644,
            uid: 1000,
            gid: 100,
            mtime: Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 123_456_789,
            },
            rdev: 0,
            target: Vec::new(),
            xattrs: vec![
                (b"user.tag".to_vec(), b"a=b,c".to_vec()),
                (b"user.bin".to_vec(), (0..=255).collect()),
            ],
            link_id: Some("17".to_owned()),
            write_id: "w-1".to_owned(),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let metadata = sample();
        let user = metadata.encode();
        user.check("x").unwrap();
        assert_eq!(
            (user.get("mode"), user.get("mtime")),
            (Some("100644"), Some("1700000000.123456789"))
        );
        assert_eq!(user.write_id(), Some("w-1"));
        let decoded = ObjectMetadata::decode(&user);
        assert_eq!((decoded.kind, decoded.mode), (Some(FileKind::File), Some(0o644)));
        assert_eq!(
            (decoded.uid, decoded.gid, decoded.mtime),
            (Some(1000), Some(100), Some(metadata.mtime))
        );
        assert_eq!(decoded.xattrs, Some(metadata.xattrs.clone()));
        assert_eq!(
            (decoded.link_id, decoded.write_id),
            (metadata.link_id.clone(), Some("w-1".to_owned()))
        );
        assert!(metadata.encoded_size() < 600, "{}", metadata.encoded_size());
    }

    #[test]
    fn every_kind_and_a_binary_target_come_back() {
        for kind in [
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::BlockDevice,
        ] {
            let target = b"../\xFF\n \xC3\xA9".to_vec();
            let metadata = ObjectMetadata {
                kind,
                target,
                rdev: 0x801,
                mode: 0o7777,
                ..sample()
            };
            let decoded = ObjectMetadata::decode(&metadata.encode());
            assert_eq!(
                (decoded.kind, decoded.rdev, decoded.mode),
                (Some(kind), Some(0x801), Some(0o7777))
            );
            assert_eq!(decoded.target, Some(metadata.target));
        }
    }

    #[test]
    fn other_tools_are_understood() {
        let decode = |pairs: &[(&str, &str)]| ObjectMetadata::decode(&pairs.iter().copied().collect());
        let rclone = decode(&[
            ("Mtime", "1700000000.5"),
            ("mode", "100600"),
            ("uid", "0"),
            ("atime", "x"),
        ]);
        assert_eq!(
            rclone.mtime,
            Some(Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 500_000_000
            })
        );
        assert_eq!(
            (rclone.kind, rclone.mode, rclone.uid),
            (Some(FileKind::File), Some(0o600), Some(0))
        );
        let s3fs = decode(&[("mode", "33204"), ("mtime", "1700000000")]);
        assert_eq!((s3fs.kind, s3fs.mode), (Some(FileKind::File), Some(0o664)));
        assert_eq!(decode(&[("mode", "644")]).mode, Some(0o644));
        assert_eq!(decode(&[("mode", "644")]).kind, None);
    }

    #[test]
    fn each_garbage_value_is_left_out_on_its_own() {
        let pairs = [
            ("mode", "rw-r--r--"),
            ("uid", "-1"),
            ("gid", "7"),
            ("mtime", "yesterday"),
            ("notefsxattrs", "a,b"),
        ];
        let decoded = ObjectMetadata::decode(&pairs.into_iter().collect());
        assert_eq!(
            decoded,
            PartialMetadata {
                gid: Some(7),
                ..PartialMetadata::default()
            }
        );
    }

    #[test]
    fn user_metadata_is_a_plain_json_object() {
        let json = serde_json::to_string(&sample().encode()).unwrap();
        assert!(json.starts_with("{\"gid\":\"100\","), "{json}");
        assert_eq!(serde_json::from_str::<UserMetadata>(&json).unwrap(), sample().encode());
    }
}
