//! File handles: an inode, its generation, and a code that only this replica can make.
//!
//! They are made from the inode alone, so they mean the same after a rename and after a restart. The code is an HMAC with a
//! secret of the replica: whoever has not been told a handle cannot guess one, nor make one from another.

use hmac::{Hmac, KeyInit, Mac};
use nfs3_types::nfs3::{nfs_fh3, nfsstat3};
use nfs3_types::xdr_codec::Opaque;
use notefs_cache::{Attr, Ino};
use sha2::Sha256;

/// Tells our handles from others, and from later kinds of ours.
const KIND: [u8; 4] = *b"nfs1";

/// Bytes of the code; half of what HMAC-SHA256 gives, and still far beyond guessing.
const CODE_BYTES: usize = 16;

/// Where the code begins.
const CODE_AT: usize = 4 + 8 + 8;

/// Bytes of a handle.
const HANDLE_BYTES: usize = CODE_AT + CODE_BYTES;

/// Makes and reads handles.
#[derive(Clone)]
pub(super) struct Handles {
    mac: Hmac<Sha256>,
}

impl Handles {
    pub(super) fn new(secret: &[u8; 32]) -> Handles {
        // A key of any length will do.
        let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::<Sha256>::new(&[0; 64].into()));
        Handles { mac }
    }

    /// The handle of an inode.
    pub(super) fn of(&self, attr: &Attr) -> nfs_fh3 {
        let mut handle = Vec::with_capacity(HANDLE_BYTES);
        handle.extend_from_slice(&KIND);
        handle.extend_from_slice(&attr.ino.to_be_bytes());
        handle.extend_from_slice(&attr.generation.to_be_bytes());
        let code = self.code(&handle);
        handle.extend_from_slice(&code);
        nfs_fh3 {
            data: Opaque::owned(handle),
        }
    }

    /// The inode and generation of a handle.
    pub(super) fn read(&self, handle: &[u8]) -> Result<(Ino, u64), nfsstat3> {
        if handle.len() != HANDLE_BYTES || handle[..4] != KIND {
            return Err(nfsstat3::NFS3ERR_BADHANDLE);
        }
        let mut mac = self.mac.clone();
        mac.update(&handle[..CODE_AT]);
        // Compares in constant time. It may be a handle of an earlier cache, and then its file is as good as gone.
        mac.verify_truncated_left(&handle[CODE_AT..])
            .map_err(|_| nfsstat3::NFS3ERR_STALE)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&handle[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok((number(4), number(12)))
    }

    /// A number that is this replica's own, for what is to be told apart from other replicas'.
    pub(super) fn number(&self, of: &str) -> u64 {
        let code = self.code(of.as_bytes());
        code[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn code(&self, bytes: &[u8]) -> [u8; CODE_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(bytes);
        let mut code = [0; CODE_BYTES];
        code.copy_from_slice(&mac.finalize().into_bytes()[..CODE_BYTES]);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notefs_cache::{FileKind, Timestamp};

    fn attr(ino: Ino, generation: u64) -> Attr {
        Attr {
            ino,
            generation,
            kind: FileKind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            nlink: 1,
            size: 0,
            blocks: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        }
    }

    #[test]
    fn a_handle_comes_back_and_is_the_same_each_time() {
        let handles = Handles::new(&[7; 32]);
        let handle = handles.of(&attr(42, 3)).data;
        assert_eq!(handles.read(&handle), Ok((42, 3)));
        assert_eq!(Handles::new(&[7; 32]).of(&attr(42, 3)).data, handle);
    }

    #[test]
    fn no_bit_of_a_handle_can_be_changed() {
        let handles = Handles::new(&[7; 32]);
        let handle = handles.of(&attr(42, 3)).data.to_vec();
        for bit in 0..handle.len() * 8 {
            let mut forged = handle.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(handles.read(&forged).is_err(), "bit {bit}");
        }
        assert_eq!(handles.read(&handle[1..]), Err(nfsstat3::NFS3ERR_BADHANDLE));
        assert_eq!(handles.read(&[]), Err(nfsstat3::NFS3ERR_BADHANDLE));
        let other = Handles::new(&[8; 32]);
        assert_eq!(other.read(&handle), Err(nfsstat3::NFS3ERR_STALE));
        assert_ne!(other.number("cookies"), handles.number("cookies"));
    }
}
