//! LTP's file-system programs: `testcases/kernel/fs`, and the system calls that files and folders are made of.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process;

use super::suites::Count;

/// Longest time that one program may take.
const CASE_DEADLINE: Duration = Duration::from_secs(600);

/// Programs that go on for so many seconds go on for this long, in seconds.
const LOOP_SECONDS: &str = "5";

/// What LTP returns where a case does not apply here.
const DOES_NOT_APPLY: i32 = 32;

/// Words of a source that has LTP make file systems of its own, in a file of ours or on a disk: that would test those.
const OWN_FILE_SYSTEM: [&str; 6] = [
    "needs_device",
    "mount_device",
    "all_filesystems",
    "format_device",
    "needs_rofs",
    "tst_acquire_device",
];

struct Case {
    name: String,
    command: String,
}

/// What `tests/conformance/ltp` says: folders below `testcases/kernel` on lines of their own, and after a `-` the name of a
/// case that is left out and why.
fn chosen() -> (Vec<&'static str>, Vec<&'static str>) {
    let lines = include_str!("../../../conformance/ltp").lines();
    let lines = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
    let (left_out, folders): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("- "));
    let name = |line: &'static str| line.split_whitespace().nth(1);
    let folders = folders.into_iter().flat_map(str::split_whitespace);
    (folders.collect(), left_out.into_iter().filter_map(name).collect())
}

/// A line of LTP's lists, with what would go on for minutes cut short.
fn case(line: &str) -> Option<Case> {
    let (name, command) = line.split_once(char::is_whitespace)?;
    let mut words: Vec<&str> = command.split_whitespace().collect();
    for at in 1..words.len() {
        let seconds = words[at - 1] == "-L" || (words[at - 1] == "-i" && words[at].ends_with('s'));
        if seconds {
            words[at] = if words[at].ends_with('s') { "5s" } else { LOOP_SECONDS };
        }
    }
    Some(Case {
        name: name.to_owned(),
        command: words.join(" "),
    })
}

/// Whether the program is built in one of the folders and works on the folder that it is given.
fn applies(case: &Case, folders: &[PathBuf]) -> bool {
    let words = || case.command.split([' ', ';']);
    folders.iter().any(|folder| {
        let Some(program) = words().find(|word| !word.is_empty() && folder.join(word).is_file()) else {
            return false;
        };
        let source = std::fs::read_to_string(folder.join(format!("{program}.c"))).unwrap_or_default();
        !OWN_FILE_SYSTEM.iter().any(|word| source.contains(word))
    })
}

fn cases(suite: &Path, folders: &[PathBuf], left_out: &[&str]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for list in ["fs", "fs_perms_simple", "syscalls"] {
        let path = suite.join("runtest").join(list);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let all = text.lines().filter(|line| !line.starts_with('#')).filter_map(case);
        cases.extend(all.filter(|case| !left_out.contains(&case.name.as_str()) && applies(case, folders)));
    }
    Ok(cases)
}

/// `FOLDER/ltp`: a checkout of linux-test-project/ltp in which the chosen folders are built.
pub(crate) fn ltp(sources: &Path, work: &Path) -> Result<Count> {
    let suite = sources.join("ltp");
    let (folders, left_out) = chosen();
    let folders: Vec<PathBuf> = folders
        .iter()
        .map(|folder| suite.join("testcases/kernel").join(folder))
        .collect();
    let cases = cases(&suite, &folders, &left_out)?;
    ensure!(
        !cases.is_empty(),
        "{} is not built: see scripts/conformance",
        suite.display()
    );
    let mut path = std::env::join_paths(folders.iter().chain([&suite.join("testcases/lib")]))?;
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    // Some cases become another user before they make a folder here.
    std::fs::set_permissions(work, PermissionsExt::from_mode(0o1777))?;
    let mut count = Count { passed: 0, total: 0 };
    for case in &cases {
        let mut program = Command::new("sh");
        program.arg("-c").arg(&case.command).current_dir(work);
        program.env("PATH", &path).env("TMPDIR", work).env("LTPROOT", &suite);
        let ended = process::run(program, CASE_DEADLINE);
        let code = ended.as_ref().map_or(-1, process::Finished::code);
        if code == DOES_NOT_APPLY {
            continue;
        }
        count.total += 1;
        if code == 0 {
            count.passed += 1;
            continue;
        }
        eprintln!("ltp: {} failed with {code}: {}", case.name, case.command);
        let told = ended.map_or_else(|error| format!("{error:#}"), |ended| ended.stdout + &ended.stderr);
        let lines = told
            .lines()
            .filter(|line| line.contains("FAIL") || line.contains("BROK"));
        lines.take(5).for_each(|line| eprintln!("    {line}"));
    }
    Ok(count)
}
