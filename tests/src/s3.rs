//! A small S3 client for assertions: it sees the bucket as any other tool would, and shares no code with notefs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::sigv4::{self, Credentials};

/// One bucket on one server.
#[derive(Clone, Debug)]
pub struct S3Client {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The bucket's name.
    pub bucket: String,
    /// Who asks.
    pub credentials: Credentials,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The whole key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
}

/// An answer of the server.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// User metadata: names without `x-amz-meta-`.
pub type Metadata = BTreeMap<String, String>;

impl S3Client {
    /// Makes the bucket.
    pub fn create_bucket(&self) -> Result<()> {
        self.call("PUT", "", &[], vec![], b"")?
            .expect(&[200, 409], "create bucket")
            .map(drop)
    }

    /// Makes the bucket keep old versions.
    pub fn keep_versions(&self) -> Result<()> {
        let body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let query = [("versioning".to_owned(), String::new())];
        self.call("PUT", "", &query, vec![], body)?
            .expect(&[200], "versioning")
            .map(drop)
    }

    /// Stores an object.
    pub fn put(&self, key: &str, body: &[u8]) -> Result<()> {
        self.put_with(key, body, &Metadata::new())
    }

    /// Stores an object with user metadata.
    pub fn put_with(&self, key: &str, body: &[u8], metadata: &Metadata) -> Result<()> {
        let headers = metadata
            .iter()
            .map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone()))
            .collect();
        self.call("PUT", key, &[], headers, body)?.expect(&[200], key).map(drop)
    }

    /// An object's bytes, or `None` when there is none.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let response = self.call("GET", key, &[], vec![], b"")?.expect(&[200, 404], key)?;
        Ok((response.status == 200).then_some(response.body))
    }

    /// An object's bytes and its ETag, or `None` when there is none.
    pub fn get_with_etag(&self, key: &str) -> Result<Option<(Vec<u8>, String)>> {
        let response = self.call("GET", key, &[], vec![], b"")?.expect(&[200, 404], key)?;
        let etag = response.headers.get("etag").cloned().unwrap_or_default();
        Ok((response.status == 200).then_some((response.body, etag)))
    }

    /// Stores an object if it still has this ETag (as `get_with_etag` tells it); says whether it had.
    pub fn put_if_match(&self, key: &str, body: &[u8], etag: &str) -> Result<bool> {
        let headers = vec![("if-match".into(), etag.into())];
        let response = self.call("PUT", key, &[], headers, body)?;
        Ok(response.expect(&[200, 404, 409, 412], key)?.status == 200)
    }

    /// An object's user metadata, or `None` when there is no such object.
    pub fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let response = self.call("HEAD", key, &[], vec![], b"")?.expect(&[200, 404], key)?;
        let metadata = response.headers.iter();
        let metadata = metadata.filter_map(|(name, value)| {
            name.strip_prefix("x-amz-meta-")
                .map(|name| (name.into(), value.clone()))
        });
        Ok((response.status == 200).then(|| metadata.collect()))
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.call("DELETE", key, &[], vec![], b"")?
            .expect(&[200, 204, 404], key)
            .map(drop)
    }

    /// All objects whose keys begin with `prefix`, in the order of their keys.
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query: Vec<(String, String)> = vec![
                ("list-type".into(), "2".into()),
                ("encoding-type".into(), "url".into()),
                ("prefix".into(), prefix.into()),
            ];
            query.extend(token.take().map(|token| ("continuation-token".into(), token)));
            let page = self.call("GET", "", &query, vec![], b"")?.expect(&[200], "list")?;
            let page = String::from_utf8(page.body)?;
            for object in elements(&page, "Contents") {
                found.push(Listed {
                    key: percent_decoded(&element(object, "Key").context("listing without a key")?),
                    size: element(object, "Size").context("listing without a size")?.parse()?,
                    etag: element(object, "ETag")
                        .unwrap_or_default()
                        .replace("&quot;", "")
                        .replace('"', ""),
                });
            }
            token = element(&page, "NextContinuationToken").map(|token| unescaped(&token));
            if token.is_none() {
                found.sort_by(|one, other| one.key.cmp(&other.key));
                return Ok(found);
            }
        }
    }

    fn call(
        &self,
        method: &str,
        key: &str,
        query: &[(String, String)],
        mut headers: Vec<(String, String)>,
        body: &[u8],
    ) -> Result<Response> {
        let path = match key {
            "" => format!("/{}", self.bucket),
            key => format!("/{}/{}", self.bucket, sigv4::encode(key, "/")),
        };
        headers.push(("host".into(), self.address.to_string()));
        let mut request = sigv4::Request {
            method,
            path: &path,
            query,
            headers,
            body,
        };
        sigv4::sign(&mut request, &self.credentials, "us-east-1");
        let target = match query {
            [] => path.clone(),
            query => format!("{path}?{}", sigv4::encode_query(query)),
        };
        exchange(self.address, &target, &request).with_context(|| format!("{method} {target}"))
    }
}

impl Response {
    /// Fails with the server's words unless the status is one of `statuses`.
    fn expect(self, statuses: &[u16], what: &str) -> Result<Response> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(
            statuses.contains(&self.status),
            "{what:?}: the server answered {}: {text}",
            self.status
        );
        Ok(self)
    }
}

/// One request on a connection of its own.
fn exchange(address: SocketAddr, target: &str, request: &sigv4::Request<'_>) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut message = format!("{} {target} HTTP/1.1\r\n", request.method);
    for (name, value) in &request.headers {
        message.push_str(&format!("{name}: {value}\r\n"));
    }
    message.push_str(&format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        request.body.len()
    ));
    stream.write_all(message.as_bytes())?;
    stream.write_all(request.body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse_response(&answer, request.method == "HEAD")
}

pub(crate) fn parse_response(answer: &[u8], bodyless: bool) -> Result<Response> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status line")?
        .parse()?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding.contains("chunked"));
    let body = if chunked && !bodyless {
        join_chunks(body)?
    } else {
        body.to_vec()
    };
    Ok(Response { status, headers, body })
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("chunk without a length")?;
        let size = std::str::from_utf8(&rest[..end])?
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let size = usize::from_str_radix(size, 16)?;
        let start = end + 2;
        if size == 0 {
            return Ok(body);
        }
        let Some(chunk) = rest.get(start..start + size) else {
            bail!("chunk cut off")
        };
        body.extend_from_slice(chunk);
        rest = rest.get(start + size + 2..).context("chunk cut off")?;
    }
}

fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|part| part.split(&close).next())
        .collect()
}

fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).first().map(|text| (*text).to_owned())
}

fn unescaped(text: &str) -> String {
    let quotes = text
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&#34;", "\"");
    quotes.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The text without its percent-encoding; a plus sign is a space, as in a listing.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = if *first == b'%' { tail.get(..2) } else { None };
        let decoded = escape.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
