//! The rows of `state.db` as Rust values, and [`Mutation`]: the only ways in which they change.
//!
//! A mutation is physical (this row now reads so), so applying it needs no decision and a journal of mutations can be replayed blindly.

use crate::types::{Attr, FileKind, Ino, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The last version that a directory's attributes can have (in the year 2208): a column holds an `i64`, and some must be left to grow.
pub(crate) const DIRECTORY_VERSION_MAX: u64 = 7_500_000_000_000_000_000;

/// Where an inode's local bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Nowhere: the content is empty, or only in the bucket.
    Nowhere,
    /// Whole, in the table `content`.
    Inline,
    /// In a sparse file; the table `blob` says which ranges of it are real.
    Blob,
}

/// One inode. Files with a content version that no object holds are owed to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u64,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    /// Grows with each change of content.
    pub(crate) content_version: u64,
    /// Grows with each change of what travels as user metadata. That of a directory's mode, owner and extended attributes is a time
    /// (nanoseconds since 1970), so that it can be compared with what other machines tell.
    pub(crate) meta_version: u64,
    /// The content version from which ranges that are not local are read.
    pub(crate) base_version: u64,
    pub(crate) place: Place,
    /// Directories: the names below are known. Others: the object's user metadata is known.
    pub(crate) known: bool,
    /// Ties the names of a file with hard links across a cold start; 0 if there never were any.
    pub(crate) link_id: u64,
    /// Directories: where it is. Others: 0.
    pub(crate) parent: Ino,
    /// Directories: its name. Symlinks: the target. Others: empty.
    #[serde(with = "serde_bytes")]
    pub(crate) text: Vec<u8>,
    /// Directories: the key segment, where it is not the escaped name.
    pub(crate) segment: Option<String>,
}

impl Inode {
    /// An empty inode that is here and nowhere else, with all its times at `now`.
    pub(crate) fn new(ino: Ino, kind: FileKind, mode: u32, owner: (u32, u32), now: Timestamp) -> Inode {
        Inode {
            ino,
            kind,
            mode,
            uid: owner.0,
            gid: owner.1,
            rdev: 0,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            size: 0,
            atime: now,
            mtime: now,
            ctime: now,
            content_version: 1,
            meta_version: 1,
            base_version: 0,
            place: Place::Nowhere,
            known: true,
            link_id: 0,
            parent: 0,
            text: Vec::new(),
            segment: None,
        }
    }

    pub(crate) fn attr(&self) -> Attr {
        let size = if self.kind == FileKind::Symlink {
            self.text.len() as u64
        } else {
            self.size
        };
        Attr {
            ino: self.ino,
            generation: 0,
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            nlink: self.nlink,
            size,
            blocks: size.div_ceil(512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Content changed at `now`.
    pub(crate) fn touch_content(&mut self, now: Timestamp) {
        self.content_version += 1;
        self.meta_version += 1;
        self.mtime = now;
        self.ctime = now;
    }

    /// Something that travels as user metadata changed at `now`.
    pub(crate) fn touch_meta(&mut self, now: Timestamp) {
        self.renew_meta(now);
        self.ctime = now;
    }

    /// What is told of it from `now` on is newer than anything that was told before.
    pub(crate) fn renew_meta(&mut self, now: Timestamp) {
        self.meta_version += 1;
        if self.is_dir() {
            let moment = u64::try_from(now.as_nanos()).unwrap_or(0);
            self.meta_version = self.meta_version.max(moment).min(DIRECTORY_VERSION_MAX);
        }
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dentry {
    pub(crate) parent: Ino,
    #[serde(with = "serde_bytes")]
    pub(crate) name: Vec<u8>,
    pub(crate) ino: Ino,
    pub(crate) cookie: u64,
    /// The object's key segment, where it is not the escaped name (an alias of a foreign key).
    pub(crate) segment: Option<String>,
}

/// What the bucket holds under a key, as far as we know. Directory markers end with `/` and have an empty ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    pub(crate) key: String,
    /// Whose content it is. The inode may be gone: then the object is a tombstone, to be deleted.
    pub(crate) ino: Ino,
    pub(crate) etag: String,
    pub(crate) content_version: u64,
    pub(crate) meta_version: u64,
    /// The op at which this was learnt: a listing that began earlier knows less.
    pub(crate) noted: u64,
}

/// What the bucket holds under a key, kept before the file is changed here, until the change is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) key: String,
    /// The version that it is; of no use for any other.
    pub(crate) etag: String,
    pub(crate) metadata: BaseMetadata,
    /// The text; `None` for what never merges, and where there was no room.
    pub(crate) bytes: Option<serde_bytes::ByteBuf>,
}

/// The metadata of a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseMetadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl BaseMetadata {
    pub(crate) fn of(inode: &Inode, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> BaseMetadata {
        BaseMetadata {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
        }
    }
}

/// Why two versions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// Both sides changed it, and the changes do not merge.
    Edited,
    /// Both sides made a file of this name.
    Created,
    /// Both sides renamed it; it has the other side's name, and nothing was kept twice.
    Renamed,
}

/// A conflict that nobody has resolved yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conflict {
    /// The copy with this machine's version; where there is none, the file itself. It ends when this inode has no name any more.
    pub(crate) ino: Ino,
    /// The file with the other version; the same as `ino` where there is no copy.
    pub(crate) note: Ino,
    /// The path that was disputed.
    #[serde(with = "serde_bytes")]
    pub(crate) path: Vec<u8>,
    pub(crate) host: String,
    pub(crate) when: Timestamp,
    pub(crate) kind: ConflictKind,
}

/// A move that a program of this machine has made, until it is worked off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) id: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) from: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub(crate) to: Vec<u8>,
    pub(crate) at_ms: u64,
}

/// A change for the index, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LoggedChange {
    Content(Ino),
    Gone(#[serde(with = "serde_bytes")] Vec<u8>),
    Moved {
        #[serde(with = "serde_bytes")]
        from: Vec<u8>,
        #[serde(with = "serde_bytes")]
        to: Vec<u8>,
    },
}

/// Why an inode is owed, as far as that matters later; kept with the debt, so that it survives a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Marks(pub(crate) u8);

impl Marks {
    pub(crate) const NONE: Marks = Marks(0);
    /// Everything below this directory is owed, too.
    pub(crate) const SUBTREE: Marks = Marks(1);
    /// A program took a name away from it, so objects of it may go.
    pub(crate) const REMOVED: Marks = Marks(2);
    /// A program made it empty, so it may replace what is not.
    pub(crate) const EMPTIED: Marks = Marks(4);
    /// What was held of it is to be done all the same.
    pub(crate) const RELEASED: Marks = Marks(8);

    pub(crate) fn has(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Marks) -> Marks {
        Marks(self.0 & !other.0)
    }
}

/// One change of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mutation<'a> {
    PutInode(Inode),
    /// The inode, its content, its xattrs.
    DropInode(Ino),
    PutDentry(Dentry),
    DropDentry {
        parent: Ino,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    PutContent {
        ino: Ino,
        #[serde(borrow, with = "serde_bytes")]
        bytes: Cow<'a, [u8]>,
    },
    /// Writes into inline content, extending it with zeros where needed.
    WriteContent {
        ino: Ino,
        offset: u64,
        #[serde(borrow, with = "serde_bytes")]
        bytes: Cow<'a, [u8]>,
    },
    /// Truncates inline content, or extends it with zeros.
    ResizeContent {
        ino: Ino,
        size: u64,
    },
    DropContent(Ino),
    /// The ranges of the blob that are real, as (start, end) pairs.
    PutPresent {
        ino: Ino,
        ranges: Vec<(u64, u64)>,
    },
    DropPresent(Ino),
    PutXattr {
        ino: Ino,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    DropXattr {
        ino: Ino,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    PutRemote(Remote),
    DropRemote(String),
    /// Owed to the bucket since then (wall clock, ms), and why.
    MarkDirty {
        ino: Ino,
        since_ms: u64,
        marks: Marks,
    },
    ClearDirty(Ino),
    Change(LoggedChange),
    TrimChanges(u64),
    AddBacklog(Ino),
    DropBacklog(Ino),
    /// A key that is hidden (`alias` empty) or shown under another name.
    PutSkipped {
        key: String,
        reason: String,
        alias: Option<String>,
    },
    PutLink {
        link_id: u64,
        ino: Ino,
    },
    PutMeta {
        name: String,
        value: String,
    },
    /// Kept until the key's row in the ledger goes or gets another version.
    PutBase(Base),
    /// This inode may have been written under this key; forgotten with the next answer about the key.
    PutAttempt {
        key: String,
        ino: Ino,
    },
    PutConflict(Conflict),
    DropConflict(Ino),
    /// A folder (with an empty name), or a name in one, is kept on this machine.
    PutPin {
        dir: Ino,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    DropPin {
        dir: Ino,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    PutMoved(Moved),
    DropMoved(u64),
    /// Kept until the key's row goes or gets another version.
    PutTriedText(Base),
    DropTriedTexts(String),
    /// Like a tried text, for a deletion that was bound to this version.
    PutTriedDeletion {
        key: String,
        etag: String,
    },
    /// The deletion did not take place.
    DropTriedDeletion(String),
}
