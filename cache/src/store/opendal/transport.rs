//! The HTTP transport below OpenDAL: counts requests, and refuses answers that no object store gives.
//!
//! Every request passes here, and so the fence around the prefix. Owns the checks that OpenDAL lacks: it reads any page with status 200 as an empty listing, and any 404 as "no such
//! object", also one of a proxy or of a bucket that is gone. Does not own retries.

use super::fence::Fence;
use crate::store::pace::Pace;
use crate::store::{FEED_PREFIX, RequestCounts};
use http::{Method, Request, Response, StatusCode, Uri, header};
use opendal::raw::ServiceOperation;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use opendal_http_transport_reqwest::ReqwestTransport;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An answer that made no sense; rides as the source of an OpenDAL error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Senseless(pub(super) &'static str);

/// The store says that the bucket is not there, where OpenDAL would hear that the object is not.
#[derive(Debug, thiserror::Error)]
#[error("the bucket does not exist")]
pub(super) struct BucketGone;

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// How fast requests may follow each other.
    pub(super) pace: Pace,
    head: AtomicU64,
    get: AtomicU64,
    put: AtomicU64,
    copy: AtomicU64,
    delete: AtomicU64,
    list: AtomicU64,
    feed: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            head: read(&self.head),
            get: read(&self.get),
            put: read(&self.put),
            copy: read(&self.copy),
            delete: read(&self.delete),
            list: read(&self.list),
            feed: read(&self.feed),
            failed: read(&self.failed),
        }
    }

    fn count(&self, operation: &str, method: &Method, uri: &Uri) {
        let counter = match operation {
            "" => return,
            _ if is_about_feed(uri) => &self.feed,
            "CopyObject" | "UploadPartCopy" => &self.copy,
            name if name.starts_with("List") => &self.list,
            _ => match *method {
                Method::HEAD => &self.head,
                Method::GET => &self.get,
                Method::DELETE => &self.delete,
                _ => &self.put,
            },
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.pace.spend();
    }
}

/// Whether a request is about an object of the change feed, or lists them.
fn is_about_feed(uri: &Uri) -> bool {
    let encoded = FEED_PREFIX.replace('/', "%2F");
    uri.path().contains(&format!("/{FEED_PREFIX}")) || uri.query().is_some_and(|query| query.contains(&encoded))
}

pub(super) struct CheckedTransport {
    inner: ReqwestTransport,
    counters: Arc<Counters>,
    fence: Fence,
}

impl CheckedTransport {
    pub(super) fn new(counters: Arc<Counters>, fence: Fence) -> CheckedTransport {
        CheckedTransport {
            inner: ReqwestTransport::default(),
            counters,
            fence,
        }
    }
}

impl HttpTransport for CheckedTransport {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        // Requests for credentials (STS, IMDS) bear no operation.
        let operation = request
            .extensions()
            .get::<ServiceOperation>()
            .map_or("", |operation| operation.0);
        if !operation.is_empty() && !self.fence.holds(operation, request.uri(), request.headers()) {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "a request would have left the bucket's prefix, and was not sent",
            ));
        }
        let ranged = request.headers().contains_key(header::RANGE);
        self.counters.count(operation, request.method(), request.uri());
        let response = self.inner.fetch(request).await?;
        match operation {
            "" => Ok(response),
            "GetObject" if ranged && response.status() == StatusCode::OK => {
                Err(senseless("the whole object came where a part was asked for"))
            }
            _ if response.status().is_success() => check_success(operation, response).await,
            // An answer to HEAD has no body to tell why.
            name if name != "HeadObject" && response.status() == StatusCode::NOT_FOUND => {
                check_absence(name, response).await
            }
            _ => Ok(response),
        }
    }
}

async fn check_success(operation: &str, response: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let roots: &[&str] = match operation {
        "ListObjectsV2" | "ListObjects" => &["<ListBucketResult"],
        "CopyObject" => &["<CopyObjectResult", "<Error"],
        "CreateMultipartUpload" => &["<InitiateMultipartUploadResult"],
        "CompleteMultipartUpload" => &["<CompleteMultipartUploadResult", "<Error"],
        "HeadObject" | "GetObject" | "PutObject" | "UploadPart" => {
            return if response.headers().contains_key(header::ETAG) {
                Ok(response)
            } else {
                Err(senseless("the answer bears no ETag: it is not an object store's"))
            };
        }
        "DeleteObject" if response.status() != StatusCode::NO_CONTENT => &[],
        _ => return Ok(response),
    };
    let (response, body) = buffered(response).await?;
    if roots.is_empty() && !is_html(&body) {
        return Ok(response);
    }
    let root = first_element(&body);
    if roots.iter().any(|known| root.starts_with(known)) {
        return Ok(response);
    }
    Err(senseless(if is_html(&body) {
        "the answer is an HTML page, not an object store's"
    } else {
        "the answer is not an object store's"
    }))
}

/// Only "no such key" means that there is no such object.
async fn check_absence(operation: &str, response: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let (response, body) = buffered(response).await?;
    let body = String::from_utf8_lossy(&body);
    if body.contains("<Code>NoSuchBucket<") {
        return Err(Error::new(ErrorKind::ConfigInvalid, "no such bucket").set_source(BucketGone));
    }
    let sure = ["<Code>NoSuchKey<", "<Code>NoSuchVersion<", "<Code>NoSuchUpload<"]
        .iter()
        .any(|code| body.contains(code))
        || (operation == "DeleteObject" && body.is_empty());
    if sure {
        Ok(response)
    } else {
        Err(senseless(
            "\"not found\" came from something that is not an object store",
        ))
    }
}

async fn buffered(response: Response<HttpBody>) -> Result<(Response<HttpBody>, Vec<u8>)> {
    let (parts, mut body) = response.into_parts();
    let buffer = body.to_buffer().await?;
    let bytes = buffer.to_vec();
    let size = buffer.len() as u64;
    let stream = futures::stream::iter([Ok(buffer)]);
    Ok((Response::from_parts(parts, HttpBody::new(stream, Some(size))), bytes))
}

/// From the first `<` that opens an element, past declaration and comments.
fn first_element(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while rest.starts_with("<?") || rest.starts_with("<!--") {
        let Some(end) = rest.find('>') else { break };
        rest = rest[end + 1..].trim_start();
    }
    rest.to_owned()
}

fn is_html(body: &[u8]) -> bool {
    let start = first_element(body).to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

fn senseless(why: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, why)
        .set_temporary()
        .set_source(Senseless(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_element_is_found_behind_declarations() {
        assert!(
            first_element(b"<?xml version=\"1.0\"?>\n<!-- x -->\n<ListBucketResult xmlns=\"\">").starts_with("<ListB")
        );
        assert!(is_html(b"\n<!DOCTYPE HTML><html>"));
        assert!(!is_html(b"<?xml version=\"1.0\"?><Error/>"));
        assert_eq!(first_element(b""), "");
    }

    #[test]
    fn requests_are_counted_by_kind() {
        let counters = Counters::default();
        let (note, feed) = (
            Uri::from_static("http://s/b/a.md"),
            Uri::from_static("http://s/b/.notefs/feed/w"),
        );
        let feeds = Uri::from_static("http://s/b?list-type=2&prefix=p%2F.notefs%2Ffeed%2F&delimiter=%2F");
        counters.count("HeadObject", &Method::HEAD, &note);
        counters.count("ListObjectsV2", &Method::GET, &note);
        counters.count("CompleteMultipartUpload", &Method::POST, &note);
        counters.count("CopyObject", &Method::PUT, &note);
        counters.count("", &Method::GET, &note);
        counters.count("GetObject", &Method::GET, &feed);
        counters.count("PutObject", &Method::PUT, &feed);
        counters.count("ListObjectsV2", &Method::GET, &feeds);
        let counts = counters.snapshot();
        assert_eq!(
            (
                counts.head,
                counts.list,
                counts.put,
                counts.copy,
                counts.get,
                counts.feed
            ),
            (1, 1, 1, 1, 0, 3)
        );
    }
}
