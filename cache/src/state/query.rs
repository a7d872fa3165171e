//! Reads of the tables: rows by their keys, through the row cache where that pays.

use super::cache::{Named, Slot};
use super::record::{Dentry, Inode, LoggedChange, Remote};
use super::row::{SELECT_INODE, read_inode};
use super::{Tables, database};
use crate::error::{Error, Result};
use crate::store::{KeyProblem, ObjectKey, escape_name};
use crate::types::{Ino, ROOT_INO};
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// The deepest directory nesting; deeper paths could not be keys anyway.
const DEPTH_MAX: usize = 1024;

/// A directory's place as a path and as a key prefix; both end with `/`, and are empty for the root.
#[derive(Debug, Clone)]
pub(crate) struct DirectoryKey {
    pub(crate) path: Arc<[u8]>,
    pub(crate) key: Arc<str>,
}

impl Tables {
    /// The inode's row; `None` if there is no such inode.
    pub(crate) fn inode(&mut self, ino: Ino) -> Result<Option<Inode>> {
        if let Some(slot) = self.cache.inodes.get(&ino) {
            return Ok(slot.value.clone());
        }
        let value = self.one(SELECT_INODE, params![ino as i64], read_inode)?;
        self.cache.inodes.put(
            ino,
            Slot {
                value: value.clone(),
                dirty: false,
            },
        );
        self.cache.trim();
        Ok(value)
    }

    /// The inode's row, or ENOENT (ESTALE would be truer, but the kernel only ever asks for inodes that it holds).
    pub(crate) fn live_inode(&mut self, ino: Ino) -> Result<Inode> {
        self.inode(ino)?.ok_or(Error::Posix(libc::ENOENT))
    }

    /// What a name means: inode and cookie.
    pub(crate) fn name(&mut self, parent: Ino, name: &[u8]) -> Result<Option<(Ino, u64)>> {
        Ok(self.named(parent, name)?.map(|named| (named.ino, named.cookie)))
    }

    /// The whole dentry of a name.
    pub(crate) fn dentry(&mut self, parent: Ino, name: &[u8]) -> Result<Option<Dentry>> {
        let named = self.named(parent, name)?.cloned();
        Ok(named.map(|named| Dentry {
            parent,
            name: name.to_vec(),
            ino: named.ino,
            cookie: named.cookie,
            segment: named.segment,
        }))
    }

    fn named(&mut self, parent: Ino, name: &[u8]) -> Result<Option<&Named>> {
        let at = (parent, name.to_vec());
        if !self.cache.names.contains(&at) {
            let sql = "SELECT ino, cookie, segment FROM dentry WHERE parent = ?1 AND name = ?2";
            let value = self.one(sql, params![parent as i64, name], |row| {
                Ok(Named {
                    ino: unsigned(row, 0)?,
                    cookie: unsigned(row, 1)?,
                    segment: row.get(2)?,
                })
            })?;
            self.cache.names.put(at.clone(), value);
        }
        Ok(self.cache.names.get(&at).and_then(Option::as_ref))
    }

    /// Every name of an inode.
    pub(crate) fn names_of(&mut self, ino: Ino) -> Result<Vec<Dentry>> {
        self.many(
            "SELECT parent, name, ino, cookie, segment FROM dentry WHERE ino = ?1",
            params![ino as i64],
            read_dentry,
        )
    }

    /// At most `limit` names of a directory after `cookie`, in cookie order.
    pub(crate) fn children(&mut self, parent: Ino, cookie: u64, limit: usize) -> Result<Vec<Dentry>> {
        let sql = "SELECT parent, name, ino, cookie, segment FROM dentry \
                   WHERE parent = ?1 AND cookie > ?2 ORDER BY cookie LIMIT ?3";
        self.many(sql, params![parent as i64, cookie as i64, limit as i64], read_dentry)
    }

    pub(crate) fn has_children(&mut self, parent: Ino) -> Result<bool> {
        let sql = "SELECT 1 FROM dentry WHERE parent = ?1 LIMIT 1";
        Ok(self.one(sql, params![parent as i64], |_row| Ok(()))?.is_some())
    }

    /// Reads inline content through `view`; `None` if there is none.
    pub(crate) fn content<T>(&mut self, ino: Ino, view: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        self.load_content(ino)?;
        Ok(self
            .cache
            .contents
            .get(&ino)
            .and_then(|slot| slot.value.as_deref())
            .map(view))
    }

    pub(super) fn load_content(&mut self, ino: Ino) -> Result<()> {
        if self.cache.contents.contains(&ino) {
            return Ok(());
        }
        let value = self.one("SELECT bytes FROM content WHERE ino = ?1", params![ino as i64], |row| {
            row.get(0)
        })?;
        self.cache.put_content(ino, value, false);
        self.cache.contents.promote(&ino);
        let keep = self.cache.contents.len() > 1;
        if keep {
            self.cache.trim();
        }
        Ok(())
    }

    /// The ranges of an inode's blob that are real, sorted, as (start, end).
    pub(crate) fn present(&mut self, ino: Ino) -> Result<Vec<(u64, u64)>> {
        if let Some(ranges) = self.cache.present.get(&ino) {
            return Ok(ranges.clone());
        }
        let sql = "SELECT present FROM blob WHERE ino = ?1";
        let encoded: Option<Vec<u8>> = self.one(sql, params![ino as i64], |row| row.get(0))?;
        let ranges = decode_ranges(&encoded.unwrap_or_default());
        self.cache.present.put(ino, ranges.clone());
        Ok(ranges)
    }

    /// Every extended attribute, by name.
    pub(crate) fn xattrs(&mut self, ino: Ino) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let sql = "SELECT name, value FROM xattr WHERE ino = ?1 ORDER BY name";
        self.many(sql, params![ino as i64], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// What the bucket holds under a key.
    pub(crate) fn remote(&mut self, key: &str) -> Result<Option<Remote>> {
        let sql = "SELECT key, ino, etag, content_version, meta_version, noted FROM remote WHERE key = ?1";
        self.one(sql, params![key], read_remote)
    }

    /// The objects that hold an inode's content.
    pub(crate) fn remotes_of(&mut self, ino: Ino) -> Result<Vec<Remote>> {
        let sql = "SELECT key, ino, etag, content_version, meta_version, noted FROM remote WHERE ino = ?1";
        self.many(sql, params![ino as i64], read_remote)
    }

    /// At most `limit` objects with keys after `after` and below `prefix` (which is empty or ends with `/`).
    pub(crate) fn remotes_under(&mut self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Remote>> {
        let end = prefix.strip_suffix('/').map(|stem| format!("{stem}0"));
        let sql = "SELECT key, ino, etag, content_version, meta_version, noted FROM remote \
                   WHERE key >= ?1 AND key > ?2 AND (?3 IS NULL OR key < ?3) ORDER BY key LIMIT ?4";
        self.many(sql, params![prefix, after, end, limit as i64], read_remote)
    }

    /// A directory's path and key prefix.
    pub(crate) fn directory_key(&mut self, dir: Ino) -> Result<DirectoryKey> {
        if dir == ROOT_INO {
            return Ok(DirectoryKey {
                path: Arc::from([]),
                key: Arc::from(""),
            });
        }
        if let Some(known) = self.directory_keys.get(&dir) {
            return Ok(known.clone());
        }
        let mut chain = Vec::new();
        let mut at = dir;
        while at != ROOT_INO && chain.len() < DEPTH_MAX {
            let inode = self.live_inode(at)?;
            at = inode.parent;
            chain.push(inode);
        }
        let (mut path, mut key) = (Vec::new(), String::new());
        for inode in chain.iter().rev() {
            path.extend_from_slice(&inode.text);
            path.push(b'/');
            key.push_str(&inode.segment.clone().unwrap_or_else(|| escape_name(&inode.text)));
            key.push('/');
        }
        let known = DirectoryKey {
            path: path.into(),
            key: key.into(),
        };
        if self.directory_keys.len() >= DIRECTORY_KEYS_MAX {
            self.directory_keys.clear();
        }
        self.directory_keys.insert(dir, known.clone());
        Ok(known)
    }

    /// The path of a name below the root.
    pub(crate) fn path_of(&mut self, parent: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let directory = self.directory_key(parent)?;
        Ok([&directory.path[..], name].concat())
    }

    /// The key of a name; fails where no object can have it.
    pub(crate) fn key_of(&mut self, dentry: &Dentry) -> Result<Result<ObjectKey, KeyProblem>> {
        let directory = self.directory_key(dentry.parent)?;
        let segment = dentry.segment.clone().unwrap_or_else(|| escape_name(&dentry.name));
        Ok(ObjectKey::parse(&format!("{}{segment}", directory.key)))
    }

    /// A setting or identity of this replica.
    pub(crate) fn meta(&mut self, name: &str) -> Result<Option<String>> {
        self.one("SELECT value FROM meta WHERE name = ?1", params![name], |row| {
            row.get(0)
        })
    }

    /// The inode that carries a link id.
    pub(crate) fn linked_inode(&mut self, link_id: u64) -> Result<Option<Ino>> {
        self.one(
            "SELECT ino FROM link WHERE link_id = ?1",
            params![link_id as i64],
            |row| unsigned(row, 0),
        )
    }

    /// At most `limit` logged changes after `seq`.
    pub(crate) fn logged_changes(&mut self, seq: u64, limit: usize) -> Result<Vec<(u64, LoggedChange)>> {
        let sql = "SELECT seq, record FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let rows = self.many(sql, params![seq as i64, limit as i64], |row| {
            Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        Ok(rows
            .into_iter()
            .filter_map(|(seq, record)| Some((seq, postcard::from_bytes(&record).ok()?)))
            .collect())
    }

    /// The seq of the newest logged move of a directory after `seq`; 0 if there is none.
    pub(crate) fn last_move(&mut self, seq: u64) -> Result<u64> {
        // A record begins with its kind; 2 is a move.
        let sql = "SELECT coalesce(max(seq), 0) FROM change WHERE seq > ?1 AND substr(record, 1, 1) = x'02'";
        Ok(self.one(sql, params![seq as i64], |row| unsigned(row, 0))?.unwrap_or(0))
    }

    /// At most `limit` inodes of the backlog.
    pub(crate) fn backlog(&mut self, limit: usize) -> Result<Vec<Ino>> {
        self.many(
            "SELECT ino FROM backlog ORDER BY ino LIMIT ?1",
            params![limit as i64],
            |row| unsigned(row, 0),
        )
    }

    /// How many rows a table has, or how many fulfil a condition; only for the fixed texts of this crate.
    pub(crate) fn count(&mut self, from: &'static str) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {from}");
        Ok(self.one(&sql, [], |row| unsigned(row, 0))?.unwrap_or(0))
    }

    /// The sizes of all files together, in bytes, as of the last commit.
    pub(crate) fn total_bytes(&mut self) -> Result<u64> {
        Ok(self
            .one("SELECT coalesce(sum(size), 0) FROM inode WHERE kind = 0", [], |row| {
                unsigned(row, 0)
            })?
            .unwrap_or(0))
    }

    /// The first `limit` keys that are not shown under their own names: key, reason, alias.
    pub(crate) fn skipped(&mut self, limit: usize) -> Result<Vec<(String, String, Option<String>)>> {
        let sql = "SELECT key, reason, alias FROM skipped ORDER BY key LIMIT ?1";
        self.many(sql, params![limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
    }

    /// Inodes without names, as of the last commit.
    pub(crate) fn orphans(&mut self) -> Result<Vec<Ino>> {
        self.many("SELECT ino FROM inode WHERE nlink = 0", [], |row| unsigned(row, 0))
    }

    /// Space inside `state.db` that new rows can take.
    pub(crate) fn free_page_bytes(&mut self) -> Result<u64> {
        let pages = self
            .one("PRAGMA freelist_count", [], |row| unsigned(row, 0))?
            .unwrap_or(0);
        let size = self.one("PRAGMA page_size", [], |row| unsigned(row, 0))?.unwrap_or(0);
        Ok(pages * size)
    }

    /// Every inode with a blob, as of the last commit.
    pub(crate) fn with_blobs(&mut self) -> Result<Vec<Ino>> {
        self.many("SELECT ino FROM blob", [], |row| unsigned(row, 0))
    }

    /// Regular files after `ino`, as of the last commit, in order.
    pub(crate) fn files_after(&mut self, ino: Ino, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode WHERE ino > ?1 AND kind = 0 AND nlink > 0 ORDER BY ino LIMIT ?2";
        self.many(sql, params![ino as i64, limit as i64], |row| unsigned(row, 0))
    }

    pub(super) fn one<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let value = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(parameters, read).optional());
        value.map_err(|error| database("read a row", &error))
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.connection.prepare_cached(sql).and_then(|mut statement| {
            statement
                .query_map(parameters, read)?
                .collect::<rusqlite::Result<Vec<T>>>()
        });
        rows.map_err(|error| database("read rows", &error))
    }
}

/// Computed directory keys that are kept.
const DIRECTORY_KEYS_MAX: usize = 16 * 1024;

pub(super) fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|value| value as u64)
}

fn read_dentry(row: &Row<'_>) -> rusqlite::Result<Dentry> {
    Ok(Dentry {
        parent: unsigned(row, 0)?,
        name: row.get(1)?,
        ino: unsigned(row, 2)?,
        cookie: unsigned(row, 3)?,
        segment: row.get(4)?,
    })
}

pub(super) fn read_remote(row: &Row<'_>) -> rusqlite::Result<Remote> {
    Ok(Remote {
        key: row.get(0)?,
        ino: unsigned(row, 1)?,
        etag: row.get(2)?,
        content_version: unsigned(row, 3)?,
        meta_version: unsigned(row, 4)?,
        noted: unsigned(row, 5)?,
    })
}

pub(super) fn encode_ranges(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()].concat())
        .collect()
}

pub(super) fn decode_ranges(encoded: &[u8]) -> Vec<(u64, u64)> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
    encoded
        .chunks_exact(16)
        .map(|pair| (number(&pair[..8]), number(&pair[8..])))
        .collect()
}
