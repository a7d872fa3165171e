//! Addresses of stores, and opening them.
//!
//! Owns what an address may say and what the environment adds: `AWS_*` variables and the shared profile files. Secrets
//! never stand in an address. Does not own requests: those are the adapters'.

mod profile;

use super::folder::FolderStore;
use super::opendal::{S3Place, open_s3};
use super::{MemoryStore, Store, StoreError, StoreErrorKind, StoreResult};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// How long [`preflight`] may take.
const PREFLIGHT_DEADLINE_SECONDS: u64 = 10;
/// Hosts of Tigris, which wants the bucket in the host's name.
const TIGRIS_HOSTS: [&str; 4] = ["tigris.dev", "storage.dev", "fly.storage.tigris.dev", "t3.storage.dev"];
const ADDRESSES: &str =
    "An address is s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&profile=NAME], fs:///FOLDER or memory://NAME";

/// The address of a store, checked; shows itself without secrets, since it cannot hold any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUrl(Address);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Address {
    S3(S3Address),
    Folder(PathBuf),
    Memory(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct S3Address {
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    profile: Option<String>,
}

impl StoreUrl {
    /// Reads an address: `s3://BUCKET[/PREFIX][?endpoint=…&region=…&profile=…]`, `fs:///FOLDER` or `memory://NAME`.
    pub fn parse(text: &str) -> StoreResult<StoreUrl> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(refused(&redacted(text), "it has no scheme", ADDRESSES));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => parse_s3(text, rest).map(Address::S3),
            "fs" | "file" => parse_folder(text, rest),
            "memory" if rest.is_empty() || rest.contains(['/', '?']) => {
                Err(refused(text, "a store in memory has a plain name", ADDRESSES))
            }
            "memory" => Ok(Address::Memory(rest.to_owned())),
            "gcs" | "gs" | "azblob" | "webdav" | "sftp" => Err(StoreError {
                kind: StoreErrorKind::Unsupported,
                ..refused(
                    &redacted(text),
                    &format!("this notefs was built without {scheme}"),
                    ALTERNATIVES,
                )
            }),
            _ => Err(refused(&redacted(text), "the scheme is unknown", ADDRESSES)),
        }
        .map(StoreUrl)
    }

    /// The address of a folder on disk, which must be absolute.
    pub fn folder(path: &Path) -> StoreResult<StoreUrl> {
        if !path.is_absolute() {
            return Err(refused(
                &path.display().to_string(),
                "the folder's path is not absolute",
                ADDRESSES,
            ));
        }
        Ok(StoreUrl(Address::Folder(path.components().collect())))
    }

    /// The folder behind an `fs://` address.
    pub fn as_folder(&self) -> Option<&Path> {
        match &self.0 {
            Address::Folder(path) => Some(path),
            _ => None,
        }
    }
}

const ALTERNATIVES: &str = "Use the S3 interface of that service where it has one: s3://BUCKET?endpoint=URL";

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> StoreResult<StoreUrl> {
        StoreUrl::parse(text)
    }
}

impl StoreUrl {
    /// The host of the service, as address, environment or profile name it; `None` for Amazon's, where no two buckets have one name, and for
    /// what is no service.
    pub fn host(&self) -> Option<String> {
        let Address::S3(s3) = &self.0 else { return None };
        let place = s3.place(&|name| std::env::var(name).ok()).ok()?;
        let host = place.endpoint.as_deref().map(host_of);
        host.filter(|host| !is_amazon(host))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Folder(path) => write!(f, "fs://{}", path.display()),
            Address::Memory(name) => write!(f, "memory://{name}"),
            Address::S3(s3) => {
                write!(f, "s3://{}", s3.bare())?;
                let fields = [
                    ("endpoint", &s3.endpoint),
                    ("region", &s3.region),
                    ("profile", &s3.profile),
                ];
                let given = fields
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value.as_ref()?)));
                for (index, (name, value)) in given.enumerate() {
                    let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
                    let value = value.replace("%3A", ":").replace("%2F", "/");
                    write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
                }
                Ok(())
            }
        }
    }
}

impl S3Address {
    fn bare(&self) -> String {
        if self.prefix.is_empty() {
            self.bucket.clone()
        } else {
            format!("{}/{}", self.bucket, self.prefix)
        }
    }

    /// Decides what the address leaves open, by the environment and the profile files.
    fn place(&self, environment: &dyn Fn(&str) -> Option<String>) -> StoreResult<S3Place> {
        let name = format!("s3://{}", self.bare());
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let profile = self.profile.clone().or_else(|| variable("AWS_PROFILE"));
        let settings = profile::load(profile.as_deref(), &variable);
        let endpoint = self.endpoint.clone().or_else(|| {
            let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
            names
                .iter()
                .find_map(|name| variable(name))
                .or_else(|| settings.endpoint.clone())
        });
        let endpoint = endpoint
            .map(|endpoint| checked_endpoint(&name, &endpoint))
            .transpose()?;
        let host = endpoint.as_deref().map(host_of).unwrap_or_default();
        let amazon = endpoint.is_none() || is_amazon(&host);
        let tigris = TIGRIS_HOSTS
            .iter()
            .any(|known| host == *known || host.ends_with(&format!(".{known}")));
        let global = tigris || host.ends_with(".r2.cloudflarestorage.com");
        let region = self
            .region
            .clone()
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.or(settings.region);
        Ok(S3Place {
            name,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            endpoint,
            region: region.unwrap_or_else(|| if global { "auto" } else { "us-east-1" }.to_owned()),
            profile,
            // Dots in a bucket's name do not fit the certificate of the host.
            virtual_host: (amazon || tigris) && !self.bucket.contains('.'),
        })
    }
}

fn parse_s3(text: &str, rest: &str) -> StoreResult<S3Address> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.contains('@') {
        return Err(refused(&redacted(text), "it holds credentials", SECRETS));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if bucket.is_empty() || !bucket.chars().all(good) {
        return Err(refused(
            &redacted(text),
            "the bucket's name is missing or not valid",
            ADDRESSES,
        ));
    }
    let mut s3 = S3Address {
        bucket: bucket.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        ..Default::default()
    };
    if !s3.prefix.is_empty()
        && let Err(problem) = super::ObjectKey::parse(&s3.prefix)
    {
        return Err(refused(
            &redacted(text),
            &format!("the prefix cannot be used. {problem}"),
            ADDRESSES,
        ));
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Some(value.into_owned()).filter(|value| !value.is_empty());
        match name.as_ref() {
            "endpoint" => s3.endpoint = value.map(|url| checked_endpoint(&redacted(text), &url)).transpose()?,
            "region" => s3.region = value,
            "profile" => s3.profile = value,
            name if is_secret(name) => return Err(refused(&redacted(text), "it holds credentials", SECRETS)),
            name => {
                let message = format!("\"{name}\" is no known parameter");
                return Err(refused(
                    &redacted(text),
                    &message,
                    "Known are endpoint, region and profile",
                ));
            }
        }
    }
    Ok(s3)
}

const SECRETS: &str = "Put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into a profile of ~/.aws/credentials \
                       named by ?profile=NAME: an address is shown in process lists and logs";

fn parse_folder(text: &str, rest: &str) -> StoreResult<Address> {
    if !rest.starts_with('/') {
        let advice = "Write fs:// and the folder's absolute path, as in fs:///home/me/notes";
        return Err(refused(text, "the folder's path is not absolute", advice));
    }
    let path = Path::new(rest);
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(refused(
            text,
            "the folder's path has a part \"..\"",
            "Write the path without it",
        ));
    }
    Ok(Address::Folder(path.components().collect()))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "password", "credential", "signature"]
        .iter()
        .any(|part| name.contains(part))
}

/// `http(s)://host[:port]`, without path, query or credentials.
fn checked_endpoint(target: &str, text: &str) -> StoreResult<String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let advice = "Write it as https://HOST[:PORT]";
    let Ok(url) = url::Url::parse(&full) else {
        return Err(refused(target, "the endpoint is not a URL", advice));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(target, "the endpoint holds credentials", SECRETS));
    }
    let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !plain {
        return Err(refused(
            target,
            "the endpoint is not of the form https://HOST[:PORT]",
            advice,
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_amazon(host: &str) -> bool {
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

fn host_of(endpoint: &str) -> String {
    url::Url::parse(endpoint)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The address up to anything that could be secret.
fn redacted(text: &str) -> String {
    let (scheme, rest) = text
        .split_once("://")
        .map_or(("", text), |(scheme, rest)| (scheme, rest));
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.rsplit_once('@').map_or(path, |(_, host)| host);
    if scheme.is_empty() {
        path.to_owned()
    } else {
        format!("{scheme}://{path}")
    }
}

fn refused(target: &str, message: &str, advice: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Refused,
        operation: "use",
        target: target.to_owned(),
        message: message.to_owned(),
        advice: advice.to_owned(),
        retryable: false,
    }
}

/// Opens the store behind an address. Asks no server yet: [`preflight`] does.
pub async fn open_store(url: &StoreUrl) -> StoreResult<Arc<dyn Store>> {
    match &url.0 {
        Address::S3(s3) => {
            let place = s3.place(&|name| std::env::var(name).ok())?;
            Ok(Arc::new(open_s3(&place)?))
        }
        Address::Folder(path) => Ok(Arc::new(FolderStore::open(path).await?)),
        Address::Memory(name) => Ok(MemoryStore::named(name)),
    }
}

/// Asks the store for the first page of its root, so that a wrong bucket, key, secret, endpoint or region is told
/// before anything relies on it; answers within 10 s.
pub async fn preflight(store: &dyn Store) -> StoreResult<()> {
    let work = async {
        let mut lister = store.list("", false).await?;
        lister.next_page().await.map(drop)
    };
    let outcome = tokio::time::timeout(Duration::from_secs(PREFLIGHT_DEADLINE_SECONDS), work).await;
    outcome.unwrap_or_else(|_| {
        Err(StoreError {
            kind: StoreErrorKind::Unavailable,
            operation: "list",
            target: store.name(),
            message: format!("the store did not answer within {PREFLIGHT_DEADLINE_SECONDS} s"),
            advice: "Check the endpoint and the network".to_owned(),
            retryable: true,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(text: &str) -> S3Address {
        match StoreUrl::parse(text).unwrap().0 {
            Address::S3(s3) => s3,
            other => panic!("{other:?}"),
        }
    }

    fn place(text: &str, environment: &[(&str, &str)]) -> S3Place {
        let find = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let find = |name: &str| find(name).or((name == "HOME").then(|| "/nonexistent".to_owned()));
        s3(text).place(&find).unwrap()
    }

    #[test]
    fn addresses_show_themselves_in_one_form() {
        for (text, shown) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("S3://b/a/c/", "s3://b/a/c"),
            (
                "s3://b?region=eu&endpoint=http://127.0.0.1:9000/",
                "s3://b?endpoint=http://127.0.0.1:9000&region=eu",
            ),
            ("s3://b?endpoint=play.min.io", "s3://b?endpoint=https://play.min.io"),
            ("fs:///tmp//my notes/", "fs:///tmp/my notes"),
            ("memory://x", "memory://x"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(StoreUrl::parse(shown).unwrap(), url);
        }
    }

    #[test]
    fn what_an_address_may_not_say_is_refused_without_telling_it() {
        for bad in [
            "notes",
            "s3://",
            "s3://b?x=1",
            "s3://b/a//c",
            "s3://b/../c",
            "fs://notes",
            "fs:///a/../b",
            "memory://",
            "memory://a/b",
            "ftp://x",
            "gcs://b",
            "s3://b?endpoint=ftp://x",
            "s3://b?endpoint=http://h/path",
        ] {
            assert!(!StoreUrl::parse(bad).unwrap_err().message.is_empty(), "{bad}");
        }
        for secret in [
            "s3://AKIA:hush@b/p",
            "s3://b?secret_access_key=hush",
            "s3://b?endpoint=http://u:hush@h",
            "s3://b?token=hush",
            "s3://b?x=hush",
            "https://hush@h?sig=hush",
        ] {
            let error = StoreUrl::parse(secret).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn the_environment_fills_what_the_address_leaves_open() {
        let plain = place("s3://b", &[]);
        assert_eq!(
            (plain.endpoint, plain.region.as_str(), plain.virtual_host),
            (None, "us-east-1", true)
        );
        let local = place(
            "s3://b/p",
            &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "garage")],
        );
        assert_eq!(
            (local.endpoint.as_deref(), local.region.as_str()),
            (Some("http://127.0.0.1:9"), "garage")
        );
        assert!(!local.virtual_host);
        let tigris = place("s3://b?endpoint=https://t3.storage.dev", &[]);
        assert_eq!((tigris.region.as_str(), tigris.virtual_host), ("auto", true));
        assert!(place("s3://b?endpoint=https://fly.storage.tigris.dev", &[]).virtual_host);
        let r2 = place("s3://b?endpoint=https://x.r2.cloudflarestorage.com", &[]);
        assert_eq!((r2.region.as_str(), r2.virtual_host), ("auto", false));
        assert!(!place("s3://a.b", &[]).virtual_host);
        assert_eq!(
            place("s3://b?profile=work", &[("AWS_PROFILE", "other")])
                .profile
                .as_deref(),
            Some("work")
        );
    }
}
