//! Hint objects: the metadata of all objects in one, so that a cold `ls -lR` needs no request per file.
//!
//! Each writer keeps one, `.notefs/hints/WRITER`: JSON lines of key, ETag and user metadata. A line is believed only where the listing
//! shows the same ETag. Directories have no object that could carry their mode and times, so their lines (key with a final `/`)
//! are all there is, and an explicit change of theirs is *stored* when the hint object is.
//!
//! Owns the format and the reading and writing of the objects. Does not own when: `push` does.

use crate::error::Result;
use crate::replica::{RESERVED_NAME, Replica};
use crate::state::{Inode, Remote};
use crate::store::{Condition, ObjectKey, ObjectMetadata, PartialMetadata, StoreResult, UserMetadata};
use crate::types::FileKind;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Lines kept in memory while a bucket is adopted.
const LINES_MAX: usize = 1_000_000;

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
}

impl Line {
    /// The metadata, if the line speaks of this version.
    pub(crate) fn metadata(&self, etag: &str) -> Option<PartialMetadata> {
        (self.etag == etag).then(|| ObjectMetadata::decode(&self.meta))
    }
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
        let mut lister = self.store.list(&prefix(), false).await?;
        let mut objects = Vec::new();
        while let Some(page) = lister.next_page().await? {
            objects.extend(page);
        }
        objects.sort_by_key(|listed| listed.object.as_ref().map(|info| info.last_modified));
        for listed in objects {
            let Ok(key) = ObjectKey::parse(&listed.key) else {
                continue;
            };
            let Some(object) = self.store.get(&key, None, None).await? else {
                continue;
            };
            let lines = object.bytes.split(|byte| *byte == b'\n');
            for line in lines
                .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
                .take(LINES_MAX)
            {
                hints.insert(line.key.clone(), line);
            }
        }
        Ok(hints)
    }

    /// Writes this replica's hints, if anything has changed since the last time.
    pub(crate) async fn write_hints(&self) -> Result<()> {
        if self.options.read_only || !self.pusher.hints_owed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let written = self.put_hints().await;
        if written.is_err() {
            self.pusher.hints_owed.store(true, Ordering::Release);
        }
        written
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
        let current = row.meta_version == inode.meta_version || inode.kind == FileKind::Directory;
        if !current || (!inode.known && inode.kind != FileKind::Directory) {
            return None;
        }
        let meta = self.object_metadata(inode, xattrs).encode();
        // Markers have no version that a listing could show.
        let etag = if inode.is_dir() {
            String::new()
        } else {
            row.etag.clone()
        };
        Some(Line {
            key: row.key.clone(),
            etag,
            meta,
        })
    }
}
