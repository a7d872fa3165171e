//! Random operations on a mount and on a plain directory, while the store is spoilt and the daemon killed (`src/model.rs`).
//! `NOTEFS_TEST_SEED` repeats a run, `NOTEFS_TEST_RUNS` makes more.

#![allow(clippy::print_stderr, reason = "a failed run is repeated by its seed")]

use std::time::Duration;

use anyhow::Result;
use notefs_tests::Store;
use notefs_tests::model::run_seeds;

/// Steps of one run.
const STEPS: usize = 160;

/// How long a failing run is shrunk: the runner ends a test after six minutes.
const SHRINKING: Duration = Duration::from_secs(120);

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn agrees(store: fn() -> Result<Store>, runs: u64) -> Result<()> {
    let seed = number_from("NOTEFS_TEST_SEED");
    let base = seed
        .or_else(|| number_from("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let runs = number_from("NOTEFS_TEST_RUNS").unwrap_or(if seed.is_some() { 1 } else { runs });
    run_seeds(store, (base, runs), STEPS, SHRINKING, |seed| {
        eprintln!("NOTEFS_TEST_SEED={seed}")
    })
}

#[test]
fn a_mount_on_ministack_agrees_with_a_directory() -> Result<()> {
    agrees(Store::ministack, 3)
}

#[test]
fn a_mount_on_weed_agrees_with_a_directory() -> Result<()> {
    agrees(Store::weed, 1)
}
