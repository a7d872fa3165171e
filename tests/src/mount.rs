//! A real mount of the real binary, with its own cache and home, that never outlives its test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::Notefs;
use crate::process::{self, Guarded, wait_until};
use crate::store::Store;
use crate::{PATIENCE, scratch, sys};

/// How to mount.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// Further arguments of `notefs mount`.
    pub args: Vec<String>,
    /// Further environment.
    pub env: Vec<(String, String)>,
    /// Where the cache lies, if not beside the mount.
    pub cache: Option<PathBuf>,
}

/// A mount with its daemon in the foreground.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    cache: PathBuf,
    store: Store,
    options: MountOptions,
    notefs: Notefs,
    daemon: Option<Guarded>,
    log: PathBuf,
}

impl MountOptions {
    /// Options from arguments alone.
    pub fn args(args: &[&str]) -> MountOptions {
        MountOptions {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..MountOptions::default()
        }
    }
}

impl Mount {
    /// Mounts `store` with default options.
    pub fn start(store: &Store) -> Result<Mount> {
        Mount::start_with(store, MountOptions::default())
    }

    /// Mounts `store` in a fresh folder with a fresh cache.
    pub fn start_with(store: &Store, options: MountOptions) -> Result<Mount> {
        ensure!(
            is_nfs() || Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing: load the fuse module, or start the container with --device /dev/fuse"
        );
        let home = scratch::folder("home")?;
        let dir = home.join("notes");
        std::fs::create_dir(&dir)?;
        let env: Vec<_> = store.env.iter().chain(&options.env).cloned().collect();
        let notefs = Notefs::new(&home, &env);
        let cache = options.cache.clone().unwrap_or_else(|| home.join("replica"));
        let log = home.join("daemon.log");
        let mut mount = Mount {
            dir,
            cache,
            store: store.clone(),
            options,
            notefs,
            daemon: None,
            log,
        };
        mount.remount()?;
        Ok(mount)
    }

    /// Mounts again after an unmount or a kill, with the same cache.
    pub fn remount(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "still mounted");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = self.notefs.command(["mount", self.store.url.as_str()])?;
        command
            .arg(&self.dir)
            .arg("--cache")
            .arg(&self.cache)
            .arg("--foreground")
            .args(&self.options.args);
        if is_nfs() {
            command.args(["--protocol", "nfs"]);
        }
        command
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut daemon = process::spawn(command)?;
        let dir = self.dir.display().to_string();
        let pid = daemon.pid();
        let ready = wait_until("mount that answers", PATIENCE, || {
            if let Some(status) = daemon.poll() {
                return Ok(Err(format!("the daemon ended with {status}")));
            }
            let status = self
                .notefs
                .json(&["status", &dir, "--json"])
                .map_err(|error| format!("{error:#}"))?;
            if status["pid"].as_u64() == Some(u64::from(pid)) && scratch::is_mounted(&self.dir) {
                return Ok(Ok(()));
            }
            Err(format!(
                "daemon is {pid}, mounted: {}, status: {status}",
                scratch::is_mounted(&self.dir)
            ))
        });
        self.daemon = Some(daemon);
        let problem = match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(ended)) => ended,
            Err(error) => format!("{error:#}"),
        };
        let tail = self.log_tail();
        self.kill9();
        scratch::force_unmount(&self.dir);
        bail!("{} did not mount: {problem}\n{tail}", self.store.url)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below the mount.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// Its cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The binary with this mount's environment.
    pub fn notefs(&self) -> &Notefs {
        &self.notefs
    }

    /// Changes how the next `remount` mounts.
    pub fn set_args(&mut self, args: &[&str]) {
        self.options.args = MountOptions::args(args).args;
    }

    /// Makes the next `remount` use another way to the store.
    pub fn set_store(&mut self, store: &Store) {
        self.store = store.clone();
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("not mounted")?.pid())
    }

    /// `notefs status DIR --json`.
    pub fn status(&self) -> Result<Value> {
        self.notefs.json(&["status", &self.dir.display().to_string(), "--json"])
    }

    /// The step of the ladder that a file has reached, from its extended attribute.
    pub fn state_of(&self, below: &str) -> Result<String> {
        let value = sys::get_xattr(&self.path(below), "user.notefs.state")?;
        Ok(String::from_utf8_lossy(&value).trim().to_owned())
    }

    /// Waits, by the user's command, until everything is stored.
    pub fn drain(&self) -> Result<()> {
        self.notefs.output(&["sync", &self.dir.display().to_string()])?;
        let owed = owed(&self.status()?);
        ensure!(owed == Some(0), "'notefs sync' returned while {owed:?} files were owed");
        Ok(())
    }

    /// Waits until the daemon by itself has stored everything, without being asked to.
    pub fn settle(&self) -> Result<()> {
        wait_until("settled mount", PATIENCE, || {
            let status = self.status().map_err(|error| format!("{error:#}"))?;
            if owed(&status) == Some(0) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
    }

    /// Paths of the notes that a search finds.
    pub fn search(&self, query: &str) -> Result<Vec<String>> {
        let dir = self.dir.display().to_string();
        let finished = self.notefs.run(&["search", &dir, query, "--json", "--limit", "1000"])?;
        // As grep does, a search that finds nothing exits with 1.
        ensure!(
            finished.code() <= 1,
            "search {query:?}: exit {}: {}",
            finished.code(),
            finished.stderr
        );
        let answer: Value = serde_json::from_str(&finished.stdout).with_context(|| {
            format!(
                "search {query:?} printed no JSON: {} {}",
                finished.stdout, finished.stderr
            )
        })?;
        let hits = answer["hits"]
            .as_array()
            .with_context(|| format!("no list of hits: {answer}"))?;
        let paths = hits.iter().map(|result| result["path"].as_str().map(str::to_owned));
        paths
            .collect::<Option<_>>()
            .with_context(|| format!("a result without a path: {answer}"))
    }

    /// Kills the daemon as a crash would; the dead mount stays behind.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal(libc::SIGKILL);
            daemon.wait(PATIENCE).ok();
        }
    }

    /// Asks the daemon to end, as a service manager does.
    pub fn terminate(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("not mounted")?;
        daemon.signal(libc::SIGTERM);
        let status = daemon.wait(PATIENCE).with_context(|| self.log_tail())?;
        ensure!(
            status.success(),
            "the daemon ended with {status} after SIGTERM\n{}",
            self.log_tail()
        );
        ensure!(!scratch::is_mounted(&self.dir), "still mounted after SIGTERM");
        Ok(())
    }

    /// `notefs unmount DIR`, and the daemon's end.
    pub fn unmount(&mut self) -> Result<()> {
        self.notefs.output(&["unmount", &self.dir.display().to_string()])?;
        let mut daemon = self.daemon.take().context("not mounted")?;
        daemon.wait(PATIENCE).with_context(|| self.log_tail())?;
        ensure!(!scratch::is_mounted(&self.dir), "still mounted after 'notefs unmount'");
        Ok(())
    }

    /// Deletes everything this machine knows: cache and index. Only while unmounted.
    pub fn wipe_cache(&self) -> Result<()> {
        ensure!(self.daemon.is_none(), "still mounted");
        // Everything that notefs knows lies there; its home holds no other state.
        std::fs::remove_dir_all(&self.cache)?;
        Ok(())
    }

    /// Stores everything, unmounts, forgets, and mounts again: what another machine would see.
    pub fn start_cold(&mut self) -> Result<()> {
        self.drain()?;
        self.unmount()?;
        self.wipe_cache()?;
        self.remount()
    }

    /// All that the daemon said.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what the daemon said.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- end of {} ---\n{tail}", self.log.display())
    }
}

/// How often to do what is the same each time: less often over NFS, since the guest that has a client is slow.
pub fn scaled(count: usize) -> usize {
    if is_nfs() { count / 10 } else { count }
}

/// Whether the mounts of this process are NFS: `NOTEFS_TEST_PROTOCOL=nfs`, where the kernel has a client.
fn is_nfs() -> bool {
    std::env::var_os("NOTEFS_TEST_PROTOCOL").is_some_and(|protocol| protocol == "nfs")
}

/// How many files the bucket does not hold yet, by `status`.
pub fn owed(status: &Value) -> Option<u64> {
    status["owed"]["count"].as_u64()
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln_tail(&self.log_tail());
        }
        let dir = self.dir.clone();
        // Killing first means that no unmount can wait for a daemon that does not answer.
        self.kill9();
        wait_until("end of the mount", Duration::from_secs(5), || {
            scratch::force_unmount(&dir);
            if scratch::is_mounted(&dir) {
                Err("still mounted".into())
            } else {
                Ok(())
            }
        })
        .ok();
        sys::unseal(&dir);
    }
}

#[allow(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
fn eprintln_tail(tail: &str) {
    eprintln!("{tail}");
}
