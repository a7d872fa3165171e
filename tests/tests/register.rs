//! Two mounts and another client write the same notes at once, and no line is lost: a short run on each server. The long one is
//! `scripts/soak register`.

#![allow(clippy::print_stderr, reason = "the seed and the figures of a test")]

use anyhow::Result;
use notefs_tests::Store;
use notefs_tests::register::{Plan, run};

fn short_run(store: &Store) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("NOTEFS_TEST_SEED").or_else(|| number("NOTEFS_TEST_FIRST_SEED"));
    let plan = Plan {
        seed: seed.unwrap_or_else(|| u64::from(std::process::id())),
        edits: 120,
        notes: 4,
        edits_per_kill: 40,
    };
    eprintln!("NOTEFS_TEST_SEED={}", plan.seed);
    let outcome = run(store, plan, |_| {})?;
    eprintln!("0 lines lost: {outcome:?}");
    Ok(())
}

#[test]
fn no_line_is_lost_on_ministack() -> Result<()> {
    short_run(&Store::ministack()?)
}

#[test]
fn no_line_is_lost_on_weed() -> Result<()> {
    short_run(&Store::weed()?)
}
