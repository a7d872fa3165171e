//! The daemon behind a mount: started by `notefs mount`, which waits until the mount answers.
//!
//! The two halves share one socket, the daemon's standard input: the plan goes in as one line of JSON, and `ready` or the
//! error comes back as another. Credentials pass in the environment only.
//!
//! Owns starting, detaching from the terminal, and the wait. Does not own the log (`daemon/log.rs`) nor the mount itself
//! (`mount.rs`).

pub(crate) mod log;

use crate::config::MountPlan;
use crate::failure::{EXIT_FAILED, Failure};
use crate::mount;
use crate::supervise::unblock_in;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long a mount may take until it answers.
const MOUNT_DEADLINE_SECONDS: u64 = 90;

/// How long the folder may take to show the mount once the daemon says that it is there.
const ANSWER_DEADLINE_SECONDS: u64 = 10;

/// How long a daemon whose mount failed may take to leave.
const LEAVE_DEADLINE_SECONDS: u64 = 5;

/// A plan or an answer is shorter than this.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// What a service manager says to the process that it started, and to nobody else.
const SERVICE_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Keys of a store, which a daemon with a file of its own must not see.
pub(crate) const KEY_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What the daemon tells its starter, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The mount answers.
    Ready {
        /// For the user.
        warnings: Vec<String>,
    },
    /// Nothing is mounted.
    Failed(Failure),
}

/// Starts a daemon for the plan and waits until its mount answers. Returns the daemon's warnings.
pub(crate) fn start(plan: &MountPlan) -> Result<Vec<String>, Failure> {
    let (mut child, starting) = spawn(plan, false)?;
    starting.wait().inspect_err(|_| leave(&mut child))
}

/// A daemon on its way to a mount.
#[derive(Debug)]
pub(crate) struct Starting {
    plan: MountPlan,
    socket: UnixStream,
    before: Option<u64>,
}

/// Starts a daemon for the plan. One that is `bound` is asked to end when the calling *thread* ends.
pub(crate) fn spawn(plan: &MountPlan, bound: bool) -> Result<(Child, Starting), Failure> {
    // A mount that waits for its server must not be asked.
    let before = plan.makes_mount().then(|| device_of(&plan.dir)).transpose()?;
    let log = log::open(&log_path(plan))?;
    let cannot_start = |e: std::io::Error| Failure::new(format!("Could not start the daemon: {e}"));
    let (socket, theirs) = UnixStream::pair().map_err(cannot_start)?;
    let mut command = Command::new(std::env::current_exe().map_err(cannot_start)?);
    command
        .args(["mount", "--daemon", &plan.store])
        .arg(&plan.dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone().map_err(cannot_start)?)
        .stderr(log);
    let keys = plan.credentials_file.as_ref().map_or(&[][..], |_| &KEY_VARIABLES[..]);
    for name in SERVICE_VARIABLES.iter().chain(keys) {
        command.env_remove(name);
    }
    if bound {
        end_with_parent(&mut command);
    }
    let child = command.spawn().map_err(cannot_start)?;
    let plan = plan.clone();
    Ok((child, Starting { plan, socket, before }))
}

impl Starting {
    /// Waits until the mount answers. Returns the daemon's warnings.
    pub(crate) fn wait(self) -> Result<Vec<String>, Failure> {
        let log = log_path(&self.plan);
        let outcome = converse(self.socket, &self.plan).unwrap_or_else(|error| {
            let failure = Failure::new(format!("The daemon did not mount {}: {error}", self.plan.dir.display()));
            Outcome::Failed(failure.hint(format!("Its log is {}", log.display())))
        });
        let warnings = match outcome {
            Outcome::Ready { warnings } => warnings,
            Outcome::Failed(failure) => return Err(failure),
        };
        if let Some(before) = self.before {
            await_answer(&self.plan.dir, before)
                .map_err(|failure| failure.hint(format!("The daemon's log is {}", log.display())))?;
        }
        Ok(warnings)
    }
}

fn log_path(plan: &MountPlan) -> PathBuf {
    plan.log.clone().unwrap_or_else(|| plan.cache_dir.join("notefs.log"))
}

/// Has the kernel ask the daemon to end when the thread that starts it does; and starts with no signal held back.
fn end_with_parent(command: &mut Command) {
    // SAFETY: all calls are async-signal-safe and touch nothing but the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    unblock_in(command);
}

/// Sends the plan and reads the outcome.
fn converse(mut socket: UnixStream, plan: &MountPlan) -> std::io::Result<Outcome> {
    socket.set_read_timeout(Some(Duration::from_secs(MOUNT_DEADLINE_SECONDS)))?;
    let mut line = serde_json::to_vec(plan)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    let mut line = String::new();
    match BufReader::new(socket.take(MESSAGE_BYTES_MAX)).read_line(&mut line) {
        Ok(0) => Err(std::io::Error::other("it ended before the mount was there")),
        Ok(_) => Ok(serde_json::from_str(&line)?),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Err(std::io::Error::other(format!(
                "it was not there after {MOUNT_DEADLINE_SECONDS} s"
            )))
        }
        Err(error) => Err(error),
    }
}

/// The device that a folder lies on.
fn device_of(dir: &Path) -> Result<u64, Failure> {
    Ok(std::fs::metadata(dir).map_err(Failure::io("look at", dir))?.dev())
}

/// Waits until the folder is the mount. A thread asks, since a mount may hang.
fn await_answer(dir: &Path, before: u64) -> Result<(), Failure> {
    let (sender, answers) = channel();
    let asked = dir.to_owned();
    let until = Instant::now() + Duration::from_secs(ANSWER_DEADLINE_SECONDS);
    std::thread::spawn(move || {
        while Instant::now() < until && device_of(&asked).is_ok_and(|device| device == before) {
            std::thread::sleep(Duration::from_millis(5));
        }
        sender.send(device_of(&asked)).ok();
    });
    match answers.recv_timeout(Duration::from_secs(ANSWER_DEADLINE_SECONDS + 1)) {
        Ok(Ok(device)) if device != before => Ok(()),
        Ok(Err(failure)) => Err(failure),
        _ => Err(Failure::new(format!("The mount at {} does not answer", dir.display()))),
    }
}

/// Makes a daemon end that is of no use, gently first.
fn leave(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
    let until = Instant::now() + Duration::from_secs(LEAVE_DEADLINE_SECONDS);
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    child.wait().ok();
}

/// The daemon's whole life; answers its exit code.
pub(crate) fn run() -> u8 {
    close_inherited();
    let Ok(mut socket) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return EXIT_FAILED;
    };
    let outcome = detach(&socket).and_then(|plan| {
        mount::run(&plan, &mut |warnings| {
            tell(&mut socket, &Outcome::Ready { warnings })
                .map_err(|e| Failure::new(format!("Nobody waits for this mount any more: {e}")))
        })
    });
    match outcome {
        Ok(left) => u8::from(left.count > 0),
        Err(failure) => {
            tracing::error!("{failure}");
            let exit_code = failure.exit_code;
            tell(&mut socket, &Outcome::Failed(failure)).ok();
            exit_code
        }
    }
}

/// Closes what the starter happened to have open: a file of the mount among that would keep the mount busy for ever.
fn close_inherited() {
    // SAFETY: this process has opened nothing beyond its standard streams yet, so nothing of its own is closed.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Reads the plan and leaves the terminal, the session and the folder that the starter was in.
fn detach(socket: &UnixStream) -> Result<MountPlan, Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::usage(format!("--daemon is for notefs itself: {e}")).hint("Use `notefs mount [STORE] DIR`")
    };
    let mut line = String::new();
    socket
        .set_read_timeout(Some(Duration::from_secs(LEAVE_DEADLINE_SECONDS)))
        .map_err(|e| failed(&e))?;
    BufReader::new(socket.take(MESSAGE_BYTES_MAX))
        .read_line(&mut line)
        .map_err(|e| failed(&e))?;
    let plan: MountPlan = serde_json::from_str(&line).map_err(|e| failed(&e))?;
    rustix::process::setsid().map_err(|e| failed(&e))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    std::env::set_current_dir("/").map_err(Failure::io("enter", Path::new("/")))?;
    let null = std::fs::File::open("/dev/null").map_err(Failure::io("open", Path::new("/dev/null")))?;
    rustix::stdio::dup2_stdin(&null).map_err(|e| failed(&e))?;
    if let Some(path) = &plan.log {
        log::to_file(path, plan.log_look())?;
    }
    Ok(plan)
}

/// Sends the outcome; only the first counts.
fn tell(socket: &mut UnixStream, outcome: &Outcome) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    socket.flush()
}
