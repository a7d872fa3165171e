//! Reads XDR (RFC 4506) out of one record, without copying and without believing a length.
//!
//! The published types allocate whatever length a peer names before they look whether it is there; so arguments are read
//! here, and only replies are built with those types.

use bytes::Bytes;

/// The arguments cannot be what the procedure takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

/// A place in a record.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(record: Bytes) -> Reader {
        Reader { rest: record }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &Bytes {
        &self.rest
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Garbage> {
        if length > self.rest.len() {
            return Err(Garbage);
        }
        Ok(self.rest.split_to(length))
    }

    /// An unsigned number.
    pub(super) fn u32(&mut self) -> Result<u32, Garbage> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An unsigned hyper.
    pub(super) fn u64(&mut self) -> Result<u64, Garbage> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    /// 0 or 1.
    pub(super) fn bool(&mut self) -> Result<bool, Garbage> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Garbage),
        }
    }

    /// A value that may be missing.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, Garbage>,
    ) -> Result<Option<T>, Garbage> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Bytes with their length before them, at most `max`, padded to a multiple of four.
    pub(super) fn opaque(&mut self, max: usize) -> Result<Bytes, Garbage> {
        let length = self.u32()? as usize;
        if length > max {
            return Err(Garbage);
        }
        let bytes = self.take(length)?;
        self.take(length.wrapping_neg() & 3)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn values_are_read_in_order() {
        let mut all = reader(&[
            0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, b'a', b'b', b'c', b'd', b'e', 0, 0, 0, 9,
        ]);
        assert_eq!(all.u32(), Ok(7));
        assert_eq!(all.u64(), Ok(1 << 32 | 2));
        assert_eq!(all.bool(), Ok(true));
        assert_eq!(all.opaque(5).unwrap(), &b"abcde"[..]);
        assert_eq!(all.rest().len(), 1);
    }

    #[test]
    fn a_length_that_is_not_there_is_garbage() {
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 1]).opaque(usize::MAX), Err(Garbage));
        assert_eq!(reader(&[0, 0, 0, 5, 1, 2, 3, 4, 5]).opaque(9), Err(Garbage));
        assert_eq!(reader(&[0, 0, 0, 2, 1, 2, 0, 0]).opaque(1), Err(Garbage));
        assert_eq!(reader(&[0, 0, 0, 2]).bool(), Err(Garbage));
        assert_eq!(reader(&[0, 0, 0]).u32(), Err(Garbage));
    }
}
