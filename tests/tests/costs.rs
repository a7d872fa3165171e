//! What is asked of the store is bounded: requests for a saved note and for a minute in which nothing happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use notefs_tests::Store;
use notefs_tests::requests::{Machines, save_notes};

#[test]
fn a_saved_note_costs_few_requests() -> Result<()> {
    let machines = Machines::start(&Store::ministack()?, 1)?;
    let note = save_notes(&machines, 5)?;
    // The note, the feed, and everybody's metadata; the version that is kept before it is overwritten first in an hour.
    ensure!(note.writes <= 4.0, "{note:?}");
    ensure!(
        note.lists <= 3.0 && note.reads <= 3.0 && note.deletes <= 1.0,
        "{note:?}"
    );
    Ok(())
}

#[test]
fn an_idle_minute_costs_few_requests() -> Result<()> {
    let machines = Machines::start(&Store::ministack()?, 2)?;
    let idle = machines.idle(Duration::from_secs(60));
    // Metadata of what was saved before is written once a minute.
    ensure!(idle.writes <= 2.0 && idle.deletes == 0.0, "{idle:?}");
    // Each looks for new writers six times and at the bucket a few times, and asks for the other's feed, at first twice a second.
    ensure!(idle.lists <= 2.0 * 20.0 && idle.reads <= 2.0 * 125.0, "{idle:?}");
    Ok(())
}
