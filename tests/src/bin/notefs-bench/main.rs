//! The benchmark: the same work on the local file system, on notefs and on `rclone mount`, in interleaved rounds of one
//! run, so that the ratios hold whatever the machine is doing. Medians; lower is better everywhere. With `felt`: how long a change takes
//! to be seen and felt on another machine. With `requests`: what work costs at the store. With `shared`: the index that machines share.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod cold;
mod felt;
mod juicefs;
mod large;
mod requests;
mod search;
mod shared;
mod table;
mod warm;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use notefs_tests::rclone::Rclone;
use notefs_tests::{Mount, MountOptions, Store, scratch};

use table::Table;

/// The contenders, as the columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Local,
    Notefs,
    Rclone,
}

/// How much to do.
struct Plan {
    rounds: usize,
    notes: usize,
    json: Option<String>,
    /// Only what another machine sees and feels, with so many changes.
    felt: Option<usize>,
    /// On this server alone.
    server: Option<String>,
    /// Only what work costs at the store.
    requests: bool,
    /// Only how long questions take, in vaults of so many notes.
    search: Option<Vec<usize>>,
    /// Only the index that machines share, of so many notes.
    shared: Option<usize>,
}

const USAGE: &str = "usage: scripts/bench [--rounds N] [--notes N] [--json FILE], scripts/bench felt [--server ministack|weed] [--changes N] [--json FILE], scripts/bench search [--notes N[,N]] [--json FILE], scripts/bench shared [--notes N] [--json FILE], or scripts/bench requests";

fn plan() -> Result<Plan> {
    let mut plan = Plan {
        rounds: 3,
        notes: 10_000,
        json: None,
        felt: None,
        server: None,
        requests: false,
        search: None,
        shared: None,
    };
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq("felt").is_some() {
        plan.felt = Some(200);
    }
    plan.requests = args.next_if_eq("requests").is_some();
    if args.next_if_eq("search").is_some() {
        plan.search = Some(vec![1_000, 10_000]);
    }
    if args.next_if_eq("shared").is_some() {
        plan.shared = Some(50_000);
    }
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--rounds" => plan.rounds = value.parse().context("--rounds takes a number")?,
            "--notes" if plan.search.is_some() => {
                let sizes: Result<_, _> = value.split(',').map(str::parse).collect();
                plan.search = Some(sizes.context("--notes takes numbers")?);
            }
            "--notes" if plan.shared.is_some() => plan.shared = Some(value.parse().context("--notes takes a number")?),
            "--notes" => plan.notes = value.parse().context("--notes takes a number")?,
            "--json" => plan.json = Some(value),
            "--server" => plan.server = Some(value),
            "--changes" => plan.felt = Some(value.parse().context("--changes takes a number")?),
            _ => bail!("unknown option {arg}; {USAGE}"),
        }
    }
    Ok(plan)
}

/// How long `work` takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let start = Instant::now();
    eprintln!("warm rows, {} rounds ...", plan.rounds);
    {
        let local = scratch::folder("local")?;
        let mount = Mount::start_with(&Store::weed()?, MountOptions::default())?;
        let rclone = Rclone::start(Store::weed()?.client()?)?;
        let roots = [
            (Column::Local, local),
            (Column::Notefs, mount.dir().to_owned()),
            (Column::Rclone, rclone.dir().to_owned()),
        ];
        for round in 0..plan.rounds {
            for (column, root) in &roots {
                warm::round(*column, root, round, table)?;
            }
        }
    }
    eprintln!("cold rows, 20 ms to the store ... ({:.0?})", start.elapsed());
    cold::measure(table)?;
    eprintln!("{} notes ... ({:.0?})", plan.notes, start.elapsed());
    large::measure(plan.notes, table)?;
    eprintln!("done after {:.0?}", start.elapsed());
    Ok(())
}

fn main() -> Result<()> {
    let plan = plan()?;
    if plan.requests {
        println!("{}", requests::measure()?);
        scratch::clean_up();
        return Ok(());
    }
    let special = match (plan.felt, &plan.search, plan.shared) {
        (Some(changes), ..) => Some(felt::measure(changes, plan.server.as_deref())?),
        (None, Some(sizes), _) => Some(search::measure(sizes)?),
        (None, None, Some(size)) => Some(shared::measure(size)?),
        (None, None, None) => None,
    };
    if let Some((text, json)) = special {
        println!("{text}");
        if let Some(path) = &plan.json {
            std::fs::write(path, json.to_string()).with_context(|| path.clone())?;
        }
        scratch::clean_up();
        return Ok(());
    }
    let mut table = Table::default();
    let result = measure(&plan, &mut table);
    // What was measured before a failure is worth seeing.
    println!("{}", table.text());
    if let Some(path) = &plan.json {
        std::fs::write(path, table.json().to_string()).with_context(|| path.clone())?;
    }
    scratch::clean_up();
    result
}
