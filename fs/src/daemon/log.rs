//! The log of a mount: a private file of bounded size, or stderr in the foreground.
//!
//! Owns where lines go and which are kept. What this project's own crates say is kept as asked for; of the libraries below
//! errors (warnings with `-v`), since their finer words might show headers of requests.

use crate::failure::Failure;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// A log file that has grown beyond this becomes `….1`, and the one of that name goes.
const LOG_SIZE_MAX_BYTES: u64 = 16 << 20;

/// How lines look, and which are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// A JSON object a line.
    pub(crate) json: bool,
    /// 0 errors, 1 warnings, 2 rare events, 3 decisions, 4 everything.
    pub(crate) level: u8,
}

/// Opens a log file for appending, readable by its owner only; begins a new one if it is full.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let open = || {
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > LOG_SIZE_MAX_BYTES) {
            std::fs::rename(path, rotated(path))?;
        }
        File::options().append(true).create(true).mode(0o600).open(path)
    };
    open().map_err(Failure::io("open the log", path))
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Logs to stderr from now on.
pub(crate) fn to_stderr(look: Look) {
    install(BoxMakeWriter::new(io::stderr), io::stderr().is_terminal(), look);
}

/// Logs to a file from now on.
pub(crate) fn to_file(path: &Path, look: Look) -> Result<(), Failure> {
    let file = open(path)?;
    let (is_file, size_bytes) = file
        .metadata()
        .map_or((false, 0), |metadata| (metadata.is_file(), metadata.len()));
    let follows_output = !io::stderr().is_terminal();
    let log = BoundedLog {
        path: path.to_owned(),
        file,
        is_file,
        size_bytes,
        follows_output,
    };
    install(BoxMakeWriter::new(Mutex::new(log)), false, look);
    Ok(())
}

fn install(writer: BoxMakeWriter, colours: bool, look: Look) {
    let own = match look.level {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::WARN,
        2 => LevelFilter::INFO,
        3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let kept = Targets::new()
        .with_target("notefs", own)
        .with_default(LevelFilter::WARN.min(own));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry();
    // Only a second installation in one process can fail, and then the first goes on.
    if look.json {
        let layer = layer.json().flatten_event(true).with_ansi(false);
        registry.with(layer.with_filter(kept)).try_init().ok();
    } else {
        registry
            .with(layer.with_ansi(colours).with_filter(kept))
            .try_init()
            .ok();
    }
}

/// A log file that begins anew when it is full. A pipe or a device (`--log /dev/stderr`) is never full.
struct BoundedLog {
    path: PathBuf,
    file: File,
    is_file: bool,
    size_bytes: u64,
    /// Standard output and error lead to this file, too: a panic's message must not vanish with a full log.
    follows_output: bool,
}

impl BoundedLog {
    fn rotate(&mut self) -> io::Result<()> {
        std::fs::rename(&self.path, rotated(&self.path))?;
        self.file = File::options().append(true).create(true).mode(0o600).open(&self.path)?;
        self.size_bytes = 0;
        if self.follows_output {
            rustix::stdio::dup2_stdout(&self.file)?;
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_file && self.size_bytes > LOG_SIZE_MAX_BYTES && self.rotate().is_err() {
            // Better a log that is cut than a disk that is full.
            return Ok(line.len());
        }
        let written = self.file.write(line)?;
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_full_log_begins_anew() {
        let path = std::env::temp_dir().join(format!("notefs-log-{}", std::process::id()));
        let file = open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let mut log = BoundedLog {
            path: path.clone(),
            file,
            is_file: true,
            size_bytes: 0,
            follows_output: false,
        };
        log.write_all(b"old\n").unwrap();
        log.size_bytes = LOG_SIZE_MAX_BYTES + 1;
        log.write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        assert_eq!(std::fs::read(rotated(&path)).unwrap(), b"old\n");
        std::fs::remove_file(rotated(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pipe_is_left_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut log = BoundedLog {
            file: open(&path).unwrap(),
            path: path.clone(),
            is_file: false,
            size_bytes: LOG_SIZE_MAX_BYTES + 1,
            follows_output: false,
        };
        log.write_all(b"line").unwrap();
        let mut line = [0; 4];
        io::Read::read_exact(&mut reader, &mut line).unwrap();
        assert_eq!(&line, b"line");
        assert!(!rotated(&path).exists());
    }
}
