//! The mounted folder as one call sees it.
//!
//! Owns that a call only ever reaches the mount (never the folder underneath, nor anything outside), and that changes of agents on
//! this machine take turns. Nothing is kept open between calls, so that no agent keeps a folder from being unmounted.

use super::problem::{Kind, Problem};
use crate::beneath::{Beneath, Missing, Place, Unreached};
use crate::control::knowledge::know;
use crate::control::question::Question;
use crate::control::registry::{Record, Registry};
use crate::failure::Failure;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a change waits for those before it; each holds its turn for one look and one rename.
const TURN_WAIT_MAX_SECONDS: u64 = 10;

/// Between two looks whether it is our turn.
const TURN_POLL_MS: u64 = 5;

/// Where agents work.
#[derive(Debug)]
pub(super) struct Vault {
    /// The mounted folder.
    pub(super) mountpoint: PathBuf,
}

/// One call's hold of it.
#[derive(Debug)]
pub(super) struct Visit {
    /// The mount.
    pub(super) record: Record,
    beneath: Beneath,
}

/// A change's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: File,
}

impl Vault {
    /// Looks at the mount, which may have gone.
    pub(super) fn visit(&self) -> Result<Visit, Problem> {
        let shown = self.mountpoint.display().to_string();
        let gone = |failure: Failure| Problem::gone(&shown, failure.message);
        let (record, _) = Registry::of_this_user().find(&self.mountpoint).map_err(gone)?;
        let beneath = Beneath::new(&self.mountpoint).map_err(gone)?;
        let device = beneath.device().map_err(|errno| Problem::errno(&shown, errno))?;
        let around = self
            .mountpoint
            .parent()
            .and_then(|parent| std::fs::metadata(parent).ok());
        // Unmounted between the two looks, or another mount that this folder lies in.
        let is_mounted = around.is_none_or(|around| around.dev() != device);
        if record.mountpoint != self.mountpoint || !is_mounted {
            return Err(Problem::gone(&shown, "Nothing is mounted here any more"));
        }
        Ok(Visit { record, beneath })
    }
}

impl Visit {
    /// Where a path leads; folders on the way are made or not.
    pub(super) fn reach(&self, path: &str, missing: Missing) -> Result<Place, Problem> {
        self.beneath
            .reach(path.as_bytes(), missing)
            .map_err(|unreached| match unreached {
                Unreached::NoPath => Problem::new(
                    Kind::BadPath,
                    path,
                    "This is no path below the folder",
                    "Give a path relative to the folder, as in projects/plan.md: without a slash at its ends, and without . or ..",
                ),
                Unreached::At { error, .. } if error == Errno::NOENT => self.not_found(path),
                Unreached::At { name, error } => {
                    let problem = Problem::errno(path, error);
                    let what = format!("{name:?} on the way is no folder that can be entered: {}", problem.what);
                    Problem { what, ..problem }
                }
            })
    }

    /// What the system says about a path.
    pub(super) fn io(&self, path: &str, error: &std::io::Error) -> Problem {
        match error.kind() {
            std::io::ErrorKind::NotFound => self.not_found(path),
            _ => Problem::io(path, error),
        }
    }

    /// Nothing is there; but links call notes by title, alias and permalink, too, and so may an agent.
    fn not_found(&self, path: &str) -> Problem {
        let mut problem = Problem::errno(path, Errno::NOENT);
        let question = Question::Note {
            path: None,
            name: path.to_owned(),
        };
        if let Ok(known) = know(&self.record, question)
            && let Some(meant) = known.value["path"].as_str()
        {
            problem.what_to_do = format!("A link of this name leads to {meant:?}: use that path if you mean it");
        }
        problem
    }

    /// What the daemon says.
    pub(super) fn failure(&self, place: &str, failure: Failure) -> Problem {
        match self.record.is_alive() {
            true => Problem::failure(place, failure),
            false => Problem::gone(place, failure.message),
        }
    }

    /// Waits for this change's turn among those of all agents on this mount.
    pub(super) fn turn(&self, path: &str) -> Result<Turn, Problem> {
        let lock = self.record.socket.with_extension("turn");
        let open = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock);
        let lock = open.map_err(|error| Problem::io(&lock.display().to_string(), &error))?;
        let until = Instant::now() + Duration::from_secs(TURN_WAIT_MAX_SECONDS);
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Turn { _lock: lock }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(TURN_POLL_MS));
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(Problem::new(
                        Kind::Busy,
                        path,
                        format!("Other agents have been changing notes for {TURN_WAIT_MAX_SECONDS} s"),
                        "Try again",
                    ));
                }
                Err(error) => return Err(Problem::errno(path, error)),
            }
        }
    }
}
