//! A folder with a hundred thousand names, on a real mount: made, listed while it is emptied, and within bounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, MountOptions, Store, sys};

const NAMES: usize = 100_000;

/// Of so many names one stays while the others are removed.
const ONE_STAYS_OF: usize = 10;

/// Names in a folder that is listed while they are renamed: more than one answer to the kernel holds.
const BUSY_NAMES: usize = 3_000;

const MAKERS: usize = 4;
const REMOVERS: usize = 4;

/// Readings of the folder while it is emptied: each asks for all names that are left, and the removers wait for their turn.
const LISTINGS_MAX: usize = 4;

/// Most memory that the daemon may take for a name, in bytes, with all that it holds beside.
const MOST_MEMORY_OF_A_NAME: usize = 4_096;

fn name(number: usize) -> String {
    format!("note-{number:06}.md")
}

/// Runs `work` on `threads` threads, each with the numbers that are its own.
fn shared_out(threads: usize, work: impl Fn(usize) -> std::io::Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads)
            .map(|own| scope.spawn(move || (own..NAMES).step_by(threads).try_for_each(work)))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

/// How often each name is listed by one reading of the folder.
fn listed(folder: &Path) -> Result<BTreeMap<String, usize>> {
    let mut seen = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        *seen
            .entry(entry?.file_name().to_string_lossy().into_owned())
            .or_default() += 1;
    }
    Ok(seen)
}

/// Memory that is the daemon's own, in bytes.
fn memory(mount: &Mount) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line
        .and_then(|line| line.split_whitespace().next())
        .context("no RssAnon")?;
    Ok(kibibytes.parse::<usize>()? * 1_024)
}

fn is_exact(seen: &BTreeMap<String, usize>, when: &str) -> Result<()> {
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(5).collect();
    ensure!(twice.is_empty(), "{when}: listed more than once: {twice:?}");
    let stays = (0..NAMES).step_by(ONE_STAYS_OF).map(name);
    let missed: Vec<_> = stays.filter(|name| !seen.contains_key(name)).take(5).collect();
    ensure!(
        missed.is_empty(),
        "{when}: there all the time and not listed: {missed:?}"
    );
    let strange: Vec<_> = seen.keys().filter(|name| !name.starts_with("note-")).take(5).collect();
    ensure!(strange.is_empty(), "{when}: never made: {strange:?}");
    Ok(())
}

#[test]
fn a_hundred_thousand_names_are_listed_while_they_vanish() -> Result<()> {
    // Nothing is uploaded meanwhile: this is about names.
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(&["--write-back", "1h"]))?;
    let folder = mount.path("many");
    std::fs::create_dir(&folder)?;
    let before = memory(&mount)?;
    // As mknod, which is one request and not four, so that the test is about names.
    shared_out(MAKERS, |number| {
        sys::make_node(&folder.join(name(number)), libc::S_IFREG | 0o644, 0)
    })?;
    let grown = memory(&mount)?.saturating_sub(before);
    ensure!(grown / NAMES < MOST_MEMORY_OF_A_NAME, "{grown} bytes for {NAMES} names");
    let all = listed(&folder)?;
    ensure!(all.len() == NAMES, "{} of {NAMES} names were listed", all.len());
    is_exact(&all, "whole")?;

    let emptying = AtomicBool::new(true);
    let listings = std::thread::scope(|scope| -> Result<usize> {
        let remover = scope.spawn(|| {
            let removed = shared_out(REMOVERS, |number| match number % ONE_STAYS_OF {
                0 => Ok(()),
                _ => std::fs::remove_file(folder.join(name(number))),
            });
            emptying.store(false, Ordering::Release);
            removed
        });
        let mut listings = 0;
        while emptying.load(Ordering::Acquire) && listings < LISTINGS_MAX {
            is_exact(&listed(&folder)?, &format!("listing {listings} while names vanish"))?;
            listings += 1;
        }
        remover.join().map_err(|_| anyhow::anyhow!("the remover panicked"))??;
        Ok(listings)
    })?;
    ensure!(listings > 0, "nothing was listed meanwhile");
    ensure!(
        listed(&folder)?.len() == NAMES.div_ceil(ONE_STAYS_OF),
        "after {listings} listings"
    );
    std::fs::remove_dir_all(&folder)?;
    mount.drain()
}

/// Each name is renamed away and back as soon as it is listed, and others are saved by a rename over them.
#[test]
fn a_listing_ends_while_its_names_are_renamed_and_replaced() -> Result<()> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(&["--write-back", "1h"]))?;
    let folder = mount.path("busy");
    std::fs::create_dir(&folder)?;
    for number in 0..BUSY_NAMES {
        sys::make_node(&folder.join(name(number)), libc::S_IFREG | 0o644, 0)?;
    }
    let mut seen = BTreeMap::<_, usize>::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let times = seen.entry(path.clone()).or_default();
        *times += 1;
        ensure!(*times == 1, "{} was listed again", path.display());
        let (away, save) = (mount.path("busy/away"), mount.path("save.tmp"));
        std::fs::rename(&path, &away)?;
        std::fs::rename(&away, &path)?;
        std::fs::write(&save, "saved")?;
        std::fs::rename(&save, &path)?;
    }
    ensure!(
        seen.len() == BUSY_NAMES,
        "{} of {BUSY_NAMES} names were listed",
        seen.len()
    );
    Ok(())
}
