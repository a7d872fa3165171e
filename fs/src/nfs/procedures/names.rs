//! Names: LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK.

use super::{Job, Refusal};
use crate::filesystem::guarded::{Changed, Creation, Existing, Place};
use crate::filesystem::permission::User;
use crate::nfs::convert::{self, status};
use crate::nfs::rpc::Reply;
use crate::nfs::server::Server;
use crate::nfs::xdr::{Garbage, Reader};
use nfs3_types::nfs3::{
    CREATE3resok, LINK3resok, LOOKUP3resok, REMOVE3resok, RENAME3resok, nfsstat3, post_op_attr, post_op_fh3,
};
use notefs_cache::{Attr, AttrChange, FileKind};
use std::sync::Arc;

/// The longest name or target that is read; what is longer than a file system takes is refused by name.
const PATH_MAX_BYTES: usize = 64 << 10;

/// The mode of what a client makes without naming one.
const DIRECTORY_MODE: u32 = 0o755;

fn read_place(server: &Server, args: &mut Reader) -> Result<Place, Refusal> {
    Ok(Place {
        dir: server.inode(args)?,
        name: args.opaque(PATH_MAX_BYTES)?,
    })
}

pub(super) fn lookup(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let told = Arc::clone(&server);
        server.guarded.lookup(user, place, move |changed| {
            let dir_attributes = convert::known(changed.after.as_ref(), told.fsid);
            match changed.result {
                Ok(attr) => reply.ok(&LOOKUP3resok {
                    object: told.handles.of(&attr),
                    obj_attributes: convert::known(Some(&attr), told.fsid),
                    dir_attributes,
                }),
                Err(errno) => reply.error(status(errno), &dir_attributes),
            }
        });
    }))
}

fn creation(kind: FileKind, attributes: AttrChange) -> Creation {
    Creation {
        kind,
        rdev: 0,
        target: Vec::new(),
        attributes,
        existing: Existing::Refuse,
    }
}

/// The job that makes an inode.
fn make(server: &Arc<Server>, user: User, place: Place, new: Creation) -> Result<Job, Refusal> {
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let told = Arc::clone(&server);
        server
            .guarded
            .create(user, place, new, move |changed| answer_made(&told, reply, &changed));
    }))
}

/// CREATE, MKDIR, SYMLINK and MKNOD answer in one form.
fn answer_made(server: &Server, reply: Reply, changed: &Changed<Attr>) {
    let dir_wcc = convert::around(changed, server.fsid);
    match &changed.result {
        Ok(attr) => reply.ok(&CREATE3resok {
            obj: post_op_fh3::Some(server.handles.of(attr)),
            obj_attributes: convert::known(Some(attr), server.fsid),
            dir_wcc,
        }),
        Err(errno) => reply.error(status(*errno), &dir_wcc),
    }
}

pub(super) fn create(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let (existing, attributes) = match args.u32()? {
        0 => (Existing::Keep, convert::read_change(args)?),
        1 => (Existing::Refuse, convert::read_change(args)?),
        2 => (Existing::Verify(args.u64()?), AttrChange::default()),
        _ => return Err(Refusal::Garbage),
    };
    let new = Creation {
        existing,
        ..creation(FileKind::File, attributes)
    };
    make(server, user, place, new)
}

pub(super) fn mkdir(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let asked = convert::read_change(args)?;
    let attributes = AttrChange {
        mode: asked.mode.or(Some(DIRECTORY_MODE)),
        size: None,
        ..asked
    };
    make(server, user, place, creation(FileKind::Directory, attributes))
}

pub(super) fn symlink(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let attributes = AttrChange {
        mode: Some(0o777),
        size: None,
        ..convert::read_change(args)?
    };
    let new = Creation {
        target: args.opaque(PATH_MAX_BYTES)?.to_vec(),
        ..creation(FileKind::Symlink, attributes)
    };
    make(server, user, place, new)
}

pub(super) fn mknod(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let kind = match args.u32()? {
        3 => FileKind::BlockDevice,
        4 => FileKind::CharDevice,
        6 => FileKind::Socket,
        7 => FileKind::Fifo,
        _ => return Err(nfsstat3::NFS3ERR_BADTYPE.into()),
    };
    let attributes = AttrChange {
        size: None,
        ..convert::read_change(args)?
    };
    let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
    let rdev = if is_device { read_device(args)? } else { 0 };
    let new = Creation {
        rdev,
        ..creation(kind, attributes)
    };
    make(server, user, place, new)
}

fn read_device(args: &mut Reader) -> Result<u64, Garbage> {
    Ok(libc::makedev(args.u32()?, args.u32()?))
}

pub(super) fn remove(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    take_away(server, user, args, false)
}

pub(super) fn rmdir(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    take_away(server, user, args, true)
}

fn take_away(server: &Arc<Server>, user: User, args: &mut Reader, directory: bool) -> Result<Job, Refusal> {
    let place = read_place(server, args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.remove(user, place, directory, move |changed| {
            let dir_wcc = convert::around(&changed, fsid);
            match changed.result {
                Ok(()) => reply.ok(&REMOVE3resok { dir_wcc }),
                Err(errno) => reply.error(status(errno), &dir_wcc),
            }
        });
    }))
}

pub(super) fn rename(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (from, to) = (read_place(server, args)?, read_place(server, args)?);
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.rename(user, from, to, move |left, arrived| {
            let told = RENAME3resok {
                fromdir_wcc: convert::around(&left, fsid),
                todir_wcc: convert::around(&arrived, fsid),
            };
            match left.result {
                Ok(()) => reply.ok(&told),
                Err(errno) => reply.error(status(errno), &told),
            }
        });
    }))
}

pub(super) fn link(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let place = read_place(server, args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.link(user, ino, place, move |changed| {
            let linkdir_wcc = convert::around(&changed, fsid);
            let file = changed.result.as_ref().ok();
            let told = LINK3resok {
                file_attributes: file.map_or(post_op_attr::None, |attr| convert::known(Some(attr), fsid)),
                linkdir_wcc,
            };
            match changed.result {
                Ok(_) => reply.ok(&told),
                Err(errno) => reply.error(status(errno), &told),
            }
        });
    }))
}
