//! Which mounts of a fleet are to be started, ended and waited for: decisions over values, without processes.
//!
//! Each mount is a process of its own, so that the trouble of one never touches another. One that ends unasked, or cannot start, is started
//! again after a pause that doubles while it fails.
//!
//! Owns the states of a mount and its pauses. Does not own processes and signals (`cli/fleet.rs`).

use crate::config::FleetMount;
use std::time::{Duration, Instant};

/// The pause before the first new try.
const PAUSE_FIRST_MS: u64 = 500;

/// The longest pause between two tries.
const PAUSE_LONGEST_SECONDS: u64 = 60;

/// Who has been running for so long begins with the first pause again.
const STEADY_SECONDS: u64 = 60;

/// How far a mount has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// To be started then.
    Waiting(Instant),
    /// Its process is there, its mount not yet.
    Starting,
    /// Programs are served, since then.
    Running(Instant),
    /// Was asked to end.
    Ending,
}

/// One mount of the fleet.
#[derive(Debug)]
pub(crate) struct Member {
    /// How it is made.
    pub(crate) mount: FleetMount,
    /// How far it has come.
    pub(crate) state: State,
    /// How often it was started.
    pub(crate) starts: u64,
    /// Why it ended or could not start, the last time.
    pub(crate) last_error: Option<String>,
    /// It is in the file no longer, or differs there: what shall be when it has ended.
    pub(crate) successor: Option<Option<FleetMount>>,
    failures: u32,
}

impl Member {
    /// One that is to be started at once.
    pub(crate) fn new(mount: FleetMount, now: Instant) -> Member {
        Member {
            mount,
            state: State::Waiting(now),
            starts: 0,
            last_error: None,
            successor: None,
            failures: 0,
        }
    }

    /// Whether its time to be started has come.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting(at) if at <= now)
    }

    /// Its process is there.
    pub(crate) fn started(&mut self) {
        self.starts += 1;
        self.state = State::Starting;
    }

    /// Its mount answers.
    pub(crate) fn runs(&mut self, now: Instant) {
        if self.state == State::Starting {
            self.state = State::Running(now);
        }
    }

    /// It ended, or could not start.
    pub(crate) fn ended(&mut self, why: String, now: Instant) {
        let steady = Duration::from_secs(STEADY_SECONDS);
        if matches!(self.state, State::Running(since) if now.saturating_duration_since(since) >= steady) {
            self.failures = 0;
        }
        let pause = Duration::from_millis(PAUSE_FIRST_MS << self.failures.min(16));
        self.failures += 1;
        self.state = State::Waiting(now + pause.min(Duration::from_secs(PAUSE_LONGEST_SECONDS)));
        self.last_error = Some(why);
    }
}

/// Takes a new file: tells which members are to be asked to end, and adds the new ones.
pub(crate) fn take_file(members: &mut Vec<Member>, mut wanted: Vec<FleetMount>, now: Instant) {
    for member in members.iter_mut() {
        let position = wanted.iter().position(|mount| mount.name == member.mount.name);
        let wanted = position.map(|position| wanted.swap_remove(position));
        member.successor = match wanted {
            Some(mount) if mount == member.mount => None,
            other => Some(other),
        };
    }
    members.extend(wanted.into_iter().map(|mount| Member::new(mount, now)));
}

/// All are to end: tells which are to be asked to. One that is ending already is not, since a second signal means that nobody waits for what it has
/// to store.
pub(crate) fn end_all(members: &mut [Member]) -> Vec<&str> {
    let mut asked = Vec::new();
    for member in members {
        if member.state != State::Ending {
            member.state = State::Ending;
            asked.push(member.mount.name.as_str());
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Places, read_fleet};

    fn fleet(text: &str) -> Vec<FleetMount> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        std::fs::write(&file, text).unwrap();
        let places = Places {
            current_dir: "/".into(),
            home: Some("/home/me".into()),
            data_home: None,
            state_home: None,
            store: None,
            index: None,
        };
        read_fleet(&file, &places).unwrap()
    }

    fn mount(name: &str, more: &str) -> String {
        format!("[mount.{name}]\nstore = 's3://b/{name}'\ndir = '/srv/{name}'\n{more}\n")
    }

    #[test]
    fn pauses_double_and_begin_anew_after_a_steady_run() {
        let (start, mut members) = (Instant::now(), Vec::new());
        take_file(&mut members, fleet(&mount("a", "")), start);
        let member = &mut members[0];
        assert!(member.is_due(start));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            member.started();
            member.ended("why".into(), start);
            let State::Waiting(at) = member.state else {
                panic!("{:?}", member.state)
            };
            pauses.push((at - start).as_millis());
        }
        assert_eq!(pauses[..4], [500, 1000, 2000, 4000]);
        assert_eq!(pauses[9], 60_000);
        member.started();
        member.runs(start);
        let later = start + Duration::from_secs(STEADY_SECONDS);
        member.ended("why".into(), later);
        assert_eq!(
            member.state,
            State::Waiting(later + Duration::from_millis(PAUSE_FIRST_MS))
        );
        assert_eq!(member.starts, 11);
    }

    #[test]
    fn who_is_ending_is_not_asked_again_when_all_are_to_end() {
        let (now, mut members) = (Instant::now(), Vec::new());
        take_file(
            &mut members,
            fleet(&["a", "b", "c"].map(|name| mount(name, "")).concat()),
            now,
        );
        for member in &mut members {
            member.started();
            member.runs(now);
        }
        members[1].state = State::Ending;
        assert_eq!(end_all(&mut members), ["a", "c"]);
        assert!(members.iter().all(|member| member.state == State::Ending));
        assert!(end_all(&mut members).is_empty());
    }

    #[test]
    fn a_new_file_changes_only_what_differs() {
        let (now, mut members) = (Instant::now(), Vec::new());
        take_file(
            &mut members,
            fleet(&[mount("a", ""), mount("b", ""), mount("c", "")].concat()),
            now,
        );
        take_file(
            &mut members,
            fleet(&[mount("a", ""), mount("b", "poll = '9s'"), mount("d", "")].concat()),
            now,
        );
        let of = |name: &str| members.iter().find(|member| member.mount.name == name).unwrap();
        assert_eq!(of("a").successor, None);
        assert!(matches!(&of("b").successor, Some(Some(mount)) if mount.plan.poll.is_some()));
        assert_eq!(of("c").successor, Some(None));
        assert!(of("d").is_due(now));
        assert_eq!(members.len(), 4);
    }
}
