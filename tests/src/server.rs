//! Real S3 servers on loopback: ministack (in memory, starts at once) and SeaweedFS (on disk, checks secrets).
//!
//! Each runs once a test process, on free ports; every test takes a bucket of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Guarded};
use crate::s3::S3Client;
use crate::scratch;
use crate::sigv4::Credentials;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pure Python, in memory, a flat key space as real S3 has it, any key and secret accepted.
    Ministack,
    /// `weed mini`: on disk, hierarchical underneath, refuses wrong keys and secrets.
    Weed,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    address: SocketAddr,
    credentials: Credentials,
    log: PathBuf,
    process: Guarded,
}

impl Server {
    /// The one server of this kind in this process, started at its first use.
    pub fn shared(kind: Kind) -> Result<&'static Server> {
        static MINISTACK: OnceLock<Result<Server, String>> = OnceLock::new();
        static WEED: OnceLock<Result<Server, String>> = OnceLock::new();
        let slot = if kind == Kind::Ministack { &MINISTACK } else { &WEED };
        let server = slot.get_or_init(|| Server::start(kind).map_err(|error| format!("{error:#}")));
        server.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Starts a server of its own; three tries, for another process may take a free port first.
    pub fn start(kind: Kind) -> Result<Server> {
        Server::start_with(kind, &[])
    }

    fn start_with(kind: Kind, tenants: &[&str]) -> Result<Server> {
        let mut tried = Vec::new();
        for _ in 0..3 {
            match Server::start_once(kind, tenants) {
                Ok(server) => return Ok(server),
                Err(error) => tried.push(format!("{error:#}")),
            }
        }
        bail!(
            "{kind:?} does not start; 'scripts/setup test' installs it\n{}",
            tried.join("\n")
        )
    }

    fn start_once(kind: Kind, tenants: &[&str]) -> Result<Server> {
        let folder = scratch::folder("server")?;
        let ports = process::free_ports(10)?;
        let credentials = Credentials {
            access_key: "notefskey".into(),
            secret_key: "notefs-test-secret".into(),
        };
        let mut command = match kind {
            Kind::Ministack => ministack(ports[0])?,
            Kind::Weed => weed(&ports, &folder, &identities(&credentials, tenants))?,
        };
        let log = folder.join("log");
        let output = std::fs::File::create(&log)?;
        command
            .current_dir(&folder)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = process::spawn(command)?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let mut server = Server {
            kind,
            address,
            credentials,
            log,
            process,
        };
        server.wait_for_health()?;
        Ok(server)
    }

    /// Ready means that a bucket can be made and an object stored, not that a port is open.
    fn wait_for_health(&mut self) -> Result<()> {
        let client = self.client("health-check");
        process::wait_until("answer of the S3 server", Duration::from_secs(90), || {
            if let Some(status) = self.process.poll() {
                return Ok(Err(format!("it ended with {status}")));
            }
            let trial = client.create_bucket().and_then(|()| client.put("ready", b"yes"));
            trial.map(Ok).map_err(|error| format!("{error:#}"))
        })
        .with_context(|| self.log_tail())?
        .map_err(|error| anyhow::anyhow!("{error}\n{}", self.log_tail()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A key and secret that may do everything.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A new SeaweedFS with a bucket for each name, and for each a key that may use this bucket alone.
    pub fn of_tenants(names: &[&str]) -> Result<(Server, Vec<S3Client>)> {
        let server = Server::start_with(Kind::Weed, names)?;
        let own = |name: &&str| {
            server.client(name).create_bucket()?;
            Ok(S3Client {
                credentials: tenant(name),
                ..server.client(name)
            })
        };
        let clients = names.iter().map(own).collect::<Result<_>>()?;
        Ok((server, clients))
    }

    /// Makes the server know another key instead of its own, at once; only of one that checks keys, and that no other test uses.
    pub fn replace_key(&mut self, credentials: &Credentials) -> Result<()> {
        let folder = self.log.parent().context("a log without a folder")?;
        write_identities(folder, &identities(credentials, &[]))?;
        self.process.signal(libc::SIGHUP);
        let old = self.client("health-check");
        self.credentials = credentials.clone();
        let new = self.client("health-check");
        process::wait_until("the new key", Duration::from_secs(90), || {
            match (new.put("ready", b"yes"), old.put("ready", b"yes")) {
                (Ok(()), Err(_)) => Ok(()),
                (new, old) => Err(format!("new: {new:?}, old: {old:?}")),
            }
        })
        .with_context(|| self.log_tail())
    }

    /// A new bucket with a name of its own.
    pub fn new_bucket(&self) -> Result<S3Client> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let client = self.client(&format!("notes-{}-{serial}", std::process::id()));
        client.create_bucket()?;
        Ok(client)
    }

    fn client(&self, bucket: &str) -> S3Client {
        S3Client {
            address: self.address,
            bucket: bucket.into(),
            credentials: self.credentials.clone(),
        }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(2_000);
        format!("{:?} said: {}", self.kind, text.get(start..).unwrap_or(&text))
    }
}

fn ministack(port: u16) -> Result<Command> {
    let mut command = Command::new(process::tool("ministack")?);
    // It listens on all addresses unless told otherwise.
    command
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("SERVICES", "s3,iam,sts");
    Ok(command)
}

/// The key of a bucket's tenant.
fn tenant(name: &str) -> Credentials {
    Credentials {
        access_key: format!("key-of-{name}"),
        secret_key: format!("secret-of-{name}"),
    }
}

/// Who may do what: the administrator everything, a tenant everything in the bucket of his name.
fn identities(admin: &Credentials, tenants: &[&str]) -> serde_json::Value {
    let identity = |name: &str, credentials: &Credentials, actions: Vec<String>| {
        let keys = serde_json::json!([{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}]);
        serde_json::json!({"name": name, "credentials": keys, "actions": actions})
    };
    let actions = ["Admin", "Read", "Write", "List", "Tagging"].map(str::to_owned);
    let own = |name: &&str| {
        let actions = ["Read", "Write", "List", "Tagging"];
        let actions = actions.map(|action| format!("{action}:{name}")).to_vec();
        identity(name, &tenant(name), actions)
    };
    let mut all: Vec<serde_json::Value> = tenants.iter().map(own).collect();
    all.push(identity("admin", admin, actions.to_vec()));
    serde_json::json!({"identities": all})
}

fn weed(ports: &[u16], folder: &Path, identities: &serde_json::Value) -> Result<Command> {
    let config = write_identities(folder, identities)?;
    let data = folder.join("data");
    std::fs::create_dir(&data)?;
    let mut command = Command::new(process::tool("weed")?);
    command
        .env("GOMEMLIMIT", "150MiB")
        .arg("mini")
        .arg(format!("-dir={}", data.display()));
    command.args([
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
    ]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    let roles = [
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "admin.port",
        "admin.port.grpc",
    ];
    command.args(roles.iter().zip(ports).map(|(role, port)| format!("-{role}={port}")));
    command.arg(format!("-s3.config={}", config.display()));
    command.arg(format!("-filer.localSocket={}", folder.join("f.sock").display()));
    command.arg(format!("-s3.localSocket={}", folder.join("s.sock").display()));
    Ok(command)
}

/// Tells the server who may do what.
fn write_identities(folder: &Path, identities: &serde_json::Value) -> Result<PathBuf> {
    let config = folder.join("s3.json");
    std::fs::write(&config, identities.to_string())?;
    Ok(config)
}
