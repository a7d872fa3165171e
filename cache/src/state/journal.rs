//! The journal: what keeps acknowledged operations alive while their transaction is still open.
//!
//! SQLite commits cost ten times a row's worth of work, so operations share transactions; each operation is first appended here by one
//! `write`, which the kernel keeps whatever becomes of the daemon. A commit empties the journal. It is never flushed to disk:
//! `fsync` commits and flushes the write-ahead log instead, so a power cut loses only what was never *synced*. After one the journal is
//! not believed: the blobs that its operations speak of may not have reached the disk.
//!
//! Format: records of `length u32 | crc32 u32 | op u64 | payload`, little-endian, the checksum over op and payload. Replay stops at
//! the first record that is torn or whose op is not the successor of the last one: what is left behind it is older.

use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 16;

/// Records longer than this are torn by definition.
const RECORD_MAX_BYTES: usize = 64 << 20;

pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    buffer: Vec<u8>,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Journal> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|source| local("open the journal", path, source))?;
        Ok(Journal {
            file,
            path: path.to_owned(),
            end: 0,
            buffer: Vec::new(),
        })
    }

    /// Bytes written since the last commit.
    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    /// Appends one operation. On failure nothing counts as appended.
    pub(crate) fn append(&mut self, op: u64, mutations: &impl serde::Serialize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        buffer[8..16].copy_from_slice(&op.to_le_bytes());
        let mut buffer = postcard::to_extend(mutations, buffer)
            .map_err(|error| Error::Unusable(format!("The journal cannot encode an operation: {error}")))?;
        let length = (buffer.len() - HEADER_BYTES) as u32;
        let checksum = crc32fast::hash(&buffer[8..]);
        buffer[0..4].copy_from_slice(&length.to_le_bytes());
        buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
        let written = self.file.write_all_at(&buffer, self.end);
        written.map_err(|source| local("append to the journal", &self.path, source))?;
        self.end += buffer.len() as u64;
        buffer.shrink_to(1 << 20);
        self.buffer = buffer;
        Ok(())
    }

    /// Forgets everything: the operations are committed. Stale records stay behind until they are overwritten.
    pub(crate) fn reset(&mut self) {
        self.end = 0;
    }

    /// The operations after `op`, in order; afterwards new ones are appended behind them.
    pub(crate) fn replay(&mut self, mut op: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<u64> {
        self.end = 0;
        let mut header = [0; HEADER_BYTES];
        loop {
            if self.file.read_exact_at(&mut header, self.end).is_err() {
                break;
            }
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let mut body = vec![0; 8];
            body.copy_from_slice(&header[8..16]);
            let record_op = u64::from_le_bytes(body[..8].try_into().unwrap_or_default());
            if record_op != op + 1 || length > RECORD_MAX_BYTES {
                break;
            }
            body.resize(8 + length, 0);
            let read = self.file.read_exact_at(&mut body[8..], self.end + HEADER_BYTES as u64);
            if read.is_err() || crc32fast::hash(&body) != checksum {
                break;
            }
            each(record_op, &body[8..])?;
            op = record_op;
            self.end += (HEADER_BYTES + length) as u64;
        }
        Ok(op)
    }

    /// Takes back what was appended since the journal had this length.
    pub(crate) fn rewind(&mut self, length: u64) -> Result<()> {
        self.end = length;
        let erased = self.file.write_all_at(&[0; HEADER_BYTES], length);
        erased.map_err(|source| local("take back an operation", &self.path, source))
    }

    /// Empties the file for good. Numbers of operations that a power cut has taken are given again, and a record of the old ones
    /// must never be mistaken for a new one's successor.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.end = 0;
        let cleared = self.file.set_len(0).and_then(|()| self.file.sync_all());
        cleared.map_err(|source| local("empty the journal", &self.path, source))
    }

    /// Gives back the disk space of a burst.
    pub(crate) fn shrink(&mut self, keep_bytes: u64) {
        if self.end == 0 && self.file.metadata().is_ok_and(|m| m.len() > keep_bytes) {
            let _kept_if_it_fails = self.file.set_len(keep_bytes);
        }
    }
}

fn local(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Local {
        action,
        path: path.to_owned(),
        source,
        advice: "Free space on that disk, or check that it is writable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(journal: &mut Journal, after: u64) -> Vec<(u64, Vec<u8>)> {
        let mut seen = Vec::new();
        journal
            .replay(after, |op, payload| {
                seen.push((op, postcard::from_bytes::<Vec<u8>>(payload).unwrap()));
                Ok(())
            })
            .unwrap();
        seen
    }

    #[test]
    fn replay_stops_at_a_torn_record_and_at_stale_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        for op in 1..=5u64 {
            journal.append(op, &vec![op as u8; 10]).unwrap();
        }
        assert_eq!(collect(&mut Journal::open(&path).unwrap(), 2), vec![]);
        assert_eq!(collect(&mut Journal::open(&path).unwrap(), 0).len(), 5);
        journal.reset();
        journal.append(6, &vec![6u8; 10]).unwrap();
        assert_eq!(collect(&mut Journal::open(&path).unwrap(), 5), vec![(6, vec![6; 10])]);
        journal.append(7, &vec![7u8; 10]).unwrap();
        let torn = journal.end - 3;
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(b"x", torn)
            .unwrap();
        assert_eq!(collect(&mut Journal::open(&path).unwrap(), 5), vec![(6, vec![6; 10])]);
    }
}
