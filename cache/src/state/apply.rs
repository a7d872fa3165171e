//! Applies mutations to the rows: no decision is taken here, so that replaying a journal repeats what happened.

use super::cache::Named;
use super::record::{Dentry, Inode, LoggedChange, Marks, Mutation, Remote};
use super::{Debt, Tables, database};
use crate::error::Result;
use crate::types::Ino;
use rusqlite::params;

impl Tables {
    pub(super) fn apply(&mut self, mutation: &Mutation<'_>) -> Result<()> {
        match mutation {
            Mutation::PutInode(inode) => self.put_inode(inode),
            Mutation::DropInode(ino) => self.drop_inode(*ino)?,
            Mutation::PutDentry(dentry) => self.put_dentry(dentry)?,
            Mutation::DropDentry { parent, name } => {
                self.execute(
                    "DELETE FROM dentry WHERE parent = ?1 AND name = ?2",
                    params![*parent as i64, name],
                )?;
                self.cache.names.put((*parent, name.clone()), None);
            }
            Mutation::PutContent { ino, bytes } => self.set_content(*ino, Some(bytes.to_vec())),
            Mutation::WriteContent { ino, offset, bytes } => self.write_content(*ino, *offset as usize, bytes)?,
            Mutation::ResizeContent { ino, size } => self.resize_content(*ino, *size as usize)?,
            Mutation::DropContent(ino) => self.set_content(*ino, None),
            Mutation::PutPresent { ino, ranges } => self.put_present(*ino, ranges),
            Mutation::DropPresent(ino) => self.put_present(*ino, &[]),
            Mutation::PutXattr { ino, name, value } => {
                self.execute(
                    "INSERT OR REPLACE INTO xattr VALUES (?1, ?2, ?3)",
                    params![*ino as i64, name, value],
                )?;
            }
            Mutation::DropXattr { ino, name } => {
                self.execute(
                    "DELETE FROM xattr WHERE ino = ?1 AND name = ?2",
                    params![*ino as i64, name],
                )?;
            }
            other => self.apply_to_ledger(other)?,
        }
        Ok(())
    }

    fn apply_to_ledger(&mut self, mutation: &Mutation<'_>) -> Result<()> {
        match mutation {
            Mutation::PutRemote(remote) => self.put_remote(remote)?,
            Mutation::DropRemote(key) => {
                self.execute("DELETE FROM remote WHERE key = ?1", params![key])?;
                self.drop_bases(key, None)?;
                self.drop_tried(key, None)?;
            }
            Mutation::MarkDirty { ino, since_ms, marks } => self.mark_dirty(*ino, *since_ms, *marks)?,
            Mutation::ClearDirty(ino) => {
                self.execute("DELETE FROM dirty WHERE ino = ?1", params![*ino as i64])?;
                if let Some(debt) = self.dirty.remove(ino) {
                    self.dirty_bytes -= debt.bytes;
                    self.settled.insert(*ino, self.op);
                }
            }
            Mutation::Change(change) => self.log_change(change)?,
            Mutation::TrimChanges(seq) => self.execute("DELETE FROM change WHERE seq <= ?1", params![*seq as i64])?,
            Mutation::AddBacklog(ino) => {
                self.execute("INSERT OR IGNORE INTO backlog VALUES (?1)", params![*ino as i64])?;
            }
            Mutation::DropBacklog(ino) => self.execute("DELETE FROM backlog WHERE ino = ?1", params![*ino as i64])?,
            Mutation::PutSkipped { key, reason, alias } => {
                self.execute(
                    "INSERT OR REPLACE INTO skipped VALUES (?1, ?2, ?3)",
                    params![key, reason, alias],
                )?;
            }
            Mutation::PutLink { link_id, ino } => {
                self.execute(
                    "INSERT OR REPLACE INTO link VALUES (?1, ?2)",
                    params![*link_id as i64, *ino as i64],
                )?;
            }
            Mutation::PutMeta { name, value } => {
                self.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![name, value])?;
            }
            other => self.apply_to_disputes(other)?,
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, sql: &'static str, parameters: impl rusqlite::Params) -> Result<()> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters));
        done.map(|_rows| ()).map_err(|error| database("change a row", &error))
    }

    fn put_inode(&mut self, inode: &Inode) {
        self.next_ino = self.next_ino.max(inode.ino + 1);
        self.cache.put_inode(inode.ino, Some(inode.clone()));
    }

    fn drop_inode(&mut self, ino: Ino) -> Result<()> {
        self.cache.put_inode(ino, None);
        self.set_content(ino, None);
        self.execute("DELETE FROM xattr WHERE ino = ?1", params![ino as i64])?;
        self.drop_conflict(ino)?;
        self.drop_pins_of(ino)?;
        self.put_present(ino, &[]);
        self.directory_keys.remove(&ino);
        self.set_local(ino, 0);
        Ok(())
    }

    fn put_dentry(&mut self, dentry: &Dentry) -> Result<()> {
        self.next_cookie = self.next_cookie.max(dentry.cookie + 1);
        self.execute(
            "INSERT OR REPLACE INTO dentry VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                dentry.parent as i64,
                dentry.name,
                dentry.ino as i64,
                dentry.cookie as i64,
                dentry.segment
            ],
        )?;
        let named = Named {
            ino: dentry.ino,
            cookie: dentry.cookie,
            segment: dentry.segment.clone(),
        };
        self.cache.names.put((dentry.parent, dentry.name.clone()), Some(named));
        Ok(())
    }

    fn set_content(&mut self, ino: Ino, value: Option<Vec<u8>>) {
        let bytes = value.as_ref().map_or(0, Vec::len) as u64;
        self.cache.put_content(ino, value, true);
        self.set_local(ino, bytes);
    }

    fn write_content(&mut self, ino: Ino, offset: usize, bytes: &[u8]) -> Result<()> {
        self.edit_content(ino, |content| {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[offset..end].copy_from_slice(bytes);
        })
    }

    fn resize_content(&mut self, ino: Ino, size: usize) -> Result<()> {
        self.edit_content(ino, |content| content.resize(size, 0))
    }

    fn edit_content(&mut self, ino: Ino, edit: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.load_content(ino)?;
        let Some(slot) = self.cache.contents.get_mut(&ino) else {
            return Ok(());
        };
        let content = slot.value.get_or_insert_default();
        let before = content.len();
        edit(content);
        let after = content.len();
        slot.dirty = true;
        self.cache.dirty_contents.insert(ino);
        self.cache.content_bytes = self.cache.content_bytes + after - before;
        self.set_local(ino, after as u64);
        Ok(())
    }

    fn put_present(&mut self, ino: Ino, ranges: &[(u64, u64)]) {
        self.set_local(ino, ranges.iter().map(|(start, end)| end - start).sum());
        self.cache.dirty_present.insert(ino);
        self.cache.present.put(ino, ranges.to_vec());
    }

    fn put_remote(&mut self, remote: &Remote) -> Result<()> {
        let op = self.op as i64;
        let values = params![
            remote.key,
            remote.ino as i64,
            remote.etag,
            remote.content_version as i64,
            remote.meta_version as i64,
            op
        ];
        self.execute("INSERT OR REPLACE INTO remote VALUES (?1, ?2, ?3, ?4, ?5, ?6)", values)?;
        self.drop_bases(&remote.key, Some(&remote.etag))?;
        self.drop_tried(&remote.key, Some(&remote.etag))
    }

    fn mark_dirty(&mut self, ino: Ino, since_ms: u64, marks: Marks) -> Result<()> {
        let old = self.dirty.get(&ino).copied();
        let debt = Debt {
            since_ms: old.map_or(since_ms, |debt| debt.since_ms.min(since_ms)),
            marks: old.map_or(marks, |debt| debt.marks.with(marks)),
            due_ms: old.map_or(0, |debt| debt.due_ms),
            first_ms: old.map_or(0, |debt| debt.first_ms),
            written_ms: old.map_or(0, |debt| debt.written_ms),
            born: old.map_or(self.op, |debt| debt.born),
            bytes: old.map_or(0, |debt| debt.bytes),
            sent_version: old.map_or(0, |debt| debt.sent_version),
            op: self.op,
        };
        self.dirty.insert(ino, debt);
        self.execute(
            "INSERT OR REPLACE INTO dirty VALUES (?1, ?2, ?3)",
            params![ino as i64, debt.since_ms as i64, debt.marks.0],
        )
    }

    fn log_change(&mut self, change: &LoggedChange) -> Result<()> {
        self.change_seq += 1;
        if let LoggedChange::Content(ino) = change {
            self.unread_changes.insert(*ino);
        }
        let record = postcard::to_stdvec(change).unwrap_or_default();
        self.execute(
            "INSERT OR REPLACE INTO change VALUES (?1, ?2)",
            params![self.change_seq as i64, record],
        )
    }
}
