//! The fence around a prefix: no request leaves this process whose key lies outside of it.
//!
//! Keys are made and checked above ([`crate::store::ObjectKey`]), and OpenDAL puts the prefix before them. Should either be wrong, a tenant
//! would reach another's notes; so what is really sent is looked at once more, in the one place that all requests pass. A server may take
//! `..` and `.` in a path for what they mean in a folder: such a key is outside, wherever it leads.
//!
//! Owns the check. Does not own the making of keys.

use super::errors::Place;
use http::{HeaderMap, Uri};

/// Where the source of a copy stands.
const COPY_SOURCE: &str = "x-amz-copy-source";

/// One bucket, and a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    prefix: String,
}

impl Fence {
    /// Around what the store's name says: `s3://BUCKET[/PREFIX]`.
    pub(super) fn around(place: &Place) -> Fence {
        let path = place.name.split_once("://").map_or("", |(_, path)| path);
        let prefix = path.strip_prefix(&place.bucket).unwrap_or_default();
        Fence {
            bucket: place.bucket.clone(),
            prefix: prefix.trim_matches('/').to_owned(),
        }
    }

    /// Whether a request names nothing outside.
    pub(super) fn holds(&self, operation: &str, uri: &Uri, headers: &HeaderMap) -> bool {
        let path = uri.path().trim_start_matches('/');
        let is_virtual = uri.host().is_some_and(|host| {
            let rest = host.strip_prefix(&self.bucket);
            rest.is_some_and(|rest| rest.starts_with('.'))
        });
        let key = if is_virtual {
            Some(path)
        } else {
            self.below_bucket(path)
        };
        let Some(key) = key else { return false };
        if let Some(source) = headers.get(COPY_SOURCE) {
            let source = source.to_str().ok().map(|source| source.trim_start_matches('/'));
            // A version may be named behind it.
            let source = source.and_then(|source| source.split('?').next());
            if !source
                .and_then(|source| self.below_bucket(source))
                .is_some_and(|key| self.holds_key(key))
            {
                return false;
            }
        }
        if operation.starts_with("List") && key.is_empty() {
            return self.holds_listing(uri.query().unwrap_or_default());
        }
        self.holds_key(key)
    }

    fn below_bucket<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (decoded(bucket) == self.bucket.as_bytes()).then_some(key)
    }

    /// A key as it stands in a path.
    fn holds_key(&self, encoded: &str) -> bool {
        let key = decoded(encoded);
        let inside = match self.prefix.as_bytes() {
            b"" => !key.is_empty(),
            prefix => key
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1 || rest == b"/"),
        };
        inside
            && !key
                .split(|byte| *byte == b'/')
                .any(|segment| matches!(segment, b"." | b".."))
    }

    /// What a listing asks for.
    fn holds_listing(&self, query: &str) -> bool {
        if self.prefix.is_empty() {
            return true;
        }
        let asked = query.split('&').filter_map(|pair| pair.strip_prefix("prefix="));
        let asked: Vec<Vec<u8>> = asked.map(decoded).collect();
        let [asked] = asked.as_slice() else { return false };
        let rest = asked.strip_prefix(self.prefix.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    }
}

/// The bytes of a percent-encoded text.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let pair = if *first == b'%' { tail.get(..2) } else { None };
        let byte = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fence(prefix: &str) -> Fence {
        Fence {
            bucket: "bkt".to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    fn holds(prefix: &str, operation: &str, target: &str) -> bool {
        let uri: Uri = format!("http://host:9000{target}").parse().unwrap();
        fence(prefix).holds(operation, &uri, &HeaderMap::new())
    }

    #[test]
    fn what_is_inside_passes() {
        for target in [
            "/bkt/t/7/a.md",
            "/bkt/t/7/a%2Fb",
            "/bkt/t/7/%2E%2E%2E",
            "/bkt/t/7/.notefs/feed/w",
        ] {
            assert!(holds("t/7", "PutObject", target), "{target}");
        }
        assert!(holds(
            "t/7",
            "ListObjectsV2",
            "/bkt?list-type=2&prefix=t%2F7%2F&delimiter=%2F"
        ));
        assert!(holds("t/7", "ListObjectsV2", "/bkt/?list-type=2&prefix=t/7/a%20b/"));
        assert!(holds("", "ListObjectsV2", "/bkt?list-type=2"));
        assert!(holds("", "GetObject", "/bkt/a"));
        let uri: Uri = "https://bkt.s3.eu.example/t/7/a".parse().unwrap();
        assert!(fence("t/7").holds("GetObject", &uri, &HeaderMap::new()));
    }

    #[test]
    fn what_is_outside_does_not() {
        for target in [
            "/bkt/t/8/a.md",
            "/bkt/t/77/a.md",
            "/bkt/t/7",
            "/bkt/a",
            "/bkt",
            "/other/t/7/a.md",
            "/bkt/t/7/../8/a.md",
            "/bkt/t/7/%2e%2e/8/a.md",
            "/bkt/t/7/..%2F8/a.md",
            "/bkt/t/7/./a.md",
            "/bkt%2Ft/7/a",
        ] {
            assert!(!holds("t/7", "GetObject", target), "{target}");
        }
        for query in [
            "",
            "?list-type=2",
            "?prefix=",
            "?prefix=t%2F",
            "?prefix=t%2F7",
            "?prefix=t%2F77%2F",
            "?prefix=t/7/&prefix=t/8/",
        ] {
            assert!(!holds("t/7", "ListObjectsV2", &format!("/bkt{query}")), "{query}");
        }
        assert!(!holds("", "DeleteObjects", "/bkt?delete"));
    }

    #[test]
    fn a_copy_takes_nothing_from_outside() {
        let uri: Uri = "http://host/bkt/t/7/a".parse().unwrap();
        for (source, inside) in [
            ("/bkt/t/7/b", true),
            ("bkt/t/7/b%20c", true),
            ("/bkt/t/8/b", false),
            ("/other/t/7/b", false),
            ("/bkt/t/7/../8/b", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(COPY_SOURCE),
                HeaderValue::from_static(source),
            )]);
            assert_eq!(fence("t/7").holds("CopyObject", &uri, &headers), inside, "{source}");
        }
    }
}
