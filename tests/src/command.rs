//! Running the `notefs` binary as a user does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{self, Finished};

/// The binary with an environment of its own: a home without configuration, and the store's credentials.
#[derive(Clone, Debug)]
pub struct Notefs {
    home: PathBuf,
    env: Vec<(String, String)>,
}

impl Notefs {
    /// A user whose home is `home`, with `env` on top.
    pub fn new(home: &Path, env: &[(String, String)]) -> Notefs {
        let run = home.join("run");
        std::fs::create_dir_all(&run).ok();
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).ok();
        Notefs {
            home: home.into(),
            env: env.into(),
        }
    }

    /// A command that is set up but not started.
    pub fn command<I, A>(&self, args: I) -> Result<Command>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(binary()?);
        command.args(args).env_clear().current_dir(&self.home);
        for name in ["PATH", "LANG", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", &self.home).env("RUST_BACKTRACE", "1");
        let folders = [
            ("CACHE", "cache"),
            ("CONFIG", "config"),
            ("DATA", "data"),
            ("STATE", "state"),
        ];
        command.envs(folders.map(|(name, folder)| (format!("XDG_{name}_HOME"), self.home.join(folder))));
        command.env("XDG_RUNTIME_DIR", self.home.join("run"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Runs a command to its end, whatever its exit code.
    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        process::run(self.command(args)?, Duration::from_secs(120))
    }

    /// Runs a command that must succeed; its standard output.
    pub fn output(&self, args: &[&str]) -> Result<String> {
        let finished = self
            .run(args)?
            .ok()
            .with_context(|| format!("notefs {}", args.join(" ")))?;
        Ok(finished.stdout)
    }

    /// Runs a command that must succeed and print JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.output(args)?;
        serde_json::from_str(&text).with_context(|| format!("notefs {} printed no JSON: {text}", args.join(" ")))
    }

    /// Runs a command that must fail with `code`; its standard error.
    pub fn failure(&self, args: &[&str], code: i32) -> Result<String> {
        let finished = self.run(args)?;
        let (out, err) = (&finished.stdout, &finished.stderr);
        let got = finished.code();
        ensure!(
            got == code,
            "notefs {}: exit {got}, not {code}\nstdout: {out}\nstderr: {err}",
            args.join(" ")
        );
        ensure!(!err.contains("panicked"), "notefs {} panicked: {err}", args.join(" "));
        ensure!(
            !err.trim().is_empty(),
            "notefs {} failed without a word",
            args.join(" ")
        );
        Ok(finished.stderr)
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

/// The binary under test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NOTEFS_BIN") {
        return Ok(path.into());
    }
    // A test lies in <target>/<profile>/deps, a program of this crate in <target>/<profile>.
    let own = std::env::current_exe()?;
    let path = own
        .ancestors()
        .map(|folder| folder.join("release/notefs"))
        .find(|path| path.is_file());
    path.context("no notefs binary: run 'cargo build --release -p notefs', or set NOTEFS_BIN")
}
