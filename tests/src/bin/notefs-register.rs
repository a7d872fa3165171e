//! The register test for as long as one likes: `notefs-register [EDITS [SEED [SERVER]]]`, on each server in turn.

#![allow(clippy::print_stdout, reason = "a program that prints its figures")]

use anyhow::{Context, Result};
use notefs_tests::Store;
use notefs_tests::register::{Outcome, Plan, run};

/// Starts a server.
type Server = fn() -> Result<Store>;

const EDITS: usize = 10_000;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let edits = words
        .next()
        .map_or(Ok(EDITS), |word| word.parse())
        .context("EDITS is no number")?;
    let seed = words
        .next()
        .map_or(Ok(u64::from(std::process::id())), |word| word.parse())
        .context("SEED is no number")?;
    let only = words.next();
    let servers: [(&str, Server); 2] = [("ministack", Store::ministack), ("weed", Store::weed)];
    for (name, store) in servers {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        println!("{name}: {edits} edits of 20 notes, seed {seed}");
        let plan = Plan {
            seed,
            edits,
            notes: 20,
            edits_per_kill: 250,
        };
        let started = std::time::Instant::now();
        let minutes = || started.elapsed().as_secs() / 60;
        let so_far = |outcome: &Outcome| {
            let Outcome {
                lines, kills, requests, ..
            } = outcome;
            println!(
                "{name}: {} minutes, {lines} lines, {kills} kills, {requests} requests",
                minutes()
            );
        };
        let outcome = run(&store()?, plan, so_far)?;
        println!("{name}: 0 lines lost in {} minutes: {outcome:?}", minutes());
    }
    notefs_tests::scratch::clean_up();
    Ok(())
}
