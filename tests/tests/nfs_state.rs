//! What an NFS server remembers, and what outlives its kills: handles, verifiers, repeated calls, attributes around changes.

use anyhow::{Result, ensure};
use nfs3_types::nfs3::{
    self, NFS_PROGRAM, Nfs3Option, Nfs3Result, RENAME3args, RENAME3res, SETATTR3args, SETATTR3res, createhow3, nfs_fh3,
    nfsstat3, sattr3, stable_how,
};
use nfs3_types::xdr_codec::Opaque;
use notefs_tests::Store;
use notefs_tests::nfs::{Served, commit, exclusive, getattr, place, plain, remove, went_well};

fn served(args: &[&str]) -> Result<Served> {
    Served::start(&Store::folder()?, args)
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

/// Two tenants' servers: what one has given out means nothing to the other, though both hold a file of that name.
#[test]
fn a_handle_of_one_server_is_nothing_to_another() -> Result<()> {
    let stores = [Store::ministack()?, Store::ministack()?];
    let served = [Served::start(&stores[0], &[])?, Served::start(&stores[1], &[])?];
    let mut clients = [served[0].client()?, served[1].client()?];
    let mut files = Vec::new();
    for client in &mut clients {
        let root = client.root()?;
        files.push([went_well(client.create(&root, "same-name", plain(0o644))?)?, root]);
    }
    for (client, others) in clients.iter_mut().zip([&files[1], &files[0]]) {
        let read = client.read(&others[0], 0, 100)?;
        let looked = client.lookup(&others[1], "same-name")?;
        let refused = |error: nfsstat3| matches!(error, nfsstat3::NFS3ERR_BADHANDLE | nfsstat3::NFS3ERR_STALE);
        ensure!(
            read.as_ref().is_err_and(|error| refused(*error)),
            "the other's file: {read:?}"
        );
        ensure!(
            looked.as_ref().is_err_and(|error| refused(*error)),
            "the other's root: {looked:?}"
        );
    }
    Ok(())
}
