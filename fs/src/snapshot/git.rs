//! The real git, as a program: one bare repository between this machine and a remote.
//!
//! Owns how it is called, its deadline and that no secret of the remote's address is repeated. Does not own what is committed.

use super::Target;
use super::plan::{Object, Tree};
use crate::failure::Failure;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The remote's name within the repository.
const REMOTE: &str = "notefs";

/// Where the commit stands that is to be pushed.
pub(super) const NEW_REF: &str = "refs/notefs/new";

/// Where the remote's branch stands here.
const SEEN_REF: &str = "refs/notefs/seen";

/// Between two looks whether git has ended.
const POLL_MS: u64 = 10;

/// Exit code of `git ls-remote --exit-code` when there is no such branch.
const NO_SUCH_REF: i32 = 2;

/// The repository.
#[derive(Debug)]
pub(super) struct Git {
    dir: PathBuf,
    remote: String,
    branch: String,
    until: Instant,
    _lock: File,
}

/// What came of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The remote has it.
    Done,
    /// The branch has moved meanwhile.
    Overtaken,
}

impl Git {
    /// Opens the repository, and makes it if there is none.
    pub(super) fn open(target: &Target, until: Instant) -> Result<Git, Failure> {
        let dir = target.work.join("repository");
        let mut maker = std::fs::DirBuilder::new();
        maker.recursive(true).mode(0o700);
        maker.create(&dir).map_err(Failure::io("make", &dir))?;
        let git = Git {
            _lock: lock(&target.work)?,
            dir,
            remote: target.remote.clone(),
            branch: target.branch.clone(),
            until,
        };
        if !git.dir.join("HEAD").exists() {
            git.run(&["init", "--quiet", "--bare"])?;
        }
        git.run(&["check-ref-format", "--branch", &git.branch])
            .map_err(|_| Failure::usage(format!("{:?} is no name for a branch", git.branch)))?;
        Ok(git)
    }

    /// The remote and branch, for people.
    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.branch, without_secret(&self.remote))
    }

    /// A call of git on this repository, which asks nobody anything.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(args).env("GIT_DIR", &self.dir).stdin(Stdio::null());
        for variable in [
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_COMMON_DIR",
        ] {
            command.env_remove(variable);
        }
        command.env("GIT_TERMINAL_PROMPT", "0");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20");
        }
        // By the environment, which only this user can read, and not on a command line.
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", format!("remote.{REMOTE}.url"));
        command.env("GIT_CONFIG_VALUE_0", &self.remote);
        command
    }

    /// Runs git to its end and answers what it wrote.
    pub(super) fn run(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = self.output(args)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(args, &output.stderr))
    }

    fn output(&self, args: &[&str]) -> Result<Output, Failure> {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(no_git)?;
        self.finish(child)
    }

    /// Waits for a call's end, and ends it when the time is over.
    pub(super) fn finish(&self, mut child: Child) -> Result<Output, Failure> {
        let streams = [
            child.stdout.take().map(|stream| reader(Box::new(stream))),
            child.stderr.take().map(|stream| reader(Box::new(stream))),
        ];
        let status = loop {
            match child.try_wait().map_err(Failure::io("wait for git in", &self.dir))? {
                Some(status) => break status,
                None if Instant::now() >= self.until => {
                    child.kill().ok();
                    child.wait().ok();
                    return Err(Failure::new(format!("git did not end in time ({})", self.name()))
                        .hint("Look whether the remote answers, or give it more time with --timeout"));
                }
                None => std::thread::sleep(Duration::from_millis(POLL_MS)),
            }
        };
        let [stdout, stderr] = streams.map(|stream| stream.and_then(|thread| thread.join().ok()).unwrap_or_default());
        Ok(Output { status, stdout, stderr })
    }

    /// What a call that failed says.
    pub(super) fn failed(&self, args: &[&str], stderr: &[u8]) -> Failure {
        let said = String::from_utf8_lossy(stderr).into_owned();
        let said = match secret_of(&self.remote) {
            Some(secret) => said.replace(secret, ""),
            None => said,
        };
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let what = args.first().copied().unwrap_or_default();
        Failure::new(format!("git {what} failed ({}): {}", self.name(), said.join("; ")))
            .hint("The address and the credentials are git's own: try the same with `git ls-remote`")
    }

    /// Brings the remote's branch here; none if the remote has none.
    pub(super) fn fetch(&self) -> Result<Option<String>, Failure> {
        let wanted = format!("refs/heads/{}", self.branch);
        let args = ["ls-remote", "--exit-code", REMOTE, &wanted];
        let output = self.output(&args)?;
        if output.status.code() == Some(NO_SUCH_REF) {
            return Ok(None);
        }
        if !output.status.success() {
            return Err(self.failed(&args, &output.stderr));
        }
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let commit = answer.split_whitespace().next().unwrap_or_default().to_owned();
        let object = format!("{commit}^{{tree}}");
        if self.output(&["cat-file", "-e", &object])?.status.success() {
            self.run(&["update-ref", SEEN_REF, &commit])?;
            return Ok(Some(commit));
        }
        let refs = format!("+{wanted}:{SEEN_REF}");
        self.run(&["fetch", "--quiet", "--no-tags", REMOTE, &refs])?;
        self.resolve(SEEN_REF).map(Some)
    }

    /// From now on `HEAD` and the branch's name stand for this commit, so that people can count back from it.
    pub(super) fn call_newest(&self, commit: &str) -> Result<(), Failure> {
        let branch = format!("refs/heads/{}", self.branch);
        self.run(&["update-ref", &branch, commit])?;
        self.run(&["symbolic-ref", "HEAD", &branch]).map(drop)
    }

    /// The commit that a name stands for.
    pub(super) fn resolve(&self, name: &str) -> Result<String, Failure> {
        let name = format!("{name}^{{commit}}");
        let answer = self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    /// Every file of a commit.
    pub(super) fn tree(&self, commit: &str) -> Result<Tree, Failure> {
        let listed = self.run(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
        let lines = listed.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        lines
            .map(|line| parse_line(line).ok_or_else(|| self.failed(&["ls-tree"], line)))
            .collect()
    }

    /// Puts a commit at the end of the remote's branch.
    pub(super) fn push(&self, commit: &str) -> Result<Pushed, Failure> {
        let refs = format!("{commit}:refs/heads/{}", self.branch);
        let args = ["push", "--quiet", "--porcelain", REMOTE, &refs];
        let output = self.output(&args)?;
        if output.status.success() {
            return Ok(Pushed::Done);
        }
        // A line of the porcelain: `!`, a tab, the refs, a tab, the reason; what a server that was overtaken says is worded in many ways.
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let overtaken = [
            "fetch first",
            "non-fast-forward",
            "failed to update ref",
            "cannot lock ref",
            "incorrect old value",
        ];
        if overtaken.iter().any(|reason| report.contains(reason)) {
            return Ok(Pushed::Overtaken);
        }
        Err(self.failed(&args, &[report.as_bytes(), &output.stderr].concat()))
    }
}

/// Holds others off who would use the same repository.
fn lock(work: &Path) -> Result<File, Failure> {
    let place = work.join("lock");
    let file = File::create(&place).map_err(Failure::io("lock", &place))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::new(format!("Another snapshot is using {}", work.display())).hint("Wait for its end")),
    }
}

/// `MODE TYPE OBJECT<tab>PATH`.
fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Object)> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut facts = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
    let mode = facts.next()?.to_owned();
    let id = facts.nth(1)?.to_owned();
    Some((line[tab + 1..].to_vec(), Object { mode, id }))
}

/// Reads a stream to its end beside the program that fills it.
fn reader(mut stream: Box<dyn Read + Send>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is what there is to show.
        stream.read_to_end(&mut bytes).ok();
        bytes
    })
}

/// What to say when git could not be started.
pub(super) fn no_git(error: std::io::Error) -> Failure {
    Failure::new(format!("Could not start git: {error}")).hint("Install it, on Debian with `apt install git`")
}

/// The user and password in a remote's address, with the `@` after them.
fn secret_of(remote: &str) -> Option<&str> {
    let (_, rest) = remote.split_once("://")?;
    let host_end = rest.find('/').unwrap_or(rest.len());
    let at = rest[..host_end].rfind('@')?;
    Some(&rest[..=at])
}

/// A remote's address without the user and password in it.
fn without_secret(remote: &str) -> String {
    secret_of(remote).map_or_else(|| remote.to_owned(), |secret| remote.replacen(secret, "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_an_address_is_not_shown() {
        assert_eq!(without_secret("https://me:key@host/a@b.git"), "https://host/a@b.git");
        assert_eq!(without_secret("https://host/a.git"), "https://host/a.git");
        assert_eq!(without_secret("git@host:a.git"), "git@host:a.git");
        assert_eq!(without_secret("/srv/a@b.git"), "/srv/a@b.git");
    }

    #[test]
    fn a_line_of_a_tree_is_read() {
        let (path, object) = parse_line(b"100755 blob 0123abcd\ta \xff\t.md").unwrap();
        assert_eq!(path, b"a \xff\t.md");
        assert_eq!((object.mode.as_str(), object.id.as_str()), ("100755", "0123abcd"));
        assert!(parse_line(b"100755 blob").is_none());
    }
}
