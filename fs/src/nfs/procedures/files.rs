//! Attributes and content: GETATTR, SETATTR, ACCESS, READLINK, READ, WRITE, COMMIT.

use super::{Job, Refusal};
use crate::filesystem::guarded::Changed;
use crate::filesystem::permission::User;
use crate::nfs::convert::{self, status};
use crate::nfs::records::TRANSFER_MAX_BYTES;
use crate::nfs::rpc::Reply;
use crate::nfs::server::Server;
use crate::nfs::xdr::Reader;
use nfs3_types::nfs3::{
    ACCESS3resok, COMMIT3resok, GETATTR3resok, READ3resok, READLINK3resok, SETATTR3resok, WRITE3resok, nfspath3,
    nfsstat3, stable_how,
};
use nfs3_types::xdr_codec::Opaque;
use notefs_cache::ROOT_INO;
use std::sync::Arc;

pub(super) fn getattr(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    if ino != ROOT_INO && !server.admits(&user) {
        return Err(nfsstat3::NFS3ERR_ACCES.into());
    }
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.attr(ino, move |result| match result {
            Ok(attr) => reply.ok(&GETATTR3resok {
                obj_attributes: convert::attributes(&attr, fsid),
            }),
            Err(errno) => reply.fail(status(errno)),
        });
    }))
}

pub(super) fn setattr(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let change = convert::read_change(args)?;
    let guard = args.optional(convert::read_time)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.set_attr(user, ino, change, guard, move |changed| {
            let obj_wcc = convert::around(&changed, fsid);
            match changed.result {
                Ok(()) => reply.ok(&SETATTR3resok { obj_wcc }),
                Err(errno) => reply.error(status(errno), &obj_wcc),
            }
        });
    }))
}

pub(super) fn access(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (ino, asked) = (server.inode(args)?, args.u32()?);
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let (fsid, read_only) = (server.fsid, server.read_only);
        server.guarded.attr(ino, move |result| match result {
            Ok(attr) => reply.ok(&ACCESS3resok {
                obj_attributes: convert::known(Some(&attr), fsid),
                access: convert::access(&user, &attr, asked, read_only),
            }),
            Err(errno) => reply.fail(status(errno)),
        });
    }))
}

pub(super) fn readlink(server: &Arc<Server>, _: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.read_link(ino, move |changed| {
            let symlink_attributes = convert::known(changed.after.as_ref(), fsid);
            match changed.result {
                Ok(target) => reply.ok(&READLINK3resok {
                    symlink_attributes,
                    data: nfspath3(Opaque::owned(target)),
                }),
                Err(errno) => reply.error(status(errno), &symlink_attributes),
            }
        });
    }))
}

pub(super) fn read(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (ino, offset, count) = (server.inode(args)?, args.u64()?, args.u32()?);
    let length = count.min(TRANSFER_MAX_BYTES) as usize;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.read(user, ino, (offset, length), move |changed| {
            let file_attributes = convert::known(changed.after.as_ref(), fsid);
            match changed.result {
                Ok(data) => {
                    let end = offset.saturating_add(data.len() as u64);
                    reply.ok(&READ3resok {
                        file_attributes,
                        count: data.len() as u32,
                        // Attributes and content are read one after the other: a short answer is the end, too.
                        eof: data.len() < length || changed.after.is_some_and(|attr| end >= attr.size),
                        data: Opaque::borrowed(&data),
                    });
                }
                Err(errno) => reply.error(status(errno), &file_attributes),
            }
        });
    }))
}

pub(super) fn write(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (ino, offset, count) = (server.inode(args)?, args.u64()?, args.u32()?);
    let stable = match args.u32()? {
        0 => stable_how::UNSTABLE,
        1 | 2 => stable_how::FILE_SYNC,
        _ => return Err(Refusal::Garbage),
    };
    let data = args.opaque(TRANSFER_MAX_BYTES as usize)?;
    if data.len() != count as usize {
        return Err(Refusal::Garbage);
    }
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let after = Arc::clone(&server);
        let syncer = user.clone();
        server.guarded.write(user, ino, (offset, data), move |written| {
            if stable == stable_how::UNSTABLE || written.result.is_err() {
                return answer_write(&after, reply, &written, (count, stable));
            }
            let server = Arc::clone(&after);
            after.guarded.sync(syncer, ino, move |synced| {
                let written = Changed {
                    result: synced.result,
                    ..written
                };
                answer_write(&server, reply, &written, (count, stable));
            });
        });
    }))
}

fn answer_write(server: &Server, reply: Reply, written: &Changed<()>, (count, committed): (u32, stable_how)) {
    let file_wcc = convert::around(written, server.fsid);
    match written.result {
        Ok(()) => reply.ok(&WRITE3resok {
            file_wcc,
            count,
            committed,
            verf: server.write_verifier,
        }),
        Err(errno) => reply.error(status(errno), &file_wcc),
    }
}

pub(super) fn commit(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    // The range says what the client cares for; a flush is for all that was written.
    let (ino, _offset, _count) = (server.inode(args)?, args.u64()?, args.u32()?);
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let (fsid, verf) = (server.fsid, server.write_verifier);
        server.guarded.sync(user, ino, move |synced| {
            let file_wcc = convert::around(&synced, fsid);
            match synced.result {
                Ok(()) => reply.ok(&COMMIT3resok { file_wcc, verf }),
                Err(errno) => reply.error(status(errno), &file_wcc),
            }
        });
    }))
}
