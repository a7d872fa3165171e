//! Employs one actor at a time: starts it, replaces it when it is gone, and knows those that are slow to go.

use super::feel::is_end;
use super::gate::Gate;
use crate::felt::{Actor, Command, Refusal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first actor that breaks is replaced at once; then comes this pause, and it doubles with each that breaks.
const PAUSE_FIRST_MS: u64 = 100;

/// The longest pause.
const PAUSE_MAX_MS: u64 = 30_000;

/// An actor that did so many commands was a good one: the next starts without the pauses of its predecessors.
const GOOD_ACTOR_COMMANDS: u64 = 10;

/// How long a command may take. A lock that a program holds in the kernel can take longer; then that change is not felt.
const COMMAND_DEADLINE_SECONDS: u64 = 5;

/// The same for the successors of an actor that did not answer, and for how long they are mistrusted: whatever stops one may stop the next, too.
const MISTRUSTED_DEADLINE_SECONDS: u64 = 1;
const MISTRUST_SECONDS: u64 = 60;

/// Actors that are killed and still held by the kernel; no further one is started then.
const LEAVING_MAX: usize = 4;

pub(super) struct Staff {
    place: Option<(PathBuf, String)>,
    gate: Arc<Gate>,
    actor: Option<Actor>,
    /// Commands that the actor has done.
    done: u64,
    /// Actors that broke in a row.
    broken: u32,
    /// Not before this is the next one started.
    due: Instant,
    /// When the newest one that did not answer was let go.
    silent: Option<Instant>,
    leaving: Vec<Actor>,
}

fn pause(broken_before: u32) -> Duration {
    let pause_ms = match broken_before {
        0 => 0,
        more => PAUSE_FIRST_MS.saturating_mul(1 << (more - 1).min(16)).min(PAUSE_MAX_MS),
    };
    Duration::from_millis(pause_ms)
}

/// How long a command may take, so long after an actor that did not answer.
fn deadline(since_silent: Option<Duration>) -> Duration {
    let mistrust = Duration::from_secs(MISTRUST_SECONDS);
    match since_silent.is_some_and(|since| since < mistrust) {
        true => Duration::from_secs(MISTRUSTED_DEADLINE_SECONDS),
        false => Duration::from_secs(COMMAND_DEADLINE_SECONDS),
    }
}

impl Staff {
    pub(super) fn new(place: Option<(PathBuf, String)>, gate: Arc<Gate>) -> Staff {
        Staff {
            place,
            gate,
            actor: None,
            done: 0,
            broken: 0,
            due: Instant::now(),
            silent: None,
            leaving: Vec::new(),
        }
    }

    /// Forgets actors that have ended, and starts one if there is none and it is time.
    pub(super) fn look_after(&mut self) {
        if self.actor.as_ref().is_some_and(Actor::has_ended) {
            tracing::warn!("The process that raises file events has ended; another is started");
            self.replace();
        }
        let (ended, leaving) = self.leaving.drain(..).partition(Actor::has_ended);
        self.leaving = leaving;
        ended.into_iter().for_each(|actor: Actor| self.bury(actor));
        if self.actor.is_none() && Instant::now() >= self.due && self.leaving.len() < LEAVING_MAX {
            self.start();
        }
    }

    fn start(&mut self) {
        let Some((mountpoint, device)) = &self.place else {
            return;
        };
        match Actor::start(mountpoint, device) {
            Ok(actor) => {
                // Before its first command, so that none of its requests is taken for a program's.
                self.gate.admit(actor.pid());
                self.actor = Some(actor);
                self.done = 0;
            }
            Err(error) => {
                tracing::warn!("Could not start the process that raises file events: {error}");
                self.postpone();
            }
        }
    }

    fn deadline(&self) -> Duration {
        deadline(self.silent.map(|silent| silent.elapsed()))
    }

    fn postpone(&mut self) {
        self.due = Instant::now() + pause(self.broken);
        self.broken = self.broken.saturating_add(1);
    }

    /// Whether there is to be one at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.place.is_some()
    }

    /// Whether there is an actor.
    pub(super) fn is_present(&self) -> bool {
        self.actor.is_some()
    }

    /// Has the command done. An actor that does not answer is let go.
    pub(super) fn perform(&mut self, command: &Command) -> Result<(), Refusal> {
        let deadline = self.deadline();
        let Some(actor) = &mut self.actor else {
            return Err(Refusal::Errno(libc::ESRCH));
        };
        let result = actor.perform(command, deadline);
        match &result {
            Err(Refusal::Broken(error)) => {
                tracing::warn!("The process that raises file events does not answer ({error}); another is started");
                if !is_end(error) {
                    self.silent = Some(Instant::now());
                }
                self.replace();
            }
            _ => {
                self.done += 1;
                if self.done >= GOOD_ACTOR_COMMANDS {
                    self.broken = 0;
                }
            }
        }
        result
    }

    fn replace(&mut self) {
        self.let_go();
        self.postpone();
    }

    fn let_go(&mut self) {
        if let Some(mut actor) = self.actor.take() {
            if actor.end() {
                self.bury(actor);
            } else {
                self.leaving.push(actor);
            }
        }
    }

    fn bury(&self, actor: Actor) {
        // In this order: once it is buried, its number may be another process's.
        self.gate.forget(actor.pid());
        actor.bury();
    }

    /// Sends the actor away, for good.
    pub(super) fn dismiss(&mut self) {
        self.let_go();
        self.place = None;
        self.look_after();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistrust_ends() {
        let seconds = |since: Option<u64>| deadline(since.map(Duration::from_secs)).as_secs();
        assert_eq!(
            [None, Some(1), Some(59), Some(60), Some(3_600)].map(seconds),
            [5, 1, 1, 5, 5]
        );
    }

    #[test]
    fn pauses_are_bounded() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(1), Duration::from_millis(100));
        assert_eq!(pause(4), Duration::from_millis(800));
        assert_eq!(pause(u32::MAX), Duration::from_secs(30));
    }
}
