//! The register: two mounts and another S3 client edit lines of the same notes at once, through proxies that delay, fail and drop replies,
//! while daemons are killed. In the end every line is somewhere, once in a file (see `lines.rs`), and both mounts show what the bucket holds.
//!
//! A line is only missing on purpose if somebody who had seen it took it out, and nobody does here: each save swaps the new text in and
//! looks at what came out, so that a change which arrived between reading and saving is never overwritten by the test itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lines::{Hands, with_lines_of};
use crate::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, sys, wait_until};

/// How long a proxy goes on to spoil requests that a reader waits for.
const LONGEST_TROUBLE: Duration = Duration::from_secs(2);

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Says everything that is random.
    pub seed: u64,
    /// How many saves.
    pub edits: usize,
    /// Of how many notes.
    pub notes: usize,
    /// Saves between two kills of a daemon.
    pub edits_per_kill: usize,
}

/// What came of a run in which nothing was lost.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Lines written.
    pub lines: usize,
    /// Daemons killed.
    pub kills: usize,
    /// Files that were kept as conflict copies.
    pub copies: usize,
    /// Lines that are there once more, since more than one user put them back.
    pub put_back: usize,
    /// Requests that the proxies saw.
    pub requests: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

struct Register {
    plan: Plan,
    random: Random,
    store: Store,
    proxies: [Proxy; 2],
    mounts: [Mount; 2],
    written: BTreeSet<String>,
    hands: Hands,
    kills: usize,
}

/// Runs it on a fresh bucket, and says after each kill how far it is.
pub fn run(store: &Store, plan: Plan, so_far: impl Fn(&Outcome)) -> Result<Outcome> {
    let mut register = Register::new(store, plan)?;
    for edit in 0..plan.edits {
        let line = format!("line {edit}");
        register.disturb();
        match register.random.below(5) {
            0 => register.foreign_edit(&line)?,
            who => register.edit(who % 2, &line)?,
        }
        register.written.insert(line);
        if edit % plan.edits_per_kill == plan.edits_per_kill - 1 {
            register.kill()?;
            so_far(&register.outcome());
        }
        std::thread::sleep(Duration::from_millis(register.random.below(80) as u64));
    }
    register.settle()?;
    register.check()
}

impl Register {
    fn new(store: &Store, plan: Plan) -> Result<Register> {
        let (mut written, mut hands) = (BTreeSet::new(), Hands::default());
        for note in 0..plan.notes {
            let lines: Vec<String> = (0..10).map(|line| format!("base {note}.{line}")).collect();
            store.put(&format!("n{note}.md"), (lines.join("\n") + "\n").as_bytes())?;
            hands.saved("nobody", &lines.join("\n"), "");
            written.extend(lines);
        }
        let server = store.client()?.address;
        let proxies = [Proxy::start(server)?, Proxy::start(server)?];
        let options = || MountOptions::args(&["--write-back", "300ms", "--poll", "1s"]);
        let mounts = [
            Mount::start_with(&store.via(proxies[0].address())?, options())?,
            Mount::start_with(&store.via(proxies[1].address())?, options())?,
        ];
        Ok(Register {
            plan,
            random: Random(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            store: store.clone(),
            proxies,
            mounts,
            written,
            hands,
            kills: 0,
        })
    }

    /// Now and then a proxy begins or ends to spoil what passes.
    fn disturb(&mut self) {
        let proxy = self.random.below(2);
        let latency = Duration::from_millis(self.random.below(30) as u64);
        let class = [Class::Put, Class::Put, Class::Get, Class::Head][self.random.below(4)];
        let fault = [Fault::DropReply, Fault::DropReply, Fault::Unavailable, Fault::Reset][self.random.below(4)];
        match self.random.below(6) {
            0 => self.proxies[proxy].set_fault_on(class, fault),
            1 => self.proxies[proxy].set_latency(latency),
            2..4 => self.proxies[proxy].set_fault(Fault::None),
            _ => {}
        }
    }

    fn with_line(&mut self, text: &str, line: &str) -> String {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(self.random.below(lines.len() + 1), line);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A store that is being spoiled answers EIO for what is not cached: the user tries again, and the trouble ends at some time.
    fn read(&self, mount: usize, file: &Path) -> Result<String> {
        self.patiently(mount, file, || std::fs::read_to_string(file))
    }

    fn patiently<T>(&self, mount: usize, file: &Path, access: impl Fn() -> std::io::Result<T>) -> Result<T> {
        let spoiled_until = Instant::now() + LONGEST_TROUBLE;
        wait_until("usable note", PATIENCE, || {
            access().map_err(|error| {
                if Instant::now() > spoiled_until {
                    self.proxies[mount].set_fault(Fault::None);
                }
                format!("{}: {error}", file.display())
            })
        })
    }

    /// A name that has to be asked for, too.
    fn write(&self, mount: usize, file: &Path, text: &str) -> Result<()> {
        self.patiently(mount, file, || std::fs::write(file, text))
    }

    fn edit(&mut self, mount: usize, line: &str) -> Result<()> {
        let note = self.mounts[mount].path(&format!("n{}.md", self.random.below(self.plan.notes)));
        let temporary = note.with_extension("tmp");
        let seen = self.read(mount, &note)?;
        let mut new = self.with_line(&seen, line);
        loop {
            self.write(mount, &temporary, &new)?;
            sys::rename_with(&temporary, &note, libc::RENAME_EXCHANGE)?;
            let replaced = self.read(mount, &temporary)?;
            self.hands.saved(["a", "b"][mount], &new, &replaced);
            let Some(both) = with_lines_of(&new, &replaced) else {
                break;
            };
            new = both;
        }
        std::fs::remove_file(&temporary).with_context(|| temporary.display().to_string())
    }

    fn foreign_edit(&mut self, line: &str) -> Result<()> {
        let key = format!("n{}.md", self.random.below(self.plan.notes));
        let client = self.store.client()?.clone();
        loop {
            let Some((bytes, etag)) = client.get_with_etag(&key)? else {
                client.put(&key, format!("{line}\n").as_bytes())?;
                self.hands.saved("raw", line, "");
                return Ok(());
            };
            let text = String::from_utf8(bytes)?;
            let new = self.with_line(&text, line);
            if client.put_if_match(&key, new.as_bytes(), &etag)? {
                self.hands.saved("raw", &new, &text);
                return Ok(());
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        let at = self.random.below(2);
        self.mounts[at].kill9();
        self.kills += 1;
        // The mount looks at its store first.
        self.proxies[at].set_fault(Fault::None);
        self.mounts[at].remount()
    }

    fn bucket(&self) -> Result<BTreeMap<String, String>> {
        let mut bucket = BTreeMap::new();
        for key in self.store.keys()? {
            if let Some(bytes) = self.store.get(&key)? {
                bucket.insert(key, String::from_utf8(bytes)?);
            }
        }
        Ok(bucket)
    }

    fn settle(&self) -> Result<()> {
        for proxy in &self.proxies {
            proxy.set_fault(Fault::None);
            proxy.set_latency(Duration::ZERO);
        }
        for mount in &self.mounts {
            mount.settle()?;
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            wait_until(
                &format!("mount {at} that shows what the bucket holds"),
                PATIENCE,
                || {
                    mount.settle().map_err(|error| format!("{error:#}"))?;
                    let (seen, bucket) = (folder(mount.dir()), self.bucket());
                    match (seen, bucket) {
                        (Ok(seen), Ok(bucket)) if seen == bucket => Ok(()),
                        (seen, bucket) => Err(format!("{seen:#?} and the bucket {bucket:#?}")),
                    }
                },
            )?;
        }
        Ok(())
    }

    fn check(&self) -> Result<Outcome> {
        let bucket = self.bucket()?;
        let lost: Vec<&String> = self
            .written
            .iter()
            .filter(|line| !bucket.values().any(|text| text.lines().any(|kept| kept == *line)))
            .collect();
        ensure!(
            lost.is_empty(),
            "lost with seed {}: {lost:?}\n{bucket:#?}",
            self.plan.seed
        );
        let mut put_back = 0;
        for (name, text) in &bucket {
            let back = self.hands.put_back_twice(text);
            let twice = |line| anyhow::anyhow!("twice in {name}, seed {}: {line}: {text}", self.plan.seed);
            put_back += back.map_err(twice)?;
        }
        let copies = bucket.keys().filter(|name| name.contains("(conflict from ")).count();
        Ok(Outcome {
            copies,
            put_back,
            ..self.outcome()
        })
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            lines: self.written.len(),
            kills: self.kills,
            copies: 0,
            put_back: 0,
            requests: self.proxies.iter().map(Proxy::total).sum(),
        }
    }
}

/// Every file of a flat folder.
fn folder(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read_to_string(entry.path())?,
        );
    }
    Ok(files)
}
