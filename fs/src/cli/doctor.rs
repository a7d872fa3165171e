//! `notefs doctor`: what a store and this machine's kernel can promise, tried out.
//!
//! Owns the page that people read. Does not own the trials (`notefs_cache::store`, `fuse`) nor their consequences (`promises`).

use super::args::DoctorArgs;
use super::{Outcome, output};
use crate::failure::{EXIT_FAILED, Failure};
use crate::fuse::{KernelReport, examine_kernel};
use crate::promises;
use notefs_cache::clock::{Clock, SystemClock};
use notefs_cache::store::{Examination, StoreError, StoreUrl, Verdict, examine, open_store, preflight};
use serde_json::json;
use std::time::Duration;

/// How long the whole trial of a store may take.
const DEADLINE_SECONDS: u64 = 300;

/// Runs the command.
pub(super) fn run(args: &DoctorArgs) -> Outcome {
    let url = StoreUrl::parse(&args.store).map_err(|error| Failure::usage(error.to_string()))?;
    let examination = examine_store(&url)?;
    let kernel = examine_kernel();
    let store_holds = examination
        .findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fails);
    let code = if store_holds && kernel.can_mount {
        0
    } else {
        EXIT_FAILED
    };
    let promises = promises::in_plain_words(&examination);
    if args.json {
        output::json(&json!({
            "store": examination.store,
            "holds": code == 0,
            "findings": examination.findings,
            "versions": examination.versions,
            "clock_ahead_ms": examination.clock_ahead_ms,
            "kernel": kernel,
            "promises": promises,
        }))?;
        return Ok(code);
    }
    output::line(page(&examination, &kernel, &promises))?;
    Ok(code)
}

fn examine_store(url: &StoreUrl) -> Result<Examination, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("Could not start: {e}")))?;
    let clock = SystemClock::default();
    let id = format!("{}-{:x}", std::process::id(), clock.now().as_nanos());
    let examined = async {
        let store = open_store(url).await?;
        preflight(store.as_ref()).await?;
        examine(store.as_ref(), &clock, &id).await
    };
    let deadline = Duration::from_secs(DEADLINE_SECONDS);
    match runtime.block_on(async { tokio::time::timeout(deadline, examined).await }) {
        Ok(examined) => examined.map_err(failure),
        Err(_elapsed) => Err(Failure::new(format!("The store took more than {DEADLINE_SECONDS} s"))
            .hint("Objects below .notefs/probe/ may be left; they can be deleted")),
    }
}

fn failure(error: StoreError) -> Failure {
    let failure = Failure::new(format!(
        "Could not {} {}: {}",
        error.operation, error.target, error.message
    ));
    match error.advice.as_str() {
        "" => failure,
        advice => failure.hint(advice),
    }
}

fn page(examination: &Examination, kernel: &KernelReport, promises: &[String]) -> String {
    let mut lines = vec![output::printable(&examination.store)];
    for finding in &examination.findings {
        let mark = match finding.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails => "FAILS",
            Verdict::Unknown => "-",
        };
        lines.push(format!(
            "  {:<20} {mark:<6} {}",
            finding.name,
            output::printable(&finding.seen)
        ));
    }
    let versions = match examination.versions {
        Some(true) => "kept by the bucket",
        Some(false) => "not kept by the bucket",
        None => "cannot be told",
    };
    lines.push(format!("  {:<20} {:<6} {versions}", "old-versions", "-"));
    lines.push(String::new());
    lines.push("This machine".to_owned());
    for (name, seen) in kernel.lines() {
        lines.push(format!("  {name:<20} {seen}"));
    }
    lines.push(String::new());
    lines.push("What this means".to_owned());
    lines.extend(promises.iter().map(|promise| format!("  - {promise}.")));
    lines.join("\n")
}
