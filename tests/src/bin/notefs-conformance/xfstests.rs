//! The cases of xfstests' `generic` group that `tests/conformance/xfstests` names. They mount two buckets themselves.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, Finished};
use notefs_tests::{Store, scratch};

use super::suites::{Count, SUITE_DEADLINE};

/// The users as whom the cases act.
const USERS: [&str; 3] = ["fsgqa", "fsgqa2", "123456-fsgqa"];

/// Where a bucket is mounted, and what `mount` calls it.
struct Place {
    device: String,
    folder: PathBuf,
}

fn run(command: Command) -> Result<Finished> {
    process::run(command, SUITE_DEADLINE)
}

/// `FOLDER/xfstests`, built where it lies, and the users that it wants.
fn checked(sources: &Path) -> Result<PathBuf> {
    let suite = sources.join("xfstests");
    ensure!(
        suite.join("ltp/fsx").exists() && suite.join("src/t_getcwd").exists(),
        "{} is not built: run make there (it needs the Debian packages that its README names)",
        suite.display()
    );
    for user in USERS {
        let mut id = Command::new("id");
        id.arg(user);
        run(id)?
            .ok()
            .with_context(|| format!("its cases act as the user {user}: useradd --badname -m {user}"))?;
    }
    Ok(suite)
}

/// A copy that may be written to, and that knows notefs as a FUSE file system.
fn copied(suite: &Path, home: &Path) -> Result<PathBuf> {
    let copy = home.join("suite");
    let mut cp = Command::new("cp");
    cp.arg("-r").arg(suite).arg(&copy);
    run(cp)?.ok()?;
    let rules = copy.join("common/rc");
    let (known, ours) = ("-e 's/fuse.ceph-fuse/ceph-fuse/'", "-e 's/fuse[.]notefs/fuse/'");
    let text = std::fs::read_to_string(&rules)?;
    ensure!(text.contains(known), "{} has another _fs_type", rules.display());
    std::fs::write(&rules, text.replace(known, &format!("{known} {ours}")))?;
    let helper = home.join("notefs-by-mount");
    std::fs::write(&helper, include_str!("../../../conformance/notefs-by-mount"))?;
    std::fs::set_permissions(helper, PermissionsExt::from_mode(0o755))?;
    Ok(copy)
}

/// The cases that are named, comments aside.
fn cases() -> Vec<&'static str> {
    let lines = include_str!("../../../conformance/xfstests").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect()
}

/// How many cases the closing lines of `check` name after `word`.
fn named(told: &str, word: &str) -> u64 {
    let lines = told.lines().filter_map(|line| line.strip_prefix(word));
    lines.map(|names| names.split_whitespace().count() as u64).sum()
}

/// What `check`, the mounts that it makes and the commands that end them are told.
fn environment(home: &Path, places: &[Place; 2], store: &Store) -> Result<Vec<(String, String)>> {
    let (_, query) = store.url.split_once('?').context("a store without an endpoint")?;
    let shown = |path: &Path| path.display().to_string();
    let mut told: Vec<(String, String)> = vec![
        ("NOTEFS_BIN".into(), std::env::var("NOTEFS_BIN")?),
        ("STORE_QUERY".into(), query.to_owned()),
        ("XDG_STATE_HOME".into(), shown(home)),
        ("XDG_RUNTIME_DIR".into(), shown(home)),
        ("FSTYP".into(), "fuse".into()),
        // `mount` drops the PATH, so the type names the helper's place.
        (
            "FUSE_SUBTYP".into(),
            format!(".{}", shown(&home.join("notefs-by-mount"))),
        ),
        ("RESULT_BASE".into(), shown(&home.join("results"))),
        ("HOST_OPTIONS".into(), shown(&home.join("no-file"))),
    ];
    for (names, place) in [("TEST_DEV", "TEST_DIR"), ("SCRATCH_DEV", "SCRATCH_MNT")]
        .iter()
        .zip(places)
    {
        told.push((names.0.into(), place.device.clone()));
        told.push((names.1.into(), shown(&place.folder)));
    }
    told.extend(store.env.iter().cloned());
    Ok(told)
}

pub(crate) fn generic(sources: &Path) -> Result<Count> {
    let suite = checked(sources)?;
    let home = scratch::folder("xfstests")?;
    let copy = copied(&suite, &home)?;
    let stores = [Store::ministack()?, Store::ministack()?];
    let place = |store: &Store, name: &str| -> Result<Place> {
        let device = store.url.split('?').next().context("a store without a URL")?.to_owned();
        let folder = home.join(name);
        std::fs::create_dir(&folder)?;
        Ok(Place { device, folder })
    };
    let places = [place(&stores[0], "test")?, place(&stores[1], "scratch")?];
    let environment = environment(&home, &places, &stores[0])?;
    let mut check = Command::new("./check");
    check.args(cases()).envs(environment.iter().cloned()).current_dir(&copy);
    let ended = run(check);
    for place in &places {
        let mut unmount = Command::new(std::env::var("NOTEFS_BIN")?);
        unmount
            .arg("unmount")
            .arg(&place.folder)
            .envs(environment.iter().cloned());
        // One that the last case has unmounted is no fault.
        run(unmount)?;
    }
    let told = ended?.stdout;
    for line in told
        .lines()
        .filter(|line| line.starts_with("Failures:") || line.contains("[not run]"))
    {
        eprintln!("{line}");
    }
    let (ran, skipped) = (named(&told, "Ran:"), named(&told, "Not run:"));
    ensure!(ran > 0, "no case ran: {told}");
    Ok(Count {
        passed: ran - skipped - named(&told, "Failures:"),
        total: ran - skipped,
    })
}
