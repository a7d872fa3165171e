//! The long runs: kill -9 in the middle of work, again and again, and steady work with memory and open files recorded.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use notefs_tests::rounds::kill_rounds;
use notefs_tests::{Mount, Store, scratch};

/// Programs that write at a time.
const WRITERS: usize = 3;

/// Samples of a steady run.
const SAMPLES: u32 = 20;

/// Memory may grow by this between the first third of a steady run and its last sample.
const GROWTH_KIB_MAX: u64 = 32 << 10;

fn main() -> Result<()> {
    let (mut rounds, mut minutes) = (100, 10);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a number"))?;
        let number = value.parse().with_context(|| format!("{arg} takes a number"))?;
        match arg.as_str() {
            "--rounds" => rounds = number,
            "--minutes" => minutes = number,
            _ => bail!("unknown option {arg}; usage: notefs-soak [--rounds N] [--minutes N]"),
        }
    }
    let outcome = kills(rounds).and_then(|()| steady(Duration::from_secs(60 * minutes as u64)));
    scratch::clean_up();
    outcome
}

fn kills(rounds: usize) -> Result<()> {
    if rounds == 0 {
        return Ok(());
    }
    println!("{rounds} rounds of kill -9 with {WRITERS} writers on ministack");
    println!("{:>6} {:>9} {:>7} {:>10}", "round", "promises", "synced", "lost bytes");
    let lost_bytes = kill_rounds(&Store::ministack()?, rounds, WRITERS, |round, report| {
        if round % 10 == 9 || report.lost_bytes > 0 {
            let (promises, synced) = (report.acknowledged, report.synced);
            println!("{:>6} {promises:>9} {synced:>7} {:>10}", round + 1, report.lost_bytes);
        }
    })?;
    println!("{lost_bytes} bytes lost in {rounds} rounds; the bucket holds what the manifest says\n");
    ensure!(lost_bytes == 0, "{lost_bytes} bytes lost");
    Ok(())
}

/// Resident memory in KiB and open files of a process.
fn footprint(pid: u32) -> Result<(u64, usize)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((resident.context("no VmRSS")?, files))
}

/// One program's work on its own files: new, rewritten, appended, renamed and removed ones, small and large.
fn work(mount: &Mount, turn: usize) -> Result<()> {
    let path = |number: usize| mount.path(&format!("work/{:03}.md", number % 200));
    let length = [200, 3_000, 40_000, 200_000][turn % 4];
    std::fs::write(path(turn), format!("turn {turn}\n").repeat(length / 10))?;
    if turn.is_multiple_of(5) {
        std::fs::File::open(path(turn))?.sync_all()?;
    }
    if turn.is_multiple_of(7) {
        std::fs::rename(path(turn), path(turn + 1))?;
    }
    if turn.is_multiple_of(11) {
        std::fs::remove_file(path(turn + 1)).ok();
    }
    std::fs::read(path(turn + 100)).ok();
    Ok(())
}

fn steady(length: Duration) -> Result<()> {
    if length.is_zero() {
        return Ok(());
    }
    let mount = Mount::start(&Store::ministack()?)?;
    std::fs::create_dir(mount.path("work"))?;
    println!("steady work for {length:?}");
    println!("{:>8} {:>10} {:>8} {:>6}", "seconds", "turns", "KiB", "files");
    let (start, mut turn, mut samples) = (Instant::now(), 0, Vec::new());
    for sample in 1..=SAMPLES {
        while start.elapsed() < length * sample / SAMPLES {
            work(&mount, turn)?;
            turn += 1;
        }
        let (memory, files) = footprint(mount.pid()?)?;
        println!("{:>8} {turn:>10} {memory:>8} {files:>6}", start.elapsed().as_secs());
        samples.push((memory, files));
    }
    mount.settle()?;
    let settled = &samples[samples.len() / 3..];
    let (first, last) = (settled[0], settled[settled.len() - 1]);
    ensure!(
        last.0 < first.0 + GROWTH_KIB_MAX,
        "memory grew from {} to {} KiB",
        first.0,
        last.0
    );
    ensure!(last.1 < first.1 + 64, "open files grew from {} to {}", first.1, last.1);
    println!("flat: {} to {} KiB, {} to {} files", first.0, last.0, first.1, last.1);
    Ok(())
}
