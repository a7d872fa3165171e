//! Unlink, rename, truncate, edit and replace while the upload of the very file is under way: the bucket ends as the folder
//! is, nothing comes back, and nothing is lost, also when the daemon is killed in that moment.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Fault, Mount, PATIENCE, Proxy, Store, sys, wait_until};

/// How long the proxy holds each request back: long enough to act meanwhile, even on a busy machine.
const HELD: Duration = Duration::from_secs(3);

/// What is done to files while they are uploaded.
const ACTS: [&str; 5] = ["unlinked", "renamed", "truncated", "edited", "replaced"];

/// New small, new large, and changed ones are uploaded: three for each act.
const UPLOADS: u64 = 3 * ACTS.len() as u64;

type Files = BTreeMap<String, Vec<u8>>;

/// What becomes of the uploads that are under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Upload {
    /// They arrive, late.
    Arrive,
    /// They never arrive, and nobody answers.
    Vanish,
    /// They arrive, but their answers are lost.
    LoseTheirAnswer,
}

fn spoil(proxy: &Proxy, upload: Upload) {
    match upload {
        Upload::Arrive => proxy.set_latency(HELD),
        Upload::Vanish => proxy.set_fault_on(Class::Put, Fault::BlackHole),
        Upload::LoseTheirAnswer => {
            proxy.set_latency(HELD);
            proxy.set_fault_on(Class::Put, Fault::DropReply);
        }
    }
}

fn large() -> Vec<u8> {
    (0..300_000_u32).map(|byte| (byte / 5) as u8).collect()
}

fn write_all(mount: &Mount) -> Result<()> {
    for act in ACTS {
        std::fs::write(mount.path(&format!("{act} note.md")), "a note")?;
        std::fs::write(mount.path(&format!("{act} large.bin")), large())?;
        std::fs::write(mount.path(&format!("{act} stored.md")), "second")?;
    }
    Ok(())
}

/// Acts on every file; answers what must be there at the end.
fn act_on_all(mount: &Mount) -> Result<Files> {
    let mut expected = Files::new();
    for (name, bytes) in [
        ("note.md", b"a note".to_vec()),
        ("large.bin", large()),
        ("stored.md", b"second".to_vec()),
    ] {
        let path = |act: &str| mount.path(&format!("{act} {name}"));
        let mut ends_as = |act: &str, bytes: &[u8]| expected.insert(format!("{act} {name}"), bytes.to_vec());
        std::fs::remove_file(path("unlinked"))?;
        std::fs::rename(path("renamed"), path("moved"))?;
        ends_as("moved", &bytes);
        let half = bytes.len() / 2;
        sys::truncate(&path("truncated"), half as u64)?;
        ends_as("truncated", &bytes[..half]);
        std::fs::write(path("edited"), "edited meanwhile")?;
        ends_as("edited", b"edited meanwhile");
        std::fs::write(mount.path("tmp"), name)?;
        std::fs::rename(mount.path("tmp"), path("replaced"))?;
        ends_as("replaced", name.as_bytes());
    }
    Ok(expected)
}

fn shows(mount: &Mount, expected: &Files) -> Result<()> {
    let mut seen = Files::new();
    for entry in std::fs::read_dir(mount.dir())? {
        let entry = entry?;
        let bytes = std::fs::read(entry.path())?;
        seen.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    same(&seen, expected)
}

fn same(seen: &Files, expected: &Files) -> Result<()> {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(seen) == names(expected),
        "there are {:?}, not {:?}",
        names(seen),
        names(expected)
    );
    let wrong = seen.iter().find(|(name, bytes)| expected[*name] != **bytes);
    let wrong = wrong.map(|(name, bytes)| (name, bytes.len()));
    ensure!(wrong.is_none(), "another content, with its length: {wrong:?}");
    Ok(())
}

fn acts_in_flight(upload: Upload, killed: bool) -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mut mount = Mount::start(&store.via(proxy.address())?)?;
    for act in ACTS {
        std::fs::write(mount.path(&format!("{act} stored.md")), "first")?;
    }
    mount.drain()?;
    proxy.forget();
    spoil(&proxy, upload);
    write_all(&mount)?;
    wait_until("uploads under way", PATIENCE, || match proxy.count(Class::Put) {
        enough if enough >= UPLOADS => Ok(()),
        few => Err(format!("{few} uploads")),
    })?;
    let expected = act_on_all(&mount)?;
    if killed {
        mount.kill9();
    }
    proxy.set_latency(Duration::ZERO);
    proxy.set_fault(Fault::None);
    if killed {
        mount.remount()?;
    }
    shows(&mount, &expected).context("at once")?;
    mount.settle()?;
    shows(&mount, &expected).context("when stored")?;
    let mut stored = Files::new();
    for key in store.keys()? {
        let bytes = store.get(&key)?.with_context(|| format!("{key} vanished"))?;
        stored.insert(key, bytes);
    }
    same(&stored, &expected).context("in the bucket")?;
    mount.start_cold()?;
    shows(&mount, &expected).context("after a cold start")
}

#[test]
fn files_changed_while_their_uploads_arrive_end_as_they_are() -> Result<()> {
    acts_in_flight(Upload::Arrive, false)
}

#[test]
fn files_changed_while_their_uploads_arrive_survive_a_kill() -> Result<()> {
    acts_in_flight(Upload::Arrive, true)
}

#[test]
fn files_changed_while_their_uploads_vanish_end_as_they_are() -> Result<()> {
    acts_in_flight(Upload::Vanish, false)
}

#[test]
fn files_changed_while_their_uploads_vanish_survive_a_kill() -> Result<()> {
    acts_in_flight(Upload::Vanish, true)
}

#[test]
fn files_changed_while_answers_are_lost_end_as_they_are() -> Result<()> {
    acts_in_flight(Upload::LoseTheirAnswer, false)
}

#[test]
fn files_changed_while_answers_are_lost_survive_a_kill() -> Result<()> {
    acts_in_flight(Upload::LoseTheirAnswer, true)
}
