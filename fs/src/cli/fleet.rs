//! `notefs mount --fleet FILE`: the supervisor of many mounts, each in a process of its own.
//!
//! Owns processes, signals and the record for `notefs status`. Does not own which mount is to be started when (`fleet`), nor the file
//! (`config/fleet.rs`). It waits for nobody: a mount that takes long to start, or to end, keeps no other waiting.

use super::args::{LogFormat, MountArgs};
use super::{Outcome, mount};
use crate::config::{Places, read_fleet};
use crate::control::fleet_record::{FleetRecord, FleetRow};
use crate::control::registry::{Registry, absolute, start_ticks};
use crate::daemon::{self, log};
use crate::failure::{EXIT_FAILED, Failure};
use crate::fleet::{Member, State, end_all, take_file};
use crate::service;
use crate::supervise::{block_signals, next_signal};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often at least it looks at its mounts.
const LOOK_MS: u64 = 200;

/// How long mounts may take to end, before they are killed: what they drain in, and some more to unmount.
const END_DEADLINE_SECONDS: u64 = 150;

/// Signals that are heard.
const HEARD: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];

/// What a start has come to: the mount's name, the process, and why not.
type Started = (String, u32, Result<Vec<String>, Failure>);

/// Runs the command: supervises until a signal ends it.
pub(super) fn run(file: &Path, args: &MountArgs) -> Outcome {
    // Before anything starts a thread.
    let signals = block_signals(HEARD)?;
    let level = args.log_level.unwrap_or_default() as u8 + args.verbose;
    let json = args.log_format == Some(LogFormat::Json);
    log::to_stderr(log::Look { json, level });
    let file = absolute(file)?;
    let wanted = read_fleet(&file, &Places::from_environment()?)?;
    let registry = Registry::of_this_user();
    registry.prepare()?;
    let (sender, started) = channel();
    let mut fleet = Fleet {
        file,
        members: Vec::new(),
        children: HashMap::new(),
        words_due: HashSet::new(),
        sender,
        registry,
        file_error: None,
        told: None,
    };
    take_file(&mut fleet.members, wanted, Instant::now());
    fleet.supervise(&signals, &started)?;
    fleet.end(&signals, &started)
}

/// A fleet and its processes.
struct Fleet {
    file: PathBuf,
    members: Vec<Member>,
    children: HashMap<String, Child>,
    /// Processes that have not said yet how their start went.
    words_due: HashSet<u32>,
    sender: Sender<Started>,
    registry: Registry,
    file_error: Option<String>,
    /// The record that was written last.
    told: Option<FleetRecord>,
}

impl Fleet {
    /// Until somebody asks for the end.
    fn supervise(&mut self, signals: &libc::sigset_t, started: &Receiver<Started>) -> Result<(), Failure> {
        let mut is_ready = false;
        loop {
            self.look(started);
            self.tell();
            let tried = self.members.iter().all(|member| match member.state {
                State::Running(_) => true,
                State::Waiting(_) => member.starts > 0 || member.last_error.is_some(),
                State::Starting | State::Ending => false,
            });
            if tried && !is_ready {
                is_ready = true;
                service::ready(format_args!("the fleet of {}", self.file.display()), || true);
            }
            match next_signal(signals, Duration::from_millis(LOOK_MS)) {
                Some((libc::SIGTERM | libc::SIGINT, _)) => return Ok(()),
                Some((libc::SIGHUP, _)) => self.read_again(),
                _ => {}
            }
        }
    }

    /// Notes what has happened, and starts what is due.
    fn look(&mut self, started: &Receiver<Started>) {
        let now = Instant::now();
        for (name, pid, outcome) in started.try_iter() {
            self.note_start(&name, pid, outcome, now);
        }
        self.reap(now);
        self.replace(now);
        for position in 0..self.members.len() {
            if self.members[position].is_due(now)
                && let Err(failure) = self.start(position)
            {
                let member = &mut self.members[position];
                tracing::error!(mount = member.mount.name, "Could not start: {}", words(&failure));
                member.ended(words(&failure), now);
            }
        }
    }

    /// Starts the process of a mount; a thread waits for its word.
    fn start(&mut self, position: usize) -> Result<(), Failure> {
        let member = &mut self.members[position];
        let (plan, _) = mount::make_ready(member.mount.plan.clone())?;
        let (child, starting) = daemon::spawn(&plan, true)?;
        let (name, pid, sender) = (member.mount.name.clone(), child.id(), self.sender.clone());
        member.started();
        self.children.insert(name.clone(), child);
        let wait = move || {
            let outcome = starting.wait();
            // Nobody listens once the fleet has ended.
            sender.send((name, pid, outcome)).ok();
        };
        let thread = std::thread::Builder::new().name("notefs-start".into()).spawn(wait);
        thread.map_err(|error| Failure::new(format!("Could not start a thread: {error}")))?;
        self.words_due.insert(pid);
        Ok(())
    }

    fn note_start(&mut self, name: &str, pid: u32, outcome: Result<Vec<String>, Failure>, now: Instant) {
        self.words_due.remove(&pid);
        let is_current = self.children.get(name).is_some_and(|child| child.id() == pid);
        let Some(member) = self
            .members
            .iter_mut()
            .find(|member| is_current && member.mount.name == name)
        else {
            return;
        };
        match outcome {
            Ok(warnings) => {
                warnings
                    .iter()
                    .for_each(|warning| tracing::warn!(mount = name, "{warning}"));
                tracing::info!(mount = name, pid, "Mounted at {}", member.mount.plan.dir.display());
                member.runs(now);
            }
            Err(failure) => {
                // Its process ends by itself, and is told of then; one that does not is made to.
                member.last_error = Some(words(&failure));
                send(pid, libc::SIGTERM);
            }
        }
    }

    /// Takes leave of processes that have ended. One that has ended before its word was heard is waited for: the word says why.
    fn reap(&mut self, now: Instant) {
        for member in &mut self.members {
            let name = &member.mount.name;
            let Some(child) = self.children.get_mut(name) else {
                continue;
            };
            // Not looked at before: its number is its own until then.
            if self.words_due.contains(&child.id()) {
                continue;
            }
            let Ok(Some(status)) = child.try_wait() else { continue };
            self.children.remove(name);
            let was_starting = member.state == State::Starting;
            let why = match (&member.last_error, was_starting) {
                (Some(why), true) => why.clone(),
                _ => format!("Its process ended ({status})"),
            };
            if member.state == State::Ending {
                tracing::info!(mount = name, "Ended ({status})");
            } else {
                tracing::error!(mount = name, "{why}; it is started again");
            }
            member.ended(why, now);
        }
    }

    /// Ends the mounts that the file no longer has as they are, and puts others in their place once they have ended.
    fn replace(&mut self, now: Instant) {
        let children = &self.children;
        for member in &mut self.members {
            let Some(successor) = &member.successor else { continue };
            match children.get(&member.mount.name) {
                Some(child) if member.state != State::Ending => {
                    member.state = State::Ending;
                    send(child.id(), libc::SIGTERM);
                }
                Some(_) => {}
                None => {
                    if let Some(mount) = successor.clone() {
                        *member = Member::new(mount, now);
                    }
                }
            }
        }
        self.members
            .retain(|member| member.successor != Some(None) || children.contains_key(&member.mount.name));
    }

    /// Reads the file again; one with a mistake changes nothing.
    fn read_again(&mut self) {
        let read = Places::from_environment().and_then(|places| read_fleet(&self.file, &places));
        match read {
            Ok(wanted) => {
                tracing::info!("Read {} again: {} mounts", self.file.display(), wanted.len());
                self.file_error = None;
                take_file(&mut self.members, wanted, Instant::now());
            }
            Err(failure) => {
                tracing::error!("{}; the mounts stay as they are", words(&failure));
                self.file_error = Some(words(&failure));
            }
        }
    }

    /// Has everything stored and unmounted, all at once.
    fn end(&mut self, signals: &libc::sigset_t, started: &Receiver<Started>) -> Outcome {
        let deadline = Duration::from_secs(END_DEADLINE_SECONDS);
        service::stopping(deadline);
        tracing::info!("Ending {} mounts", self.children.len());
        let until = Instant::now() + deadline;
        for name in end_all(&mut self.members) {
            if let Some(child) = self.children.get(name) {
                send(child.id(), libc::SIGTERM);
            }
        }
        let mut left = Vec::new();
        while !self.children.is_empty() {
            started.try_iter().for_each(drop);
            self.children.retain(|name, child| match child.try_wait() {
                Ok(Some(status)) if !status.success() => {
                    left.push(format!("{name} ({status})"));
                    false
                }
                Ok(Some(_)) => false,
                _ => true,
            });
            if Instant::now() >= until {
                self.children.values_mut().for_each(|child| drop(child.kill()));
            } else if let Some((libc::SIGTERM | libc::SIGINT, _)) = next_signal(signals, Duration::from_millis(LOOK_MS))
            {
                // The second signal is passed on: nobody waits for the store any more.
                self.children.values().for_each(|child| send(child.id(), libc::SIGTERM));
            }
        }
        if let Some(record) = &self.told {
            record.remove(&self.registry);
        }
        if left.is_empty() {
            return Ok(0);
        }
        tracing::error!(
            "Not everything is stored, or could be ended in order: {}",
            left.join(", ")
        );
        Ok(EXIT_FAILED)
    }

    /// Writes the record, if something has changed.
    fn tell(&mut self) {
        let record = FleetRecord {
            file: self.file.clone(),
            pid: std::process::id(),
            pid_start_ticks: start_ticks(std::process::id()).unwrap_or_default(),
            file_error: self.file_error.clone(),
            mounts: self.members.iter().map(|member| self.row(member)).collect(),
        };
        if self.told.as_ref() == Some(&record) {
            return;
        }
        let running = record.mounts.iter().filter(|row| row.state == "running").count();
        service::status(&format!("{running} of {} mounts are running", record.mounts.len()));
        if let Err(failure) = record.write(&self.registry) {
            tracing::warn!("`notefs status` will not see the fleet: {failure}");
        }
        self.told = Some(record);
    }

    fn row(&self, member: &Member) -> FleetRow {
        let state = match member.state {
            State::Waiting(_) => "waiting",
            State::Starting => "starting",
            State::Running(_) => "running",
            State::Ending => "ending",
        };
        FleetRow {
            name: member.mount.name.clone(),
            dir: member.mount.plan.dir.clone(),
            store: member.mount.plan.store.clone(),
            state: state.to_owned(),
            pid: self.children.get(&member.mount.name).map(Child::id),
            restarts: member.starts.saturating_sub(1),
            last_error: member.last_error.clone(),
        }
    }
}

/// A failure and its hint in one line.
fn words(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{}. {}", failure.message, hint.replace('\n', " ")),
        None => failure.message.clone(),
    }
}

/// Sends a signal to a child that is not reaped yet.
fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: it takes numbers only; the child is not reaped yet, so that its pid is nobody else's.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}
