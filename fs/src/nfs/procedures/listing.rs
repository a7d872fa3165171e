//! READDIR and READDIRPLUS.
//!
//! `.` and `..` have the cookies 1 and 2, every other entry its own for as long as it lives, so a reader goes on rightly
//! whatever appears or vanishes meanwhile. The cookie verifier only tells this replica's cookies from another's.

use super::{Job, Refusal};
use crate::filesystem::guarded::{Changed, Listing};
use crate::filesystem::permission::User;
use crate::nfs::convert::{self, status};
use crate::nfs::rpc::Reply;
use crate::nfs::server::Server;
use crate::nfs::xdr::Reader;
use nfs3_types::nfs3::{
    READDIR3resok, READDIRPLUS3resok, dirlist3, dirlistplus3, entry3, entryplus3, filename3, nfsstat3, post_op_attr,
    post_op_fh3,
};
use nfs3_types::xdr_codec::BoundedList;
use notefs_cache::{Attr, Ino};
use std::sync::Arc;

/// Entries asked of the replica at once: about what 64 KiB take with attributes and handles.
const BATCH: usize = 256;

/// The longest page, however much a client would take.
pub(super) const PAGE_MAX_BYTES: u32 = 64 << 10;

/// What stands around the entries: status, attributes, verifier and the end.
const AROUND_BYTES: usize = 4 + 88 + 8 + 4;

const DOT_COOKIE: u64 = 1;
const DOT_DOT_COOKIE: u64 = 2;

/// Entries as far as they have room.
enum Page {
    Plain(BoundedList<entry3<'static>>),
    Plus(BoundedList<entryplus3<'static>>),
}

impl Page {
    /// Adds an entry; false if there is no room.
    fn add(&mut self, server: &Server, (fileid, attr): (Ino, Option<&Attr>), name: &[u8], cookie: u64) -> bool {
        let name = filename3::from(name.to_vec());
        match self {
            Page::Plain(list) => list.try_push(entry3 { fileid, name, cookie }).is_ok(),
            Page::Plus(list) => list
                .try_push(entryplus3 {
                    fileid,
                    name,
                    cookie,
                    name_attributes: convert::known(attr, server.fsid),
                    name_handle: attr.map_or(post_op_fh3::None, |attr| post_op_fh3::Some(server.handles.of(attr))),
                })
                .is_ok(),
        }
    }
}

/// A listing under way.
struct Fill {
    server: Arc<Server>,
    user: User,
    dir: Ino,
    page: Page,
    /// Entries that are in the page.
    count: usize,
}

pub(super) fn readdir(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (dir, cookie) = read_position(server, args)?;
    let page = Page::Plain(BoundedList::new(room(args.u32()?)?));
    Ok(start(server, user, (dir, cookie), page))
}

pub(super) fn readdirplus(server: &Arc<Server>, user: User, args: &mut Reader) -> Result<Job, Refusal> {
    let (dir, cookie) = read_position(server, args)?;
    let _names_alone = args.u32()?;
    let page = Page::Plus(BoundedList::new(room(args.u32()?)?));
    Ok(start(server, user, (dir, cookie), page))
}

fn read_position(server: &Server, args: &mut Reader) -> Result<(Ino, u64), Refusal> {
    let (dir, cookie, verifier) = (server.inode(args)?, args.u64()?, args.u64()?);
    if cookie != 0 && verifier.to_be_bytes() != server.cookie_verifier.0 {
        return Err(nfsstat3::NFS3ERR_BAD_COOKIE.into());
    }
    Ok((dir, cookie))
}

fn room(asked: u32) -> Result<usize, Refusal> {
    let room = asked.min(PAGE_MAX_BYTES) as usize;
    room.checked_sub(AROUND_BYTES)
        .ok_or(Refusal::Status(nfsstat3::NFS3ERR_TOOSMALL))
}

fn start(server: &Arc<Server>, user: User, (dir, cookie): (Ino, u64), page: Page) -> Job {
    let fill = Fill {
        server: Arc::clone(server),
        user,
        dir,
        page,
        count: 0,
    };
    Box::new(move |reply| go_on(fill, cookie, reply))
}

fn go_on(fill: Fill, cookie: u64, reply: Reply) {
    let server = Arc::clone(&fill.server);
    let from = if cookie <= DOT_DOT_COOKIE { 0 } else { cookie };
    server
        .guarded
        .read_dir(fill.user.clone(), fill.dir, (from, BATCH), move |listed| {
            take(fill, cookie, listed, reply);
        });
}

/// Takes a batch into the page; then asks for the next one, or answers.
fn take(mut fill: Fill, cookie: u64, listed: Changed<Listing>, reply: Reply) {
    let listing = match listed.result {
        Ok(listing) => listing,
        // What is there already can be told; the next call meets the error.
        Err(_) if fill.count > 0 => return answer(fill, None, false, reply),
        Err(errno) => {
            let told = convert::known(listed.after.as_ref(), fill.server.fsid);
            return reply.error(status(errno), &told);
        }
    };
    let dir = listed.after;
    let mut full = false;
    let mut add = |what: (Ino, Option<&Attr>), name: &[u8], cookie: u64| {
        full = full || !fill.page.add(&fill.server, what, name, cookie);
        fill.count += usize::from(!full);
    };
    if cookie < DOT_COOKIE {
        add((fill.dir, dir.as_ref()), b".", DOT_COOKIE);
    }
    if cookie < DOT_DOT_COOKIE {
        add((listing.parent, None), b"..", DOT_DOT_COOKIE);
    }
    for entry in &listing.entries {
        add((entry.attr.ino, Some(&entry.attr)), &entry.name, entry.cookie);
    }
    match listing.entries.last() {
        Some(last) if !full && listing.entries.len() == BATCH => go_on(fill, last.cookie, reply),
        _ => answer(fill, dir.as_ref(), !full, reply),
    }
}

fn answer(fill: Fill, dir: Option<&Attr>, eof: bool, reply: Reply) {
    if fill.count == 0 && !eof {
        return reply.fail(nfsstat3::NFS3ERR_TOOSMALL);
    }
    let dir_attributes: post_op_attr = convert::known(dir, fill.server.fsid);
    let cookieverf = fill.server.cookie_verifier;
    match fill.page {
        Page::Plain(list) => {
            let entries = list.into_inner();
            reply.ok(&READDIR3resok {
                dir_attributes,
                cookieverf,
                reply: dirlist3 { entries, eof },
            });
        }
        Page::Plus(list) => {
            let entries = list.into_inner();
            reply.ok(&READDIRPLUS3resok {
                dir_attributes,
                cookieverf,
                reply: dirlistplus3 { entries, eof },
            });
        }
    }
}
