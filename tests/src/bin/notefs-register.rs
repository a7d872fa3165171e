//! The register test for as long as one likes: `notefs-register [EDITS [SEED]]`, on each server in turn.

#![allow(clippy::print_stdout, reason = "a program that prints its figures")]

use anyhow::{Context, Result};
use notefs_tests::Store;
use notefs_tests::register::{Plan, run};

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
    for (name, store) in [("ministack", Store::ministack()?), ("weed", Store::weed()?)] {
        println!("{name}: {edits} edits of 20 notes, seed {seed}");
        let plan = Plan {
            seed,
            edits,
            notes: 20,
            edits_per_kill: 250,
        };
        println!("{name}: 0 lines lost: {:?}", run(&store, plan)?);
    }
    notefs_tests::scratch::clean_up();
    Ok(())
}
