//! Children that cannot outlive the test, commands that cannot hang it, and waiting with a deadline.
//!
//! Every child asks the kernel to be killed with its parent. The kernel means the parent *thread*, and a test is a
//! thread, so one thread that lives as long as the process spawns them all.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

type SpawnRequest = (Command, SyncSender<std::io::Result<Child>>);

/// A running child, killed with its process group when this is dropped.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

/// What a finished command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

/// Starts `command` in a process group of its own that dies with this process.
pub fn spawn(mut command: Command) -> Result<Guarded> {
    static SPAWNER: OnceLock<SyncSender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = sync_channel::<SpawnRequest>(16);
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                reply.send(command.spawn()).ok();
            }
        });
        requests
    });
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches nothing but the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let name = format!("{command:?}");
    let (reply, answer) = sync_channel(1);
    spawner
        .send((command, reply))
        .map_err(|_| anyhow::anyhow!("the spawning thread is gone"))?;
    let child = answer.recv()?.with_context(|| format!("cannot start {name}"))?;
    Ok(Guarded { child })
}

impl Guarded {
    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's piped standard input and output, once.
    pub fn take_pipes(&mut self) -> Result<(ChildStdin, ChildStdout)> {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.context("the child was not started with pipes, or they are taken")
    }

    /// Sends `signal` to the child alone.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is not yet reaped, so its pid cannot belong to another process.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// How the child ended, or `None` while it runs.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the child has ended.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = self.pid();
        // Woken by the kernel, so that figures of commands hold no pause of ours; where that fails, the loop below looks anyway.
        wait_readable(pid, limit);
        wait_until(&format!("end of process {pid}"), limit, || {
            self.poll().ok_or("still running".into())
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.poll().is_none() {
            // SAFETY: the group was made by `spawn` and its leader is not yet reaped.
            unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
            // A process stuck in the kernel must not hang the test with it.
            self.wait(Duration::from_secs(5)).ok();
        }
    }
}

impl Finished {
    /// Fails with everything the command said unless it exited with 0.
    pub fn ok(self) -> Result<Finished> {
        if !self.status.success() {
            bail!(
                "command failed with {}\nstdout: {}\nstderr: {}",
                self.status,
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }

    /// The exit code; a signal counts as 128 and its number, as in a shell.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Runs `command` to its end, without input, or fails when it takes longer than `limit`.
pub fn run(mut command: Command, limit: Duration) -> Result<Finished> {
    // Files and not pipes: a daemon that the command leaves behind must not keep us waiting for the end of a pipe.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let name = format!("{command:?}");
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let ended = spawn(command)?.wait(limit);
    let (stdout, stderr) = (text_of(&mut stdout)?, text_of(&mut stderr)?);
    let status = ended.with_context(|| format!("{name}\nstdout: {stdout}\nstderr: {stderr}"))?;
    Ok(Finished { status, stdout, stderr })
}

/// Waits until a child of ours has ended, but no longer than `limit`.
fn wait_readable(pid: u32, limit: Duration) {
    // SAFETY: the call takes numbers only and answers a descriptor that nobody else owns, or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(descriptor @ 0..) = i32::try_from(descriptor) else {
        return;
    };
    // SAFETY: the descriptor is open and ours.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `poll` is one valid pollfd, and its descriptor is open.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
}

fn text_of(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a shell script in `dir` and fails unless it succeeds; returns its standard output.
pub fn shell(dir: &std::path::Path, script: &str) -> Result<String> {
    let mut command = Command::new("bash");
    command
        .arg("-euc")
        .arg(script)
        .current_dir(dir)
        .env("LC_ALL", "C.UTF-8");
    let finished = run(command, Duration::from_secs(300)).and_then(Finished::ok);
    Ok(finished.with_context(|| format!("script: {script}"))?.stdout)
}

/// Asks `probe` again and again until it succeeds; past `limit`, fails with what was seen last.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() > limit => bail!("no {what} within {limit:?}; last seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// `count` TCP ports on loopback that were free a moment ago.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// The path of a program that `scripts/setup test` installs, or an error that says so.
pub fn tool(name: &str) -> Result<std::path::PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(Into::into);
    let home = || std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let dev_dir = std::env::var_os("NOTEFS_DEV_DIR").map(Into::into);
    let dev_dir: std::path::PathBuf = dev_dir.unwrap_or_else(|| cache.unwrap_or_else(home).join("notefs-dev"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["venv/bin", "cargo/bin", "basic-memory/bin"].map(|below| dev_dir.join(below));
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("program '{name}' is not installed: run 'scripts/setup test'"))
}
