//! The NFS protocol, call by call: what a kernel client rarely does, and what it does when something goes wrong.

use anyhow::{Context, Result, ensure};
use nfs3_types::mount;
use nfs3_types::nfs3::{
    self, COMMIT3args, COMMIT3res, GETATTR3args, GETATTR3res, NFS_PROGRAM, Nfs3Option, Nfs3Result, READDIRPLUS3args,
    READDIRPLUS3res, REMOVE3args, REMOVE3res, RENAME3args, RENAME3res, SETATTR3args, SETATTR3res, cookieverf3,
    createhow3, createverf3, nfs_fh3, nfsstat3, sattr3, stable_how, wcc_data,
};
use nfs3_types::rpc::{accept_stat_data, fragment_header, msg_body, rejected_reply, reply_body, rpc_msg};
use nfs3_types::xdr_codec::{List, Opaque, Unpack, Void};
use notefs_tests::nfs::{Client, Served, place, user};
use notefs_tests::{Store, process};
use std::time::Duration;

fn served(args: &[&str]) -> Result<Served> {
    Served::start(&Store::folder()?, args)
}

fn plain(mode: u32) -> createhow3 {
    createhow3::UNCHECKED(sattr3 {
        mode: Nfs3Option::Some(mode),
        ..sattr3::default()
    })
}

fn exclusive(verifier: u8) -> createhow3 {
    createhow3::EXCLUSIVE(createverf3([verifier; 8]))
}

fn went_well<T>(result: Result<T, nfsstat3>) -> Result<T> {
    result.map_err(|status| anyhow::anyhow!("answered {status}"))
}

fn getattr(client: &mut Client, file: &nfs_fh3) -> Result<Result<nfs3::fattr3, nfsstat3>> {
    let args = GETATTR3args { object: file.clone() };
    let result: GETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_GETATTR, &args)?;
    Ok(match result {
        Nfs3Result::Ok(found) => Ok(found.obj_attributes),
        Nfs3Result::Err((status, _)) => Err(status),
    })
}

fn remove(client: &mut Client, dir: &nfs_fh3, name: &str) -> Result<Result<wcc_data, nfsstat3>> {
    let args = REMOVE3args {
        object: place(dir, name),
    };
    let result: REMOVE3res = client.nfs(NFS_PROGRAM::NFSPROC3_REMOVE, &args)?;
    Ok(match result {
        Nfs3Result::Ok(removed) => Ok(removed.dir_wcc),
        Nfs3Result::Err((status, _)) => Err(status),
    })
}

fn commit(client: &mut Client, file: &nfs_fh3) -> Result<nfs3::writeverf3> {
    let args = COMMIT3args {
        file: file.clone(),
        offset: 0,
        count: 0,
    };
    let result: COMMIT3res = client.nfs(NFS_PROGRAM::NFSPROC3_COMMIT, &args)?;
    match result {
        Nfs3Result::Ok(committed) => Ok(committed.verf),
        Nfs3Result::Err((status, _)) => anyhow::bail!("COMMIT answered {status}"),
    }
}

/// How a call without arguments that are worth anything is taken.
fn taken(client: &mut Client, call: (u32, u32, u32)) -> Result<accept_stat_data> {
    let record = client.record(None, call, &Void)?;
    Ok(client.exchange(&record)?.0)
}

#[test]
fn every_program_version_and_procedure_has_an_answer() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let (nfs, mnt) = (nfs3::PROGRAM, mount::PROGRAM);
    for call in [(nfs, 3, 0), (mnt, 3, 0)] {
        ensure!(
            matches!(taken(&mut client, call)?, accept_stat_data::SUCCESS),
            "NULL of {call:?}"
        );
    }
    for call in [(nfs, 3, 22), (mnt, 3, 6), (nfs, 3, u32::MAX)] {
        ensure!(
            matches!(taken(&mut client, call)?, accept_stat_data::PROC_UNAVAIL),
            "{call:?}"
        );
    }
    for call in [(nfs, 2, 0), (nfs, 4, 1), (mnt, 1, 1)] {
        let answer = taken(&mut client, call)?;
        ensure!(
            matches!(answer, accept_stat_data::PROG_MISMATCH { low: 3, high: 3 }),
            "{call:?}: {answer:?}"
        );
    }
    ensure!(matches!(
        taken(&mut client, (100_000, 2, 3))?,
        accept_stat_data::PROG_UNAVAIL
    ));
    for procedure in 1..=21 {
        let answer = taken(&mut client, (nfs, 3, procedure))?;
        ensure!(
            matches!(answer, accept_stat_data::GARBAGE_ARGS),
            "{procedure}: {answer:?}"
        );
    }
    let mut old = client.record(None, (nfs, 3, 0), &Void)?;
    old[11] = 3;
    client.send(&old)?;
    let reply = client.receive()?;
    let (message, _) = rpc_msg::unpack(&mut &reply[..]).map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(matches!(
        message.body,
        msg_body::REPLY(reply_body::MSG_DENIED(rejected_reply::RPC_MISMATCH { low: 2, high: 2 }))
    ));
    Ok(())
}

#[test]
fn the_mount_protocol_tells_exports_mounts_and_what_is_not_there() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let exports: mount::exports<'_, '_> = client.call((mount::PROGRAM, 3, 5), &Void)?;
    ensure!(exports.0.len() == 1 && exports.0[0].ex_dir.0.as_ref() == b"/");
    ensure!(matches!(
        client.mount("/nowhere")?,
        Err(mount::mountstat3::MNT3ERR_NOENT)
    ));
    client.root()?;
    let dump = |client: &mut Client| -> Result<usize> {
        let mounts: List<mount::mountbody<'_, '_>> = client.call((mount::PROGRAM, 3, 2), &Void)?;
        Ok(mounts.0.len())
    };
    ensure!(dump(&mut client)? == 1);
    let _: Void = client.call((mount::PROGRAM, 3, 3), &mount::dirpath(Opaque::borrowed(b"/")))?;
    ensure!(dump(&mut client)? == 0);
    client.root()?;
    let _: Void = client.call((mount::PROGRAM, 3, 4), &Void)?;
    ensure!(dump(&mut client)? == 0);
    Ok(())
}

#[test]
fn a_call_that_comes_again_is_answered_as_before() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    went_well(client.create(&root, "a", plain(0o644))?)?;
    let rename = RENAME3args {
        from: place(&root, "a"),
        to: place(&root, "b"),
    };
    let record = client.record(
        Some(7777),
        (nfs3::PROGRAM, 3, NFS_PROGRAM::NFSPROC3_RENAME as u32),
        &rename,
    )?;
    let first = client.exchange(&record)?.1;
    ensure!(first[..4] == [0; 4], "the rename failed: {first:?}");
    ensure!(
        client.exchange(&record)?.1 == first,
        "it was run twice on one connection"
    );
    let mut again = served.client()?;
    ensure!(
        again.exchange(&record)?.1 == first,
        "it was run twice on two connections"
    );
    let anew: RENAME3res = again.nfs(NFS_PROGRAM::NFSPROC3_RENAME, &rename)?;
    ensure!(
        matches!(anew, Nfs3Result::Err((nfsstat3::NFS3ERR_NOENT, _))),
        "{anew:?}"
    );
    let other = RENAME3args {
        from: place(&root, "b"),
        to: place(&root, "c"),
    };
    let record = again.record(
        Some(7777),
        (nfs3::PROGRAM, 3, NFS_PROGRAM::NFSPROC3_RENAME as u32),
        &other,
    )?;
    ensure!(again.exchange(&record)?.1[..4] == [0; 4]);
    ensure!(
        again.lookup(&root, "c")?.is_ok(),
        "another call with the same number was not run"
    );
    Ok(())
}

#[test]
fn handles_outlive_renames_and_kills_but_not_their_file() -> Result<()> {
    let mut served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o644))?)?;
    went_well(client.write(&file, 0, b"kept", stable_how::UNSTABLE)?)?;
    let rename = RENAME3args {
        from: place(&root, "a"),
        to: place(&root, "b"),
    };
    let renamed: RENAME3res = client.nfs(NFS_PROGRAM::NFSPROC3_RENAME, &rename)?;
    ensure!(matches!(renamed, Nfs3Result::Ok(_)), "{renamed:?}");
    ensure!(client.read(&file, 0, 100)? == Ok((b"kept".to_vec(), true)));
    served.kill9();
    served.restart()?;
    let mut client = served.client()?;
    ensure!(
        client.read(&file, 0, 100)? == Ok((b"kept".to_vec(), true)),
        "after the restart"
    );
    ensure!(client.root()? == root);
    went_well(remove(&mut client, &root, "b")?)?;
    ensure!(client.read(&file, 0, 100)? == Err(nfsstat3::NFS3ERR_STALE));
    ensure!(getattr(&mut client, &file)?.err() == Some(nfsstat3::NFS3ERR_STALE));
    Ok(())
}

#[test]
fn a_handle_cannot_be_made_up() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o644))?)?;
    let forged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = file.data.to_vec();
        change(&mut bytes);
        nfs_fh3 {
            data: Opaque::owned(bytes),
        }
    };
    let other_inode = forged(&|bytes| bytes[11] ^= 1);
    ensure!(getattr(&mut client, &other_inode)?.err() == Some(nfsstat3::NFS3ERR_STALE));
    let other_code = forged(&|bytes| bytes[35] ^= 1);
    ensure!(getattr(&mut client, &other_code)?.err() == Some(nfsstat3::NFS3ERR_STALE));
    let short = forged(&|bytes| bytes.truncate(20));
    ensure!(getattr(&mut client, &short)?.err() == Some(nfsstat3::NFS3ERR_BADHANDLE));
    let elsewhere = Served::start(&Store::folder()?, &[])?;
    ensure!(getattr(&mut elsewhere.client()?, &root)?.err() == Some(nfsstat3::NFS3ERR_STALE));
    Ok(())
}

#[test]
fn an_exclusive_creation_is_made_once_for_each_verifier() -> Result<()> {
    let mut served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", exclusive(0xf7))?)?;
    ensure!(client.create(&root, "a", exclusive(0xf7))? == Ok(file.clone()));
    ensure!(client.create(&root, "a", exclusive(8))? == Err(nfsstat3::NFS3ERR_EXIST));
    served.kill9();
    served.restart()?;
    let mut client = served.client()?;
    ensure!(
        client.create(&root, "a", exclusive(0xf7))? == Ok(file.clone()),
        "after the restart"
    );
    ensure!(client.create(&root, "a", exclusive(8))? == Err(nfsstat3::NFS3ERR_EXIST));
    ensure!(client.create(&root, "a", createhow3::GUARDED(sattr3::default()))? == Err(nfsstat3::NFS3ERR_EXIST));
    ensure!(client.create(&root, "a", plain(0o644))? == Ok(file));
    Ok(())
}

#[test]
fn writes_are_as_stable_as_told_and_the_verifier_tells_of_a_restart() -> Result<()> {
    let mut served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o644))?)?;
    let big = vec![7; 1 << 20];
    let unstable = went_well(client.write(&file, 0, &big, stable_how::UNSTABLE)?)?;
    ensure!(unstable.committed == stable_how::UNSTABLE && unstable.count == 1 << 20);
    let stable = went_well(client.write(&file, 1 << 20, b"end", stable_how::FILE_SYNC)?)?;
    ensure!(stable.committed == stable_how::FILE_SYNC && stable.verf == unstable.verf);
    ensure!(commit(&mut client, &file)? == unstable.verf);
    let synced = served.notefs().json(&["status", &served.address(), "--json"])?;
    ensure!(synced["synced"]["seq"] == synced["written"]["seq"], "{synced}");
    went_well(client.write(&file, 0, b"unstable", stable_how::UNSTABLE)?)?;
    served.kill9();
    served.restart()?;
    let mut client = served.client()?;
    ensure!(commit(&mut client, &file)? != unstable.verf, "the verifier is the same");
    let (head, _) = went_well(client.read(&file, 0, 1 << 20)?)?;
    ensure!(
        head[..8] == *b"unstable" && head[8..] == big[8..],
        "what was answered is gone"
    );
    ensure!(client.read(&file, 1 << 20, 100)? == Ok((b"end".to_vec(), true)));
    Ok(())
}

#[test]
fn a_record_that_is_too_long_costs_the_connection_and_nothing_else() -> Result<()> {
    let served = served(&[])?;
    let mut other = served.client()?;
    let root = other.root()?;
    for header in [
        fragment_header::new(fragment_header::MASK, true),
        fragment_header::new((1 << 20) + 4097, false),
    ] {
        let mut client = served.client()?;
        client.send_raw(&header.into_xdr_buf())?;
        ensure!(client.receive().is_err(), "a record of any length is taken");
    }
    let mut parts = served.client()?;
    let call = parts.record(None, (nfs3::PROGRAM, 3, 0), &Void)?;
    for (at, part) in call.chunks(7).enumerate() {
        let is_last = (at + 1) * 7 >= call.len();
        parts.send_raw(&fragment_header::new(part.len() as u32, is_last).into_xdr_buf())?;
        parts.send_raw(part)?;
    }
    parts.receive().context("a call in several fragments")?;
    went_well(getattr(&mut other, &root)?)?;
    Ok(())
}

#[test]
fn only_the_serving_users_calls_are_honoured() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o666))?)?;
    for stranger in [user(12_345, 0, &[0]), None] {
        client.user = stranger;
        ensure!(
            client.root()? == root,
            "whoever mounts for another needs the root's handle"
        );
        went_well(getattr(&mut client, &root)?)?;
        ensure!(getattr(&mut client, &file)?.err() == Some(nfsstat3::NFS3ERR_ACCES));
        ensure!(client.read(&file, 0, 1)? == Err(nfsstat3::NFS3ERR_ACCES));
        ensure!(client.lookup(&root, "a")? == Err(nfsstat3::NFS3ERR_ACCES));
        ensure!(client.create(&root, "b", plain(0o644))? == Err(nfsstat3::NFS3ERR_ACCES));
        ensure!(remove(&mut client, &root, "a")?.err() == Some(nfsstat3::NFS3ERR_ACCES));
    }
    Ok(())
}

/// A user who is not served says NULL to the server; whether it answers.
fn answers_a_stranger(served: &Served) -> Result<bool> {
    let script = r"exec 3<>/dev/tcp/127.0.0.1/$0 || exit 0
printf '\x80\0\0\x28\0\0\0\x05\0\0\0\0\0\0\0\x02\0\x01\x86\xa3\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >&3
head -c 4 <&3 2>/dev/null | wc -c";
    let mut command = std::process::Command::new(process::tool("setpriv")?);
    command.args(["--reuid=12345", "--regid=12345", "--clear-groups", "bash", "-c", script]);
    command.arg(served.port().to_string());
    let told = process::run(command, Duration::from_secs(60))?.ok()?.stdout;
    Ok(told.trim() == "4")
}

#[test]
fn a_connection_of_another_user_is_not_served() -> Result<()> {
    ensure!(
        !answers_a_stranger(&served(&[])?)?,
        "a stranger's connection was served"
    );
    ensure!(
        answers_a_stranger(&served(&["--allow-other"])?)?,
        "--allow-other lets nobody in"
    );
    Ok(())
}

#[test]
fn other_users_get_what_modes_and_groups_give_them() -> Result<()> {
    let served = served(&["--allow-other"])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let secret = went_well(client.create(&root, "secret", plain(0o600))?)?;
    let shared = went_well(client.create(&root, "shared", plain(0o660))?)?;
    let set = SETATTR3args {
        object: shared.clone(),
        new_attributes: sattr3 {
            gid: Nfs3Option::Some(77),
            ..sattr3::default()
        },
        guard: Nfs3Option::None,
    };
    let given: SETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_SETATTR, &set)?;
    ensure!(matches!(given, Nfs3Result::Ok(_)), "{given:?}");
    client.user = user(1000, 1000, &[5, 77]);
    ensure!(client.read(&secret, 0, 1)? == Err(nfsstat3::NFS3ERR_ACCES));
    went_well(client.write(&shared, 0, b"by a member", stable_how::UNSTABLE)?)?;
    ensure!(client.create(&root, "mine", plain(0o644))? == Err(nfsstat3::NFS3ERR_ACCES));
    let taken: SETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_SETATTR, &set)?;
    ensure!(
        matches!(taken, Nfs3Result::Err((nfsstat3::NFS3ERR_PERM, _))),
        "{taken:?}"
    );
    client.user = user(1000, 1000, &[]);
    ensure!(client.read(&shared, 0, 1)? == Err(nfsstat3::NFS3ERR_ACCES));
    client.user = None;
    ensure!(client.read(&shared, 0, 1)? == Err(nfsstat3::NFS3ERR_ACCES));
    Ok(())
}

#[test]
fn many_calls_under_way_are_all_answered() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o644))?)?;
    went_well(client.write(&file, 0, &vec![1; 1 << 20], stable_how::UNSTABLE)?)?;
    let read = nfs3::READ3args {
        file,
        offset: 0,
        count: 1 << 20,
    };
    let calls = 200;
    for _ in 0..calls {
        let record = client.record(None, (nfs3::PROGRAM, 3, NFS_PROGRAM::NFSPROC3_READ as u32), &read)?;
        client.send(&record)?;
    }
    for number in 0..calls {
        let reply = client.receive().with_context(|| format!("reply {number}"))?;
        ensure!(
            reply.len() > 1 << 20 && reply[24..28] == [0; 4],
            "reply {number} is no content"
        );
    }
    Ok(())
}

#[test]
fn a_listing_goes_on_rightly_while_names_come_and_go() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    for number in 0..400 {
        went_well(client.create(&root, &format!("kept {number}"), plain(0o644))?)?;
        went_well(client.create(&root, &format!("gone {number}"), plain(0o644))?)?;
    }
    let mut args = READDIRPLUS3args {
        dir: root.clone(),
        cookie: 0,
        cookieverf: cookieverf3::default(),
        dircount: 2000,
        maxcount: 4000,
    };
    let mut names = Vec::new();
    let mut pages = 0;
    loop {
        let page: READDIRPLUS3res<'_> = client.nfs(NFS_PROGRAM::NFSPROC3_READDIRPLUS, &args)?;
        let Nfs3Result::Ok(page) = page else {
            anyhow::bail!("READDIRPLUS failed: {page:?}")
        };
        args.cookieverf = page.cookieverf;
        for entry in &page.reply.entries.0 {
            args.cookie = entry.cookie;
            names.push(String::from_utf8_lossy(entry.name.as_ref()).into_owned());
        }
        for number in pages * 20..(pages * 20 + 20).min(400) {
            went_well(remove(&mut client, &root, &format!("gone {number}"))?)?;
        }
        pages += 1;
        if page.reply.eof {
            break;
        }
    }
    let mut kept: Vec<_> = names.iter().filter(|name| name.starts_with("kept")).collect();
    let told = kept.len();
    kept.sort();
    kept.dedup();
    ensure!(
        told == 400 && kept.len() == 400,
        "{told} names told, {} different",
        kept.len()
    );
    ensure!(pages > 5 && names.len() < 802, "{pages} pages, {} names", names.len());
    args.cookieverf = cookieverf3([9; 8]);
    let refused: READDIRPLUS3res<'_> = client.nfs(NFS_PROGRAM::NFSPROC3_READDIRPLUS, &args)?;
    ensure!(matches!(refused, Nfs3Result::Err((nfsstat3::NFS3ERR_BAD_COOKIE, _))));
    Ok(())
}

#[test]
fn attributes_around_a_change_follow_one_another() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let mut last = went_well(getattr(&mut client, &root)?)?;
    for name in ["a", "b", "c"] {
        went_well(client.create(&root, name, plain(0o644))?)?;
        let made = went_well(getattr(&mut client, &root)?)?;
        let wcc = went_well(remove(&mut client, &root, name)?)?;
        let (before, after) = (wcc.before.unwrap(), wcc.after.unwrap());
        ensure!(
            (before.mtime, before.ctime) == (made.mtime, made.ctime),
            "before removing {name}"
        );
        ensure!(
            after.ctime != before.ctime && made.ctime != last.ctime,
            "the change shows nowhere"
        );
        last = went_well(getattr(&mut client, &root)?)?;
        ensure!(after.ctime == last.ctime, "after removing {name}");
    }
    Ok(())
}

#[test]
fn a_guard_stops_a_change_that_comes_too_late() -> Result<()> {
    let served = served(&[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "a", plain(0o644))?)?;
    let seen = went_well(getattr(&mut client, &file)?)?.ctime;
    let set = |guard| SETATTR3args {
        object: file.clone(),
        new_attributes: sattr3 {
            mode: Nfs3Option::Some(0o600),
            ..sattr3::default()
        },
        guard: Nfs3Option::Some(guard),
    };
    let first: SETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_SETATTR, &set(seen))?;
    ensure!(matches!(first, Nfs3Result::Ok(_)), "{first:?}");
    let second: SETATTR3res = client.nfs(NFS_PROGRAM::NFSPROC3_SETATTR, &set(seen))?;
    ensure!(
        matches!(second, Nfs3Result::Err((nfsstat3::NFS3ERR_NOT_SYNC, _))),
        "{second:?}"
    );
    Ok(())
}

#[test]
fn a_server_is_known_by_its_address_and_stores_everything_at_its_end() -> Result<()> {
    let store = Store::folder()?;
    let mut served = Served::start(&store, &[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let file = went_well(client.create(&root, "note.md", plain(0o644))?)?;
    went_well(client.write(&file, 0, b"a word: quicksilver", stable_how::UNSTABLE)?)?;
    let found = served.notefs().output(&["search", &served.address(), "quicksilver"])?;
    ensure!(found.contains("note.md"), "{found}");
    ensure!(served.terminate()?.success());
    ensure!(store.get("note.md")?.as_deref() == Some(&b"a word: quicksilver"[..]));
    served.restart()?;
    let mut client = served.client()?;
    went_well(client.write(&file, 0, b"b", stable_how::UNSTABLE)?)?;
    served.notefs().output(&["unmount", &served.address()])?;
    ensure!(store.get("note.md")?.as_deref() == Some(&b"b word: quicksilver"[..]));
    let args = ["serve", "nfs", &store.url, "--addr", "0.0.0.0:20490"];
    let refused = served.notefs().failure(&args, 2)?;
    ensure!(refused.contains("--insecure-listen"), "{refused}");
    Ok(())
}

#[test]
fn libnfs_lists_copies_and_reads() -> Result<()> {
    let served = served(&[])?;
    let ports = format!("nfsport={0}&mountport={0}&auto-traverse-mounts=0", served.port());
    let content = served.cache().with_file_name("content");
    std::fs::write(&content, vec![b'x'; 3 << 20])?;
    let run = |program: &str, args: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new(process::tool(program)?);
        command.args(args);
        Ok(process::run(command, Duration::from_secs(60))?.ok()?.stdout)
    };
    let url = |path: &str| format!("nfs://127.0.0.1/{path}?{ports}");
    run("nfs-cp", &[&content.display().to_string(), &url("copy")])?;
    let listed = run("nfs-ls", &[&url("")])?;
    ensure!(
        listed.contains("copy") && listed.contains(&(3 << 20).to_string()),
        "{listed}"
    );
    ensure!(run("nfs-cat", &[&url("copy")])?.len() == 3 << 20);
    Ok(())
}
