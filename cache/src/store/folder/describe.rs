//! What a file says of itself: its version, its user metadata, whether a directory is marked; and what can go wrong.
//!
//! Owns the extended attributes that the store keeps. Does not own paths, locks or writes.

use super::super::{ETag, ObjectInfo, UserMetadata, metadata::time_to_text};
use crate::types::Timestamp;
use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// On directories made by `put_marker`.
pub(super) const MARKER_XATTR: &str = "user.notefs.directory";
const METADATA_XATTR: &str = "user.notefs.metadata";
const XATTR_SIZE_MAX_BYTES: usize = 16 << 10;

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Failure {
    Disk(io::Error),
    InTheWay,
    Moved,
    NoFolder,
    Refused(&'static str),
    Slow,
    Stopped,
    Torn,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
        match error.kind() {
            AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory => Failure::InTheWay,
            _ => Failure::Disk(error),
        }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        Failure::from(io::Error::from(error))
    }
}

/// User metadata as kept beside the content it belongs to; void once another program has changed the file in place.
#[derive(Serialize, Deserialize)]
struct Bound {
    size: u64,
    mtime: i64,
    user: UserMetadata,
}

/// Keeps user metadata with the content that the file has now.
pub(super) fn bind_user(file: &File, metadata: &Metadata, user: &UserMetadata) -> Result<(), Failure> {
    let bound = Bound {
        size: metadata.len(),
        mtime: mtime_of(metadata).as_nanos(),
        user: user.clone(),
    };
    let json = serde_json::to_vec(&bound).map_err(io::Error::from)?;
    Ok(rustix::fs::fsetxattr(file, METADATA_XATTR, &json, XattrFlags::empty())?)
}

pub(super) fn info_of(metadata: &Metadata) -> ObjectInfo {
    ObjectInfo {
        size: metadata.len(),
        etag: etag_of(metadata),
        last_modified: mtime_of(metadata),
        user: None,
    }
}

/// Whether a directory was made by `put_marker`.
pub(super) fn is_marked(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, MARKER_XATTR, &mut value[..]).is_ok()
}

pub(super) fn etag_of(metadata: &Metadata) -> ETag {
    ETag(format!(
        "{:x}-{:x}-{:x}",
        metadata.ino(),
        mtime_of(metadata).as_nanos(),
        metadata.len()
    ))
}

fn mtime_of(metadata: &Metadata) -> Timestamp {
    Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec() as u32,
    }
}

/// What the store has kept for this content; else what the file itself says, as for files of other programs.
pub(super) fn user_of(file: &File, metadata: &Metadata) -> UserMetadata {
    let mut value = vec![0; XATTR_SIZE_MAX_BYTES];
    let kept = rustix::fs::fgetxattr(file, METADATA_XATTR, &mut value[..]).ok();
    let bound = kept.and_then(|size| serde_json::from_slice::<Bound>(&value[..size]).ok());
    let current = (metadata.len(), mtime_of(metadata).as_nanos());
    if let Some(bound) = bound.filter(|bound| (bound.size, bound.mtime) == current) {
        return bound.user;
    }
    let mtime = mtime_of(metadata);
    [
        ("mode", format!("{:o}", metadata.mode())),
        ("uid", metadata.uid().to_string()),
        ("gid", metadata.gid().to_string()),
        ("mtime", time_to_text(mtime)),
    ]
    .into_iter()
    .collect()
}
