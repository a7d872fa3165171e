//! What is *stored* of a path, for those who tell other machines of it.
//!
//! Owns where a path stands between this machine and the bucket, and the store's own word on an object. Does not own storing (`push`).

use super::Replica;
use crate::error::Result;
use crate::state::Tables;
use crate::store::{ObjectKey, escape_name, unescape_segment};
use crate::types::{FileKind, Ino, ROOT_INO};

/// Where a path stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPath {
    /// What the file holds here is what the bucket holds.
    Stored {
        /// The object's key.
        key: String,
        /// Its version.
        etag: String,
        /// The file.
        ino: Ino,
    },
    /// The file, its new name or its removal is not stored yet.
    Pending,
    /// No file is there, nor an object as far as is known here.
    Gone {
        /// The key that an object would have.
        key: String,
    },
    /// It is never stored, or nobody has looked there yet.
    Unknown,
}

/// The store's word on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenObject {
    /// Its version.
    pub etag: String,
    /// When the store says that it was written, in milliseconds since 1970, cut to the second: that is what all stores tell alike.
    pub stored_ms: i64,
    /// What its writer called the write; empty if another tool wrote it.
    pub write_id: String,
}

/// An object that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownObject {
    /// Its key.
    pub key: String,
    /// The path of its file by the ordinary mapping.
    pub path: Vec<u8>,
    /// Its version.
    pub etag: String,
}

impl Replica {
    /// Where a path stands between this machine and the bucket.
    pub fn stored_path(&self, path: &[u8]) -> Result<StoredPath> {
        self.view(|tables| stored_path(tables, path))
    }

    /// Asks the store what it holds under a key; `None`: surely nothing.
    pub async fn written_object(&self, key: &str) -> Result<Option<WrittenObject>> {
        let Ok(key) = ObjectKey::parse(key) else {
            return Ok(None);
        };
        let answer = self.store.head(&key).await;
        self.note_health(&answer);
        Ok(answer?.map(|info| WrittenObject {
            etag: info.etag.0,
            stored_ms: info.last_modified.seconds.saturating_mul(1_000),
            write_id: info
                .user
                .as_ref()
                .and_then(|user| user.write_id())
                .unwrap_or_default()
                .to_owned(),
        }))
    }

    /// At most `limit` objects below a folder (an empty path: all) with keys after `after`, in the order of keys, and the key that the next
    /// call goes on from; `None` at the end.
    pub fn known_objects(&self, below: &[u8], after: &str, limit: usize) -> Result<(Vec<KnownObject>, Option<String>)> {
        let rows = self.view(|tables| {
            let prefix = match below {
                b"" => String::new(),
                _ => match follow_path(tables, below)? {
                    Way::Found(Some(key), _) | Way::Missing(key) => format!("{key}/"),
                    Way::Found(None, _) | Way::Unlisted => return Ok(Vec::new()),
                },
            };
            tables.remotes_under(&prefix, after, limit)
        })?;
        let next = rows.last().filter(|_| rows.len() >= limit).map(|row| row.key.clone());
        let stands = rows
            .into_iter()
            .filter(|row| !row.key.ends_with('/') && !row.etag.is_empty());
        let known = stands.map(|row| KnownObject {
            path: path_of_key(&row.key),
            key: row.key,
            etag: row.etag,
        });
        Ok((known.collect(), next))
    }
}

/// The path that a key has by the ordinary mapping.
fn path_of_key(key: &str) -> Vec<u8> {
    let names: Vec<Vec<u8>> = key.split('/').map(unescape_segment).collect();
    names.join(&b'/')
}

/// Where the way to a path ends.
pub(crate) enum Way {
    /// The name is there: its key, if an object can have it, and its inode.
    Found(Option<String>, Ino),
    /// It is not: the key that it would have.
    Missing(String),
    /// A folder on the way has never been looked into.
    Unlisted,
}

/// Goes along a path by what is known here.
pub(crate) fn follow_path(tables: &mut Tables, path: &[u8]) -> Result<Way> {
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let leaf = names.pop().unwrap_or_default();
    let (mut parent, mut missing) = (ROOT_INO, None);
    for name in names {
        if let Some(key) = &mut missing {
            *key = format!("{key}{}/", escape_name(name));
            continue;
        }
        match tables.name(parent, name)? {
            Some((ino, _)) if tables.inode(ino)?.is_some_and(|inode| inode.is_dir()) => parent = ino,
            None if !tables.live_inode(parent)?.known => return Ok(Way::Unlisted),
            _ => missing = Some(format!("{}{}/", tables.directory_key(parent)?.key, escape_name(name))),
        }
    }
    if let Some(directory) = missing {
        return Ok(Way::Missing(format!("{directory}{}", escape_name(leaf))));
    }
    if let Some(dentry) = tables.dentry(parent, leaf)? {
        let key = tables.key_of(&dentry)?.ok().map(|key| key.as_str().to_owned());
        return Ok(Way::Found(key, dentry.ino));
    }
    if !tables.live_inode(parent)?.known {
        return Ok(Way::Unlisted);
    }
    let directory = tables.directory_key(parent)?.key;
    Ok(Way::Missing(format!("{directory}{}", escape_name(leaf))))
}

fn stored_path(tables: &mut Tables, path: &[u8]) -> Result<StoredPath> {
    let (key, ino) = match follow_path(tables, path)? {
        Way::Unlisted | Way::Found(None, _) => return Ok(StoredPath::Unknown),
        Way::Missing(key) => {
            let waits = tables.remote(&key)?.is_some();
            return Ok(if waits {
                StoredPath::Pending
            } else {
                StoredPath::Gone { key }
            });
        }
        Way::Found(Some(key), ino) => (key, ino),
    };
    let is_file = tables.inode(ino)?.is_some_and(|inode| inode.kind == FileKind::File);
    if !is_file || tables.is_kept_here(ino)? {
        return Ok(StoredPath::Gone { key });
    }
    if tables.dirty.contains_key(&ino) {
        return Ok(StoredPath::Pending);
    }
    match tables.remote(&key)? {
        Some(row) if row.ino == ino && !row.etag.is_empty() => Ok(StoredPath::Stored {
            key,
            etag: row.etag,
            ino,
        }),
        _ => Ok(StoredPath::Pending),
    }
}
