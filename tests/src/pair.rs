//! Two machines that mount one store, and waiting for what one of them did to show on the other.

use anyhow::Result;

use crate::process::shell;
use crate::{Mount, MountOptions, PATIENCE, Store, wait_until};

/// A machine that writes, and one that feels it.
pub fn two_machines(store: &Store, args: &[&str]) -> Result<(Mount, Mount)> {
    let writer = Mount::start_with(store, MountOptions::args(&["--write-back", "100ms"]))?;
    let reader = Mount::start_with(store, MountOptions::args(args))?;
    Ok((writer, reader))
}

/// Waits until the other machine shows exactly these paths, without looking any of them up.
pub fn shows(mount: &Mount, folder: &str, count: usize) -> Result<()> {
    wait_until(&format!("{count} names in {folder}"), PATIENCE, || {
        let listed = shell(mount.dir(), &format!("ls -U -1 '{folder}' 2>/dev/null | wc -l"));
        match listed.map(|text| text.trim().parse::<usize>()) {
            Ok(Ok(seen)) if seen == count => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
}

/// Waits until a file has this content.
pub fn reads(mount: &Mount, path: &str, content: &str) -> Result<()> {
    wait_until(
        &format!("new content of {path}"),
        PATIENCE,
        || match std::fs::read_to_string(mount.path(path)) {
            Ok(text) if text == content => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}

/// Makes `count` notes with this content and their number.
pub fn fill(mount: &Mount, folder: &str, (content, count): (&str, usize)) -> Result<()> {
    std::fs::create_dir_all(mount.path(folder))?;
    for number in 0..count {
        std::fs::write(
            mount.path(&format!("{folder}/{number}.md")),
            format!("{content} {number:04}\n"),
        )?;
    }
    Ok(())
}

/// Sends a signal to a daemon, or to a child of one.
pub fn signal(pid: i32, signal: i32) {
    // SAFETY: the process is a daemon of this test, or was just seen as a child of one.
    unsafe { libc::kill(pid, signal) };
}
