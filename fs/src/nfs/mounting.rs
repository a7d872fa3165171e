//! The MOUNT protocol, version 3 (RFC 1813, appendix I): how a client gets its first handle.
//!
//! There is one export, `/`; folders below it can be mounted as well. Who has mounted is noted only to be told by DUMP.

use super::convert::status;
use super::procedures::{Job, Refusal};
use super::rpc::{AUTH_UNIX, Reply};
use super::server::Server;
use super::xdr::Reader;
use crate::filesystem::Errno;
use crate::filesystem::permission::User;
use nfs3_types::mount::{dirpath, export_node, fhandle3, mountbody, mountres3, mountres3_ok, mountstat3, name};
use nfs3_types::nfs3::nfsstat3;
use nfs3_types::xdr_codec::{List, Opaque, Pack};
use notefs_cache::{Attr, FileKind};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;

/// The longest path that is read, as the protocol says.
const PATH_MAX_BYTES: usize = 1024;

/// Mounts that are remembered; the oldest is forgotten first.
const MOUNTS_MAX: usize = 256;

/// Who has mounted what.
#[derive(Default)]
pub(super) struct Mounts {
    list: Mutex<Vec<(IpAddr, Vec<u8>)>>,
}

impl Mounts {
    fn add(&self, peer: IpAddr, path: &[u8]) {
        let mut list = self.list.lock();
        if !list.iter().any(|mount| mount.0 == peer && mount.1 == path) {
            if list.len() >= MOUNTS_MAX {
                list.remove(0);
            }
            list.push((peer, path.to_vec()));
        }
    }

    fn remove(&self, peer: IpAddr, path: Option<&[u8]>) {
        self.list
            .lock()
            .retain(|mount| mount.0 != peer || path.is_some_and(|path| mount.1 != path));
    }
}

/// Reads the arguments of a procedure; `None` if there is none of this number.
pub(super) fn read(
    server: &Arc<Server>,
    (peer, user): (IpAddr, User),
    procedure: u32,
    args: &mut Reader,
) -> Option<Result<Job, Refusal>> {
    let server = Arc::clone(server);
    match procedure {
        1 => Some(mount(server, (peer, user), args)),
        2 => Some(Ok(Box::new(move |reply| dump(&server, reply)))),
        3 => Some(unmount(server, peer, args)),
        4 => Some(Ok(Box::new(move |reply| {
            server.mounts.remove(peer, None);
            reply.accepted(&Empty);
        }))),
        5 => Some(Ok(Box::new(|reply| {
            reply.accepted(&List(vec![export_node {
                ex_dir: dirpath(Opaque::borrowed(b"/")),
                ex_groups: List::<name<'_>>(Vec::new()),
            }]));
        }))),
        _ => None,
    }
}

fn mount(server: Arc<Server>, (peer, user): (IpAddr, User), args: &mut Reader) -> Result<Job, Refusal> {
    let path = args.opaque(PATH_MAX_BYTES)?;
    Ok(Box::new(move |reply| {
        let told = Arc::clone(&server);
        let asked = path.clone();
        let is_root = path.iter().all(|byte| *byte == b'/');
        if !is_root && !server.admits(&user) {
            return reply.accepted(&mountres3::Err(mountstat3::MNT3ERR_ACCES));
        }
        server.guarded.resolve(user, path, move |found| match found {
            Ok(attr) if attr.kind == FileKind::Directory => {
                told.mounts.add(peer, &asked);
                reply.accepted(&mounted(&told, &attr));
            }
            Ok(_) => reply.accepted(&mountres3::Err(mountstat3::MNT3ERR_NOTDIR)),
            Err(errno) => reply.accepted(&mountres3::Err(mount_status(errno))),
        });
    }))
}

fn mounted(server: &Server, attr: &Attr) -> mountres3<'static> {
    mountres3::Ok(mountres3_ok {
        fhandle: fhandle3(server.handles.of(attr).data),
        auth_flavors: vec![AUTH_UNIX],
    })
}

fn mount_status(errno: Errno) -> mountstat3 {
    match status(errno) {
        nfsstat3::NFS3ERR_PERM => mountstat3::MNT3ERR_PERM,
        nfsstat3::NFS3ERR_NOENT => mountstat3::MNT3ERR_NOENT,
        nfsstat3::NFS3ERR_ACCES => mountstat3::MNT3ERR_ACCES,
        nfsstat3::NFS3ERR_NOTDIR => mountstat3::MNT3ERR_NOTDIR,
        nfsstat3::NFS3ERR_NAMETOOLONG => mountstat3::MNT3ERR_NAMETOOLONG,
        _ => mountstat3::MNT3ERR_IO,
    }
}

fn unmount(server: Arc<Server>, peer: IpAddr, args: &mut Reader) -> Result<Job, Refusal> {
    let path = args.opaque(PATH_MAX_BYTES)?;
    Ok(Box::new(move |reply| {
        server.mounts.remove(peer, Some(&path));
        reply.accepted(&Empty);
    }))
}

fn dump(server: &Server, reply: Reply) {
    let mounts = server.mounts.list.lock().clone();
    let told = mounts.into_iter().map(|(peer, path)| mountbody {
        ml_hostname: name(Opaque::owned(peer.to_string().into_bytes())),
        ml_directory: dirpath(Opaque::owned(path)),
    });
    reply.accepted(&List(told.collect::<Vec<_>>()));
}

/// A result without content.
pub(super) struct Empty;

impl Pack for Empty {
    fn packed_size(&self) -> usize {
        0
    }

    fn pack(&self, _: &mut impl std::io::Write) -> nfs3_types::xdr_codec::Result<usize> {
        Ok(0)
    }
}
