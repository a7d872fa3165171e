//! What macOS strews about, on a real mount: it stays on this machine, survives kills there, and is neither uploaded nor indexed.

use anyhow::{Result, ensure};
use notefs_tests::{Mount, MountOptions, Store};

const LITTER: [&str; 4] = ["._note.md", "dir/.DS_Store", "dir/._inner.md", ".TemporaryItems"];

#[test]
fn litter_survives_kills_here_and_reaches_neither_bucket_nor_index() -> Result<()> {
    let store = Store::folder()?;
    let mut mount = Mount::start(&store)?;
    std::fs::create_dir(mount.path("dir"))?;
    std::fs::write(mount.path("note.md"), "a word: quicksilver")?;
    for name in LITTER {
        std::fs::write(mount.path(name), format!("quicksilver in {name}"))?;
    }
    mount.drain()?;
    ensure!(store.keys()? == ["note.md"], "{:?}", store.keys()?);
    ensure!(
        mount.search("quicksilver")? == ["note.md"],
        "{:?}",
        mount.search("quicksilver")?
    );
    mount.kill9();
    mount.remount()?;
    for name in LITTER {
        let text = std::fs::read_to_string(mount.path(name))?;
        ensure!(
            text == format!("quicksilver in {name}"),
            "{name} holds {text:?} after a kill"
        );
    }
    std::fs::rename(mount.path("._note.md"), mount.path("fork.md"))?;
    mount.drain()?;
    ensure!(store.keys()? == ["fork.md", "note.md"], "{:?}", store.keys()?);
    ensure!(
        mount.search("quicksilver")?.len() == 2,
        "what has an ordinary name is not found"
    );
    let kept = mount.path("dir/._inner.md").display().to_string();
    let told = mount.notefs().failure(&["status", &kept, "--wait", "stored"], 1)?;
    ensure!(
        told.contains("kept on this machine") && told.contains("--litter"),
        "{told}"
    );
    mount.unmount()?;
    mount.remount()?;
    ensure!(std::fs::read_to_string(mount.path("dir/._inner.md"))? == "quicksilver in dir/._inner.md");
    Ok(())
}

#[test]
fn litter_is_stored_where_somebody_says_so() -> Result<()> {
    let store = Store::folder()?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--litter", "store"]))?;
    std::fs::write(mount.path("._note.md"), "fork")?;
    mount.drain()?;
    ensure!(store.keys()? == ["._note.md"], "{:?}", store.keys()?);
    Ok(())
}
