//! Operations on attributes: stat, chmod and its kin, symlink targets, extended attributes, free space.

use super::{Call, Errno, Filesystem, Operation, Tree};
use crate::events::LocalChange;
use notefs_cache::{Attr, AttrChange, Error, FileKind, Ino, SpaceUsage, XattrMode};

/// The extended attribute that tells how high a file stands; it can be read but is neither listed nor set, so that no
/// copying program carries it along.
pub const STATE_XATTR: &[u8] = b"user.notefs.state";

/// The largest value of an extended attribute, as in the kernel (XATTR_SIZE_MAX).
pub const XATTR_VALUE_MAX_BYTES: usize = 64 << 10;

/// Extended attributes that mean something here.
#[derive(Debug, PartialEq, Eq)]
enum XattrName {
    /// [`STATE_XATTR`].
    State,
    /// POSIX ACLs and SELinux labels. `ls -l` asks for both; told once that there is no such thing here, it asks no more.
    Unsupported,
    /// File capabilities: never there. The kernel asks for them often.
    Capability,
    /// Kept as it is.
    Ordinary,
}

fn classify(name: &[u8]) -> XattrName {
    match name {
        STATE_XATTR => XattrName::State,
        b"security.capability" => XattrName::Capability,
        b"security.selinux" => XattrName::Unsupported,
        _ if name.starts_with(b"system.posix_acl_") => XattrName::Unsupported,
        _ => XattrName::Ordinary,
    }
}

impl Filesystem {
    /// The inode's attributes.
    pub fn attr(&self, ino: Ino, done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        self.run(Call::new(Operation::Attr, ino), move |replica| replica.attr(ino), done);
    }

    /// Changes attributes; answers the new ones. A new owner or group clears setuid and setgid of all but directories.
    pub fn set_attr(&self, ino: Ino, change: AttrChange, done: impl FnOnce(Result<Attr, Errno>) + Send + 'static) {
        let done = self.telling(|| LocalChange::Inode(ino), done);
        let op = move |replica: &Tree| {
            let mut change = change;
            if change.uid.is_some() || change.gid.is_some() {
                change.clear_setid |= replica.attr(ino)?.kind != FileKind::Directory;
            }
            replica.set_attr(ino, &change)
        };
        self.run(Call::new(Operation::SetAttr, ino), op, done);
    }

    /// A symlink's target.
    pub fn read_link(&self, ino: Ino, done: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static) {
        self.run(
            Call::new(Operation::ReadLink, ino),
            move |replica| replica.read_link(ino),
            done,
        );
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, ino: Ino, name: &[u8], done: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static) {
        let op = move |replica: &Tree, name: &[u8]| match classify(name) {
            XattrName::State => replica.step(ino).map(|step| step.as_str().into()),
            XattrName::Unsupported => Err(Error::Posix(libc::EOPNOTSUPP)),
            XattrName::Capability => Err(Error::Posix(libc::ENODATA)),
            XattrName::Ordinary => replica.xattr(ino, name),
        };
        self.run_with(Call::new(Operation::Xattr, ino), name, op, done);
    }

    /// The names of the extended attributes.
    pub fn list_xattrs(&self, ino: Ino, done: impl FnOnce(Result<Vec<Vec<u8>>, Errno>) + Send + 'static) {
        self.run(
            Call::new(Operation::ListXattrs, ino),
            move |replica| replica.list_xattrs(ino),
            done,
        );
    }

    /// Sets an extended attribute.
    pub fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let (name, value) = (name.to_vec(), value.to_vec());
        let op = move |replica: &Tree| {
            if value.len() > XATTR_VALUE_MAX_BYTES {
                return Err(Error::Posix(libc::E2BIG));
            }
            match classify(&name) {
                XattrName::State => Err(Error::Posix(libc::EPERM)),
                XattrName::Unsupported | XattrName::Capability => Err(Error::Posix(libc::EOPNOTSUPP)),
                XattrName::Ordinary => replica.set_xattr(ino, &name, &value, mode),
            }
        };
        self.run(Call::new(Operation::SetXattr, ino), op, done);
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8], done: impl FnOnce(Result<(), Errno>) + Send + 'static) {
        let op = move |replica: &Tree, name: &[u8]| match classify(name) {
            XattrName::State => Err(Error::Posix(libc::EPERM)),
            XattrName::Unsupported => Err(Error::Posix(libc::EOPNOTSUPP)),
            XattrName::Capability => Err(Error::Posix(libc::ENODATA)),
            XattrName::Ordinary => replica.remove_xattr(ino, name),
        };
        self.run_with(Call::new(Operation::RemoveXattr, ino), name, op, done);
    }

    /// Space and inodes.
    pub fn space(&self, done: impl FnOnce(Result<SpaceUsage, Errno>) + Send + 'static) {
        self.run(
            Call::new(Operation::Space, notefs_cache::ROOT_INO),
            |replica| replica.space(),
            done,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_told_from_users_names() {
        assert_eq!(classify(b"user.notefs.state"), XattrName::State);
        assert_eq!(classify(b"system.posix_acl_default"), XattrName::Unsupported);
        assert_eq!(classify(b"security.capability"), XattrName::Capability);
        assert_eq!(classify(b"security.selinux"), XattrName::Unsupported);
        for name in [
            &b"user.notefs.states"[..],
            b"user.author",
            b"trusted.x",
            b"security.ima",
        ] {
            assert_eq!(classify(name), XattrName::Ordinary);
        }
    }
}
