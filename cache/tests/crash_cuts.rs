//! Stops the replica at every change of its disk and of its store, by a kill and by power cuts, and starts it from what was there then.
//!
//! One run of a script is recorded ([`syscalls`]); then the disk is rebuilt as it was after each event ([`disk`]), once as the kernel
//! showed it and once for each way in which power can fail, and everything that was promised by then is looked for ([`verdict`]).
//! The seed is printed; `NOTEFS_TEST_SEED` repeats a script, `NOTEFS_TEST_RUNS` runs more of them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "crash_cuts/disk.rs"]
mod disk;
#[path = "crash_cuts/machine.rs"]
mod machine;
#[path = "crash_cuts/script.rs"]
mod script;
#[path = "crash_cuts/syscalls.rs"]
mod syscalls;
#[path = "crash_cuts/verdict.rs"]
mod verdict;

use disk::{Cut, Disk};
use machine::{HandClock, Machine, runtime as machine_runtime, scratch};
use notefs_cache::store::MemoryStore;
use script::{Mark, Node, Random, Step, Tree, apply, differences, random_steps};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use syscalls::{Event, Failure};
use verdict::{Moment, Recording, check};

/// Steps of one script; each makes about eight events, and each event about three cuts.
const STEPS: usize = 36;

/// Watches a store for the recording.
fn probe(store: &Arc<MemoryStore>) -> syscalls::Probe {
    let (store, mut seen) = (store.clone(), u64::MAX);
    Box::new(move || {
        let now = store.change_count();
        let changed = std::mem::replace(&mut seen, now) != now;
        changed.then(|| store.snapshot())
    })
}

/// Runs a script, with all that happens, in folders below `scratch`. A `failure` of the disk lasts until the first restart at most.
fn record(steps: Vec<Step>, scratch: &Path, failure: Option<Failure>) -> Result<Recording, String> {
    let store = MemoryStore::new("cuts");
    let runtime = machine_runtime();
    let mut generation = 0;
    let mut folder = scratch.join("0");
    let mut events = Vec::new();
    std::fs::create_dir_all(&folder).unwrap();
    syscalls::start(&folder, probe(&store));
    let open = |folder: &Path, ms| Machine::open(folder, &store, HandClock::new(ms, 1), &runtime);
    let mut machine = open(&folder, 1000).map_err(|error| error.to_string())?;
    syscalls::fail(failure);
    let mut trees = vec![Tree::new()];
    for (number, step) in steps.iter().enumerate() {
        syscalls::mark(Mark::Begun(number));
        let mut next = apply(&trees[number], step, number as u64 + 1);
        let mut flushed = true;
        if let Step::Restart { kill } = step {
            let closed = if *kill {
                Ok(())
            } else {
                runtime.block_on(machine.replica.close())
            };
            flushed = closed.is_ok();
            closed.or_else(|error| {
                if failure.is_some() {
                    Ok(())
                } else {
                    Err(error.to_string())
                }
            })?;
            events.extend(syscalls::stop());
            generation += 1;
            folder = scratch.join(generation.to_string());
            disk_after(&events).lay_out(Cut::Kill, &folder).unwrap();
            syscalls::start(&folder, probe(&store));
            syscalls::mark(Mark::Restarted);
            machine = open(&folder, 1_000_000 * generation).map_err(|error| error.to_string())?;
        } else {
            let done = machine.step(step);
            let disk_failed = matches!(&done, Err(error) if matches!(error.errno(), libc::ENOSPC | libc::EIO));
            if failure.is_some() && disk_failed {
                flushed = false;
                next = Some(after_failure(&machine, &trees[number], next.as_ref(), step)?);
            } else if done.is_ok() != next.is_some() {
                return Err(format!(
                    "step {number}, {step:?}: {done:?}, the model says {}",
                    next.is_some()
                ));
            }
        }
        if flushed && (*step == Step::Sync || *step == (Step::Restart { kill: false })) {
            syscalls::mark(Mark::Synced(number));
        }
        syscalls::mark(Mark::Done(number));
        trees.push(next.unwrap_or_else(|| trees[number].clone()));
    }
    events.extend(syscalls::stop());
    let seen = machine.tree().map_err(|error| error.to_string())?;
    match differences(&seen, &trees[steps.len()]) {
        lines if lines.is_empty() => Ok(Recording { trees, events }),
        lines => Err(format!("without any cut:\n  {}", lines.join("\n  "))),
    }
}

/// The tree after a step that the disk did not let happen: the one before, but that bytes under way may be old or new.
fn after_failure(machine: &Machine, before: &Tree, wanted: Option<&Tree>, step: &Step) -> Result<Tree, String> {
    syscalls::pause(true);
    let seen = machine.tree();
    syscalls::pause(false);
    let seen = seen.map_err(|error| format!("{step:?} failed, and then: {error}"))?;
    let mut after = before.clone();
    if let Step::Write { path, .. } | Step::Truncate { path, .. } | Step::Punch { path, .. } = step
        && let (Some(Node::File { bytes, .. }), Some(Node::File { bytes: now, .. })) =
            (after.get_mut(*path), seen.get(*path))
        && let Some(Node::File { bytes: new, .. }) = wanted.and_then(|tree| tree.get(*path))
    {
        let old_or_new = |at: usize| now.get(at) == bytes.get(at) || now.get(at) == new.get(at);
        let sized = now.len() == bytes.len() || now.len() == new.len();
        if !sized || !(0..now.len()).all(old_or_new) {
            return Err(format!("{step:?} failed and left neither old nor new bytes"));
        }
        *bytes = now.clone();
    }
    match differences(&seen, &after) {
        lines if lines.is_empty() => Ok(after),
        lines => Err(format!("{step:?} failed, but:\n  {}", lines.join("\n  "))),
    }
}

fn disk_after(events: &[syscalls::Recorded]) -> Disk {
    let mut disk = Disk::default();
    events.iter().for_each(|recorded| disk.apply(&recorded.event));
    disk
}

/// The ways of stopping at one event: always the kill and the plain power cut, the others in turn.
fn cuts_in_turn(at: usize, seed: u64) -> Vec<Cut> {
    let in_turn = match at % 5 {
        0 => Cut::Keep("state.db"),
        1 => Cut::Keep("blobs"),
        2 => Cut::Keep("journal"),
        _ => Cut::Torn(seed.wrapping_add(at as u64)),
    };
    vec![Cut::Kill, Cut::DropAll, in_turn]
}

/// Every cut of one script, `at` each event those that `cuts` names. Returns how many there were.
fn every_cut(recording: &Recording, cuts: impl Fn(usize) -> Vec<Cut>, scratch: &Path) -> Result<usize, String> {
    let (mut moment, mut count) = (Moment::default(), 0);
    for (at, recorded) in recording.events.iter().enumerate() {
        if !moment.advance(recorded) {
            continue;
        }
        for cut in cuts(at) {
            count += 1;
            let verdict = catch_unwind(AssertUnwindSafe(|| check(recording, &moment, cut, scratch)));
            let verdict = verdict.unwrap_or_else(|_| Err("panicked".to_owned()));
            verdict.map_err(|problem| format!("{cut:?} after event {at}, {:?}: {problem}", short(&recorded.event)))?;
        }
    }
    Ok(count)
}

fn short(event: &Event) -> String {
    format!("{event:?}").chars().take(120).collect()
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_promised_is_lost_at_any_cut() {
    let seed = number_from("NOTEFS_TEST_SEED");
    let base = seed
        .or_else(|| number_from("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let runs = if seed.is_some() {
        1
    } else {
        number_from("NOTEFS_TEST_RUNS").unwrap_or(1)
    };
    let _alone = syscalls::alone();
    let (mut cuts, mut events) = (0, 0);
    for seed in base..base + runs {
        eprintln!("NOTEFS_TEST_SEED={seed}");
        let steps = random_steps(&mut Random::new(seed), STEPS, false);
        let scratch = scratch();
        let outcome = record(steps.clone(), scratch.path(), None).and_then(|recording| {
            events += recording.events.len();
            every_cut(&recording, |at| cuts_in_turn(at, seed), scratch.path())
        });
        match outcome {
            Ok(count) => cuts += count,
            Err(problem) => panic!("NOTEFS_TEST_SEED={seed}: {problem}\nafter {steps:#?}"),
        }
    }
    eprintln!("{cuts} cuts after {events} events of {runs} scripts");
}

/// Large contents that were not flushed since they were written, after each kind of cut: what rows say and what their files hold may
/// have reached the disk in any order.
#[test]
fn large_contents_that_were_not_flushed_can_be_read_after_any_cut() {
    let write = |path, offset, length| Step::Write {
        path,
        offset,
        length,
        byte: (offset + length) as u8 | 1,
    };
    let large = || write("d", 0, 200_000);
    let stored = || vec![Step::Create("d"), large(), Step::Wait(300), Step::Push];
    let evicted = || {
        let others = ["a.md", "b.md", "c"]
            .into_iter()
            .flat_map(|path| [Step::Create(path), write(path, 0, 200_000)]);
        [
            stored(),
            others.collect(),
            vec![Step::Wait(300), Step::Push, Step::Push, Step::KeepHouse],
        ]
        .concat()
    };
    let befores = [
        vec![Step::Create("d")],
        vec![Step::Create("d"), Step::Sync],
        stored(),
        evicted(),
    ];
    let truncate = Step::Truncate {
        path: "d",
        size: 66_000,
    };
    let changes = [write("d", 7, 70_000), truncate];
    let _alone = syscalls::alone();
    let mut problems = Vec::new();
    for before in &befores {
        for change in &changes {
            let steps = [before.clone(), vec![change.clone(), Step::KeepHouse, Step::Sync]].concat();
            let scratch = scratch();
            let cut = record(steps.clone(), scratch.path(), None).and_then(|recording| {
                let is_change = |it: &syscalls::Recorded| matches!(it.event, Event::Mark(Mark::Begun(step)) if step == before.len());
                let from = recording.events.iter().position(is_change).unwrap_or(0);
                let rows_or_files = |at: usize| match at < from {
                    true => vec![],
                    false => vec![Cut::Keep("state.db"), Cut::Keep("blobs")],
                };
                every_cut(&recording, rows_or_files, scratch.path())
            });
            problems.extend(cut.err().map(|problem| format!("{problem}\nafter {steps:?}")));
        }
    }
    assert!(problems.is_empty(), "{}:\n{}", problems.len(), problems.join("\n\n"));
}

/// Runs a script under a failure, and then cuts power wherever something was called synced, and at the end.
fn survives(seed: u64, steps: &[Step], failure: Failure) -> Result<(), String> {
    let scratch = scratch();
    let recording = record(steps.to_vec(), scratch.path(), Some(failure))?;
    let mut moment = Moment::default();
    for (at, recorded) in recording.events.iter().enumerate() {
        moment.advance(recorded);
        let is_last = at + 1 == recording.events.len();
        if is_last || matches!(recorded.event, Event::Mark(Mark::Synced(_))) {
            for cut in [Cut::Kill, Cut::DropAll, Cut::Torn(seed.wrapping_add(at as u64))] {
                check(&recording, &moment, cut, scratch.path())
                    .map_err(|problem| format!("{cut:?} after event {at}: {problem}"))?;
            }
        }
    }
    Ok(())
}

/// The same script under one failure after the other, until one comes too late to happen.
fn survives_each(mut failure: impl FnMut(usize) -> Failure) {
    let seed = number_from("NOTEFS_TEST_SEED")
        .or_else(|| number_from("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    eprintln!("NOTEFS_TEST_SEED={seed}");
    let mut steps = random_steps(&mut Random::new(seed), STEPS, false);
    steps.retain(|step| !matches!(step, Step::Restart { .. }));
    steps.extend([Step::KeepHouse, Step::Sync, Step::Restart { kill: true }]);
    steps.extend(random_steps(&mut Random::new(seed + 1), 6, false));
    steps.extend([Step::KeepHouse, Step::Sync]);
    let _alone = syscalls::alone();
    let mut happened = 0;
    for nth in 0.. {
        let failure = failure(nth);
        let before = syscalls::failed();
        if let Err(problem) = survives(seed, &steps, failure) {
            panic!("NOTEFS_TEST_SEED={seed}, {failure:?}: {problem}\nafter {steps:#?}");
        }
        if syscalls::failed() == before {
            break;
        }
        happened += 1;
    }
    assert!(happened > 3, "only {happened} failures could be made");
    eprintln!("{happened} failures of one script");
}

#[test]
fn a_full_disk_is_an_error_and_no_loss() {
    survives_each(|nth| Failure::NoSpace {
        from: 12 * nth,
        count: 6,
    });
}

#[test]
fn after_a_failed_flush_nothing_is_called_synced() {
    survives_each(|nth| Failure::Flush { nth: nth + 1 });
}
