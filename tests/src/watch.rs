//! Programs that watch a folder, as editors and indexers do: inotifywait, watchfiles, watchdog, chokidar, Parcel's watcher; and what they saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{self, Guarded, wait_until};
use crate::{PATIENCE, scratch};

/// A watching program with its output in a file.
#[derive(Debug)]
pub struct Watcher {
    dir: PathBuf,
    output: PathBuf,
    _process: Guarded,
}

/// Prints each change as `kind path`, after `ready`.
const WATCHFILES: &str = "
import sys, watchfiles
print('ready', flush=True)
for changes in watchfiles.watch(sys.argv[1], debounce=20, step=10, rust_timeout=100, yield_on_timeout=True):
    for kind, path in sorted(changes, key=lambda change: change[1]):
        print(kind.name, path, flush=True)
";

/// The same; a move prints both paths.
const WATCHDOG: &str = "
import sys, time
from watchdog.observers import Observer
from watchdog.events import FileSystemEventHandler
class Print(FileSystemEventHandler):
    def on_any_event(self, event):
        if event.event_type in ('created', 'modified', 'moved', 'deleted') and not event.is_directory:
            print(event.event_type, event.src_path, event.dest_path, flush=True)
observer = Observer()
observer.schedule(Print(), sys.argv[1], recursive=True)
observer.start()
print('ready', flush=True)
time.sleep(3600)
";

/// The watcher of many editors and builders. Prints `add`, `change` or `unlink` and the path.
const CHOKIDAR: &str = "
const chokidar = require('chokidar');
const watcher = chokidar.watch(process.argv[1], {ignoreInitial: true});
for (const kind of ['add', 'change', 'unlink']) watcher.on(kind, path => console.log(kind, path));
watcher.on('ready', () => console.log('ready'));
";

/// That of VS Code. Prints `create`, `update` or `delete` and the path.
const PARCEL: &str = "
const watcher = require('@parcel/watcher');
const tell = (error, events) => { for (const event of events || []) console.log(event.type, event.path); };
watcher.subscribe(process.argv[1], tell).then(() => console.log('ready'));
";

impl Watcher {
    /// `inotifywait -m -r` on a folder, or on a file: one line an event, as `EVENTS path`, without those of mere reading.
    pub fn inotify(path: &Path) -> Result<Watcher> {
        let mut command = Command::new("inotifywait");
        let events = "create,open,modify,attrib,close_write,moved_from,moved_to,move_self,delete,delete_self";
        command
            .args(["-m", "-r", "--format", "%e %w%f", "-e", events])
            .arg(path);
        Watcher::start(command, path, "Watches established.")
    }

    /// The watchfiles package.
    pub fn watchfiles(dir: &Path) -> Result<Watcher> {
        Watcher::python(WATCHFILES, dir)
    }

    /// The watchdog package.
    pub fn watchdog(dir: &Path) -> Result<Watcher> {
        Watcher::python(WATCHDOG, dir)
    }

    /// The chokidar package.
    pub fn chokidar(dir: &Path) -> Result<Watcher> {
        Watcher::node(CHOKIDAR, dir)
    }

    /// The @parcel/watcher package.
    pub fn parcel(dir: &Path) -> Result<Watcher> {
        Watcher::node(PARCEL, dir)
    }

    fn node(script: &str, dir: &Path) -> Result<Watcher> {
        // `scripts/setup test` has put both packages beside the servers.
        let modules = process::tool("weed")?.with_file_name("../../node/node_modules");
        let mut command = Command::new(process::tool("node")?);
        command.env("NODE_PATH", modules).args(["-e", script]).arg(dir);
        Watcher::start(command, dir, "ready")
    }

    fn python(script: &str, dir: &Path) -> Result<Watcher> {
        // The private environment of the servers, where `scripts/setup test` has put both packages.
        let python = process::tool("watchmedo")?.with_file_name("python");
        let mut command = Command::new(python);
        command.args(["-u", "-c", script]).arg(dir);
        Watcher::start(command, dir, "ready")
    }

    fn start(mut command: Command, dir: &Path, ready: &str) -> Result<Watcher> {
        let output = scratch::folder("watch")?.join("output");
        let file = std::fs::File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let watcher = Watcher {
            dir: dir.to_owned(),
            output,
            _process: process::spawn(command)?,
        };
        watcher.wait("watcher that is ready", |lines| lines.iter().any(|line| line == ready))?;
        Ok(watcher)
    }

    /// What it has said so far, with paths below the watched folder.
    pub fn lines(&self) -> Result<Vec<String>> {
        let text = std::fs::read(&self.output).with_context(|| self.output.display().to_string())?;
        let text = String::from_utf8_lossy(&text);
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let prefix = format!("{}/", self.dir.display());
        Ok(whole.lines().map(|line| line.replace(&prefix, "")).collect())
    }

    /// Waits until what it said is enough.
    pub fn wait(&self, what: &str, enough: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        wait_until(what, PATIENCE, || {
            let lines = self.lines().map_err(|error| format!("{error:#}"))?;
            if enough(&lines) {
                Ok(lines)
            } else {
                let tail = lines[lines.len().saturating_sub(20)..].join(" | ");
                Err(format!("{} lines, at last {tail}", lines.len()))
            }
        })
    }

    /// Everything seen until now: a file of our own is made, and its event comes after all others. `name` is one word.
    pub fn everything(&self, name: &str) -> Result<Vec<String>> {
        std::fs::write(self.dir.join(name), "")?;
        let is_mark = |line: &String| line.split(' ').any(|word| word == name);
        let mut lines = self.wait("event of our own", |lines| lines.iter().any(is_mark))?;
        lines.retain(|line| !is_mark(line));
        Ok(lines)
    }
}

/// The events of each path in their order, from lines of inotifywait, without the opening of folders.
pub fn by_path(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (events, path) in lines.iter().filter_map(|line| line.split_once(' ')) {
        let events = events.replace("CLOSE_WRITE,CLOSE", "CLOSE_WRITE");
        let known = events.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c == ',');
        if known && events != "OPEN,ISDIR" {
            paths.entry(path.to_owned()).or_default().push(events);
        }
    }
    paths
}
