//! An S3 server that lies: its bucket shows as many keys as it likes, sizes that no disk has, and metadata that no other server takes.
//!
//! Its notes are computed and not kept: `folder12345/note678.md` many times over, and a folder `flat` with as many again. Beside them it
//! keeps what was put, under the conditions of a write, so that a mount works on it.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::proxy::Head;
use crate::s3::{S3Client, percent_decoded};
use crate::sigv4::Credentials;

/// Notes of each computed folder.
const NOTES_PER_FOLDER: u64 = 1_000;

/// Lines of one page, as elsewhere.
const PAGE_LINES: u64 = 1_000;

/// The most that is sent of an object without a content of its own.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// An object that was put, or made up.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content; where it is shorter than its size, zeros follow.
    pub bytes: Vec<u8>,
    /// The size that is told.
    pub size: u64,
    /// Headers that come with it.
    pub headers: Vec<(String, String)>,
    etag: u64,
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct Endless {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folders: u64,
    flat: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    etags: u64,
    lines: u64,
    closed: bool,
}

/// A request, taken apart.
struct Asked {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    head: Head,
    body: Vec<u8>,
}

/// An answer.
struct Told {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Endless {
    /// Starts a server whose bucket shows this many folders of a thousand notes, and one folder with `flat` notes.
    pub fn start(folders: u64, flat: u64) -> Result<Endless> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            folders,
            flat,
            state: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if for_thread.state().closed {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || shared.serve(&client).ok());
            }
        });
        Ok(Endless { address, shared })
    }

    /// A client for its bucket.
    pub fn client(&self) -> S3Client {
        S3Client {
            address: self.address,
            bucket: "endless".into(),
            credentials: Credentials {
                access_key: "any".into(),
                secret_key: "any".into(),
            },
        }
    }

    /// Shows an object of this size, with these headers, whose content begins so.
    pub fn show(&self, key: &str, size: u64, headers: &[(&str, String)], bytes: &[u8]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let headers = headers.collect();
        self.shared.state().put(key, bytes.to_vec(), size, headers);
    }

    /// How many lines of listings it has sent.
    pub fn lines(&self) -> u64 {
        self.shared.state().lines
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        // Wakes the listening thread, which then sees that it is over.
        TcpStream::connect(self.address).ok();
    }
}

impl State {
    fn put(&mut self, key: &str, bytes: Vec<u8>, size: u64, headers: Vec<(String, String)>) -> u64 {
        self.etags += 1;
        let etag = self.etags;
        let object = Object {
            bytes,
            size,
            headers,
            etag,
        };
        self.objects.insert(key.to_owned(), object);
        etag
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = BufReader::new(client.try_clone()?);
        while let Some(head) = Head::read(&mut from_client)? {
            let mut body = vec![0; usize::try_from(head.length().unwrap_or(0))?];
            from_client.read_exact(&mut body)?;
            let asked = Asked::new(head, body)?;
            self.answer(&asked).send(asked.method == "HEAD", client)?;
        }
        Ok(())
    }

    fn answer(&self, asked: &Asked) -> Told {
        match (asked.method.as_str(), asked.key.is_empty()) {
            ("GET", true) => self.list(asked),
            ("GET" | "HEAD", false) => self.get(asked),
            ("PUT", false) => self.put(asked),
            ("DELETE", false) => {
                self.state().objects.remove(&asked.key);
                Told::status("204 No Content")
            }
            ("PUT" | "HEAD", true) => Told::status("200 OK"),
            _ => Told::error("501 Not Implemented", "NotImplemented"),
        }
    }

    fn object(&self, key: &str) -> Option<Object> {
        if let Some(object) = self.state().objects.get(key) {
            return Some(object.clone());
        }
        let number = self.number_of(key)?;
        let bytes = content(number);
        Some(Object {
            size: bytes.len() as u64,
            bytes,
            headers: vec![],
            etag: u64::MAX - number,
        })
    }

    /// Which computed note a key names.
    fn number_of(&self, key: &str) -> Option<u64> {
        let digits = key.rsplit_once("note")?.1.strip_suffix(".md")?.parse::<u64>().ok()?;
        let folder = key.strip_prefix("folder").and_then(|rest| rest.get(..5)?.parse().ok());
        // The flat folder begins where the others end.
        let number = folder
            .unwrap_or(self.folders)
            .checked_mul(NOTES_PER_FOLDER)?
            .checked_add(digits)?;
        (number < self.notes() && self.key_of(number) == key).then_some(number)
    }

    fn notes(&self) -> u64 {
        self.folders * NOTES_PER_FOLDER + self.flat
    }

    /// The keys in their order.
    fn key_of(&self, number: u64) -> String {
        match number.checked_sub(self.folders * NOTES_PER_FOLDER) {
            Some(flat) => format!("zflat/note{flat:08}.md"),
            None => format!(
                "folder{:05}/note{:03}.md",
                number / NOTES_PER_FOLDER,
                number % NOTES_PER_FOLDER
            ),
        }
    }

    /// The numbers of the computed notes below a prefix that ends with a folder.
    fn range(&self, prefix: &str) -> std::ops::Range<u64> {
        let spread = self.folders * NOTES_PER_FOLDER;
        let folder = prefix
            .strip_prefix("folder")
            .and_then(|rest| rest.strip_suffix('/')?.parse::<u64>().ok());
        match (prefix, folder) {
            ("", _) => 0..self.notes(),
            ("zflat/", _) => spread..self.notes(),
            (_, Some(folder)) if folder < self.folders => folder * NOTES_PER_FOLDER..(folder + 1) * NOTES_PER_FOLDER,
            _ => 0..0,
        }
    }

    fn list(&self, asked: &Asked) -> Told {
        let text = |name: &str| asked.query.get(name).map_or("", String::as_str);
        let prefix = text("prefix");
        let by_folder = text("delimiter") == "/" && prefix.is_empty();
        let range = self.range(prefix);
        let token = text("continuation-token").parse::<u64>().ok();
        let mut next = token.unwrap_or(range.start);
        let mut xml = String::new();
        // What was put comes with the first page; it is little.
        if token.is_none() {
            let state = self.state();
            for (key, object) in state.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
                xml.push_str(&line(key, object.size, object.etag));
            }
        }
        for _ in 0..PAGE_LINES.min(range.end.saturating_sub(next)) {
            if next >= range.end {
                break;
            }
            let key = self.key_of(next);
            if by_folder {
                let folder = key.split('/').next().unwrap_or_default();
                xml.push_str(&format!("<CommonPrefixes><Prefix>{folder}/</Prefix></CommonPrefixes>"));
                next = self.range(&format!("{folder}/")).end;
            } else {
                xml.push_str(&line(&key, content(next).len() as u64, u64::MAX - next));
                next += 1;
            }
            self.state().lines += 1;
        }
        let more = next < range.end;
        let token = if more {
            format!("<NextContinuationToken>{next}</NextContinuationToken>")
        } else {
            String::new()
        };
        let body = format!(
            "<?xml version=\"1.0\"?><ListBucketResult><Name>endless</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys>\
             <IsTruncated>{more}</IsTruncated>{token}{xml}</ListBucketResult>"
        );
        Told {
            status: "200 OK",
            headers: vec![("content-type".into(), "application/xml".into())],
            body: body.into_bytes(),
        }
    }

    fn get(&self, asked: &Asked) -> Told {
        let Some(object) = self.object(&asked.key) else {
            return Told::error("404 Not Found", "NoSuchKey");
        };
        let etag = tag(object.etag);
        if asked.head.header("if-none-match") == Some(&etag) {
            return Told::status("304 Not Modified");
        }
        if asked.head.header("if-match").is_some_and(|wanted| wanted != etag) {
            return Told::error("412 Precondition Failed", "PreconditionFailed");
        }
        let (from, to) = asked.range(object.size);
        let mut headers = object.headers.clone();
        headers.extend([
            ("etag".to_owned(), etag),
            ("last-modified".to_owned(), "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
        ]);
        if asked.method == "HEAD" {
            headers.push(("content-length".into(), object.size.to_string()));
            return Told {
                status: "200 OK",
                headers,
                body: vec![],
            };
        }
        let start = (from as usize).min(object.bytes.len());
        let mut body = object.bytes[start..].to_vec();
        body.resize((to - from).min(BODY_BYTES_MAX) as usize, 0);
        let partial = asked.head.header("range").is_some();
        if partial {
            let place = format!("bytes {from}-{}/{}", to.saturating_sub(1), object.size);
            headers.push(("content-range".into(), place));
        }
        let status = if partial { "206 Partial Content" } else { "200 OK" };
        Told { status, headers, body }
    }

    fn put(&self, asked: &Asked) -> Told {
        let source = asked.head.header("x-amz-copy-source");
        let copied = source.and_then(|source| self.object(percent_decoded(source).split_once("endless/")?.1));
        let there = self.object(&asked.key).map(|object| tag(object.etag));
        let wanted = asked.head.header("if-match");
        if asked.head.header("if-none-match") == Some("*") && there.is_some()
            || wanted.is_some() && wanted != there.as_deref()
        {
            return Told::error("412 Precondition Failed", "PreconditionFailed");
        }
        let own = asked
            .head
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-meta-"));
        let headers = own.cloned().collect();
        let (bytes, size) = match copied {
            Some(object) => (object.bytes, object.size),
            None => (asked.body.clone(), asked.body.len() as u64),
        };
        let etag = tag(self.state().put(&asked.key, bytes, size, headers));
        let body = if source.is_some() {
            format!("<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>")
        } else {
            String::new()
        };
        Told {
            status: "200 OK",
            headers: vec![("etag".into(), etag)],
            body: body.into_bytes(),
        }
    }
}

impl Asked {
    fn new(head: Head, body: Vec<u8>) -> Result<Asked> {
        let mut words = head.first_line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().context("a request without a target")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name), percent_decoded(value))
        });
        Ok(Asked {
            method,
            key: percent_decoded(&key.replace('+', "%2B")),
            query: query.collect(),
            head,
            body,
        })
    }

    /// The first byte asked for, and the one after the last.
    fn range(&self, size: u64) -> (u64, u64) {
        let range = self.head.header("range").and_then(|range| range.strip_prefix("bytes="));
        let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
            return (0, size);
        };
        let from = from.parse().unwrap_or(0).min(size);
        let to = to.parse::<u64>().map_or(size, |last| last.saturating_add(1)).min(size);
        (from, to.max(from))
    }
}

impl Told {
    fn status(status: &'static str) -> Told {
        Told {
            status,
            headers: vec![],
            body: vec![],
        }
    }

    fn error(status: &'static str, code: &str) -> Told {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Told {
            status,
            headers: vec![],
            body: body.into_bytes(),
        }
    }

    fn send(&self, bodyless: bool, mut client: &TcpStream) -> Result<()> {
        let mut text = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let told = self.headers.iter().any(|(name, _)| name == "content-length");
        if !told && !self.status.starts_with("204") && !self.status.starts_with("304") {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        client.write_all(format!("{text}\r\n").as_bytes())?;
        if !bodyless {
            client.write_all(&self.body)?;
        }
        Ok(())
    }
}

fn content(number: u64) -> Vec<u8> {
    format!("# Note {number}\n").into_bytes()
}

fn tag(etag: u64) -> String {
    format!("\"{etag:032x}\"")
}

fn line(key: &str, size: u64, etag: u64) -> String {
    let key = key.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{}</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>",
        tag(etag).replace('"', "&quot;")
    )
}
