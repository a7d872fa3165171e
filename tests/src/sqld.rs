//! A real `sqld`, the server of libSQL, on loopback.
//!
//! Owns starting it, open or with tokens checked, and making tokens. Each test file starts its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{self, Guarded};
use crate::{PATIENCE, scratch};

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Sqld {
    address: SocketAddr,
    folder: PathBuf,
    process: Guarded,
}

impl Sqld {
    /// One that lets everybody in.
    pub fn start() -> Result<Sqld> {
        Self::start_in(scratch::folder("sqld")?, &[])
    }

    /// One that checks tokens ([`Self::token`]).
    pub fn with_tokens() -> Result<Sqld> {
        let folder = scratch::folder("sqld")?;
        openssl(&folder, &["genpkey", "-algorithm", "ed25519", "-out", "key.pem"])?;
        openssl(&folder, &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"])?;
        Self::start_in(folder, &["--auth-jwt-key-file", "public.pem"])
    }

    fn start_in(folder: PathBuf, options: &[&str]) -> Result<Sqld> {
        let port = process::free_ports(1)?[0];
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Sqld {
            address,
            process: spawn(&folder, address, options)?,
            folder,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let address = self.address;
        process::wait_until("answer of sqld", PATIENCE, || {
            if let Some(status) = self.process.poll() {
                return Ok(Err(format!("it ended with {status}")));
            }
            std::net::TcpStream::connect(address).map_err(|error| error.to_string())?;
            Ok(Ok(()))
        })?
        .map_err(|error| {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            anyhow::anyhow!("{error}\n{log}")
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a token.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait(PATIENCE).ok();
    }

    /// Starts it again on what it had.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.folder, self.address, &[])?;
        self.wait_until_ready()
    }

    /// Runs SQL past notefs.
    pub fn run(&self, sql: &str) -> Result<()> {
        let statement = serde_json::json!({"type": "execute", "stmt": {"sql": sql}});
        let pipeline = serde_json::json!({"requests": [statement, {"type": "close"}]});
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--fail",
            "--json",
            &pipeline.to_string(),
            &format!("{}/v3/pipeline", self.url()),
        ]);
        let answer = process::run(command, PATIENCE)?.ok()?.stdout;
        anyhow::ensure!(!answer.contains("\"type\":\"error\""), "{sql}: {answer}");
        Ok(())
    }

    /// A token with this claim ("rw" or "ro") that the server takes.
    pub fn token(&self, access: &str) -> Result<String> {
        let script = r#"
            encode() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
            head=$(printf '{"alg":"EdDSA","typ":"JWT"}' | encode)
            claims=$(printf '{"a":"%s","exp":4102444800}' "$ACCESS" | encode)
            printf '%s.%s' "$head" "$claims" >signed
            openssl pkeyutl -sign -inkey key.pem -rawin -in signed -out signature
            printf '%s.%s.%s' "$head" "$claims" "$(encode <signature)"
        "#;
        process::shell(&self.folder, &format!("ACCESS={access}\n{script}"))
    }
}

fn spawn(folder: &Path, address: SocketAddr, options: &[&str]) -> Result<Guarded> {
    let log = std::fs::File::create(folder.join("log"))?;
    let mut command = Command::new(process::tool("sqld")?);
    command
        .args(["--db-path", "data.sqld", "--no-welcome", "--http-listen-addr"])
        .arg(address.to_string())
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    process::spawn(command)
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    process::run(command, PATIENCE)
        .and_then(process::Finished::ok)
        .context("openssl makes the keys of sqld's tokens")?;
    Ok(())
}
