//! A real PostgreSQL on loopback, in a cluster of its own that is thrown away.
//!
//! Owns making and starting it. It refuses to run as root, so root's becomes one of nobody's. The user `test` needs no
//! password; others do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{self, Guarded};
use crate::{PATIENCE, scratch};

/// Who may come in how.
const ACCESS: &str = "host all test 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
/// How long the server has to end by itself, in seconds.
const STOP_SECONDS: u64 = 10;

/// An authority, and a server's certificate by it for this machine.
const MAKE_CERTIFICATES: &str = "
    openssl req -x509 -newkey rsa:2048 -nodes -keyout authority.key -out authority.pem -days 2 -subj '/CN=authority of a test'
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >extensions
    openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -out server.pem -days 2 -extfile extensions
    chmod 600 server.key
    cp -a server.key server.pem data/
    [ $(id -u) != 0 ] || chown nobody: data/server.key data/server.pem";

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    folder: PathBuf,
    options: &'static [&'static str],
    process: Guarded,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Result<Postgres> {
        Postgres::start_with(ACCESS, &[], "true")
    }

    /// The same, and it speaks TLS only.
    pub fn encrypted() -> Result<Postgres> {
        let access = ACCESS.replace("host ", "hostssl ");
        let options = &[
            "-c",
            "ssl=on",
            "-c",
            "ssl_cert_file=server.pem",
            "-c",
            "ssl_key_file=server.key",
        ];
        Postgres::start_with(&access, options, MAKE_CERTIFICATES)
    }

    /// The certificate of who signed the one of an encrypted server.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    fn start_with(access: &str, options: &'static [&'static str], prepare: &str) -> Result<Postgres> {
        let programs = programs()?;
        let folder = scratch::folder("postgres")?;
        if is_root() {
            process::shell(&folder, "chown nobody: . && chmod 755 ..")?;
        }
        let mut initdb = as_nobody(&programs.join("initdb"));
        initdb
            .args([
                "-U",
                "test",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
                "data",
            ])
            .current_dir(&folder);
        process::run(initdb, PATIENCE).and_then(process::Finished::ok)?;
        std::fs::write(folder.join("data/pg_hba.conf"), access)?;
        process::shell(&folder, &format!("set -e; {prepare}"))?;
        let port = process::free_ports(1)?[0];
        let server = Postgres {
            port,
            process: spawn(&programs, &folder, port, options)?,
            options,
            programs,
            folder,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> Result<()> {
        process::wait_until("answer of PostgreSQL", PATIENCE, || {
            self.run("SELECT 1").map_err(|error| format!("{error:#}"))
        })
        .with_context(|| std::fs::read_to_string(self.folder.join("log")).unwrap_or_default())?;
        Ok(())
    }

    /// The URL for a user, with a password or without.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs SQL with PostgreSQL's own client, and answers what that prints.
    pub fn run(&self, sql: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        command.arg(self.url("test"));
        Ok(process::run(command, PATIENCE)?.ok()?.stdout)
    }

    /// Stops it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.signal(libc::SIGQUIT);
        self.process.wait(PATIENCE).ok();
    }

    /// Starts it again on what it had.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.programs, &self.folder, self.port, self.options)?;
        self.wait_until_ready()
    }
}

impl Drop for Postgres {
    /// A server that is killed leaves shared memory behind.
    fn drop(&mut self) {
        self.process.signal(libc::SIGINT);
        self.process.wait(Duration::from_secs(STOP_SECONDS)).ok();
    }
}

fn spawn(programs: &Path, folder: &Path, port: u16, options: &[&str]) -> Result<Guarded> {
    let log = std::fs::File::create(folder.join("log"))?;
    let mut command = as_nobody(&programs.join("postgres"));
    command
        .args(["-D", "data", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
        .args(["-c", "unix_socket_directories=", "-p"])
        .arg(port.to_string())
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    process::spawn(command)
}

fn is_root() -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--pdeathsig=KILL",
        ])
        .arg(program);
    command
}

/// Debian keeps them apart, by version; the newest counts.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs): &(u32, PathBuf)| programs.join("initdb").is_file())
        .collect();
    found.sort();
    match found.pop() {
        Some((_, programs)) => Ok(programs),
        None => {
            let initdb = process::tool("initdb")?.canonicalize()?;
            Ok(initdb.parent().context("initdb is in no folder")?.to_owned())
        }
    }
}
