//! A mount against a plain directory: the same random steps in both, while the store behind the mount is spoilt, the daemon killed and the
//! cache forgotten. Every call must be answered the same, and both trees must be one: in between, after each new mount, and on a second
//! machine that starts cold. A run that fails is shrunk to fewer steps that still fail.

mod side;
mod step;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use side::Side;
pub use step::{Piece, Random, Step, random_steps};

use crate::mount::{Mount, MountOptions, owed};
use crate::process::wait_until;
use crate::proxy::{Fault, Proxy};
use crate::store::Store;
use crate::tree::Tree;
use crate::{PATIENCE, scratch};

/// Times before this were set by a step; later ones are those of the run, and differ.
const TIMES_SET_BEFORE_SECONDS: i64 = 1_500_000_000;

/// Both sides of a run.
struct World {
    mount: Mount,
    proxy: Proxy,
    store: Store,
    mounted: Side,
    plain: Side,
    fault: Fault,
    /// Something may have to be fetched, so that a call can fail while the store does.
    cold: bool,
}

/// Runs the steps against a bucket; fails where the two sides part.
pub fn run(store: &Store, steps: &[Step]) -> Result<()> {
    let mut world = World::new(store)?;
    for (number, step) in steps.iter().enumerate() {
        world.step(step).with_context(|| format!("step {number}, {step:?}"))?;
    }
    world.end()
}

impl World {
    fn new(store: &Store) -> Result<World> {
        let proxy = Proxy::start(store.client()?.address)?;
        let options = MountOptions::args(&["--write-back", "50ms"]);
        let mount = Mount::start_with(&store.via(proxy.address())?, options)?;
        let plain = scratch::folder("plain")?;
        Ok(World {
            mounted: Side::new(mount.dir()),
            plain: Side::new(&plain),
            mount,
            proxy,
            store: store.clone(),
            fault: Fault::None,
            cold: false,
        })
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Spoil(fault, one_in) => {
                // What is not here cannot be had from a store that never answers.
                self.spoil(*fault, if self.cold { (*one_in).max(2) } else { *one_in });
            }
            Step::Slow(latency) => self.proxy.set_latency(*latency),
            Step::Heal => self.spoil(Fault::None, 1),
            Step::Wait(time) => std::thread::sleep(*time),
            Step::Compare => return self.compare("in between"),
            Step::Kill | Step::Restart | Step::StartCold => return self.mount_anew(step),
            step => return self.perform(step),
        }
        Ok(())
    }

    fn spoil(&mut self, fault: Fault, one_in: u32) {
        self.fault = fault;
        self.proxy.set_fault_on_one_in(one_in, fault);
    }

    /// Does a step on both sides.
    fn perform(&mut self, step: &Step) -> Result<()> {
        let mut answer = self.mounted.perform(step);
        if self.cold && self.fault != Fault::None && answer == Err(libc::EIO) {
            self.spoil(Fault::None, 1);
            answer = self.mounted.perform(step);
        }
        let wanted = self.plain.perform(step);
        ensure!(
            answer == wanted,
            "the mount answers {answer:?}, the directory {wanted:?}"
        );
        Ok(())
    }

    fn mount_anew(&mut self, how: &Step) -> Result<()> {
        self.mounted.close_all();
        self.plain.close_all();
        // A store that answers nonsense or refuses the keys is not mounted; one that is away is, where it is known.
        if !matches!(self.fault, Fault::Unavailable | Fault::Reset) {
            self.spoil(Fault::None, 1);
        }
        match how {
            Step::Kill => {
                self.mount.kill9();
                self.mount.remount()?;
            }
            Step::Restart => {
                self.spoil(Fault::None, 1);
                self.mount.terminate()?;
                self.mount.remount()?;
            }
            _ => {
                self.spoil(Fault::None, 1);
                self.settle()?;
                self.start_cold()?;
                self.cold = true;
            }
        }
        self.compare("after a new mount")
    }

    fn start_cold(&mut self) -> Result<()> {
        self.mount.drain()?;
        self.mount.unmount()?;
        self.mount.wipe_cache()?;
        // What the forgotten machine has told of folders' modes would be news once more ("Weak spots" in SEMANTICS).
        for key in self.store.all_keys()? {
            if key.starts_with(".notefs/feed/") {
                self.store.delete(&key)?;
            }
        }
        self.mount.remount()
    }

    fn compare(&mut self, when: &str) -> Result<()> {
        if self.cold {
            self.spoil(Fault::None, 1);
        }
        let (wanted, seen) = (comparable(self.plain.root())?, comparable(self.mounted.root())?);
        wanted.assert_same(&seen, when)
    }

    /// Waits until nothing is owed, by a daemon that nobody asks to hurry.
    fn settle(&self) -> Result<()> {
        wait_until("settled mount", 3 * PATIENCE, || {
            let status = self.mount.status().map_err(|error| format!("{error:#}"))?;
            match owed(&status) {
                Some(0) => Ok(()),
                _ => Err(status.to_string()),
            }
        })
    }

    fn end(mut self) -> Result<()> {
        self.compare("at the end")?;
        self.mounted.close_all();
        self.plain.close_all();
        self.spoil(Fault::None, 1);
        self.proxy.set_latency(Duration::ZERO);
        self.settle()?;
        self.mount.drain()?;
        self.compare("when all is stored")?;
        let status = self.mount.status()?;
        ensure!(status["conflicts"] == 0, "conflicts with nobody: {status}");
        let second = Mount::start(&self.store)?;
        let wanted = comparable(self.plain.root())?;
        wanted.assert_same(&comparable(second.dir())?, "on a second machine that starts cold")
    }
}

/// A tree without what cannot be the same on both sides: times that nobody set.
fn comparable(root: &Path) -> Result<Tree> {
    let mut tree = Tree::read(root)?;
    for entry in tree.entries.values_mut() {
        for (fact, value) in &mut entry.facts {
            let seconds = value.split('.').next().and_then(|text| text.parse::<i64>().ok());
            if fact.ends_with("mtime") && seconds.is_none_or(|seconds| seconds > TIMES_SET_BEFORE_SECONDS) {
                *value = "of the run".to_owned();
            }
        }
    }
    Ok(tree)
}

/// A failing run as few steps as could be found within `limit`, and what fails then.
pub fn shrink(
    store: impl Fn() -> Result<Store>,
    steps: &[Step],
    problem: String,
    limit: Duration,
) -> (Vec<Step>, String) {
    let fails = |steps: &[Step]| match store().and_then(|store| run(&store, steps)) {
        Ok(()) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    let (start, mut steps, mut problem) = (Instant::now(), steps.to_vec(), problem);
    let mut piece = steps.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < steps.len() && start.elapsed() < limit {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + piece).min(steps.len()));
            match fails(&fewer) {
                Some(still) => (steps, problem) = (fewer, still),
                None => at += piece,
            }
        }
        piece /= 2;
    }
    (steps, problem)
}

/// Runs so many seeds from `base` on, of `count` steps each, and tells of each that it begins.
pub fn run_seeds(
    store: impl Fn() -> Result<Store>,
    (base, runs): (u64, u64),
    count: usize,
    shrink_limit: Duration,
    mut told: impl FnMut(u64),
) -> Result<()> {
    for seed in base..base + runs {
        told(seed);
        let steps = random_steps(&mut Random::new(seed), count);
        if let Err(error) = run(&store()?, &steps) {
            let (fewest, problem) = shrink(&store, &steps, format!("{error:#}"), shrink_limit);
            bail!("NOTEFS_TEST_SEED={seed}: {error:#}\nwith only these steps: {problem}\n{fewest:#?}");
        }
    }
    Ok(())
}
