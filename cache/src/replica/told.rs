//! What another machine says of a directory's attributes, and whether that is newer than what is known here.
//!
//! A directory has no object whose version could tell. So its mode, owner and extended attributes bear one of their own, which is the time of
//! their last change, and always more than the version that was changed (`Inode::meta_version`). Of two the greater counts, on every machine and
//! in whatever order they are met.
//!
//! Owns the comparison and what follows from it. Does not own who says so: feeds (`pull/peers.rs`) and hint objects (`hints.rs`).

use super::effect::put_xattrs;
use super::op::Op;
use crate::error::Result;
use crate::state::{DIRECTORY_VERSION_MAX, Inode, Tables};
use crate::store::PartialMetadata;

/// The attributes of a directory as somebody tells them.
#[derive(Debug, Clone)]
pub(crate) struct ToldDirectory {
    meta: PartialMetadata,
    version: u64,
}

/// What of it is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It is older, or known.
    Nothing,
    /// The same attributes were set again later: what was set between is older than they.
    Version,
    /// Other attributes.
    Attributes,
}

/// What a version speaks of, in an order that is the same on every machine.
pub(crate) type Attributes = (u32, u32, u32, Vec<(Vec<u8>, Vec<u8>)>);

impl ToldDirectory {
    /// A version that no clock can have given says nothing.
    pub(crate) fn new(meta: PartialMetadata, version: u64) -> ToldDirectory {
        let version = if version > DIRECTORY_VERSION_MAX { 0 } else { version };
        ToldDirectory { meta, version }
    }

    pub(crate) fn meta(&self) -> &PartialMetadata {
        &self.meta
    }

    /// Of two changes in the same nanosecond the greater value counts.
    pub(crate) fn news(&self, tables: &mut Tables, inode: &Inode) -> Result<News> {
        if self.version < inode.meta_version {
            return Ok(News::Nothing);
        }
        let (told, known) = (self.attributes(inode), own_attributes(tables, inode)?);
        Ok(match (self.version > inode.meta_version, told.cmp(&known)) {
            (true, std::cmp::Ordering::Equal) => News::Version,
            (true, _) | (false, std::cmp::Ordering::Greater) => News::Attributes,
            (false, _) => News::Nothing,
        })
    }

    fn attributes(&self, inode: &Inode) -> Attributes {
        self.or((inode.mode, inode.uid, inode.gid))
    }

    /// By which one of two of the same version is chosen.
    pub(crate) fn value(&self) -> Attributes {
        self.or((0, 0, 0))
    }

    fn or(&self, (mode, uid, gid): (u32, u32, u32)) -> Attributes {
        let mut xattrs = self.meta.xattrs.clone().unwrap_or_default();
        xattrs.sort();
        let meta = &self.meta;
        (
            meta.mode.unwrap_or(mode),
            meta.uid.unwrap_or(uid),
            meta.gid.unwrap_or(gid),
            xattrs,
        )
    }

    /// Gives a directory what is news of it; its times are its own.
    pub(crate) fn give(&self, op: &mut Op<'_>, inode: &mut Inode) -> Result<News> {
        let news = self.news(op.tables, inode)?;
        match news {
            News::Nothing => {}
            News::Version => {
                inode.meta_version = self.version;
                op.put(inode);
            }
            News::Attributes => self.give_all(op, inode)?,
        }
        Ok(news)
    }

    /// Gives it to a directory of which nothing is known.
    pub(crate) fn give_all(&self, op: &mut Op<'_>, inode: &mut Inode) -> Result<()> {
        (inode.mode, inode.uid, inode.gid, _) = self.attributes(inode);
        inode.meta_version = inode.meta_version.max(self.version);
        inode.ctime = op.now;
        put_xattrs(op, inode.ino, &self.meta)?;
        op.put(inode);
        Ok(())
    }
}

fn own_attributes(tables: &mut Tables, inode: &Inode) -> Result<Attributes> {
    Ok((inode.mode, inode.uid, inode.gid, tables.xattrs(inode.ino)?))
}
