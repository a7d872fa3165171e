//! Answers that are wrong: each must become an error, never an absence or an empty listing.

use super::build::open_at;
use crate::store::{Condition, ETag, ObjectKey, Store, StoreError, StoreErrorKind, UserMetadata, preflight};
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
