//! Rows in memory: bounded, and the place where changed rows wait for the commit. Dirty rows are never dropped.

use super::record::Inode;
use crate::types::Ino;
use lru::LruCache;
use std::collections::HashSet;

const INODES_MAX: usize = 16 * 1024;
const NAMES_MAX: usize = 16 * 1024;
const CONTENT_BYTES_MAX: usize = 8 << 20;
const PRESENT_MAX: usize = 256;

/// A value and whether its table still has an older one.
pub(super) struct Slot<T> {
    pub(super) value: T,
    pub(super) dirty: bool,
}

/// What a name means.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) ino: Ino,
    pub(super) cookie: u64,
    pub(super) segment: Option<String>,
}

pub(super) struct RowCache {
    /// `None`: known not to exist.
    pub(super) inodes: LruCache<Ino, Slot<Option<Inode>>>,
    /// `None`: known not to exist.
    pub(super) names: LruCache<(Ino, Vec<u8>), Option<Named>>,
    /// `None`: known to have no inline content.
    pub(super) contents: LruCache<Ino, Slot<Option<Vec<u8>>>>,
    pub(super) content_bytes: usize,
    pub(super) present: LruCache<Ino, Vec<(u64, u64)>>,
    /// The rows that wait for the commit.
    pub(super) dirty_inodes: HashSet<Ino>,
    pub(super) dirty_contents: HashSet<Ino>,
    /// No ranges at all: the row goes.
    pub(super) dirty_present: HashSet<Ino>,
}

impl Default for RowCache {
    fn default() -> RowCache {
        RowCache {
            inodes: LruCache::unbounded(),
            names: LruCache::unbounded(),
            contents: LruCache::unbounded(),
            content_bytes: 0,
            present: LruCache::unbounded(),
            dirty_inodes: HashSet::new(),
            dirty_contents: HashSet::new(),
            dirty_present: HashSet::new(),
        }
    }
}

impl RowCache {
    /// Brings the clean rows back under their limits; called after a commit, when nothing is dirty, and after reads.
    pub(super) fn trim(&mut self) {
        while self.inodes.len() > INODES_MAX && self.inodes.peek_lru().is_some_and(|(_, slot)| !slot.dirty) {
            self.inodes.pop_lru();
        }
        while self.names.len() > NAMES_MAX {
            self.names.pop_lru();
        }
        while self.content_bytes > CONTENT_BYTES_MAX && self.contents.peek_lru().is_some_and(|(_, slot)| !slot.dirty) {
            if let Some((_, slot)) = self.contents.pop_lru() {
                self.content_bytes -= slot.value.map_or(0, |bytes| bytes.len());
            }
        }
        while self.present.len() > PRESENT_MAX && self.dirty_present.is_empty() {
            self.present.pop_lru();
        }
    }

    pub(super) fn put_inode(&mut self, ino: Ino, value: Option<Inode>) {
        self.dirty_inodes.insert(ino);
        self.inodes.put(ino, Slot { value, dirty: true });
    }

    pub(super) fn put_content(&mut self, ino: Ino, value: Option<Vec<u8>>, dirty: bool) {
        if dirty {
            self.dirty_contents.insert(ino);
        }
        self.content_bytes += value.as_ref().map_or(0, Vec::len);
        let old = self.contents.put(ino, Slot { value, dirty });
        self.content_bytes -= old.and_then(|slot| slot.value).map_or(0, |bytes| bytes.len());
    }
}
