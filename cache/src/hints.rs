//! Hint objects: the metadata of all objects in one, so that a cold `ls -lR` needs no request per file.
//!
//! Each writer keeps one, `.notefs/hints/WRITER`: JSON lines of key, ETag and user metadata. A line is believed only where the listing
//! shows the same ETag, and an object that is not younger than the hint object. Directories have no object that could carry their mode and times, so their lines (key with a final `/`)
//! are all there is, and an explicit change of theirs is *stored* when the hint object is. Of several writers' lines for one
//! directory the one counts whose version is the greatest, and of its times the latest ones. The root's line is each object's first, so that a mount can learn it
//! before it shows anything.
//!
//! Owns the format and the reading and writing of the objects. Does not own when: `push` does.

use crate::error::Result;
use crate::replica::{RESERVED_NAME, Replica, ToldDirectory, fill_directory};
use crate::state::{Inode, Remote};
use crate::store::{Condition, ObjectInfo, ObjectKey, ObjectMetadata, PartialMetadata, StoreResult, UserMetadata};
use crate::types::{ROOT_INO, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Lines kept in memory while a bucket is adopted.
const LINES_MAX: usize = 1_000_000;

/// Hint objects that are looked at; those that were written last count.
const OBJECTS_MAX: usize = 1_024;

/// What is read of all hint objects together.
const BYTES_MAX: u64 = 128 << 20;

/// Stands for the root directory, which has no key; no object can have this one.
const ROOT_KEY: &str = "/";

/// Says in `state.db` that the root's own attributes are the true ones.
const ROOT_LEARNT: &str = "root_learnt";

/// What is read of a hint object to find its first line: metadata is bounded, so this is ample.
const FIRST_LINE_BYTES_MAX: u64 = 16 << 10;

/// Rows read under one lock.
const ROWS_PER_STEP: usize = 250;

/// Metadata by key, as read from all hint objects.
pub(crate) type Hints = HashMap<String, Line>;

/// One line of a hint object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "e")]
    etag: String,
    #[serde(rename = "m")]
    meta: UserMetadata,
    /// A directory's change time, in nanoseconds since 1970.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    changed: Option<i64>,
    /// The version of a directory's attributes.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// When the object was written that the line stands in, by the store's clock.
    #[serde(skip)]
    written: Timestamp,
}

/// The objects that can be read together with when they were written, in their order; the last ones have the first claim.
fn within(objects: Vec<(Timestamp, u64, ObjectKey)>) -> Vec<(Timestamp, ObjectKey)> {
    let mut room = BYTES_MAX;
    let mut chosen = Vec::new();
    for (written, size, key) in objects.into_iter().rev() {
        if size <= room {
            room -= size;
            chosen.push((written, key));
        } else {
            tracing::warn!("{key} ({size} bytes) is too large to be believed, so it is left out");
        }
    }
    chosen.reverse();
    chosen
}

impl Line {
    /// The metadata, if the line speaks of this object. The same ETag is not enough: an object that is younger than the line may have
    /// the same content and other metadata.
    pub(crate) fn metadata(&self, object: &ObjectInfo) -> Option<PartialMetadata> {
        (self.etag == object.etag.0 && object.last_modified <= self.written).then(|| ObjectMetadata::decode(&self.meta))
    }

    /// A directory's attributes and change time.
    pub(crate) fn directory(&self) -> Option<(ToldDirectory, Option<Timestamp>)> {
        let attributes = self.etag.is_empty().then(|| ObjectMetadata::decode(&self.meta))?;
        let told = ToldDirectory::new(attributes, self.version.unwrap_or(0));
        Some((told, self.changed.map(Timestamp::from_nanos)))
    }

    /// What two lines say of one directory together: names that come and go change its times, and its attributes not.
    fn unite(self, other: Line) -> Line {
        let same_version = self.version.is_some() && self.version == other.version;
        let attributes = |line: &Line| line.directory().filter(|_| same_version).map(|(told, _)| told.value());
        let rank = |line: &Line| (line.version, attributes(line), line.changed);
        let (mut newer, older) = if rank(&self) > rank(&other) {
            (self, other)
        } else {
            (other, self)
        };
        if older.changed > newer.changed {
            newer.changed = older.changed;
            newer.meta.set_mtime_of(&older.meta);
        }
        newer
    }
}

fn keep_newest(hints: &mut Hints, line: Line) {
    let line = match hints.remove(&line.key) {
        Some(known) if line.key.ends_with('/') => known.unite(line),
        _ => line,
    };
    hints.insert(line.key.clone(), line);
}

fn write_line(body: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *body, line).unwrap_or_default();
    body.push(b'\n');
}

/// The prefix of all hint objects.
pub(crate) fn prefix() -> String {
    format!("{RESERVED_NAME}/hints/")
}

impl Replica {
    /// Reads every writer's hints; what makes no sense is passed over.
    pub(crate) async fn read_hints(&self) -> StoreResult<Hints> {
        let mut hints = Hints::new();
        for (written, key) in self.hint_objects().await? {
            let Some(object) = self.store.get(&key, None, None).await? else {
                continue;
            };
            let lines = object.bytes.split(|byte| *byte == b'\n');
            for mut line in lines
                .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
                .take(LINES_MAX.saturating_sub(hints.len()))
            {
                line.written = written;
                keep_newest(&mut hints, line);
            }
        }
        Ok(hints)
    }

    /// The hint objects of all writers, the one written last at the end; without the oldest ones where there are too many or too large ones.
    async fn hint_objects(&self) -> StoreResult<Vec<(Timestamp, ObjectKey)>> {
        let mut lister = self.store.list(&prefix(), false).await?;
        let mut objects = Vec::new();
        while let Some(page) = lister.next_page().await? {
            objects.extend(page.into_iter().filter_map(|listed| {
                let info = listed.object?;
                Some((info.last_modified, info.size, ObjectKey::parse(&listed.key).ok()?))
            }));
            objects.sort_by_key(|(written, _, _)| *written);
            objects.drain(..objects.len().saturating_sub(OBJECTS_MAX));
        }
        Ok(within(objects))
    }

    /// Learns the root's own mode, owner, times and attributes, once. To be called before a new replica is shown; otherwise the first
    /// listing does it, and the root changes under those who have looked at it.
    pub async fn learn_root(&self) -> Result<()> {
        let root = self.view(|tables| {
            let learnt = tables.meta(ROOT_LEARNT)?.is_some();
            Ok((!learnt).then_some(tables.live_inode(ROOT_INO)?))
        })?;
        let Some(root) = root else { return Ok(()) };
        if !root.known && root.meta_version == 1 {
            let line = self.read_root_hint().await;
            self.note_health(&line);
            if let Some((told, changed)) = line?.as_ref().and_then(Line::directory) {
                self.change(|op| {
                    let mut root = op.tables.live_inode(ROOT_INO)?;
                    fill_directory(op, &mut root, &told, changed)?;
                    Ok(())
                })?;
                if let Some(observer) = self.observer() {
                    observer.inode_changed(ROOT_INO);
                }
            }
        }
        self.remember(ROOT_LEARNT, "1")
    }

    /// The root's newest line, which each hint object begins with.
    async fn read_root_hint(&self) -> StoreResult<Option<Line>> {
        let mut hints = Hints::new();
        for (_, key) in self.hint_objects().await? {
            let object = self.store.get(&key, Some(0..FIRST_LINE_BYTES_MAX), None).await?;
            let first = object.and_then(|object| {
                let line = object.bytes.split(|byte| *byte == b'\n').next()?;
                serde_json::from_slice::<Line>(line).ok()
            });
            if let Some(line) = first.filter(|line| line.key == ROOT_KEY) {
                keep_newest(&mut hints, line);
            }
        }
        Ok(hints.remove(ROOT_KEY))
    }

    /// Writes this replica's hints, if anything has changed since the last time.
    pub(crate) async fn write_hints(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let Some(write) = self.pusher.hints.begin().await else {
            return Ok(());
        };
        self.put_hints().await?;
        write.stored();
        Ok(())
    }

    async fn put_hints(&self) -> Result<()> {
        let body = self.hint_lines()?;
        let name = format!("{}{}", prefix(), self.writer_id);
        let Ok(key) = ObjectKey::parse(&name) else {
            return Ok(());
        };
        let put = self
            .store
            .put(&key, body.into(), &UserMetadata::new(), &Condition::None)
            .await;
        self.note_health(&put);
        put?;
        Ok(())
    }

    fn hint_lines(&self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let (root, xattrs) = self.view(|tables| Ok((tables.live_inode(ROOT_INO)?, tables.xattrs(ROOT_INO)?)))?;
        if root.known {
            write_line(&mut body, &self.directory_line(ROOT_KEY, &root, xattrs));
        }
        let mut after = String::new();
        loop {
            let rows = self.view(|tables| {
                let rows = tables.remotes_under("", &after, ROWS_PER_STEP)?;
                let mut lines = Vec::with_capacity(rows.len());
                for row in &rows {
                    let Some(inode) = tables.inode(row.ino)? else { continue };
                    let xattrs = tables.xattrs(row.ino)?;
                    lines.extend(self.line(row, &inode, xattrs));
                }
                Ok((rows, lines))
            })?;
            let Some(last) = rows.0.last() else { return Ok(body) };
            after = last.key.clone();
            for line in rows.1 {
                write_line(&mut body, &line);
            }
        }
    }

    fn line(&self, row: &Remote, inode: &Inode, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Line> {
        if inode.is_dir() {
            return Some(self.directory_line(&row.key, inode, xattrs));
        }
        let current = row.meta_version == inode.meta_version && inode.known;
        current.then(|| Line {
            key: row.key.clone(),
            etag: row.etag.clone(),
            meta: self.object_metadata(inode, xattrs).encode(),
            changed: None,
            version: None,
            written: Timestamp::default(),
        })
    }

    /// Markers have no version that a listing could show.
    fn directory_line(&self, key: &str, inode: &Inode, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Line {
        Line {
            key: key.to_owned(),
            etag: String::new(),
            meta: self.object_metadata(inode, xattrs).encode(),
            changed: Some(inode.ctime.as_nanos()),
            version: Some(inode.meta_version),
            written: Timestamp::default(),
        }
    }
}
