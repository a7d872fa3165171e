//! Rows in memory: bounded, and the place where changed rows wait for the commit. Dirty rows are never dropped.

use super::record::Inode;
use super::{Tables, database};
use crate::error::Result;
use crate::types::Ino;
use lru::LruCache;
use std::collections::HashSet;

const INODES_MAX: usize = 16 * 1024;
const CONTENT_BYTES_MAX: usize = 8 << 20;
const PRESENT_MAX: usize = 256;

/// Rows that a mount of little memory keeps all the same.
const INODES_MIN: usize = 1024;

/// A row in memory takes about so much, with its names.
const ROW_BYTES: u64 = 1024;

/// The pages of `state.db` in memory, where nobody bounds them (`PRAGMA cache_size` says the same).
const PAGES_KIB_MAX: u64 = 8_000;
const PAGES_KIB_MIN: u64 = 512;

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
    /// Bounds on clean rows.
    inodes_max: usize,
    content_bytes_max: usize,
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
            inodes_max: INODES_MAX,
            content_bytes_max: CONTENT_BYTES_MAX,
            dirty_inodes: HashSet::new(),
            dirty_contents: HashSet::new(),
            dirty_present: HashSet::new(),
        }
    }
}

impl Tables {
    /// Bounds what is kept in memory: a third each for rows, contents and pages, and never more than is of use.
    pub(crate) fn limit_memory(&mut self, bytes: u64) -> Result<()> {
        let third = bytes / 3;
        let whole = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.cache.inodes_max = whole(third / ROW_BYTES).clamp(INODES_MIN, INODES_MAX);
        self.cache.content_bytes_max = whole(third).min(CONTENT_BYTES_MAX);
        let kib = (third / 1024).clamp(PAGES_KIB_MIN, PAGES_KIB_MAX);
        let set = self.connection.execute_batch(&format!("PRAGMA cache_size=-{kib}"));
        set.map_err(|error| database("bound its memory", &error))
    }
}

impl RowCache {
    /// Brings the clean rows back under their limits; called after a commit, when nothing is dirty, and after reads.
    pub(super) fn trim(&mut self) {
        while self.inodes.len() > self.inodes_max && self.inodes.peek_lru().is_some_and(|(_, slot)| !slot.dirty) {
            self.inodes.pop_lru();
        }
        while self.names.len() > self.inodes_max {
            self.names.pop_lru();
        }
        while self.content_bytes > self.content_bytes_max
            && self.contents.peek_lru().is_some_and(|(_, slot)| !slot.dirty)
        {
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
