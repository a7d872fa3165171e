//! The register: two machines and a foreign writer edit lines of a few notes at once, while the store is late, fails and loses
//! replies, and machines are killed. In the end every line that was written, and that nobody took out on purpose, is somewhere in the
//! folder, once in a file (twice only where two users each put it back, see `tests/src/lines.rs`); and everybody sees the same folder.
//! Time is the test's own, and so is the order of all that happens: the seed is printed, `NOTEFS_TEST_SEED` repeats a schedule and
//! `NOTEFS_TEST_RUNS` asks for more of them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "agreement/chaos.rs"]
mod chaos;
#[path = "agreement/machine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod machine;
#[path = "agreement/swap.rs"]
mod swap;

use chaos::{Chaos, Random};
use machine::{Hand, Machine, options};
use notefs_cache::store::{MemoryStore, UserMetadata};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use swap::{Hands, Step, Swap};
use tokio::task::JoinSet;

const NOTES: usize = 3;
const STEPS: usize = 60;
const WRITE_BACK_MS: u64 = 1_000;

/// A save that nobody disturbs any more has ended after so many steps.
const SWAP_STEPS_MAX: usize = 100;

/// A machine and what it is doing in the background.
struct Host {
    name: &'static str,
    machine: Machine,
    pushing: JoinSet<()>,
    pulling: JoinSet<()>,
    /// A save in steps by a program that outlives the machine's daemon.
    swap: Option<Swap>,
}

struct World {
    hosts: Vec<Host>,
    store: Arc<MemoryStore>,
    chaos: Arc<Chaos>,
    clock: Arc<Hand>,
    random: Arc<Random>,
    dir: tempfile::TempDir,
    pull: bool,
    next_line: usize,
    written: BTreeSet<String>,
    /// Lines that somebody who saw them took out.
    removed: BTreeSet<String>,
    hands: Hands,
    log: Vec<String>,
}

fn edited(random: &Random, text: &str, line: &str, removed: &mut BTreeSet<String>) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = random.below(lines.len() + 1);
    if at < lines.len() && random.below(4) == 0 {
        removed.insert(lines[at].to_owned());
        lines[at] = line;
    } else {
        lines.insert(at, line);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl World {
    async fn new(seed: u64, pull: bool) -> World {
        let random = Random::new(seed);
        let store = MemoryStore::new("register");
        store.set_unique_etags(random.below(2) == 0);
        let chaos = Arc::new(Chaos {
            inner: store.clone(),
            random: random.clone(),
            calm: AtomicBool::new(true),
        });
        let clock = Arc::new(Hand::default());
        let dir = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let (mut written, mut hands) = (BTreeSet::new(), Hands::default());
        for note in 0..NOTES {
            let lines: Vec<String> = (0..8).map(|at| format!("base {note}.{at}")).collect();
            store.raw_put(&format!("n{note}.md"), lines.join("\n") + "\n", UserMetadata::new());
            hands.saved("nobody", &lines.join("\n"), "");
            written.extend(lines);
        }
        let mut world = World {
            hosts: Vec::new(),
            store,
            chaos,
            clock,
            random,
            dir,
            pull,
            next_line: 0,
            written,
            removed: BTreeSet::new(),
            hands,
            log: Vec::new(),
        };
        for name in ["a", "b"] {
            let machine = world.open(name).await;
            machine.tree().await.unwrap();
            world.hosts.push(Host {
                name,
                machine,
                pushing: JoinSet::new(),
                pulling: JoinSet::new(),
                swap: None,
            });
        }
        world.chaos.calm.store(false, Ordering::Relaxed);
        world
    }

    async fn open(&self, name: &str) -> Machine {
        let options = options(self.dir.path(), name, &self.clock, WRITE_BACK_MS);
        let mut last = None;
        for _ in 0..10_000 {
            match Machine::open(options.clone(), self.chaos.clone()) {
                Ok(machine) => return machine,
                Err(error) => last = Some(error),
            }
            tokio::task::yield_now().await;
        }
        panic!("{name} cannot be opened again: {last:?}");
    }

    fn line(&mut self, who: &str) -> String {
        self.next_line += 1;
        let line = format!("{who} {}", self.next_line);
        self.written.insert(line.clone());
        line
    }

    async fn step(&mut self) {
        for _ in 0..self.random.below(8) {
            tokio::task::yield_now().await;
        }
        self.clock.pass(self.random.below(500) as u64);
        let host = self.random.below(2);
        match self.random.below(20) {
            0..4 => self.edit(host).await,
            4..8 => self.swap(host).await,
            8..10 => self.foreign_edit(),
            10 => self.remove(host).await,
            11 => self.rename(host).await,
            12 => self.kill(host).await,
            13..17 => self.push(host),
            _ => self.look(host),
        }
    }

    fn push(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        while host.pushing.try_join_next().is_some() {}
        if host.pushing.is_empty() {
            let replica = host.machine.replica.clone();
            host.pushing.spawn(async move { replica.write_back_once().await });
        }
    }

    fn look(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        while host.pulling.try_join_next().is_some() {}
        if self.pull && host.pulling.is_empty() {
            let replica = host.machine.replica.clone();
            host.pulling.spawn(async move { drop(replica.pull_once().await) });
        }
    }

    async fn pick(&self, host: usize) -> Option<String> {
        let names = self.hosts[host]
            .machine
            .replica
            .read_dir(notefs_cache::ROOT_INO, 0, 1_000)
            .ok()?;
        let names: Vec<String> = names
            .into_iter()
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .filter(|name| name.ends_with(".md") && !name.contains("conflict"))
            .collect();
        (!names.is_empty()).then(|| names[self.random.below(names.len())].clone())
    }

    async fn edit(&mut self, host: usize) {
        let name = match self.random.below(8) {
            0 => Some(format!("n{}.md", self.random.below(NOTES + 2))),
            _ => self.pick(host).await,
        };
        let Some(name) = name else { return };
        let text = match self.hosts[host].machine.read(&name).await {
            Ok(text) => text,
            Err(notefs_cache::Error::Posix(libc::ENOENT)) => String::new(),
            Err(_) => return,
        };
        let line = self.line(self.hosts[host].name);
        let mut removed = BTreeSet::new();
        let new = edited(&self.random, &text, &line, &mut removed);
        let machine = &self.hosts[host].machine;
        // A program that reads, thinks and writes: what came in between is in the file and goes with this save, as on any disk.
        let meanwhile = machine.read(&name).await.unwrap_or_default();
        removed.extend(
            meanwhile
                .lines()
                .filter(|line| !new.lines().any(|kept| kept == *line))
                .map(str::to_owned),
        );
        let atomic = self.random.below(2) == 0;
        let saved = if atomic {
            machine.replace(&name, &new).await
        } else {
            machine.save(&name, &new).await
        };
        self.log.push(format!(
            "{} edits {name} ({atomic}): {line}: {saved:?}",
            self.hosts[host].name
        ));
        match saved {
            Ok(()) => {
                self.hands.saved(self.hosts[host].name, &new, &meanwhile);
                self.removed.extend(removed);
            }
            Err(_) => drop(self.written.remove(&line)),
        }
    }

    /// Begins a save in steps, or goes on with it.
    async fn swap(&mut self, host: usize) {
        if let Some(mut swap) = self.hosts[host].swap.take() {
            let who = self.hosts[host].name;
            let step = swap.step(&self.hosts[host].machine, who, &mut self.hands).await;
            self.log.push(format!("{who} swaps: {step:?}"));
            if !matches!(step, Ok(Step::Done | Step::Placed)) {
                self.hosts[host].swap = Some(swap);
            }
            return;
        }
        let Some(name) = self.pick(host).await else { return };
        let Ok(seen) = self.hosts[host].machine.read(&name).await else {
            return;
        };
        let line = self.line(self.hosts[host].name);
        let mut lines: Vec<&str> = seen.lines().collect();
        lines.insert(self.random.below(lines.len() + 1), &line);
        let new: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let who = self.hosts[host].name;
        let begun = Swap::begin(&self.hosts[host].machine, who, &name, new).await;
        self.log.push(format!(
            "{who} begins to swap {name}: {line}: {:?}",
            begun.as_ref().err()
        ));
        match begun {
            Ok(swap) => self.hosts[host].swap = Some(swap),
            Err(_) => drop(self.written.remove(&line)),
        }
    }

    /// Reads and writes in one step: another tool that looks at the version, too.
    fn foreign_edit(&mut self) {
        let name = format!("n{}.md", self.random.below(NOTES));
        let text = self
            .store
            .raw_get(&name)
            .map_or(String::new(), |(bytes, _)| String::from_utf8(bytes.to_vec()).unwrap());
        let line = self.line("raw");
        let mut removed = BTreeSet::new();
        let new = edited(&self.random, &text, &line, &mut removed);
        self.removed.extend(removed);
        self.hands.saved("raw", &new, &text);
        self.store.raw_put(&name, new, UserMetadata::new());
        self.log.push(format!("raw edits {name}: {line}"));
    }

    async fn remove(&mut self, host: usize) {
        let Some(name) = self.pick(host).await else { return };
        let machine = &self.hosts[host].machine;
        let Ok(text) = machine.read(&name).await else { return };
        if machine.remove(&name).await.is_ok() {
            self.removed.extend(text.lines().map(str::to_owned));
            self.log.push(format!("{} removes {name}", self.hosts[host].name));
        }
    }

    async fn rename(&mut self, host: usize) {
        let Some(name) = self.pick(host).await else { return };
        let to = format!("r{}.md", self.next_line);
        self.next_line += 1;
        let done = self.hosts[host].machine.rename(&name, &to).await;
        self.log
            .push(format!("{} renames {name} to {to}: {done:?}", self.hosts[host].name));
    }

    /// The daemon is gone in the middle of what it was doing; the cache folder stays.
    async fn kill(&mut self, host: usize) {
        let mut host = self.hosts.remove(host);
        self.log.push(format!("{} is killed", host.name));
        host.pushing.shutdown().await;
        host.pulling.shutdown().await;
        drop(host.machine);
        let machine = self.open(host.name).await;
        self.hosts.push(Host {
            name: host.name,
            machine,
            pushing: JoinSet::new(),
            pulling: JoinSet::new(),
            swap: host.swap,
        });
    }

    async fn calm_down(&mut self) {
        self.chaos.calm.store(true, Ordering::Relaxed);
        for host in 0..self.hosts.len() {
            for tried in 0.. {
                if self.hosts[host].swap.is_none() {
                    break;
                }
                assert!(tried < SWAP_STEPS_MAX, "a save never ends\n{}", self.log.join("\n"));
                self.swap(host).await;
                // What cannot be read before its file is stored, or let go.
                self.hosts[host].machine.replica.write_back_once().await;
                self.clock.pass(1_000);
            }
        }
        for host in &mut self.hosts {
            while host.pushing.join_next().await.is_some() {}
            while host.pulling.join_next().await.is_some() {}
        }
        // Also an empty bucket has to be seen twice: not all machines saw it the first time.
        let mut last = None;
        for _ in 0..20 {
            for host in &self.hosts {
                host.machine.push(&self.clock).await;
                host.machine.replica.pull_once().await.unwrap();
                self.clock.pass(10_000);
            }
            let now = bucket(&self.store);
            if last.as_ref() == Some(&now) {
                return;
            }
            last = Some(now);
        }
        panic!("the machines do not come to rest\n{}", self.log.join("\n"));
    }

    /// Answers how many lines are there once more, as users have put them back.
    async fn check(&self) -> usize {
        let bucket = bucket(&self.store);
        let told = || format!("{bucket:#?}\n{}", self.log.join("\n"));
        for line in self.written.difference(&self.removed) {
            assert!(
                bucket.values().any(|text| text.lines().any(|kept| kept == line)),
                "{line:?} is lost: {}",
                told()
            );
        }
        let mut put_back = 0;
        for (name, text) in &bucket {
            match self.hands.put_back_twice(text) {
                Ok(lines) => put_back += lines,
                Err(line) => panic!("twice in {name}: {line}: {}", told()),
            }
        }
        let cold = self.open("cold").await;
        assert_eq!(cold.tree().await.unwrap(), bucket, "a new machine");
        for host in &self.hosts {
            assert_eq!(host.machine.tree().await.unwrap(), bucket, "{}: {}", host.name, told());
        }
        put_back
    }
}

fn bucket(store: &MemoryStore) -> BTreeMap<String, String> {
    let keys = store.keys().into_iter().filter(|key| !key.starts_with(".notefs/"));
    keys.map(|key| {
        let (bytes, _) = store.raw_get(&key).unwrap();
        (key, String::from_utf8(bytes.to_vec()).unwrap())
    })
    .collect()
}

/// Lines written, files kept as copies, and lines that users put back twice.
async fn schedule(seed: u64, pull: bool) -> [usize; 3] {
    let mut world = World::new(seed, pull).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.calm_down().await;
    let put_back = world.check().await;
    let copies = bucket(&world.store)
        .keys()
        .filter(|key| key.contains("conflict"))
        .count();
    [world.written.len(), copies, put_back]
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn schedules(pull: bool) {
    let seed = number("NOTEFS_TEST_SEED");
    let base = seed
        .or_else(|| number("NOTEFS_TEST_FIRST_SEED"))
        .unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let runs = if seed.is_some() {
        1
    } else {
        number("NOTEFS_TEST_RUNS").unwrap_or(100)
    };
    let mut sums = [0; 3];
    for run in 0..runs {
        eprintln!("NOTEFS_TEST_SEED={}", base + run);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let counts = runtime.block_on(schedule(base + run, pull));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [lines, copies, put_back] = sums;
    eprintln!(
        "{runs} schedules, {lines} lines written, {copies} conflict copies, 0 lines lost, {put_back} put back twice by users"
    );
}

#[test]
fn no_line_is_lost_by_machines_that_look_at_the_bucket() {
    schedules(true);
}

#[test]
fn no_line_is_lost_by_machines_that_only_store() {
    schedules(false);
}
