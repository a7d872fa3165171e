//! The virtual folder `.notefs` as a client of NFS meets it, call by call.

use anyhow::{Context, Result, bail, ensure};
use nfs3_types::nfs3::{NFS_PROGRAM, Nfs3Result, READLINK3args, READLINK3res, nfs_fh3, nfsstat3, stable_how};
use notefs_tests::Store;
use notefs_tests::nfs::{Client, Served, getattr, plain, remove, went_well};
use serde_json::Value;

/// The handle at a path.
fn walk(client: &mut Client, root: &nfs_fh3, path: &str) -> Result<nfs_fh3> {
    let mut at = root.clone();
    for name in path.split('/') {
        at = went_well(client.lookup(&at, name)?).with_context(|| format!("{name} of {path}"))?;
    }
    Ok(at)
}

#[test]
fn clients_of_nfs_have_the_virtual_folder_too() -> Result<()> {
    let mut served = Served::start(&Store::folder()?, &[])?;
    let mut client = served.client()?;
    let root = client.root()?;
    let note = went_well(client.create(&root, "note.md", plain(0o600))?)?;
    let text = b"---\ntags: [herd]\n---\na quagga\n";
    went_well(client.write(&note, 0, text, stable_how::FILE_SYNC)?)?;
    let symlink = walk(&mut client, &root, ".notefs/search/quagga/001 note.md")?;
    let told: READLINK3res<'_> = client.nfs(NFS_PROGRAM::NFSPROC3_READLINK, &READLINK3args { symlink })?;
    let Nfs3Result::Ok(told) = told else {
        bail!("READLINK failed");
    };
    ensure!(told.data.0.as_ref() == b"../../../note.md", "{:?}", told.data.0);
    let status = walk(&mut client, &root, ".notefs/status.json")?;
    let (text, _) = went_well(client.read(&status, 0, 1 << 16)?)?;
    let told: Value = serde_json::from_slice(&text)?;
    ensure!(told["written"]["count"].as_u64().is_some(), "{told}");
    let tags = walk(&mut client, &root, ".notefs/tags")?;
    let removed = remove(&mut client, &tags, "herd")?;
    ensure!(matches!(removed, Err(nfsstat3::NFS3ERR_ROFS)), "{removed:?}");
    // After a restart nobody remembers the number, and it is found again by its name.
    served.kill9();
    served.restart()?;
    let mut client = served.client()?;
    let again = getattr(&mut client, &tags)?;
    ensure!(matches!(again, Err(nfsstat3::NFS3ERR_STALE)), "{again:?}");
    let found = walk(&mut client, &root, ".notefs/tags")?;
    ensure!(found.data == tags.data, "another handle");
    walk(&mut client, &root, ".notefs/tags/herd/note.md")?;
    went_well(getattr(&mut client, &tags)?)?;
    Ok(())
}
