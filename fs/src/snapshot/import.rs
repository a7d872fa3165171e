//! A commit as `git fast-import` reads it.
//!
//! Owns the stream and that a file which changes while it is read ends it. Does not own what is in it (`plan`). The format is that of
//! git-fast-import(1).

use super::git::{Git, NEW_REF, no_git};
use super::plan::{Plan, Put, Stamp};
use crate::failure::Failure;
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

/// What came of writing a commit.
pub(super) enum Outcome {
    /// It is in the repository; nobody has seen it yet. The commit before, if both are alike.
    Committed(String),
    /// This file changed meanwhile, and there is no commit.
    Changed(PathBuf),
}

/// Why a stream ended early.
enum Broken {
    Changed(PathBuf),
    Failed(Failure),
}

/// Writes the commit.
pub(super) fn commit(git: &Git, parent: Option<&str>, plan: &Plan, message: &str) -> Result<Outcome, Failure> {
    let args = ["fast-import", "--quiet", "--force", "--done"];
    let mut command = git.command(&args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(no_git)?;
    let mut written = Ok(());
    if let Some(stdin) = child.stdin.take() {
        let mut stream = BufWriter::new(stdin);
        written = write(&mut stream, parent, plan, message);
        if written.is_ok() {
            written = stream.flush().map_err(|error| Broken::Failed(pipe_failed(&error)));
        }
        // Without its `done` the stream is refused, so what was broken off leaves no commit.
    }
    let output = git.finish(child)?;
    match written {
        Err(Broken::Changed(place)) => return Ok(Outcome::Changed(place)),
        // What git says of a stream that it refused tells more than the pipe that broke.
        Err(Broken::Failed(failure)) if output.status.success() || output.stderr.is_empty() => return Err(failure),
        _ if !output.status.success() => return Err(git.failed(&args, &output.stderr)),
        _ => {}
    }
    let commit = git.resolve(NEW_REF)?;
    match parent {
        Some(parent) if git.run(&["diff-tree", "--quiet", parent, &commit]).is_ok() => {
            Ok(Outcome::Committed(parent.to_owned()))
        }
        _ => Ok(Outcome::Committed(commit)),
    }
}

fn write(stream: &mut impl Write, parent: Option<&str>, plan: &Plan, message: &str) -> Result<(), Broken> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|letter| !"<>\n".contains(*letter)).collect();
    let mut head = format!("reset {NEW_REF}\n");
    head += &format!("commit {NEW_REF}\ncommitter notefs <notefs@{host}> {seconds} +0000\n");
    head += &format!("data {}\n{message}\n", message.len());
    if let Some(parent) = parent {
        head += &format!("from {parent}\n");
    }
    stream.write_all(head.as_bytes()).map_err(pipe)?;
    for path in &plan.removals {
        stream
            .write_all(&[b"D ", quoted(path).as_slice(), b"\n"].concat())
            .map_err(pipe)?;
    }
    for put in &plan.puts {
        write_file(stream, put)?;
    }
    stream.write_all(b"\ndone\n").map_err(pipe)
}

fn write_file(stream: &mut impl Write, put: &Put) -> Result<(), Broken> {
    let changed = || Broken::Changed(put.place.clone());
    let head = format!("M {} inline ", put.mode);
    let head = [head.as_bytes(), &quoted(&put.path), b"\n"].concat();
    if put.mode == "120000" {
        let target = std::fs::read_link(&put.place).map_err(|_| changed())?;
        let target = target.as_os_str().as_bytes();
        let data = format!("data {}\n", target.len());
        let all = [&head, data.as_bytes(), target, b"\n"].concat();
        return stream.write_all(&all).map_err(pipe);
    }
    let mut file = match std::fs::File::open(&put.place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
        file => file.map_err(|error| Broken::Failed(Failure::io("read", &put.place)(error)))?,
    };
    let data = format!("data {}\n", put.size);
    stream.write_all(&[&head, data.as_bytes()].concat()).map_err(pipe)?;
    let copied = copy(&mut file, stream, put)?;
    let after = file
        .metadata()
        .map_err(|error| Broken::Failed(Failure::io("look at", &put.place)(error)))?;
    if copied != put.size || Stamp::of(&after) != put.stamp {
        return Err(changed());
    }
    stream.write_all(b"\n").map_err(pipe)
}

/// As many bytes as the file had; a pipe that breaks and a file that cannot be read are told apart.
fn copy(file: &mut std::fs::File, stream: &mut impl Write, put: &Put) -> Result<u64, Broken> {
    const PIECE_BYTES: usize = 64 << 10;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = put.size;
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(PIECE_BYTES));
        let count = file
            .read(&mut piece[..wanted])
            .map_err(|error| Broken::Failed(Failure::io("read", &put.place)(error)))?;
        if count == 0 {
            break;
        }
        stream.write_all(&piece[..count]).map_err(pipe)?;
        left -= count as u64;
    }
    Ok(put.size - left)
}

fn pipe(error: std::io::Error) -> Broken {
    Broken::Failed(pipe_failed(&error))
}

fn pipe_failed(error: &std::io::Error) -> Failure {
    Failure::new(format!("git fast-import ended early: {error}"))
}

/// A path as the stream takes it: in quotes, with C's escapes.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            0..0x20 | 0x7f.. => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_can_be_quoted() {
        assert_eq!(quoted(b"a b.md"), b"\"a b.md\"");
        assert_eq!(quoted(b"a\"\\\n\xff"), b"\"a\\\"\\\\\\012\\377\"");
    }
}
