//! The folder as a whole: FSSTAT, FSINFO, PATHCONF.

use super::listing::PAGE_MAX_BYTES;
use super::{Job, Refusal};
use crate::filesystem::permission::User;
use crate::nfs::convert::{self, status};
use crate::nfs::records::TRANSFER_MAX_BYTES;
use crate::nfs::server::Server;
use crate::nfs::xdr::Reader;
use nfs3_types::nfs3::{
    FSF3_CANSETTIME, FSF3_HOMOGENEOUS, FSF3_LINK, FSF3_SYMLINK, FSINFO3resok, FSSTAT3resok, PATHCONF3resok, nfstime3,
};
use notefs_cache::{FILE_SIZE_MAX_BYTES, NAME_LENGTH_MAX_BYTES};
use std::sync::Arc;

/// Reads and writes are best a multiple of this.
const TRANSFER_MULTIPLE_BYTES: u32 = 4096;

/// Names of one file, as the replica bounds them.
const LINKS_MAX: u32 = 65_000;

/// Free inodes are as many as blocks of this size: there is no table of them.
const INODE_BYTES: u64 = 4096;

pub(super) fn fsstat(server: &Arc<Server>, _: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let next = Arc::clone(&server);
        server.guarded.attr(ino, move |attr| {
            let attr = match attr {
                Ok(attr) => attr,
                Err(errno) => return reply.fail(status(errno)),
            };
            let fsid = next.fsid;
            next.guarded.space(move |space| match space {
                Ok(space) => {
                    let free_inodes = space.free_bytes / INODE_BYTES;
                    reply.ok(&FSSTAT3resok {
                        obj_attributes: convert::known(Some(&attr), fsid),
                        tbytes: space.used_bytes.saturating_add(space.free_bytes),
                        fbytes: space.free_bytes,
                        abytes: space.free_bytes,
                        tfiles: space.inodes.saturating_add(free_inodes),
                        ffiles: free_inodes,
                        afiles: free_inodes,
                        invarsec: 0,
                    });
                }
                Err(errno) => reply.fail(status(errno)),
            });
        });
    }))
}

pub(super) fn fsinfo(server: &Arc<Server>, _: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.attr(ino, move |attr| match attr {
            Ok(attr) => reply.ok(&FSINFO3resok {
                obj_attributes: convert::known(Some(&attr), fsid),
                rtmax: TRANSFER_MAX_BYTES,
                rtpref: TRANSFER_MAX_BYTES,
                rtmult: TRANSFER_MULTIPLE_BYTES,
                wtmax: TRANSFER_MAX_BYTES,
                wtpref: TRANSFER_MAX_BYTES,
                wtmult: TRANSFER_MULTIPLE_BYTES,
                dtpref: PAGE_MAX_BYTES,
                maxfilesize: FILE_SIZE_MAX_BYTES,
                time_delta: nfstime3 {
                    seconds: 0,
                    nseconds: 1,
                },
                properties: FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME,
            }),
            Err(errno) => reply.fail(status(errno)),
        });
    }))
}

pub(super) fn pathconf(server: &Arc<Server>, _: User, args: &mut Reader) -> Result<Job, Refusal> {
    let ino = server.inode(args)?;
    let server = Arc::clone(server);
    Ok(Box::new(move |reply| {
        let fsid = server.fsid;
        server.guarded.attr(ino, move |attr| match attr {
            Ok(attr) => reply.ok(&PATHCONF3resok {
                obj_attributes: convert::known(Some(&attr), fsid),
                linkmax: LINKS_MAX,
                name_max: NAME_LENGTH_MAX_BYTES as u32,
                no_trunc: true,
                chown_restricted: true,
                case_insensitive: false,
                case_preserving: true,
            }),
            Err(errno) => reply.fail(status(errno)),
        });
    }))
}
