//! Where a shared index is.
//!
//! Owns reading the URL and keeping its secret: neither `Display` nor `Debug` shows a token, a password or any parameter.
//! Does not connect.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::SharedError;

/// Longest address read, in bytes.
const MAX_ADDRESS_BYTES: usize = 4_096;

/// The URL of a database, with what is needed to be let in.
///
/// `libsql://HOST[:PORT][?authToken=…]` and `https://…` (Turso), `http://…` (a `sqld` nearby), `postgres://…` or
/// `postgresql://…` with the parameters of libpq's URLs.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedAddress {
    pub(super) kind: Kind,
    /// What may be shown.
    shown: String,
    pub(super) secret: Secret,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Libsql,
    Postgres,
}

/// What must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// The address to connect to: for PostgreSQL it holds the password.
    pub(super) url: String,
    /// The token of libSQL, or a password that stands before the one in the URL.
    pub(super) token: Option<String>,
}

impl SharedAddress {
    /// The same database with another token (libSQL) or password (PostgreSQL); `None` keeps what the URL has.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            self.secret.token = Some(token);
        }
        self
    }

    /// Whether a token or password travels unencrypted to another machine.
    pub fn is_exposed(&self) -> bool {
        let is_near = Url::parse(&self.secret.url).is_ok_and(|url| is_loopback(&url));
        self.kind == Kind::Libsql && self.secret.token.is_some() && self.secret.url.starts_with("http://") && !is_near
    }

    fn libsql(url: Url) -> Result<Self, SharedError> {
        let mut token = None;
        let mut is_plain = url.scheme() == "http";
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "authToken" if !value.is_empty() => token = Some(value.into_owned()),
                "authToken" => {}
                "tls" if url.scheme() == "libsql" => is_plain = value == "0",
                _ => return Err(SharedError::address("has a parameter that libSQL does not know")),
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SharedError::address(
                "has a user or password; libSQL takes ?authToken=…",
            ));
        }
        let host = host(&url)?;
        let path = url.path().trim_end_matches('/');
        let scheme = if is_plain { "http" } else { "https" };
        Ok(Self {
            kind: Kind::Libsql,
            shown: format!("{}://{host}{path}", url.scheme()),
            secret: Secret {
                url: format!("{scheme}://{host}{path}"),
                token,
            },
        })
    }

    fn postgres(url: &Url, input: &str) -> Result<Self, SharedError> {
        let host = host(url).unwrap_or_default();
        let user = match url.username() {
            "" => String::new(),
            user => format!("{user}@"),
        };
        Ok(Self {
            kind: Kind::Postgres,
            shown: format!("postgres://{user}{host}{}", url.path()),
            secret: Secret {
                url: input.to_owned(),
                token: None,
            },
        })
    }
}

fn host(url: &Url) -> Result<String, SharedError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| SharedError::address("names no host"))?;
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => true,
    }
}

impl FromStr for SharedAddress {
    type Err = SharedError;

    fn from_str(input: &str) -> Result<Self, SharedError> {
        let input = input.trim();
        if input.len() > MAX_ADDRESS_BYTES {
            return Err(SharedError::address("is too long"));
        }
        // The parser's own words may quote a piece of the secret, so they are not passed on.
        let url = Url::parse(input).map_err(|_| SharedError::address("is no URL"))?;
        match url.scheme() {
            "libsql" | "http" | "https" => Self::libsql(url),
            "postgres" | "postgresql" => Self::postgres(&url, input),
            _ => Err(SharedError::address("is of no kind that notefs knows")),
        }
    }
}

impl fmt::Display for SharedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for SharedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedAddress({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str) -> SharedAddress {
        input.parse().unwrap()
    }

    #[test]
    fn addresses_are_read() {
        let turso = read("libsql://notes-me.turso.io?authToken=s3cret");
        assert_eq!(turso.secret.url, "https://notes-me.turso.io");
        assert_eq!(turso.secret.token.as_deref(), Some("s3cret"));
        assert_eq!(read("http://127.0.0.1:8080/").secret.url, "http://127.0.0.1:8080");
        assert_eq!(read("libsql://h:1?tls=0").secret.url, "http://h:1");
        assert_eq!(read("postgresql://u:p@h/db").kind, Kind::Postgres);
        let token = turso.with_token(Some("other".into())).with_token(None);
        assert_eq!(token.secret.token.as_deref(), Some("other"));
        for wrong in [
            "",
            "notes",
            "libsql://",
            "mysql://h/db",
            "libsql://u:s3cret@h",
            "libsql://h?token=s3cret",
        ] {
            let error = wrong.parse::<SharedAddress>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
            assert!(!error.retryable() && !error.away());
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for input in [
            "libsql://h?authToken=s3cret",
            "https://h:1/x?authToken=s3cret",
            "postgres://u:s3cret@h:1/db?sslmode=require",
            "postgres://h/db?user=u&password=s3cret",
        ] {
            let address = read(input).with_token(Some("s3cret".into()));
            assert!(!format!("{address} {address:?}").contains("s3cret"), "{address}");
        }
        assert_eq!(read("postgres://u:p@h:1/db").to_string(), "postgres://u@h:1/db");
        assert!(read("http://example.org?authToken=x").is_exposed());
        assert!(!read("http://127.0.0.1?authToken=x").is_exposed());
    }
}
