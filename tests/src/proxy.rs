//! An HTTP/1.1 proxy in front of a server: it counts requests by kind, and spoils them when told to.
//!
//! Requests pass byte for byte, the Host header too, so that signatures stay valid. One thread serves one connection.

mod spoil;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// A log longer than this forgets its oldest lines; the counts stay right.
const LOG_LIMIT: usize = 20_000;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An object or a part of one is written.
    Put,
    /// An object is read.
    Get,
    /// An object's metadata is read.
    Head,
    /// Keys are listed.
    List,
    /// An object is copied inside the store.
    Copy,
    /// One or several objects are removed.
    Delete,
    /// Anything else (multipart bookkeeping, bucket calls).
    Other,
}

/// What the proxy does to the requests that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Answers 503 without asking the server.
    Unavailable,
    /// Lets the server do the work, then drops its reply.
    DropReply,
    /// Resets the connection without asking the server.
    Reset,
    /// Answers nothing at all, until another fault is set.
    BlackHole,
    /// Answers with this status and code of S3's without asking the server.
    Refused(u16, &'static str),
    /// Answers a web page with status 200 without asking the server, as a captive portal does.
    WebPage,
    /// Lets the server do the work, and passes on the first half of its reply's body.
    Truncated,
}

/// How much of a reply is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    All,
    HalfOfBody,
    Nothing,
}

/// A request that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it asked for.
    pub class: Class,
    /// The key, decoded; empty for requests to the bucket itself.
    pub key: String,
    /// The query as it went over the wire.
    pub query: String,
    /// The status that the client got; 0 when it got no reply.
    pub status: u16,
}

/// A running proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    only: Option<Class>,
    /// Requests that still pass.
    spared: u32,
    /// Of the others, one in so many is spoilt.
    one_in: u32,
    latency: Duration,
    ignores_conditions: bool,
    log: std::collections::VecDeque<(u64, Seen)>,
    serial: u64,
    counts: std::collections::BTreeMap<Class, u64>,
    closed: bool,
}

impl Proxy {
    /// Starts a proxy before `upstream` on a free port.
    pub fn start(upstream: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            state: Mutex::default(),
        });
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if for_thread.state().closed {
                    return;
                }
                let shared = for_thread.clone();
                std::thread::spawn(move || shared.serve(client).ok());
            }
        });
        Ok(Proxy { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Spoils all requests from now on; `Fault::None` heals.
    pub fn set_fault(&self, fault: Fault) {
        self.shared.state().plan(fault, None, 0, 1);
    }

    /// Spoils the requests of one class from now on.
    pub fn set_fault_on(&self, class: Class, fault: Fault) {
        self.shared.state().plan(fault, Some(class), 0, 1);
    }

    /// Spoils the requests of one class once so many have passed.
    pub fn set_fault_after(&self, passing: u32, class: Class, fault: Fault) {
        self.shared.state().plan(fault, Some(class), passing, 1);
    }

    /// Spoils one in so many requests from now on.
    pub fn set_fault_on_one_in(&self, one_in: u32, fault: Fault) {
        self.shared.state().plan(fault, None, 0, one_in);
    }

    /// Holds every request back for this long before it goes on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.state().latency = latency;
    }

    /// Makes the server behind one that answers "done" to conditions and ignores them: they do not reach it.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.shared.state().ignores_conditions = ignore;
    }

    /// Forgets the requests seen so far.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.log.clear();
        state.counts.clear();
    }

    /// How many requests of this class came by.
    pub fn count(&self, class: Class) -> u64 {
        self.shared.state().counts.get(&class).copied().unwrap_or(0)
    }

    /// How many requests of any class came by.
    pub fn total(&self) -> u64 {
        self.shared.state().counts.values().sum()
    }

    /// The latest requests, oldest first.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.state().log.iter().map(|(_, seen)| seen.clone()).collect()
    }

    /// The requests that write or remove notes, as `Put key`, without notefs's own objects.
    pub fn changes(&self) -> Vec<String> {
        let log = self.log();
        let changes = log
            .iter()
            .filter(|seen| matches!(seen.class, Class::Put | Class::Copy | Class::Delete));
        let of_notes = changes.filter(|seen| !seen.key.starts_with(".notefs/"));
        of_notes.map(|seen| format!("{:?} {}", seen.class, seen.key)).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        // Wakes the listening thread, which then sees that it is over.
        TcpStream::connect(self.address).ok();
    }
}

/// The first lines of a request or reply.
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// The request's or the status line.
    pub(crate) first_line: String,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to the empty line; `None` at the end of the connection.
    pub(crate) fn read(stream: &mut impl BufRead) -> Result<Option<Head>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head {
            bytes,
            first_line,
            headers,
        }))
    }

    /// The value of the first header of a name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The same lines without the headers that bind a write to what is there.
    fn without_conditions(&self) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let is_condition = |line: &str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            name == "if-match" || name == "if-none-match"
        };
        let kept: Vec<&str> = text.split("\r\n").filter(|line| !is_condition(line)).collect();
        kept.join("\r\n").into_bytes()
    }

    fn status(&self) -> u16 {
        self.first_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
    }

    /// What the header says about the body's length.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }

    /// What this request asks for, the key and the query.
    fn request(&self) -> Seen {
        let mut words = self.first_line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let class = match method {
            "PUT" if self.header("x-amz-copy-source").is_some() => Class::Copy,
            "PUT" if !key.is_empty() => Class::Put,
            "GET" if key.is_empty() => Class::List,
            "GET" => Class::Get,
            "HEAD" => Class::Head,
            "DELETE" => Class::Delete,
            "POST" if query.split('&').any(|word| word.trim_end_matches('=') == "delete") => Class::Delete,
            _ => Class::Other,
        };
        let key = crate::s3::percent_decoded(&key.replace('+', "%2B"));
        Seen {
            class,
            key,
            query: query.into(),
            status: 0,
        }
    }
}

impl State {
    fn plan(&mut self, fault: Fault, only: Option<Class>, spared: u32, one_in: u32) {
        (self.fault, self.only, self.spared, self.one_in) = (fault, only, spared, one_in.max(1));
    }

    /// What becomes of a request that is about to go on.
    fn next_fault(&mut self, class: Class) -> Fault {
        if self.only.is_some_and(|only| only != class) {
            return Fault::None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return Fault::None;
        }
        let spoilt = self.serial.is_multiple_of(u64::from(self.one_in.max(1)));
        if spoilt { self.fault } else { Fault::None }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = BufReader::new(client.try_clone()?);
        let mut upstream: Option<BufReader<TcpStream>> = None;
        while let Some(head) = Head::read(&mut from_client)? {
            let seen = head.request();
            let serial = self.record(&seen);
            let (fault, latency) = {
                let mut state = self.state();
                (state.next_fault(seen.class), state.latency)
            };
            std::thread::sleep(latency);
            let mut pass = |kept| self.pass(&head, &mut from_client, &mut upstream, (&client, kept));
            let result = match fault {
                Fault::None => pass(Kept::All),
                Fault::DropReply => pass(Kept::Nothing),
                Fault::Truncated => pass(Kept::HalfOfBody),
                Fault::Unavailable => spoil::refuse(&head, &mut from_client, &client, (503, "ServiceUnavailable")),
                Fault::Refused(status, code) => spoil::refuse(&head, &mut from_client, &client, (status, code)),
                Fault::WebPage => spoil::show_web_page(&head, &mut from_client, &client),
                Fault::Reset => spoil::reset(&client),
                Fault::BlackHole => self.hold(),
            };
            self.conclude(serial, *result.as_ref().unwrap_or(&0));
            if result? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Counts a request as soon as it arrives, before its reply can wake the one who counts.
    fn record(&self, seen: &Seen) -> u64 {
        let mut state = self.state();
        *state.counts.entry(seen.class).or_default() += 1;
        state.serial += 1;
        let serial = state.serial;
        state.log.push_back((serial, seen.clone()));
        if state.log.len() > LOG_LIMIT {
            state.log.pop_front();
        }
        serial
    }

    fn conclude(&self, serial: u64, status: u16) {
        let mut state = self.state();
        let line = state.log.iter_mut().rev().find(|(given, _)| *given == serial);
        if let Some((_, seen)) = line {
            seen.status = status;
        }
    }

    /// Waits without a reply while the black hole lasts, then ends the connection.
    fn hold(&self) -> Result<u16> {
        let holds = |state: MutexGuard<'_, State>| state.fault == Fault::BlackHole && !state.closed;
        while holds(self.state()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(0)
    }

    /// Hands a request to the server, and to the client what is kept of its reply. The status, or 0 to hang up.
    fn pass(
        &self,
        head: &Head,
        from_client: &mut impl BufRead,
        upstream: &mut Option<BufReader<TcpStream>>,
        (client, kept): (&TcpStream, Kept),
    ) -> Result<u16> {
        let mut client = (kept != Kept::Nothing).then_some(client);
        if upstream.is_none() {
            let stream = TcpStream::connect(self.upstream)?;
            stream.set_nodelay(true)?;
            *upstream = Some(BufReader::new(stream));
        }
        let server = upstream.as_mut().context("no connection to the server")?;
        let strip =
            self.state().ignores_conditions && !["GET ", "HEAD "].iter().any(|verb| head.first_line.starts_with(verb));
        let bytes = if strip {
            head.without_conditions()
        } else {
            head.bytes.clone()
        };
        server.get_mut().write_all(&bytes)?;
        if let (Some(client), Some(_)) = (client.as_mut(), head.header("expect")) {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        copy_body(head, from_client, server.get_mut(), 0)?;
        let reply = loop {
            let reply = Head::read(server)?.context("the server hung up")?;
            if reply.status() >= 200 {
                break reply;
            }
        };
        let bodyless = head.first_line.starts_with("HEAD ") || matches!(reply.status(), 204 | 304);
        let until_end = reply.length().is_none() && !reply.is_chunked();
        let mut out: Box<dyn Write> = match client {
            Some(client) => Box::new(client),
            None => Box::new(std::io::sink()),
        };
        out.write_all(&reply.bytes)?;
        if !bodyless {
            let unknown = if until_end { u64::MAX } else { 0 };
            match kept {
                Kept::HalfOfBody => {
                    let mut body = Vec::new();
                    copy_body(&reply, server, &mut body, unknown)?;
                    out.write_all(&body[..body.len() / 2])?;
                }
                _ => copy_body(&reply, server, &mut out, unknown)?,
            }
        }
        let over = client.is_none()
            || kept == Kept::HalfOfBody && !bodyless
            || (until_end && !bodyless)
            || reply.header("connection") == Some("close");
        if over && let Some(client) = client {
            client.shutdown(std::net::Shutdown::Both).ok();
        }
        Ok(if client.is_some() { reply.status() } else { 0 })
    }
}

/// Passes a body on as it is; `unknown` bytes at most where no header tells its length.
fn copy_body(head: &Head, from: &mut impl BufRead, to: &mut impl Write, unknown: u64) -> Result<()> {
    if !head.is_chunked() {
        std::io::copy(&mut from.take(head.length().unwrap_or(unknown)), to)?;
        return Ok(());
    }
    loop {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        to.write_all(&line)?;
        let size = String::from_utf8_lossy(&line)
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let size = u64::from_str_radix(&size, 16).context("chunk without a length")?;
        if size > 0 {
            std::io::copy(&mut from.take(size + 2), to)?;
            continue;
        }
        // Trailers, up to an empty line.
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            to.write_all(&line)?;
            if line.len() <= 2 {
                return Ok(());
            }
        }
    }
}
