//! One command under the eyes of this process: signals go through to it, every orphan is reaped, and its end is its code.
//!
//! Made to be process 1 of a container: what the command leaves behind becomes a child of this process and is waited for. A terminal
//! sends its signals to the command by itself, so those are not sent a second time.
//!
//! Owns: signals and children while a command runs. Does not own: the mount that the command works in (`cli/run.rs`).

use crate::failure::Failure;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Signals that are the command's business.
const FORWARDED: [libc::c_int; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Those of them that ask it to end.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// `si_code` of a signal that the kernel sent, as a terminal does.
const SENT_BY_KERNEL: libc::c_int = 0x80;

/// How often at least it looks for children and deadlines.
const LOOK_MS_MAX: u64 = 250;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code; 128 and the signal's number if a signal ended it, as shells say it.
    pub(crate) code: u8,
    /// It had to be killed because it did not end in time.
    pub(crate) was_killed: bool,
    /// The process that it depends on was gone before.
    pub(crate) lost_support: bool,
}

/// The signals, held back from this thread and all that it starts.
pub(crate) struct Supervisor {
    set: libc::sigset_t,
}

impl Supervisor {
    /// Holds the signals back until [`Supervisor::run`] takes them. Must come before the first thread is started.
    pub(crate) fn new() -> Result<Supervisor, Failure> {
        let set = block_signals(FORWARDED.into_iter().chain([libc::SIGCHLD]))?;
        Ok(Supervisor { set })
    }

    /// Whether somebody has asked for the end already.
    pub(crate) fn asked_to_end(&self) -> bool {
        std::iter::from_fn(|| self.next_signal(Duration::ZERO)).any(|(signal, _)| ENDING.contains(&signal))
    }

    /// Runs `command` to its end. Once it is asked to end it has `grace`, then it is killed. When the process `support` ends first, the
    /// command is asked to end, too.
    pub(crate) fn run(
        &self,
        command: &[OsString],
        environment: &[(&str, OsString)],
        support: u32,
        grace: Duration,
    ) -> Result<Ended, Failure> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::usage("The command to run is missing"))?;
        let mut starting = Command::new(program);
        starting
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)));
        unblock_in(&mut starting);
        let child = starting.spawn().map_err(|error| Failure {
            exit_code: if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            },
            ..Failure::new(format!("Could not start {}: {error}", program.to_string_lossy()))
        })?;
        // Waited for below, together with all other children.
        let pid = child.id().cast_signed();
        let mut watch = Watch {
            pid,
            support: support.cast_signed(),
            grace,
            kill_at: None,
            was_killed: false,
            lost_support: false,
        };
        loop {
            if let Some(code) = watch.reap() {
                return Ok(Ended {
                    code,
                    was_killed: watch.was_killed,
                    lost_support: watch.lost_support,
                });
            }
            watch.kill_if_late();
            if let Some((signal, by_kernel)) = self.next_signal(Duration::from_millis(LOOK_MS_MAX)) {
                watch.pass_on(signal, by_kernel);
            }
        }
    }

    fn next_signal(&self, wait: Duration) -> Option<(libc::c_int, bool)> {
        next_signal(&self.set, wait)
    }
}

/// The next of the signals that are held back, within `wait`, and whether the kernel sent it.
pub(crate) fn next_signal(set: &libc::sigset_t, wait: Duration) -> Option<(libc::c_int, bool)> {
    let timeout = libc::timespec {
        tv_sec: wait.as_secs().cast_signed(),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: all three point to values that live here; the kernel fills `info` where it answers a signal.
    let signal = unsafe { libc::sigtimedwait(set, info.as_mut_ptr(), &raw const timeout) };
    // SAFETY: zeroed is a valid value of it, too.
    let code = unsafe { info.assume_init() }.si_code;
    (signal > 0).then_some((signal, code == SENT_BY_KERNEL))
}

/// Holds signals back from this thread and all that it starts; answers their set, to wait for them.
pub(crate) fn block_signals(signals: impl IntoIterator<Item = libc::c_int>) -> Result<libc::sigset_t, Failure> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, the others read and change an initialised one that lives here.
    let (set, result) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        (
            set,
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()),
        )
    };
    match result {
        0 => Ok(set),
        errno => Err(Failure::new(format!(
            "Could not block signals: {}",
            std::io::Error::from_raw_os_error(errno)
        ))),
    }
}

/// The command begins with the signals as any program does.
pub(crate) fn unblock_in(command: &mut Command) {
    // SAFETY: both calls are async-signal-safe and touch nothing but the new process's mask.
    unsafe {
        command.pre_exec(|| {
            let mut none = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
            Ok(())
        });
    }
}

/// A command that runs.
struct Watch {
    pid: libc::pid_t,
    support: libc::pid_t,
    grace: Duration,
    kill_at: Option<Instant>,
    was_killed: bool,
    lost_support: bool,
}

impl Watch {
    /// Takes leave of every child that has ended; answers the code of the command once it is among them.
    fn reap(&mut self) -> Option<u8> {
        let mut code = None;
        loop {
            let mut status = 0;
            // SAFETY: `status` lives here.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            match pid {
                ..=0 => return code,
                pid if pid == self.pid => code = Some(exit_code(status)),
                pid if pid == self.support => {
                    self.lost_support = true;
                    self.ask_to_end(libc::SIGTERM);
                }
                _ => {}
            }
        }
    }

    fn pass_on(&mut self, signal: libc::c_int, by_kernel: bool) {
        if signal == libc::SIGCHLD {
            return;
        }
        if ENDING.contains(&signal) {
            self.kill_at.get_or_insert(Instant::now() + self.grace);
        }
        if !by_kernel {
            self.send(signal);
        }
    }

    fn ask_to_end(&mut self, signal: libc::c_int) {
        self.kill_at.get_or_insert(Instant::now() + self.grace);
        self.send(signal);
    }

    fn kill_if_late(&mut self) {
        if !self.was_killed && self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.was_killed = true;
            self.send(libc::SIGKILL);
        }
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: it takes numbers only; the child is not reaped yet, so that its pid is nobody else's.
        unsafe { libc::kill(self.pid, signal) };
    }
}

fn exit_code(status: libc::c_int) -> u8 {
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
