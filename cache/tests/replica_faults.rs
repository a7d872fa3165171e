//! The replica against its model under every fault that a store can have, in virtual time: the test turns the clock and every loop by
//! hand, so that a run takes milliseconds and the same seed does the same. Programs also act in the middle of a push. A run that fails is
//! shrunk to the fewest steps that still fail. `NOTEFS_TEST_SEED` repeats one, `NOTEFS_TEST_RUNS` runs more.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "crash_cuts/machine.rs"]
mod machine;
#[path = "crash_cuts/script.rs"]
#[allow(dead_code, reason = "the crash harness uses more of it")]
mod script;
#[path = "replica_faults/world.rs"]
mod world;

use machine::scratch;
use script::{Random, Step, Tree, apply, differences, random_steps};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::World;

/// Steps of one run.
const STEPS: usize = 60;

/// Runs that shrinking may try.
const SHRINK_TRIES_MAX: usize = 600;

/// Runs at a time, at most.
const THREADS_MAX: usize = 8;

/// Runs the steps; `Err` says where the replica and the model part.
fn run(steps: &[Step]) -> Result<(), String> {
    let scratch = scratch();
    let mut world = World::new(scratch.path());
    let mut tree = Tree::new();
    for (number, step) in steps.iter().enumerate() {
        let next = apply(&tree, step, number as u64 + 1);
        let done = match step {
            Step::Restart { kill } => world.restart(*kill).map(Ok)?,
            // What is not cached cannot be had now.
            Step::Read(_) if world.is_away() => continue,
            _ => world.step(step),
        };
        if done.is_ok() != next.is_some() {
            return Err(format!(
                "step {number}, {step:?}: {done:?}, the model says {}",
                next.is_some()
            ));
        }
        tree = next.unwrap_or(tree);
    }
    world.heal();
    let seen = world.machine.tree().map_err(|error| error.to_string())?;
    same("the folder", &seen, &tree)?;
    world.machine.drain()?;
    let seen = world.cold().and_then(|cold| cold.tree());
    same("a cold start", &seen.map_err(|error| error.to_string())?, &tree)?;
    match world.machine.replica.status().conflicts {
        0 => Ok(()),
        count => Err(format!("{count} conflicts with nobody")),
    }
}

fn same(what: &str, seen: &Tree, wanted: &Tree) -> Result<(), String> {
    match differences(seen, wanted) {
        lines if lines.is_empty() => Ok(()),
        lines => Err(format!("{what}:\n  {}", lines.join("\n  "))),
    }
}

fn outcome(steps: &[Step]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(steps))).unwrap_or_else(|_| Err("panicked".to_owned()))
}

/// Leaves out ever smaller pieces as long as the rest still fails.
fn shrink(
    mut steps: Vec<Step>,
    mut problem: String,
    outcome: impl Fn(&[Step]) -> Result<(), String>,
) -> (Vec<Step>, String) {
    let (mut piece, mut tries) = (steps.len() / 2, 0);
    while piece > 0 && tries < SHRINK_TRIES_MAX {
        let mut at = 0;
        while at < steps.len() && tries < SHRINK_TRIES_MAX {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + piece).min(steps.len()));
            tries += 1;
            match outcome(&fewer) {
                Err(still) => (steps, problem) = (fewer, still),
                Ok(()) => at += piece,
            }
        }
        piece /= 2;
    }
    (steps, problem)
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs every seed from `base` on, several at a time; the first that fails, if there is one.
fn run_all(base: u64, runs: u64) -> Option<(u64, Vec<Step>, String)> {
    let (next, failed) = (AtomicU64::new(base), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= base + runs || failed.lock().unwrap().is_some() {
                return;
            }
            let steps = random_steps(&mut Random::new(seed), STEPS, true);
            if let Err(problem) = outcome(&steps) {
                *failed.lock().unwrap() = Some((seed, steps, problem));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn random_operations_under_all_faults_agree_with_the_model() {
    let seed = number_from("NOTEFS_TEST_SEED");
    let base = seed
        .or_else(|| number_from("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let runs = number_from("NOTEFS_TEST_RUNS").unwrap_or(if seed.is_some() { 1 } else { 300 });
    eprintln!("NOTEFS_TEST_SEED={base} and the {} after it", runs - 1);
    let start = Instant::now();
    if let Some((seed, steps, problem)) = run_all(base, runs) {
        let (steps, problem) = shrink(steps, problem, outcome);
        panic!("NOTEFS_TEST_SEED={seed}: {problem}\nafter only {steps:#?}");
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{runs} runs in {seconds:.1} s: {:.0} a minute",
        runs as f64 * 60.0 / seconds
    );
}

#[test]
fn a_failing_run_is_shrunk_to_the_steps_that_make_it_fail() {
    let steps = random_steps(&mut Random::new(7), STEPS, true);
    let fails_if_synced_and_pushed = |steps: &[Step]| match steps.contains(&Step::Sync) && steps.contains(&Step::Push) {
        true => Err("both".to_owned()),
        false => Ok(()),
    };
    assert!(fails_if_synced_and_pushed(&steps).is_err(), "another seed is needed");
    let (fewest, _) = shrink(steps, String::new(), fails_if_synced_and_pushed);
    assert_eq!(fewest.len(), 2, "{fewest:?}");
}

/// Two empty files of different kinds bear one tag; the upload of one is done, but its reply is lost, when the other is to be copied from
/// that key.
#[test]
fn a_copy_never_takes_what_another_file_has_left_under_the_key() {
    let exchange = Step::Rename {
        from: "a.md",
        to: "d",
        exchange: true,
    };
    for replies in 1..6 {
        let steps = [
            Step::Create("a.md"),
            Step::Push,
            Step::Symlink("d"),
            Step::LoseReplies(replies),
            Step::Restart { kill: true },
            exchange.clone(),
        ];
        assert_eq!(run(&steps), Ok(()), "{replies} replies lost");
    }
}

#[test]
fn an_hour_without_the_store_loses_nothing() {
    let scratch = scratch();
    let world = World::new(scratch.path());
    let machine = &world.machine;
    let mut tree = Tree::new();
    let mut go = |step: Step, id: u64| {
        let next = apply(&tree, &step, id);
        let done = machine.step(&step);
        assert_eq!(done.is_ok(), next.is_some(), "{step:?}: {done:?}");
        tree = next.unwrap_or_else(|| tree.clone());
    };
    for id in 0..40 {
        let step = random_steps(&mut Random::new(id + 1), 1, false).remove(0);
        if !matches!(step, Step::Restart { .. }) {
            go(step, id + 1);
        }
    }
    machine.tree().unwrap();
    machine.store.reset_requests();
    machine.store.set_down(true);
    for second in 0..3600_u64 {
        machine.clock.pass(1000);
        machine.runtime.block_on(machine.replica.push_due());
        machine.replica.keep_house();
        if second % 10 == 0 {
            let path = ["a.md", "b.md", "é.md", "x%0Ay"][second as usize / 10 % 4];
            match second / 10 % 5 {
                0 => go(Step::Create(path), 1000 + second),
                1 => go(
                    Step::Rename {
                        from: path,
                        to: "line\nbreak.md",
                        exchange: false,
                    },
                    0,
                ),
                2 => go(Step::Remove("line\nbreak.md"), 0),
                3 => go(Step::Sync, 0),
                _ => go(
                    Step::Write {
                        path,
                        offset: 0,
                        length: 90_000,
                        byte: second as u8 | 1,
                    },
                    0,
                ),
            }
        }
    }
    let status = machine.replica.status();
    assert!(
        !status.store_reachable && status.owed.count > 0 && status.last_error.is_some(),
        "{status:?}"
    );
    // A try every few seconds, however much is owed.
    assert!(status.requests.failed < 400, "{:?}", status.requests);
    assert_eq!(differences(&machine.tree().unwrap(), &tree), Vec::<String>::new());
    machine.store.set_down(false);
    machine.drain().unwrap();
    let cold = world.cold().unwrap();
    assert_eq!(differences(&cold.tree().unwrap(), &tree), Vec::<String>::new());
}
