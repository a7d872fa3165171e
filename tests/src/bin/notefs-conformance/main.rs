//! Runs file-system suites that no package registry carries, and long runs of those that one does, on a mount over S3 or,
//! for comparison, on a local folder, and holds the counts against those in `tests/conformance/counts`.
//!
//! The suites' sources stay in the folder that the caller names, and are only read: what is compiled goes elsewhere.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod ltp;
mod suites;
mod xfstests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use notefs_tests::tree::Tree;
use notefs_tests::{Mount, MountOptions, Store, scratch};

use suites::{Count, Run, SUITES, Suite};

const USAGE: &str = "usage: scripts/conformance FOLDER [--local DIR] [SUITE...]";

/// What is to be run, and where.
struct Plan {
    sources: PathBuf,
    local: Option<PathBuf>,
    suites: Vec<&'static Suite>,
}

fn plan() -> Result<Plan> {
    let mut args = std::env::args().skip(1);
    let sources = PathBuf::from(args.next().context(USAGE)?);
    let mut plan = Plan {
        sources: sources.canonicalize().with_context(|| sources.display().to_string())?,
        local: None,
        suites: Vec::new(),
    };
    while let Some(arg) = args.next() {
        if arg == "--local" {
            plan.local = Some(args.next().context(USAGE)?.into());
            continue;
        }
        let known = SUITES.iter().find(|suite| suite.name == arg);
        let all = || SUITES.map(|suite| suite.name).join(", ");
        plan.suites
            .push(known.with_context(|| format!("no suite {arg}; there are {}\n{USAGE}", all()))?);
    }
    if plan.suites.is_empty() {
        plan.suites = SUITES.iter().collect();
    }
    Ok(plan)
}

/// The count that a suite must reach, as `name passed total` in a line of the file.
fn recorded(name: &str) -> Result<Option<Count>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/counts");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [given, passed, total] = words[..]
            && given == name
        {
            let number = |word: &str| word.parse().with_context(|| format!("{}: {line}", path.display()));
            return Ok(Some(Count {
                passed: number(passed)?,
                total: number(total)?,
            }));
        }
    }
    Ok(None)
}

/// Runs a suite on a fresh mount; what it left must be the same for a machine that starts cold.
fn on_a_mount(suite: &Suite, sources: &Path) -> Result<Count> {
    let run = match suite.run {
        Run::In(run) => run,
        Run::Alone(run) => return run(sources),
    };
    let mut mount = Mount::start_with(&Store::ministack()?, MountOptions::args(&["--allow-other"]))?;
    let work = mount.path("suite");
    std::fs::create_dir(&work)?;
    let count = run(sources, &work)?;
    let before = Tree::read(mount.dir())?;
    mount.start_cold()?;
    before.assert_same(&Tree::read(mount.dir())?, "after a cold start")?;
    Ok(count)
}

fn on_a_folder(suite: &Suite, sources: &Path, folder: &Path) -> Result<Count> {
    let Run::In(run) = suite.run else {
        bail!("it mounts notefs itself");
    };
    let work = folder.join(format!("notefs-conformance-{}", std::process::id()));
    std::fs::create_dir(&work)?;
    let count = run(sources, &work);
    std::fs::remove_dir_all(&work)?;
    count
}

fn run(plan: &Plan) -> Result<()> {
    let mut worse = Vec::new();
    println!("{:<20} {:>10} {:>10}   recorded", "suite", "passed", "of");
    for suite in &plan.suites {
        let outcome = match &plan.local {
            None => on_a_mount(suite, &plan.sources),
            Some(folder) => on_a_folder(suite, &plan.sources, folder),
        };
        let count = match outcome {
            Ok(count) => count,
            Err(error) => {
                println!("{:<20} failed: {error:#}", suite.name);
                worse.push(suite.name);
                continue;
            }
        };
        let Some(wanted) = recorded(suite.name)?.filter(|_| plan.local.is_none()) else {
            println!("{:<20} {:>10} {:>10}", suite.name, count.passed, count.total);
            continue;
        };
        let verdict = match count.failed().cmp(&wanted.failed()) {
            std::cmp::Ordering::Greater => "WORSE",
            std::cmp::Ordering::Less => "better: write it down in tests/conformance/counts",
            std::cmp::Ordering::Equal if count.total < wanted.total => "FEWER CASES",
            std::cmp::Ordering::Equal => "as recorded",
        };
        if verdict == "WORSE" || verdict == "FEWER CASES" {
            worse.push(suite.name);
        }
        println!(
            "{:<20} {:>10} {:>10}   {} of {}: {verdict}",
            suite.name, count.passed, count.total, wanted.passed, wanted.total
        );
    }
    ensure!(worse.is_empty(), "worse than recorded: {}", worse.join(", "));
    Ok(())
}

fn main() -> Result<()> {
    let plan = plan()?;
    if std::env::var_os("NOTEFS_BIN").is_none() && plan.local.is_none() {
        bail!("run this by scripts/conformance, which builds notefs");
    }
    let result = run(&plan);
    scratch::clean_up();
    result
}
