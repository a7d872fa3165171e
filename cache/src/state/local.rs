//! Which contents are on the local disk, in the order of their last use, and which of them are pinned.
//!
//! Whether a content is pinned is found out when room is needed, by whoever evicts; from then on it stands apart, so that the next one does not
//! look at it again. Owns no decision.

use super::Tables;
use crate::types::Ino;
use lru::LruCache;

/// Contents on the local disk, in bytes, by inode.
pub(super) struct Local {
    /// Nobody has asked yet whether they are pinned.
    loose: LruCache<Ino, u64>,
    /// They are pinned.
    kept: LruCache<Ino, u64>,
    kept_bytes: u64,
}

impl Default for Local {
    fn default() -> Local {
        Local {
            loose: LruCache::unbounded(),
            kept: LruCache::unbounded(),
            kept_bytes: 0,
        }
    }
}

impl Local {
    /// From the tables, at a start.
    pub(super) fn add(&mut self, ino: Ino, bytes: u64) {
        self.loose.put(ino, bytes);
    }
}

impl Tables {
    pub(super) fn forget_local(&mut self) {
        self.local = Local::default();
        self.local_bytes = 0;
    }

    pub(super) fn set_local(&mut self, ino: Ino, bytes: u64) {
        let kept = self.local.kept.peek(&ino).copied();
        let old = match (kept, bytes) {
            (Some(_), 0) => self.local.kept.pop(&ino),
            (Some(_), bytes) => self.local.kept.put(ino, bytes),
            (None, 0) => self.local.loose.pop(&ino),
            (None, bytes) => self.local.loose.put(ino, bytes),
        };
        if let Some(kept) = kept {
            self.local.kept_bytes = self.local.kept_bytes + bytes - kept;
        }
        self.local_bytes = self.local_bytes + bytes - old.unwrap_or(0);
    }

    /// How much of an inode's content is here, in bytes.
    pub(crate) fn local_bytes_of(&self, ino: Ino) -> u64 {
        let local = &self.local;
        let bytes = local.loose.peek(&ino).or_else(|| local.kept.peek(&ino));
        bytes.copied().unwrap_or(0)
    }

    /// Somebody reads it.
    pub(crate) fn note_read(&mut self, ino: Ino) {
        self.local.loose.promote(&ino);
        self.local.kept.promote(&ino);
    }

    /// The content that was unused for longest, of those that are pinned or of the others; it counts as used now.
    pub(crate) fn longest_unused(&mut self, pinned: bool) -> Option<(Ino, u64)> {
        let contents = if pinned {
            &mut self.local.kept
        } else {
            &mut self.local.loose
        };
        let (ino, bytes) = contents.peek_lru().map(|(ino, bytes)| (*ino, *bytes))?;
        contents.promote(&ino);
        Some((ino, bytes))
    }

    /// How many contents are pinned, or are not.
    pub(crate) fn local_count(&self, pinned: bool) -> usize {
        if pinned {
            self.local.kept.len()
        } else {
            self.local.loose.len()
        }
    }

    /// The bytes of those that are known to be pinned.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.local.kept_bytes
    }

    /// It is pinned.
    pub(crate) fn keep(&mut self, ino: Ino) {
        if let Some(bytes) = self.local.loose.pop(&ino) {
            self.local.kept.put(ino, bytes);
            self.local.kept_bytes += bytes;
        }
    }

    /// It is not pinned any more.
    pub(crate) fn keep_no_longer(&mut self, ino: Ino) {
        if let Some(bytes) = self.local.kept.pop(&ino) {
            self.local.kept_bytes -= bytes;
            self.local.loose.put(ino, bytes);
        }
    }
}
