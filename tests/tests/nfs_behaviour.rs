//! The tests of what programs find on a mount, as they are, once more on one of NFS: their binaries are started in User-Mode Linux,
//! whose kernel has a client, and there mount with `--protocol nfs`.

use anyhow::{Context, Result, ensure};
use notefs_tests::command;
use notefs_tests::process::{self, run};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A guest has one slow processor.
const GUEST_LIMIT: Duration = Duration::from_secs(2_300);

/// What the protocol cannot, and why: lines of a test's name and a reason.
const EXCEPTIONS: &str = include_str!("../conformance/nfs-exceptions");

fn exceptions(file: &str) -> BTreeMap<String, String> {
    let lines = EXCEPTIONS.lines().filter(|line| !line.starts_with('#'));
    let split = lines.filter_map(|line| line.split_once(char::is_whitespace));
    let of_file = split.filter_map(|(name, reason)| Some((name.strip_prefix(file)?.strip_prefix("::")?, reason)));
    of_file
        .map(|(name, reason)| (name.to_owned(), reason.trim().to_owned()))
        .collect()
}

/// The newest build of a file of tests; it lies beside this one.
fn binary_of(file: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("no folder")?;
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = name.strip_prefix(file).and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            newest = newest.max(Some((path.metadata()?.modified()?, path)));
        }
    }
    let (_, path) = newest.with_context(|| format!("no build of tests/{file}.rs in {}", folder.display()))?;
    Ok(path)
}

fn in_guest(binary: &Path) -> Result<Command> {
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("scripts/nfs-guest");
    let dev_dir = process::tool("ministack")?;
    let dev_dir = dev_dir
        .ancestors()
        .nth(3)
        .context("no folder of tools")?
        .display()
        .to_string();
    let mut command = Command::new(rig);
    let seconds = (GUEST_LIMIT.as_secs() - 20).to_string();
    command.args(["--timeout", &seconds, "--mem", "2G", "--", "env"]);
    command.args([
        "NOTEFS_TEST_PROTOCOL=nfs",
        "TMPDIR=/run/scratch",
        &format!("NOTEFS_DEV_DIR={dev_dir}"),
    ]);
    command.arg(format!("NOTEFS_BIN={}", command::binary()?.canonicalize()?.display()));
    command
        .args(["sh", "-c", "mkdir $TMPDIR && exec \"$0\" --test-threads 1"])
        .arg(binary);
    Ok(command)
}

/// Every test of a file passes through NFS as through FUSE, but for those of which it is said that they cannot.
fn through_nfs(file: &str) -> Result<()> {
    let binary = binary_of(file)?;
    let mut list = Command::new(&binary);
    list.args(["--list", "--format", "terse"]);
    let listed = run(list, Duration::from_secs(60))?.ok()?.stdout;
    let all: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let finished = run(in_guest(&binary)?, GUEST_LIMIT)?;
    let ended = |word: &str| -> BTreeSet<String> {
        let lines = finished
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(word));
        lines.map(str::to_owned).collect()
    };
    let (passed, failed) = (ended(" ... ok"), ended(" ... FAILED"));
    let said = || format!("{}\n{}", finished.stdout, finished.stderr);
    ensure!(
        passed.len() + failed.len() == all.len() && !all.is_empty(),
        "not all were run: {}",
        said()
    );
    let known = exceptions(file);
    let surprises: Vec<_> = failed.iter().filter(|name| !known.contains_key(*name)).collect();
    ensure!(surprises.is_empty(), "{surprises:?} failed: {}", said());
    let better: Vec<_> = known.keys().filter(|name| !failed.contains(*name)).collect();
    ensure!(
        better.is_empty(),
        "{better:?} pass: strike them from tests/conformance/nfs-exceptions"
    );
    Ok(())
}

#[test]
fn what_posix_promises_holds_through_nfs() -> Result<()> {
    through_nfs("posix")
}

#[test]
fn editors_save_through_nfs() -> Result<()> {
    through_nfs("editors")
}

#[test]
fn programs_work_through_nfs() -> Result<()> {
    through_nfs("programs")
}

#[test]
fn what_others_lose_is_kept_through_nfs() -> Result<()> {
    through_nfs("peers_lose")
}

#[test]
fn litter_stays_here_through_nfs() -> Result<()> {
    through_nfs("litter")
}
