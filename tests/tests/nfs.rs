//! The NFS protocol, call by call: what a kernel client rarely does, and what it does when something goes wrong.

use anyhow::{Context, Result, ensure};
use nfs3_types::mount;
use nfs3_types::nfs3::{
    self, NFS_PROGRAM, Nfs3Option, Nfs3Result, READDIRPLUS3args, READDIRPLUS3res, SETATTR3args, SETATTR3res,
    cookieverf3, nfsstat3, sattr3, stable_how,
};
use nfs3_types::rpc::{accept_stat_data, fragment_header, msg_body, rejected_reply, reply_body, rpc_msg};
use nfs3_types::xdr_codec::{List, Opaque, Unpack, Void};
use notefs_tests::nfs::{Client, Served, getattr, plain, remove, user, went_well};
use notefs_tests::{Store, process};
use std::time::Duration;

fn served(args: &[&str]) -> Result<Served> {
    Served::start(&Store::folder()?, args)
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
    let ports = format!("nfsport={0}&mountport={0}", served.port());
    let content = served.cache().with_file_name("content");
    std::fs::write(&content, vec![b'x'; 3 << 20])?;
    let run = |program: &str, args: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new(process::tool(program)?);
        command.args(args);
        Ok(process::run(command, Duration::from_secs(60))?.ok()?.stdout)
    };
    // libnfs asks for the exports and looks for one below an export that it takes for unnamed, unless the path names it.
    let urls: [&dyn Fn(&str) -> String; 2] = [&|path| format!("nfs://127.0.0.1//{path}?{ports}"), &|path| {
        format!("nfs://127.0.0.1/{path}?{ports}&auto-traverse-mounts=0")
    }];
    for (number, url) in urls.iter().enumerate() {
        let (name, back) = (
            format!("copy{number}"),
            served.cache().with_file_name(format!("back{number}")),
        );
        run("nfs-cp", &[&content.display().to_string(), &url(&name)])?;
        let listed = run("nfs-ls", &["-R", &url("")])?;
        let line = listed
            .lines()
            .find(|line| line.ends_with(&name))
            .context("not listed")?;
        ensure!(line.contains(&(3 << 20).to_string()), "{listed}");
        ensure!(run("nfs-cat", &[&url(&name)])?.len() == 3 << 20);
        run("nfs-cp", &[&url(&name), &back.display().to_string()])?;
        ensure!(
            std::fs::read(&back)? == std::fs::read(&content)?,
            "another content came back"
        );
    }
    Ok(())
}
