//! Many small mounts on one machine: memory, threads and requests of each, idle and busy.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, scratch, vault, wait_until};

/// How long the mounts are left alone before they are looked at, and how long they work.
const PHASE_SECONDS: u64 = 60;

fn main() -> Result<()> {
    let (mut tenants, mut notes) = (50, 1_000);
    let mut options = MountOptions::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--tenants" => tenants = value.parse().context("--tenants takes a number")?,
            "--notes" => notes = value.parse().context("--notes takes a number")?,
            "--memory" => options.args.extend(["--memory".to_owned(), value]),
            _ => bail!("unknown option {arg}; usage: scripts/bench tenants [--tenants N] [--notes N] [--memory SIZE]"),
        }
    }
    let outcome = measure(tenants, notes, &options);
    scratch::clean_up();
    outcome
}

fn measure(tenants: usize, notes: usize, options: &MountOptions) -> Result<()> {
    let begun = Instant::now();
    let mut mounts = Vec::new();
    for number in 0..tenants {
        let store = Store::ministack()?;
        vault::put_to(&vault::generate(notes, number as u64), &store)?;
        mounts.push(Mount::start_with(&store, options.clone())?);
    }
    eprintln!(
        "{tenants} mounts of {notes} notes after {:.0?}; waiting for their indexes ...",
        begun.elapsed()
    );
    for mount in &mounts {
        wait_until("whole index", PATIENCE * 5, || match mount.status() {
            Ok(status) if status["indexed"]["backlog"] == 0 && status["unlisted_directories"] == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    println!("adopted and indexed after {:.0?}", begun.elapsed());
    phase("idle", &mounts, |_, _| Ok(()))?;
    // A save and a search a second each, spread over the mounts.
    phase("busy", &mounts, |mount, round| {
        std::fs::write(
            mount.path(&format!("busy{}.md", round % 10)),
            format!("# Busy {round}\n"),
        )?;
        std::fs::read(mount.path(&vault::note_path(round as usize % notes)))?;
        Ok(())
    })?;
    for mount in &mut mounts {
        mount.terminate()?;
    }
    Ok(())
}

/// Lets the mounts work for a while, then prints what they hold and what they asked for.
fn phase(name: &str, mounts: &[Mount], work: impl Fn(&Mount, u64) -> Result<()>) -> Result<()> {
    let before = requests(mounts)?;
    let cpu_before = figures(mounts, cpu_ms)?;
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < Duration::from_secs(PHASE_SECONDS) {
        for mount in mounts {
            work(mount, round)?;
        }
        round += 1;
        std::thread::sleep(Duration::from_secs(round).saturating_sub(begun.elapsed()));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = |of: u64| of as f64 / seconds / mounts.len() as f64;
    println!("{name}, {seconds:.0} s, {round} rounds:");
    for (what, list) in [
        ("rss", figures(mounts, |pid| proc_kib(pid, "status", "VmRSS:"))?),
        ("pss", figures(mounts, |pid| proc_kib(pid, "smaps_rollup", "Pss:"))?),
        ("private", figures(mounts, private_kib)?),
        ("peak rss", figures(mounts, |pid| proc_kib(pid, "status", "VmHWM:"))?),
    ] {
        let mut list = list;
        list.sort_unstable();
        let of = |at: usize| list[at.min(list.len() - 1)] as f64 / 1024.0;
        println!(
            "  {what:<9} median {:.1} MiB, largest {:.1} MiB, all {:.0} MiB",
            of(list.len() / 2),
            of(list.len()),
            list.iter().sum::<u64>() as f64 / 1024.0
        );
    }
    let threads = figures(mounts, |pid| proc_kib(pid, "status", "Threads:"))?;
    println!("  threads   {} at most", threads.iter().max().copied().unwrap_or(0));
    let cpu = figures(mounts, cpu_ms)?.iter().sum::<u64>() - cpu_before.iter().sum::<u64>();
    println!("  cpu       {:.2} ms a second for each", rate(cpu));
    for (kind, count) in requests(mounts)? {
        let made = count - before.get(&kind).copied().unwrap_or(0);
        println!("  {kind:<9} {made} requests, {:.3} a second for each", rate(made));
    }
    Ok(())
}

/// Requests of all mounts, by kind.
fn requests(mounts: &[Mount]) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for mount in mounts {
        let status = mount.status()?;
        let kinds = status["requests"].as_object().cloned().unwrap_or_default();
        for (kind, count) in kinds {
            *all.entry(kind).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    Ok(all)
}

fn figures(mounts: &[Mount], of: impl Fn(u32) -> Result<u64>) -> Result<Vec<u64>> {
    mounts.iter().map(|mount| of(mount.pid()?)).collect()
}

/// The number of one line of a file below `/proc/PID`.
fn proc_kib(pid: u32, file: &str, line: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let value = text.lines().find_map(|candidate| candidate.strip_prefix(line));
    let number = value
        .and_then(|value| value.split_whitespace().next())
        .context("no such line")?;
    Ok(number.parse()?)
}

fn private_kib(pid: u32) -> Result<u64> {
    Ok(proc_kib(pid, "smaps_rollup", "Private_Clean:")? + proc_kib(pid, "smaps_rollup", "Private_Dirty:")?)
}

/// Time on the processor so far, in milliseconds (the kernel counts hundredths of a second).
fn cpu_ms(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(") ").context("no name")?.1.split(' ').collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("no time")?.parse()?) };
    Ok(10 * (ticks(11)? + ticks(12)?))
}
