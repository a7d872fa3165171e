//! `fallocate`, `lseek` for data and holes, and copies between files.

use super::Replica;
use super::content::{content_changed, regular};
use super::op::known_inode;
use crate::blob::ranges;
use crate::error::{Error, Result};
use crate::state::{Mutation, Place};
use crate::types::*;

/// Copied in one step of `copy_range`; the caller asks again for the rest.
const COPY_STEP_BYTES: u64 = 1 << 20;

/// Zeroes written in one step into small files.
const ZERO_STEP_BYTES: u64 = 64 << 10;

impl Replica {
    /// Reserves or zeroes a range.
    pub fn allocate(&self, ino: Ino, mode: AllocateMode, offset: u64, length: u64) -> Result<()> {
        self.writable()?;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= FILE_SIZE_MAX_BYTES)
            .ok_or(Error::Posix(libc::EFBIG))?;
        let inode = self.view(|tables| regular(known_inode(tables, ino)?))?;
        let grows = end > inode.size;
        match mode {
            AllocateMode::KeepSize => self.check_space(length),
            AllocateMode::Extend if !grows => Ok(()),
            AllocateMode::Extend => self
                .check_space(end - inode.size)
                .and_then(|()| self.resize(ino, end, false)),
            AllocateMode::PunchHole => self.zero(ino, offset, end.min(inode.size)),
            AllocateMode::ZeroRange { keep_size } => {
                self.zero(ino, offset, end.min(inode.size))?;
                if grows && !keep_size {
                    self.resize(ino, end, false)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn zero(&self, ino: Ino, offset: u64, end: u64) -> Result<()> {
        if offset >= end {
            return Ok(());
        }
        let inode = self.view(|tables| known_inode(tables, ino))?;
        if inode.place != Place::Blob && inode.size <= super::INLINE_BYTES_MAX {
            let zeros = vec![0; ZERO_STEP_BYTES.min(end - offset) as usize];
            return self.write(ino, offset, &zeros, false);
        }
        let _exclusive = self.stripe(ino).write();
        self.to_blob(ino)?;
        self.blobs.punch(ino, offset, end - offset)?;
        self.change(|op| {
            let mut inode = regular(known_inode(op.tables, ino)?)?;
            let mut present = op.tables.present(ino)?;
            ranges::add(&mut present, offset, end.min(inode.size));
            op.push(Mutation::PutPresent { ino, ranges: present });
            content_changed(op, &mut inode, false);
            Ok(())
        })
    }

    /// The next data or hole at or after `offset`; ENXIO past the end.
    pub fn seek(&self, ino: Ino, offset: u64, target: SeekTarget) -> Result<u64> {
        let _shared = self.stripe(ino).read();
        let (inode, present) = self.view(|tables| {
            let inode = regular(known_inode(tables, ino)?)?;
            let present = if inode.place == Place::Blob {
                tables.present(ino)?
            } else {
                Vec::new()
            };
            Ok((inode, present))
        })?;
        if offset >= inode.size {
            return Err(Error::Posix(libc::ENXIO));
        }
        let whole = inode.place == Place::Blob && ranges::first_gap(&present, 0, inode.size).is_none();
        let found = match (whole, target) {
            (true, SeekTarget::Data) => self.blobs.seek(ino, offset, false)?,
            (true, SeekTarget::Hole) => Some(self.blobs.seek(ino, offset, true)?.unwrap_or(inode.size)),
            (false, SeekTarget::Data) => Some(offset),
            (false, SeekTarget::Hole) => Some(inode.size),
        };
        found.map(|at| at.min(inode.size)).ok_or(Error::Posix(libc::ENXIO))
    }

    /// Copies at most `length` bytes between files (or inside one, without overlap); returns how many. May be short.
    pub fn copy_range(&self, from: (Ino, u64), to: (Ino, u64), length: u64) -> Result<u64> {
        self.writable()?;
        if from.0 == to.0 && from.1 < to.1.saturating_add(length) && to.1 < from.1.saturating_add(length) {
            return Err(Error::Posix(libc::EINVAL));
        }
        let bytes = self.read(from.0, from.1, length.min(COPY_STEP_BYTES) as usize)?;
        self.write(to.0, to.1, &bytes, false)?;
        Ok(bytes.len() as u64)
    }
}
