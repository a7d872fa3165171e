//! A real service on a tenant's notes: nginx in a container, which shows them and takes saves by PUT, and clients who write down which
//! saves were acknowledged to them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::container::{Container, Plan, VAULT};
use crate::s3::{self, Response};
use crate::store::Store;
use crate::{PATIENCE, process, wait_until};

/// A save is answered once nginx has put it in place under its name.
const CONFIGURATION: &str = "
daemon off;
pid /tmp/nginx.pid;
error_log stderr warn;
events {}
http {
  access_log off;
  default_type text/plain;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/1; fastcgi_temp_path /tmp/2; uwsgi_temp_path /tmp/3; scgi_temp_path /tmp/4;
  server {
    listen ADDRESS;
    location / { root VAULT; dav_methods PUT DELETE; create_full_put_path on; }
  }
}
";

/// The service in its container.
#[derive(Debug)]
pub struct WebService {
    /// The container.
    pub container: Container,
    /// What clients see of it.
    pub site: Site,
}

/// The service as its clients see it.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    address: SocketAddr,
}

/// What clients were told.
#[derive(Debug, Default)]
pub struct Acknowledged {
    saves: Mutex<BTreeMap<String, Vec<u8>>>,
    count: AtomicUsize,
}

/// The plan of a container with the service on a store; the volume may be that of an earlier one.
pub fn plan(store: &Store, options: &[&str]) -> Result<(Plan, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], process::free_ports(1)?[0]));
    let mut words = vec!["notefs", "run", &store.url, VAULT];
    words.extend(options);
    words.extend(["--", "nginx", "-e", "stderr", "-c", "/srv/nginx.conf"]);
    let mut plan = Plan::new(&words)?;
    plan.env.clone_from(&store.env);
    configure(&plan.files, address)?;
    Ok((plan, address))
}

fn configure(folder: &Path, address: SocketAddr) -> Result<()> {
    let text = CONFIGURATION
        .replace("ADDRESS", &address.to_string())
        .replace("VAULT", VAULT);
    Ok(std::fs::write(folder.join("nginx.conf"), text)?)
}

impl WebService {
    /// Starts the container and waits until the service answers.
    pub fn start(plan: &Plan, address: SocketAddr) -> Result<WebService> {
        let mut container = Container::start(plan)?;
        let ready = wait_until("answer of the service", PATIENCE, || {
            if let Some(status) = container.poll() {
                return Ok(Err(format!("the container ended with {status}")));
            }
            request(address, "GET", "/no-such-note", b"")
                .map(|_| Ok(()))
                .map_err(|error| format!("{error:#}"))
        });
        match ready {
            Ok(Ok(())) => Ok(WebService {
                container,
                site: Site { address },
            }),
            Ok(Err(ended)) => bail!("{ended}: {}", container.output()),
            Err(error) => Err(error.context(container.output())),
        }
    }
}

impl Site {
    /// Saves a note; the service must acknowledge it.
    pub fn save(self, path: &str, bytes: &[u8]) -> Result<()> {
        let answer = request(self.address, "PUT", &format!("/{path}"), bytes)?;
        ensure!(matches!(answer.status, 201 | 204), "PUT {path}: {}", answer.status);
        Ok(())
    }

    /// A note's bytes, or `None` where the service says that there is none.
    pub fn read(self, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = request(self.address, "GET", &format!("/{path}"), b"")?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            status => bail!("GET {path}: {status}"),
        }
    }

    /// Has `writers` clients save one note after another, some of them over and over, until they are told to stop or the service is gone.
    pub fn burst(self, name: &str, writers: usize, stop: &AtomicBool, log: &Acknowledged) {
        std::thread::scope(|scope| {
            for writer in 0..writers {
                scope.spawn(move || {
                    let mut number = 0_usize;
                    while !stop.load(Ordering::Relaxed) {
                        // Every third save is one of a note that was saved before.
                        let note = if number % 3 == 2 { number % 7 } else { number };
                        let path = format!("{name}/{writer}/note{note}.md");
                        let text = format!(
                            "# Save {number} of writer {writer}\n\n{}\n",
                            "words ".repeat(number % 200)
                        );
                        if self.save(&path, text.as_bytes()).is_err() {
                            return;
                        }
                        log.add(path, text.into_bytes());
                        number += 1;
                    }
                });
            }
        });
    }
}

impl Acknowledged {
    fn add(&self, path: String, bytes: Vec<u8>) {
        self.saves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, bytes);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many saves there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many notes.
    pub fn notes(&self) -> usize {
        self.saves.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Compares each note with what `read` finds under its path. The one save that a writer had under way was not acknowledged, so a
    /// note may also hold a later save of the same writer.
    pub fn check(&self, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<()> {
        for (path, bytes) in self.saves.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let found = read(path)?.with_context(|| format!("{path} was acknowledged and is lost"))?;
            let later = number_of(&found) > number_of(bytes);
            ensure!(
                found == *bytes || later,
                "{path} holds {:?} and not {:?}",
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(bytes)
            );
        }
        Ok(())
    }
}

/// Which save a note holds, if it holds one whole.
fn number_of(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: usize = text.strip_prefix("# Save ")?.split(' ').next()?.parse().ok()?;
    let whole = text.ends_with(&format!("\n\n{}\n", "words ".repeat(number % 200)));
    whole.then_some(number)
}

/// One request on a connection of its own.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    s3::parse_response(&answer, false)
}
