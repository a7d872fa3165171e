//! How an inode lies in its table: the one place that knows the columns' order.

use super::record::{Inode, Place};
use crate::types::{FileKind, Timestamp};
use rusqlite::{Row, Statement};

pub(super) const SELECT_INODE: &str = "SELECT ino, kind, mode, uid, gid, rdev, nlink, size, atime_s, atime_ns, mtime_s, mtime_ns, \
     ctime_s, ctime_ns, content_version, meta_version, base_version, place, known, link_id, parent, text, segment FROM inode WHERE ino = ?1";

pub(super) const REPLACE_INODE: &str = "INSERT OR REPLACE INTO inode VALUES \
     (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23)";

const KINDS: [FileKind; 7] = [
    FileKind::File,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::CharDevice,
    FileKind::BlockDevice,
];

const PLACES: [Place; 3] = [Place::Nowhere, Place::Inline, Place::Blob];

pub(super) fn read_inode(row: &Row<'_>) -> rusqlite::Result<Inode> {
    let number = |at: usize| row.get::<_, i64>(at);
    let time = |at: usize| -> rusqlite::Result<Timestamp> {
        Ok(Timestamp {
            seconds: number(at)?,
            nanoseconds: number(at + 1)? as u32,
        })
    };
    let index = |at: usize, length: usize| -> rusqlite::Result<usize> {
        let value = number(at)?;
        usize::try_from(value)
            .ok()
            .filter(|value| *value < length)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(at, value))
    };
    Ok(Inode {
        ino: number(0)? as u64,
        kind: KINDS[index(1, KINDS.len())?],
        mode: number(2)? as u32,
        uid: number(3)? as u32,
        gid: number(4)? as u32,
        rdev: number(5)? as u64,
        nlink: number(6)? as u32,
        size: number(7)? as u64,
        atime: time(8)?,
        mtime: time(10)?,
        ctime: time(12)?,
        content_version: number(14)? as u64,
        meta_version: number(15)? as u64,
        base_version: number(16)? as u64,
        place: PLACES[index(17, PLACES.len())?],
        known: number(18)? != 0,
        link_id: number(19)? as u64,
        parent: number(20)? as u64,
        text: row.get(21)?,
        segment: row.get(22)?,
    })
}

pub(super) fn write_inode(statement: &mut Statement<'_>, inode: &Inode) -> rusqlite::Result<()> {
    let kind = KINDS.iter().position(|kind| *kind == inode.kind).unwrap_or(0) as i64;
    let place = PLACES.iter().position(|place| *place == inode.place).unwrap_or(0) as i64;
    let numbers: [i64; 21] = [
        inode.ino as i64,
        kind,
        i64::from(inode.mode),
        i64::from(inode.uid),
        i64::from(inode.gid),
        inode.rdev as i64,
        i64::from(inode.nlink),
        inode.size as i64,
        inode.atime.seconds,
        i64::from(inode.atime.nanoseconds),
        inode.mtime.seconds,
        i64::from(inode.mtime.nanoseconds),
        inode.ctime.seconds,
        i64::from(inode.ctime.nanoseconds),
        inode.content_version as i64,
        inode.meta_version as i64,
        inode.base_version as i64,
        place,
        i64::from(inode.known),
        inode.link_id as i64,
        inode.parent as i64,
    ];
    for (at, number) in numbers.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, number)?;
    }
    statement.raw_bind_parameter(22, inode.text.as_slice())?;
    statement.raw_bind_parameter(23, inode.segment.as_deref())?;
    statement.raw_execute()?;
    Ok(())
}
