//! The NFS front end behind a real kernel's client: Linux in User-Mode Linux, with this machine's own programs in it.

use anyhow::{Context, Result, ensure};
use notefs_tests::nfs::Served;
use notefs_tests::process::{self, Finished, wait_until};
use notefs_tests::{Store, command, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A guest's work is slow on a busy machine, and must not hang.
const GUEST_LIMIT: Duration = Duration::from_secs(300);

fn below_workspace(path: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join(path)
}

/// The command that runs another one on the mounted folder, inside the guest.
fn in_guest(served: &Served, shared: Option<&Path>, words: &[&str]) -> Command {
    let mut command = Command::new(below_workspace("scripts/nfs-guest"));
    let seconds = (GUEST_LIMIT.as_secs() - 20).to_string();
    command.args([
        "--port",
        &served.port().to_string(),
        "--timeout",
        &seconds,
        "--opts",
        "actimeo=1",
    ]);
    if let Some(shared) = shared {
        command.arg("--rw").arg(shared);
    }
    command.arg("--").args(words);
    command
}

fn guest(served: &Served, words: &[&str]) -> Result<Finished> {
    process::run(in_guest(served, None, words), GUEST_LIMIT)?.ok()
}

#[test]
fn a_kernels_client_gets_all_it_asks_for() -> Result<()> {
    let served = Served::start(&Store::folder()?, &[])?;
    let script = below_workspace("tests/guest/semantics.py").display().to_string();
    let finished = guest(&served, &["python3", &script])?;
    ensure!(finished.stdout.contains("18 passed, 0 failed"), "{}", finished.stdout);
    Ok(())
}

#[test]
fn git_vim_rsync_and_sqlite_work_on_a_kernels_client() -> Result<()> {
    let served = Served::start(&Store::folder()?, &[])?;
    let script = below_workspace("tests/guest/programs.sh").display().to_string();
    let finished = guest(&served, &[&script])?;
    ensure!(
        finished.stdout.contains("all programs are content"),
        "{}",
        finished.stdout
    );
    Ok(())
}

#[test]
fn kills_in_the_middle_of_writes_lose_nothing() -> Result<()> {
    let store = Store::folder()?;
    let mut served = Served::start(&store, &[])?;
    let shared = scratch::folder("shared")?;
    let acks = shared.join("acks");
    let (count, script) = (150, below_workspace("tests/guest/writer.py").display().to_string());
    let output = shared.join("output");
    let mut command = in_guest(
        &served,
        Some(&shared),
        &["python3", &script, &acks.display().to_string(), &count.to_string()],
    );
    command
        .stdout(std::fs::File::create(&output)?)
        .stderr(std::fs::File::create(shared.join("errors"))?);
    let mut running = process::spawn(command)?;
    let told = || std::fs::read_to_string(&acks).unwrap_or_default().lines().count();
    for wanted in [20, 60, 100] {
        wait_until("progress of the writer", GUEST_LIMIT, || {
            match (told(), running.poll()) {
                (seen, _) if seen >= wanted => Ok(()),
                (seen, ended) => Err(format!("{seen} files, {ended:?}")),
            }
        })?;
        served.kill9();
        served.restart()?;
    }
    let status = running.wait(GUEST_LIMIT)?;
    let (said, errors) = (
        std::fs::read_to_string(&output)?,
        std::fs::read_to_string(shared.join("errors"))?,
    );
    ensure!(
        status.success() && said.contains("everything is there"),
        "{status}: {said}{errors}"
    );
    ensure!(served.terminate()?.success());
    let last = store.get("0149.md")?.context("the last file is not stored")?;
    ensure!(
        last == b"note 149\n".repeat(50),
        "the last file is stored as something else"
    );
    ensure!(store.get("big")?.map(|big| big.len()) == Some(count * (64 << 10)));
    Ok(())
}

#[test]
fn notefs_mounts_itself_with_the_kernels_client() -> Result<()> {
    let served = Served::start(&Store::folder()?, &[])?;
    let script = below_workspace("tests/guest/mount.sh").display().to_string();
    let finished = guest(&served, &[&script, &command::binary()?.display().to_string()])?;
    ensure!(
        finished.stdout.contains("the daemon has heard of the umount")
            && finished.stdout.contains("a command has run on a mount of its own"),
        "{}",
        finished.stdout
    );
    Ok(())
}

#[test]
fn a_kernel_without_a_client_is_told() -> Result<()> {
    let kinds = std::fs::read_to_string("/proc/filesystems")?;
    let served = Served::start(&Store::folder()?, &[])?;
    let dir = scratch::folder("dir")?;
    let args = [
        "mount",
        "--protocol",
        "nfs",
        &Store::folder()?.url,
        &dir.display().to_string(),
    ];
    if kinds.lines().any(|line| line.trim_end().ends_with("\tnfs")) {
        served.notefs().output(&args)?;
        ensure!(scratch::is_mounted(&dir));
        served.notefs().output(&["unmount", &dir.display().to_string()])?;
    } else {
        let told = served.notefs().failure(&args, 1)?;
        let mut run = args;
        run[0] = "run";
        let run: Vec<&str> = run.into_iter().chain(["--", "true"]).collect();
        for told in [told, served.notefs().failure(&run, 1)?] {
            ensure!(
                told.contains("no NFS client") && told.contains("--protocol fuse"),
                "{told}"
            );
        }
    }
    ensure!(!scratch::is_mounted(&dir));
    Ok(())
}

/// The configuration of the mount's own conformance tests, without the lines that the filter refuses, and with `more`.
fn conformance(served: &Served, file: &str, keep: impl Fn(&str) -> bool, more: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(below_workspace("tests/conformance").join(file))?;
    let kept: Vec<&str> = text.lines().filter(|line| keep(line)).collect();
    let path = served.cache().with_file_name(file);
    std::fs::write(&path, kept.join("\n") + more)?;
    Ok(path)
}

#[test]
fn pjdfstest_passes_but_for_what_the_protocol_lacks() -> Result<()> {
    let served = Served::start(&Store::folder()?, &["--allow-other"])?;
    // A client renames an open file that loses its name, so that it keeps one; times end with 32 bits of seconds.
    let lacking = "  \"unlink::open_file_not_freed\",\n  \"utimensat::y2038\",";
    let keep = |line: &str| !line.contains("secondary_fs") && !line.starts_with("posix_fallocate");
    let config = conformance(&served, "pjdfstest.toml", keep, "")?;
    let text = std::fs::read_to_string(&config)?;
    let (before, after) = text
        .split_once("expected_failures = [")
        .context("no list of failures")?;
    std::fs::write(&config, format!("{before}expected_failures = [\n{lacking}{after}"))?;
    let program = process::tool("pjdfstest")?.display().to_string();
    let script = "chmod 755 . && mkdir pjd && exec \"$0\" -c \"$1\" -p \"$PWD/pjd\"";
    let finished = guest(&served, &["sh", "-c", script, &program, &config.display().to_string()])?;
    let summary = finished.stdout.lines().find(|line| line.starts_with("Summary"));
    let summary = summary.context("no summary")?;
    ensure!(
        summary.contains(" 0 failed") && summary.contains("361 passed"),
        "{summary}"
    );
    Ok(())
}

#[test]
fn random_operations_agree_with_their_model_on_a_kernels_client() -> Result<()> {
    let served = Served::start(&Store::folder()?, &[])?;
    // NFSv3 has no call for holes and allocation.
    let keep = |line: &str| !line.starts_with("posix_fallocate") && !line.starts_with("punch_hole");
    let config = conformance(&served, "fsx.toml", keep, "\nposix_fallocate = 0\npunch_hole = 0\n")?;
    let seed = (std::process::id() ^ served.port().rotate_left(7) as u32).to_string();
    let program = process::tool("fsx")?.display().to_string();
    let config = config.display().to_string();
    let finished = guest(&served, &[&program, "-N", "20000", "-S", &seed, "-f", &config, "model"]);
    finished.with_context(|| format!("fsx with the seed {seed}"))?;
    Ok(())
}
