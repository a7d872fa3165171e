//! Answers that are wrong: each must become an error, never an absence or an empty listing.

use super::build::open_at;
use crate::store::{
    Condition, ETag, ObjectKey, Store, StoreError, StoreErrorKind, UserMetadata, escape_name, preflight,
};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Answers each request by what `answer` makes of its first line; closes the connection after each.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            drop(exchange(stream, &answer));
        }
    });
    (endpoint, served)
}

fn exchange(mut stream: TcpStream, answer: &impl Fn(&str) -> String) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    stream.write_all(answer(&first).as_bytes())
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn xml_error(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>M</Message></Error>");
    response(status, "content-type: application/xml\r\n", &body)
}

fn key() -> ObjectKey {
    ObjectKey::parse("k").unwrap()
}

/// The error of each kind of call.
async fn errors(store: &dyn Store) -> Vec<(&'static str, StoreError)> {
    let (user, key) = (UserMetadata::new(), key());
    let put = store.put(&key, Bytes::from_static(b"x"), &user, &Condition::Absent);
    vec![
        ("list", preflight(store).await.unwrap_err()),
        ("head", store.head(&key).await.unwrap_err()),
        ("get", store.get(&key, None, None).await.unwrap_err()),
        ("put", put.await.unwrap_err()),
        ("delete", store.delete(&key, None).await.unwrap_err()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_is_garbled_and_never_an_empty_store() {
    for status in ["200 OK", "404 Not Found"] {
        let page = response(
            status,
            "content-type: text/html\r\n",
            "<!DOCTYPE html><html><body>Log in</body></html>",
        );
        let (endpoint, _) = serve(move |_| page.clone());
        for (call, error) in errors(&open_at(&endpoint)).await {
            let said = error.to_string();
            assert_eq!(error.kind, StoreErrorKind::Garbled, "{call} {status}: {said}");
            assert!(!said.contains("hush") && !said.contains("Authorization"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_gone_is_not_an_object_that_is_gone() {
    let (endpoint, _) = serve(|line| {
        let with_body = xml_error("404 Not Found", "NoSuchBucket");
        if line.starts_with("HEAD") {
            response("404 Not Found", "", "")
        } else {
            with_body
        }
    });
    let store = open_at(&endpoint);
    for (call, error) in errors(&store).await {
        assert_eq!(error.kind, StoreErrorKind::NoBucket, "{call}: {error}");
    }
    for if_match in [None, Some(ETag("x".to_owned()))] {
        assert_eq!(
            store.delete(&key(), if_match.as_ref()).await.unwrap_err().kind,
            StoreErrorKind::NoBucket
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_object_is_missing_only_by_its_code() {
    let (endpoint, served) = serve(|line| {
        if line.starts_with("HEAD") {
            response("404 Not Found", "", "")
        } else {
            xml_error("404 Not Found", "NoSuchKey")
        }
    });
    let store = open_at(&endpoint);
    assert!(store.head(&key()).await.unwrap().is_none());
    assert_eq!(served.load(Ordering::SeqCst), 2, "a HEAD, and a GET that says why");
    assert!(store.get(&key(), None, None).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_body_is_never_returned() {
    let (endpoint, _) = serve(|_| {
        let headers = "etag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n";
        response("200 OK", headers, &"x".repeat(100)).replace(&"x".repeat(100), "xxx")
    });
    let error = open_at(&endpoint).get(&key(), None, None).await.unwrap_err();
    assert!(
        matches!(error.kind, StoreErrorKind::Garbled | StoreErrorKind::Unavailable),
        "{error}"
    );
    let (endpoint, _) = serve(|_| response("200 OK", "etag: \"e\"\r\n", "0123456789"));
    let error = open_at(&endpoint).get(&key(), Some(2..4), None).await.unwrap_err();
    assert_eq!(
        error.kind,
        StoreErrorKind::Garbled,
        "a server that ignores ranges: {error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_says_what_to_change() {
    for (status, code, kind, words) in [
        (
            "403 Forbidden",
            "InvalidAccessKeyId",
            StoreErrorKind::Unauthorised,
            "access key",
        ),
        (
            "403 Forbidden",
            "SignatureDoesNotMatch",
            StoreErrorKind::Unauthorised,
            "secret key",
        ),
        ("403 Forbidden", "AccessDenied", StoreErrorKind::Unauthorised, "rights"),
        ("404 Not Found", "NoSuchBucket", StoreErrorKind::NoBucket, "bkt"),
        (
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            StoreErrorKind::Unauthorised,
            "region",
        ),
        (
            "301 Moved Permanently",
            "PermanentRedirect",
            StoreErrorKind::Unauthorised,
            "region",
        ),
        (
            "501 Not Implemented",
            "NotImplemented",
            StoreErrorKind::Unsupported,
            "NotImplemented",
        ),
        ("503 Slow Down", "SlowDown", StoreErrorKind::SlowDown, "SlowDown"),
    ] {
        let answer = xml_error(status, code);
        let (endpoint, _) = serve(move |_| answer.clone());
        let error = preflight(&open_at(&endpoint)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{code}: {error}");
        assert!(error.to_string().contains(words), "{code}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_and_nobody_answering_are_told_in_time() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [refused, silent_endpoint, "http://no-such-host.invalid".to_owned()] {
        let begin = Instant::now();
        let error = preflight(&open_at(&endpoint)).await.unwrap_err();
        assert_eq!(
            (error.kind, error.retryable),
            (StoreErrorKind::Unavailable, true),
            "{error}"
        );
        assert!(
            begin.elapsed() < Duration::from_secs(11),
            "{endpoint} took {:?}",
            begin.elapsed()
        );
        assert!(
            error.to_string().contains("Check the endpoint and the network"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_trouble_is_repeated() {
    let tries = AtomicUsize::new(0);
    let (endpoint, served) = serve(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => xml_error("503 Service Unavailable", "ServiceUnavailable"),
        1 => xml_error("409 Conflict", "ConditionalRequestConflict"),
        _ => response("200 OK", "etag: \"e\"\r\n", ""),
    });
    let store = open_at(&endpoint);
    let written = store
        .put(&key(), Bytes::new(), &UserMetadata::new(), &Condition::Absent)
        .await
        .unwrap();
    assert_eq!(written, crate::store::Written::Done(ETag("e".to_owned())));
    assert_eq!((served.load(Ordering::SeqCst), store.requests().put), (3, 3));
}

/// Numbers that look random (xorshift64*), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    /// A name or key that somebody hostile could make.
    fn hostile(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 20] = [
            b"..",
            b".",
            b"/",
            b"//",
            b"%2e%2e",
            b"%2F",
            b"%00",
            b"\\",
            b"\0",
            b"?",
            b"#",
            b"&prefix=",
            b"+",
            b" ",
            b"p",
            b"p2",
            b"a",
            "\u{e9}\u{202e}".as_bytes(),
            b"\xff\xfe",
            b"\r\n",
        ];
        let count = 1 + self.below(8);
        (0..count)
            .flat_map(|_| PIECES[self.below(PIECES.len())].to_vec())
            .collect()
    }
}

/// Whether the first line of a request names something below `p/` of the bucket `bkt`, as a server reads it.
fn is_inside(line: &str) -> bool {
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let mut hex = || u8::from_str_radix(&String::from_utf8(vec![rest.next()?, rest.next()?]).ok()?, 16).ok();
            bytes.push(if byte == b'%' { hex().unwrap() } else { byte });
        }
        bytes
    };
    let key = match plain(path).strip_prefix(b"/bkt") {
        Some(b"" | b"/") => query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="))
            .map(plain),
        Some(key) => key.strip_prefix(b"/").map(<[u8]>::to_vec),
        None => None,
    };
    let climbs = |key: &[u8]| {
        key.split(|byte| *byte == b'/')
            .any(|segment| segment == b".." || segment == b".")
    };
    key.is_some_and(|key| key.starts_with(b"p/") && !climbs(&key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_and_no_key_makes_a_request_outside_the_prefix() {
    let seed = std::env::var("NOTEFS_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    println!("NOTEFS_TEST_SEED={seed}");
    let mut random = Random(seed);
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&lines);
    let (endpoint, _) = serve(move |line| {
        noted.lock().unwrap().push(line.to_owned());
        xml_error("404 Not Found", "NoSuchKey")
    });
    let store = open_at(&endpoint);
    let user = UserMetadata::new();
    for _ in 0..60 {
        let raw = random.hostile();
        let text = match random.below(3) {
            0 => String::from_utf8_lossy(&raw).into_owned(),
            1 => raw
                .split(|byte| *byte == b'/')
                .map(escape_name)
                .collect::<Vec<_>>()
                .join("/"),
            _ => format!("{}/{}", escape_name(&raw), escape_name(&random.hostile())),
        };
        // Outcomes do not matter here, only what was asked for.
        drop(store.list(&format!("{text}/"), true).await.map(|_| ()));
        if let Ok(key) = ObjectKey::parse(&text) {
            drop(store.get(&key, None, None).await);
            drop(store.put(&key, Bytes::from_static(b"x"), &user, &Condition::None).await);
            drop(store.delete(&key, None).await);
            drop(store.copy(&key, &ETag("e".to_owned()), &key, &Condition::None).await);
        }
    }
    let lines = lines.lock().unwrap();
    assert!(lines.len() > 60, "only {} requests were made", lines.len());
    for line in lines.iter() {
        assert!(is_inside(line), "seed {seed}: {line}");
    }
    assert!(
        !is_inside("GET /bkt/p/../q HTTP/1.1")
            && !is_inside("GET /bkt/q HTTP/1.1")
            && is_inside("GET /bkt/p/q HTTP/1.1")
    );
}
