//! Suites that others wrote to find out whether a file system is one, on a real mount over S3. What lies in no package
//! registry is run by `scripts/conformance`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, Finished, shell, tool};
use notefs_tests::{Mount, MountOptions, Store, scratch};

/// Cases that pjdfstest has, and those of them that must pass without remounts. Left are 14 expected failures, the cases that
/// remount, and `link::link_count_max`: the C library knows no limit of a FUSE file system.
const PJDFSTEST_CASES: usize = 398;
const PJDFSTEST_PASSED: usize = 370;

/// Cases that remount the folder read-only.
const PJDFSTEST_REMOUNTS: usize = 13;

const FSX_OPERATIONS: &str = "20000";

/// Longest time that a suite may take on a very busy machine.
const SUITE_DEADLINE: Duration = Duration::from_secs(340);

fn open_to_others() -> Result<Mount> {
    Mount::start_with(&Store::ministack()?, MountOptions::args(&["--allow-other"]))
}

fn configuration(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn run(command: Command) -> Result<Finished> {
    process::run(command, SUITE_DEADLINE)
}

/// What `count word` says in a summary.
fn counted(summary: &str, word: &str) -> Option<usize> {
    let part = summary.split([',', ':']).find(|part| part.trim().ends_with(word))?;
    part.split_whitespace().next()?.parse().ok()
}

/// A folder with a `mount` that asks for no helper program (there is none for a remount of a FUSE file system), and waits
/// for the kernel to let go of what the case before has just removed.
fn remounting_path(home: &Path) -> Result<String> {
    let folder = home.join("bin");
    std::fs::create_dir(&folder)?;
    let script = "#!/bin/sh\nfor try in $(seq 50); do /usr/bin/mount -i \"$@\" && exit 0; sleep 0.1; done; exit 1\n";
    std::fs::write(folder.join("mount"), script)?;
    std::fs::set_permissions(folder.join("mount"), PermissionsExt::from_mode(0o755))?;
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{path}", folder.display()))
}

/// Runs the suite's cases whose names contain `pattern`; answers how many passed, of how many.
fn pjdfstest(mount: &Mount, remounts: bool, pattern: &str) -> Result<(usize, usize)> {
    let (home, second) = (scratch::folder("pjdfstest")?, scratch::folder("second")?);
    for open in [mount.path("suite"), second.clone()] {
        std::fs::set_permissions(open, PermissionsExt::from_mode(0o777))?;
    }
    let settings = configuration("pjdfstest.toml")?
        .replace("TEMPORARY_SECOND", &second.display().to_string())
        .replace("allow_remount = false", &format!("allow_remount = {remounts}"));
    std::fs::write(home.join("pjdfstest.toml"), settings)?;
    let mut suite = Command::new(tool("pjdfstest")?);
    suite.arg("-c").arg(home.join("pjdfstest.toml"));
    suite.arg("-p").arg(mount.path("suite")).arg(pattern);
    suite
        .env("PATH", remounting_path(&home)?)
        .env("RUST_BACKTRACE", "0")
        .env("NO_COLOR", "1");
    let told = run(suite)?;
    let summary = told.stdout.lines().rfind(|line| line.starts_with("Summary"));
    let summary = summary.with_context(|| format!("no summary: {} {}", told.stdout, told.stderr))?;
    let failed: Vec<&str> = told.stdout.lines().filter(|line| line.contains("FAILED")).collect();
    ensure!(told.code() == 0, "{summary}\n{}", failed.join("\n"));
    let count = |word| counted(summary, word).with_context(|| format!("no count of {word}: {summary}"));
    Ok((count("passed")?, count("total")?))
}

#[test]
fn pjdfstest_passes() -> Result<()> {
    let mut mount = open_to_others()?;
    std::fs::create_dir(mount.path("suite"))?;
    let (passed, cases) = pjdfstest(&mount, false, "::")?;
    ensure!(
        (passed, cases) == (PJDFSTEST_PASSED, PJDFSTEST_CASES),
        "{passed} of {cases} cases passed"
    );
    let (passed, cases) = pjdfstest(&mount, true, "::erofs")?;
    ensure!(
        (passed, cases) == (PJDFSTEST_REMOUNTS, PJDFSTEST_REMOUNTS),
        "{passed} of {cases} cases that remount passed"
    );
    // What the suite left behind is removed, and the bucket is as empty as the folder.
    shell(mount.dir(), "rm -rf suite")?;
    mount.start_cold()?;
    ensure!(std::fs::read_dir(mount.dir())?.next().is_none(), "something came back");
    Ok(())
}

fn fsx_finds_nothing(settings: &str) -> Result<()> {
    let mut mount = open_to_others()?;
    let home = scratch::folder("fsx")?;
    std::fs::write(home.join("fsx.toml"), settings)?;
    let seed = std::process::id().to_string();
    let mut suite = Command::new(tool("fsx")?);
    suite
        .arg("-f")
        .arg(home.join("fsx.toml"))
        .args(["-N", FSX_OPERATIONS, "-S", &seed, "-P"]);
    suite.arg(&home).arg(mount.path("file.bin"));
    run(suite)?.ok().with_context(|| format!("fsx, seed {seed}"))?;
    let before = std::fs::read(mount.path("file.bin"))?;
    mount.start_cold()?;
    ensure!(
        std::fs::read(mount.path("file.bin"))? == before,
        "another content after a cold start, seed {seed}"
    );
    Ok(())
}

#[test]
fn fsx_with_mappings_finds_nothing() -> Result<()> {
    fsx_finds_nothing(&configuration("fsx.toml")?)
}

#[test]
fn fsx_without_mappings_finds_nothing() -> Result<()> {
    let settings = configuration("fsx.toml")?;
    let lines = settings
        .lines()
        .filter(|line| !line.starts_with("map") && !line.starts_with("invalidate"));
    fsx_finds_nothing(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn fio_reads_what_it_wrote() -> Result<()> {
    let mut mount = open_to_others()?;
    let job = |name: &str, how: &str| {
        format!(
            "fio --output-format=terse --name={name} --directory=. --size=8m --bs=4k-64k --verify=crc32c --verify_fatal=1 \
             --fallocate=none --randrepeat=1 {how} >/dev/null"
        )
    };
    shell(mount.dir(), &job("random", "--rw=randrw --ioengine=psync --numjobs=2"))?;
    shell(mount.dir(), &job("mapped", "--rw=randwrite --ioengine=mmap --bs=4k"))?;
    shell(
        mount.dir(),
        &job("direct", "--rw=write --ioengine=psync --direct=1 --bs=64k"),
    )?;
    mount.start_cold()?;
    shell(
        mount.dir(),
        &job("random", "--rw=randrw --ioengine=psync --numjobs=2 --verify_only=1"),
    )?;
    shell(
        mount.dir(),
        &job("direct", "--rw=write --ioengine=psync --bs=64k --verify_only=1"),
    )
    .map(drop)
}

#[test]
fn stress_ng_finds_nothing() -> Result<()> {
    let mut mount = open_to_others()?;
    // Each verifies what it does where it can; a failure of any is the exit code's.
    let stressors = "access chmod chown dentry dir fallocate filename flock getdent hdd link mknod rename seek symlink \
                     utime xattr lockf";
    std::fs::create_dir(mount.path("stress"))?;
    for stressor in stressors.split_whitespace() {
        let options = match stressor {
            "hdd" => "--hdd-bytes 4m",
            "fallocate" => "--fallocate-bytes 4m",
            _ => "",
        };
        let command = format!(
            "stress-ng --temp-path stress --{stressor} 1 {options} --{stressor}-ops 20 --timeout 2 --verify --metrics-brief 2>&1"
        );
        shell(mount.dir(), &command).with_context(|| stressor.to_owned())?;
    }
    shell(mount.dir(), "rm -rf stress")?;
    mount.start_cold()?;
    ensure!(
        std::fs::read_dir(mount.dir())?.next().is_none(),
        "something was left behind"
    );
    Ok(())
}
