//! One machine with its store and the troubles between them, and how it is started anew.

use crate::machine::{HandClock, Machine, runtime, scratch};
use crate::script::Step;
use notefs_cache::store::{MemoryStore, StoreErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) struct World {
    pub(crate) machine: Machine,
    scratch: PathBuf,
    folder: PathBuf,
    generation: u64,
    /// What every call to the store gets at present.
    refusal: Option<StoreErrorKind>,
    slow_ms: u64,
}

/// A step for the middle of a push, and how it went.
struct Interruption {
    call: usize,
    step: Step,
    done: Mutex<Option<notefs_cache::Result<()>>>,
}

impl World {
    pub(crate) fn new(scratch: &Path) -> World {
        let folder = scratch.join("0");
        let store = MemoryStore::new(STORE);
        lay_out_new_cache(&folder);
        let machine = Machine::open(&folder, &store, HandClock::new(1000, 1), &runtime()).unwrap();
        World {
            machine,
            scratch: scratch.to_owned(),
            folder,
            generation: 0,
            refusal: None,
            slow_ms: 0,
        }
    }

    /// Starts again from what is on the disk.
    pub(crate) fn restart(&mut self, kill: bool) -> Result<(), String> {
        if !kill {
            let closed = self.machine.runtime.block_on(self.machine.replica.close());
            closed.map_err(|error| format!("closing: {error}"))?;
        }
        self.generation += 1;
        let next = self.scratch.join(self.generation.to_string());
        copy_folder(&self.folder, &next);
        let clock = HandClock::new(10_000_000 * self.generation, 1);
        let machine = Machine::open(&next, &self.machine.store, clock, &self.machine.runtime);
        self.machine = machine.map_err(|error| format!("opening: {error}"))?;
        self.folder = next;
        self.watch_calls(None);
        Ok(())
    }

    /// Another machine that knows nothing yet.
    pub(crate) fn cold(&self) -> notefs_cache::Result<Machine> {
        let folder = self.scratch.join("cold");
        lay_out_new_cache(&folder);
        Machine::open(
            &folder,
            &self.machine.store,
            HandClock::new(0, 1),
            &self.machine.runtime,
        )
    }

    /// Whether no call to the store can succeed.
    pub(crate) fn is_away(&self) -> bool {
        self.refusal.is_some()
    }

    /// Ends the troubles that last.
    pub(crate) fn heal(&mut self) {
        self.refusal = None;
        self.machine.store.refuse_all(None);
        self.slow_ms = 0;
        self.watch_calls(None);
    }

    /// Does a step. Where it needs the bucket during an outage, the outage has a gap.
    pub(crate) fn step(&mut self, step: &Step) -> notefs_cache::Result<()> {
        match step {
            Step::Away(away) => self.refusal = away.then_some(StoreErrorKind::Unavailable),
            Step::Expired(expired) => self.refusal = expired.then_some(StoreErrorKind::Unauthorised),
            Step::Slow(ms) => {
                self.slow_ms = *ms;
                self.watch_calls(None);
            }
            Step::During { call, step } => return self.interrupted_push(*call, step),
            Step::Push | Step::Wait(_) | Step::Sync => return self.machine.step(step),
            step => return self.step_with_store(step),
        }
        self.machine.store.refuse_all(self.refusal);
        Ok(())
    }

    fn step_with_store(&self, step: &Step) -> notefs_cache::Result<()> {
        self.machine.store.refuse_all(None);
        let done = self.machine.step(step);
        self.machine.store.refuse_all(self.refusal);
        done
    }

    /// Pushes, and does the step within that call; after the push if it had fewer calls or the step needs the bucket itself.
    fn interrupted_push(&self, call: usize, step: &Step) -> notefs_cache::Result<()> {
        let interruption = Arc::new(Interruption {
            call,
            step: step.clone(),
            done: Mutex::default(),
        });
        self.watch_calls(Some(interruption.clone()));
        self.machine.step(&Step::Push)?;
        self.watch_calls(None);
        let done = interruption.done.lock().unwrap().take();
        done.unwrap_or_else(|| self.step_with_store(step))
    }

    /// Has each call take its time, and one of them be interrupted.
    fn watch_calls(&self, interruption: Option<Arc<Interruption>>) {
        if self.slow_ms == 0 && interruption.is_none() {
            return self.machine.store.set_hook(None);
        }
        let (machine, slow_ms, calls) = (self.machine.clone(), self.slow_ms, AtomicUsize::new(0));
        self.machine.store.set_hook(Some(Arc::new(move |_, _| {
            machine.clock.pass(slow_ms);
            let call = calls.fetch_add(1, Ordering::SeqCst);
            if let Some(interruption) = interruption.as_ref().filter(|one| one.call == call) {
                *interruption.done.lock().unwrap() = step_at_once(&machine, &interruption.step);
            }
        })));
    }
}

/// Does a step while the replica is in the middle of something else; `None` if it needs the bucket, and then nothing has changed.
fn step_at_once(machine: &Machine, step: &Step) -> Option<notefs_cache::Result<()>> {
    let busy = Machine {
        busy: true,
        ..machine.clone()
    };
    match busy.step(step) {
        Err(notefs_cache::Error::Need(_)) => None,
        done => Some(done),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The store holds the machine otherwise, and the machine the store.
        self.machine.store.set_hook(None);
    }
}

/// What all the stores here are called.
const STORE: &str = "faults";

/// Writes the cache folder of a machine that was started once and has not seen anything, without its name: to make its tables takes
/// longer than many a run.
fn lay_out_new_cache(folder: &Path) {
    static DATABASE: OnceLock<Vec<u8>> = OnceLock::new();
    let database = DATABASE.get_or_init(|| {
        let scratch = scratch();
        let store = MemoryStore::new(STORE);
        let machine = Machine::open(scratch.path(), &store, HandClock::new(1000, 1), &runtime()).unwrap();
        machine.runtime.block_on(machine.replica.close()).unwrap();
        drop(machine);
        let path = scratch.path().join("state.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        let forgotten = connection.execute("DELETE FROM meta WHERE name = 'writer'", []);
        assert_eq!(forgotten, Ok(1));
        connection.close().unwrap();
        assert!(!scratch.path().join("state.db-wal").exists(), "the log is in the file");
        std::fs::read(path).unwrap()
    });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("state.db"), database).unwrap();
}

/// What a killed daemon leaves behind. Nothing writes meanwhile.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() {
            true => copy_folder(&source, &target),
            false if entry.file_name() == "state.db-shm" => {}
            false => drop(std::fs::copy(source, target).unwrap()),
        }
    }
}
