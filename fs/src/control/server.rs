//! The answering side of the control socket.
//!
//! Owns the listener, who may ask (the daemon's user and root), and the bounds on requests, connections and time. Does
//! not own what a request does: that is the [`Handler`]'s.

use super::protocol::{Answer, CONNECTIONS_MAX, Progress, REQUEST_BYTES_MAX, Reply, Request, SILENCE_MAX_SECONDS};
use crate::failure::Failure;
use parking_lot::Mutex;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Does what requests ask for, on a thread of its own for each.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers; long work reports progress at least every few seconds and stops when `asker` has gone.
    fn handle(&self, request: Request, asker: &Asker) -> Result<Answer, Failure>;
}

/// The other end of a connection, while its request is worked on.
#[derive(Debug)]
pub(crate) struct Asker {
    stream: Mutex<UnixStream>,
    gone: AtomicBool,
}

impl Asker {
    /// Tells how much is left.
    pub(crate) fn progress(&self, left: Progress) {
        self.send(&Reply::Progress(left));
    }

    /// Tells one of many lines, however slowly it is taken, until `is_over`.
    pub(crate) fn tell(&self, reply: &Reply, is_over: impl Fn() -> bool) {
        let Ok(mut line) = serde_json::to_vec(reply) else {
            return;
        };
        line.push(b'\n');
        let mut stream = self.stream.lock();
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(length) if length > 0 => rest = &rest[length..],
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) && !is_over() => {}
                _ => return self.gone.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, reply: &Reply) {
        let Ok(mut line) = serde_json::to_vec(reply) else {
            return;
        };
        line.push(b'\n');
        if self.stream.lock().write_all(&line).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Binds the socket, private, replacing what a dead daemon left.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Failure> {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Failure::io("replace the control socket", path)(error));
    }
    let listener = UnixListener::bind(path).map_err(Failure::io("open the control socket", path))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(Failure::io("make private", path))?;
    Ok(listener)
}

/// The connections that are open now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// Waits until the last answer is sent, but not longer than `deadline`.
    pub(crate) fn wait_until_idle(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        while self.0.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Serves in the background for as long as the process lives.
pub(crate) fn serve(listener: UnixListener, handler: Arc<dyn Handler>) -> Result<Connections, Failure> {
    let connections = Connections::default();
    let open = connections.0.clone();
    let accept = move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => admit(stream, &handler, &open),
                Err(error) => {
                    tracing::warn!("The control socket could not accept a connection: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("notefs-control".into()).spawn(accept);
    thread
        .map(|_| connections)
        .map_err(|e| Failure::new(format!("Could not start the control thread: {e}")))
}

/// Gives a connection a thread, unless there are too many.
fn admit(stream: UnixStream, handler: &Arc<dyn Handler>, open: &Arc<AtomicUsize>) {
    let asker = Asker {
        stream: Mutex::new(stream),
        gone: AtomicBool::new(false),
    };
    if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        open.fetch_sub(1, Ordering::Relaxed);
        asker.stream.lock().set_nonblocking(true).ok();
        return asker.send(&Reply::Failed(
            Failure::new("The daemon is busy with too many commands").hint("Try again"),
        ));
    }
    let (handler, in_thread) = (handler.clone(), open.clone());
    let work = move || {
        let handled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| converse(&asker, handler.as_ref())));
        let reply = handled
            .unwrap_or_else(|_| Reply::Failed(Failure::new("The daemon failed to handle the command; see its log")));
        asker.send(&reply);
        in_thread.fetch_sub(1, Ordering::Release);
    };
    if let Err(error) = std::thread::Builder::new().name("notefs-command".into()).spawn(work) {
        open.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!("Could not start a thread for a command: {error}");
    }
}

/// Reads one request and works on it.
fn converse(asker: &Asker, handler: &dyn Handler) -> Reply {
    match read_request(asker).and_then(|request| handler.handle(request, asker)) {
        Ok(answer) => Reply::Done(answer),
        Err(failure) => Reply::Failed(failure),
    }
}

fn read_request(asker: &Asker) -> Result<Request, Failure> {
    let refused = |e: std::io::Error| Failure::new(format!("The command could not be read: {e}"));
    let stream = asker.stream.lock().try_clone().map_err(refused)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|e| refused(e.into()))?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        return Err(Failure::new("This mount belongs to another user"));
    }
    let silence = Duration::from_secs(SILENCE_MAX_SECONDS);
    stream.set_read_timeout(Some(silence)).map_err(refused)?;
    stream.set_write_timeout(Some(silence)).map_err(refused)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX))
        .read_until(b'\n', &mut line)
        .map_err(refused)?;
    if line.last() != Some(&b'\n') {
        return Err(Failure::new(format!(
            "The command is incomplete or longer than {REQUEST_BYTES_MAX} bytes"
        )));
    }
    serde_json::from_slice(&line).map_err(|e| {
        Failure::new(format!("The daemon does not know this command: {e}"))
            .hint("It may be of another version: unmount and mount again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::ask;
    use crate::control::registry::Record;

    struct Echo;

    impl Handler for Echo {
        fn handle(&self, request: Request, asker: &Asker) -> Result<Answer, Failure> {
            asker.progress(Progress { left: 7, left_bytes: 0 });
            match request {
                Request::Unmount { timeout_ms } => Ok(Answer::Unmounted(super::super::protocol::Left {
                    count: timeout_ms,
                    ..Default::default()
                })),
                Request::Tags {} => panic!("a handler's bug"),
                _ => Err(Failure::new("No").hint("Yes")),
            }
        }
    }

    #[test]
    fn a_request_is_answered_over_the_socket() {
        let path = std::env::temp_dir().join(format!("notefs-control-{}.sock", std::process::id()));
        serve(bind(&path).unwrap(), Arc::new(Echo)).unwrap();
        let record = Record {
            mountpoint: "/n".into(),
            store: String::new(),
            cache_dir: "/c".into(),
            pid: 1,
            pid_start_ticks: 0,
            socket: path.clone(),
            mode_before: 0,
        };
        let mut seen = Vec::new();
        let answer = ask(&record, &Request::Unmount { timeout_ms: 5 }, &mut |p| seen.push(p.left)).unwrap();
        assert!(matches!(answer, Answer::Unmounted(left) if left.count == 5));
        assert_eq!(seen, [7]);
        assert_eq!(
            ask(&record, &Request::Status {}, &mut |_| ()).unwrap_err(),
            Failure::new("No").hint("Yes")
        );
        assert!(
            ask(&record, &Request::Tags {}, &mut |_| ())
                .unwrap_err()
                .message
                .contains("log")
        );
        let mut raw = UnixStream::connect(&path).unwrap();
        raw.write_all(b"{\"request\":\"format\"}\n").unwrap();
        let mut reply = String::new();
        raw.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("does not know"), "{reply}");
        std::fs::remove_file(&path).unwrap();
    }
}
