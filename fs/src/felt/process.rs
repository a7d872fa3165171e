//! The daemon's end: starts the actor, gives it one command at a time, and is never kept waiting by it.

use super::command::{Command, read_answer};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long the end of an actor that was told to go may take.
const END_DEADLINE_MS: u64 = 500;

/// Between two looks at its end.
const END_POLL_MS: u64 = 1;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The kernel said no, by this errno.
    Errno(i32),
    /// The actor does not answer: it must be replaced.
    Broken(io::Error),
}

/// A running actor. It must be ended by [`Actor::end`], since its requests must be known as its own until it is gone.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
    socket: UnixStream,
}

impl Actor {
    /// Starts one for the mount with this device (`major:minor`). It dies with the calling *thread*.
    pub(crate) fn start(mountpoint: &Path, device: &str) -> io::Result<Actor> {
        let (socket, theirs) = UnixStream::pair()?;
        // By this name it is the very program that runs, even if the file was replaced since.
        let child = std::process::Command::new("/proc/self/exe")
            .arg0("notefs")
            .arg("perform")
            .arg(mountpoint)
            .arg(device)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            // The terminal's Ctrl-C is for the daemon.
            .process_group(0)
            .spawn()?;
        Ok(Actor { child, socket })
    }

    /// The process; also the thread id that its requests bear, for it has but one thread.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has a command done, which may take as long as `deadline`.
    pub(crate) fn perform(&mut self, command: &Command, deadline: Duration) -> Result<(), Refusal> {
        let message = command
            .encode()
            .map_err(|error| Refusal::Errno(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
        let limit = self.socket.set_read_timeout(Some(deadline));
        limit
            .and_then(|()| self.socket.set_write_timeout(Some(deadline)))
            .and_then(|()| self.socket.write_all(&message))
            .map_err(Refusal::Broken)?;
        match read_answer(&self.socket).map_err(Refusal::Broken)? {
            0 => Ok(()),
            errno => Err(Refusal::Errno(errno)),
        }
    }

    /// Kills it, and waits a moment for its end.
    pub(crate) fn end(&mut self) -> bool {
        // An error means that it is gone already.
        self.child.kill().ok();
        let until = Instant::now() + Duration::from_millis(END_DEADLINE_MS);
        while !self.has_ended() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(END_POLL_MS));
        }
        true
    }

    /// Whether it has ended. Its number is not free for another process before [`Actor::bury`].
    pub(crate) fn has_ended(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) else {
            return true;
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::Pid(pid), look), Ok(None))
    }

    /// Gives the number of an ended process back to the system.
    pub(crate) fn bury(mut self) {
        self.child.wait().ok();
    }
}
