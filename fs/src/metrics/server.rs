//! Metrics and health over HTTP, on loopback or a Unix socket: what a scraper or an orchestrator asks from outside.
//!
//! Three pages, GET only, one request a connection: `/metrics`, `/healthz` (the daemon lives), `/readyz` (programs are served; with
//! `?indexed`, search sees everything, too). Owns the little of HTTP that this takes, and its bounds. Does not own what the pages say: that
//! is the [`Pages`]'. A TCP port has no owner: whoever reaches loopback may read it, and nothing on the pages is secret; the Unix
//! socket is its owner's alone.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;

/// The longest request.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How long a connection may last.
const CONNECTION_SECONDS_MAX: u64 = 10;

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE_MS: u64 = 100;

/// The type of a page of metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the pages are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricsPlace {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What the pages say.
pub(crate) trait Pages: Send + Sync + 'static {
    /// The page of metrics. May block for a moment.
    fn metrics(&self) -> String;
    /// Whether programs are served, and the words for it; with `indexed`, whether search sees everything, too.
    fn readiness(&self, indexed: bool) -> (bool, String);
}

/// A place that is bound already: clients wait until it is served.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Bound::Unix(_, path) = self {
            std::fs::remove_file(path).ok();
        }
    }
}

/// Binds the place, so that a wrong one is told before anything is mounted.
pub(crate) fn bind(place: &MetricsPlace, runtime: &Handle) -> Result<Bound, Failure> {
    let _entered = runtime.enter();
    match place {
        MetricsPlace::Tcp(address) => {
            let bound = runtime.block_on(TcpListener::bind(address));
            bound.map(Bound::Tcp).map_err(|error| {
                Failure::new(format!("Could not serve metrics on {address}: {error}"))
                    .hint("Choose another port with --metrics, or end the program that uses this one")
            })
        }
        MetricsPlace::Unix(path) => bind_unix(path).map_err(Failure::io("serve metrics on", path)),
    }
}

/// A socket that a dead daemon left is replaced, anything else is not.
fn bind_unix(path: &Path) -> std::io::Result<Bound> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    // The daemon's umask makes it private from its first moment; the mode is set for those that have another.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Bound::Unix(listener, path.to_owned()))
}

/// Serves in the background for as long as the runtime lives.
pub(crate) fn serve(bound: Bound, pages: Arc<dyn Pages>, runtime: &Handle) {
    runtime.spawn(async move {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&free).acquire_owned().await else {
                return;
            };
            let pages = Arc::clone(&pages);
            let accepted = match &bound {
                Bound::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        converse(stream, pages).await;
                        drop(slot);
                    })
                }),
                Bound::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        converse(stream, pages).await;
                        drop(slot);
                    })
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!("A request for metrics could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    });
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, pages: Arc<dyn Pages>) {
    let work = async {
        let request = read_request(&mut stream).await?;
        // The pages ask databases.
        let answer = tokio::task::spawn_blocking(move || respond(&request, pages.as_ref())).await;
        let answer = answer.unwrap_or_else(|_| answer_of(500, "text/plain", "The page could not be made\n"));
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Who asked and went away is no news.
    drop(tokio::time::timeout(Duration::from_secs(CONNECTION_SECONDS_MAX), work).await);
}

/// The request's head; empty if it is too long.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > REQUEST_BYTES_MAX {
            return Ok(Vec::new());
        }
        match stream.read(&mut chunk).await? {
            0 => break,
            length => head.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(head)
}

fn respond(request: &[u8], pages: &dyn Pages) -> String {
    let text = String::from_utf8_lossy(request);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let full = match (method, path) {
        ("GET" | "HEAD", "/metrics") => answer_of(200, METRICS_TYPE, &pages.metrics()),
        ("GET" | "HEAD", "/healthz") => answer_of(200, "text/plain", "alive\n"),
        ("GET" | "HEAD", "/readyz") => {
            let indexed = query.split('&').any(|word| word == "indexed" || word == "indexed=1");
            let (ready, words) = pages.readiness(indexed);
            answer_of(if ready { 200 } else { 503 }, "text/plain", &words)
        }
        ("GET" | "HEAD", _) => answer_of(404, "text/plain", "The pages are /metrics, /healthz and /readyz\n"),
        ("", _) => answer_of(400, "text/plain", "No request of HTTP, or one that is too long\n"),
        _ => answer_of(405, "text/plain", "Only GET\n"),
    };
    match (method, full.find("\r\n\r\n")) {
        ("HEAD", Some(end)) => full[..end + 4].to_owned(),
        _ => full,
    }
}

fn answer_of(status: u16, kind: &str, body: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(bool);

    impl Pages for Fixed {
        fn metrics(&self) -> String {
            "# page\n".to_owned()
        }

        fn readiness(&self, indexed: bool) -> (bool, String) {
            (self.0 && !indexed, format!("indexed asked: {indexed}\n"))
        }
    }

    fn ask(request: &str) -> String {
        respond(request.as_bytes(), &Fixed(true))
    }

    #[test]
    fn each_page_has_its_status() {
        assert!(
            ask("GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version")
        );
        assert!(ask("GET /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n# page\n"));
        assert!(ask("HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(ask("GET /healthz HTTP/1.1\r\n\r\n").contains(" 200 "));
        assert!(ask("GET /readyz HTTP/1.1\r\n\r\n").contains(" 200 "));
        assert!(ask("GET /readyz?indexed HTTP/1.1\r\n\r\n").contains(" 503 "));
        assert!(ask("GET /etc/passwd HTTP/1.1\r\n\r\n").contains(" 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").contains(" 405 "));
        assert!(ask("").contains(" 400 "));
        assert!(ask("\0\u{ff}\r\n\r\n").contains(" 405 "));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn endless_and_silent_requests_end() {
        let (mut client, server) = tokio::io::duplex(64);
        let served = tokio::spawn(converse(server, Arc::new(Fixed(true))));
        let flood = vec![b'x'; REQUEST_BYTES_MAX + 4096];
        // The other end may have stopped reading.
        client.write_all(&flood).await.ok();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 400 "), "{answer}");
        served.await.unwrap();
    }
}
