//! The benchmark: the same work on the local file system, on notefs and on `rclone mount`, in interleaved rounds of one
//! run, so that the ratios hold whatever the machine is doing. Medians; lower is better everywhere.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod cold;
mod large;
mod rclone;
mod table;
mod warm;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use notefs_tests::{Mount, MountOptions, Store, scratch};

use rclone::Rclone;
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
}

fn plan() -> Result<Plan> {
    let mut plan = Plan {
        rounds: 3,
        notes: 10_000,
        json: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--rounds" => plan.rounds = value.parse().context("--rounds takes a number")?,
            "--notes" => plan.notes = value.parse().context("--notes takes a number")?,
            "--json" => plan.json = Some(value),
            _ => bail!("unknown option {arg}; usage: scripts/bench [--rounds N] [--notes N] [--json FILE]"),
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
