//! What can go wrong with a shared index, as data.
//!
//! Owns [`SharedError`]: what failed, where, what to do, and the two answers a loop needs. No text in it holds a token, a
//! password or a whole URL. Does not log; whoever swallows an error does.

use super::SharedAddress;

/// Bytes kept of what a server said.
const MAX_DETAIL_BYTES: usize = 500;

/// A failure of the shared index. Neither the notes nor this machine's own index are at stake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n\n{advice}")]
pub struct SharedError {
    what: String,
    advice: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not to be reached, or no answer in time.
    Away,
    /// Others hold it, or it has no room at the moment.
    Busy,
    /// The database does not take what was sent.
    Rejected,
    /// Somebody has to do something first.
    Final,
}

impl SharedError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        !matches!(self.kind, Kind::Final | Kind::Rejected)
    }

    /// Whether the server cannot be reached, so that there is no use in trying other calls.
    pub fn away(&self) -> bool {
        self.kind == Kind::Away
    }

    /// Whether the database was reached and let us in, but refused what was sent: something in it may be at fault.
    pub(super) fn is_rejected(&self) -> bool {
        self.kind == Kind::Rejected
    }

    /// What failed, in one line.
    pub(super) fn reason(&self) -> &str {
        &self.what
    }

    pub(super) fn address(what: &str) -> Self {
        Self {
            what: format!("The address of the shared index {what}"),
            advice: "Give libsql://HOST?authToken=…, https://HOST, http://HOST:PORT or postgres://USER@HOST/DATABASE",
            kind: Kind::Final,
        }
    }

    pub(super) fn unreachable(address: &SharedAddress, action: &str, detail: impl std::fmt::Display) -> Self {
        let what = format!("Cannot {action} at {address}: {}", clipped(&detail.to_string()));
        Self {
            what,
            advice: "Check the network and that the server runs; this machine's own index answers meanwhile",
            kind: Kind::Away,
        }
    }

    /// A connection that did not come about, or broke.
    pub(super) fn broken(address: &SharedAddress, action: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let unreachable = Self::unreachable(address, action, causes(error));
        if !is_about_certificate(error) {
            return unreachable;
        }
        Self {
            advice: "Add the certificate of who signed the server's to this system's, or name its file in SSL_CERT_FILE where notefs is started; \
                     this machine's own index answers meanwhile",
            ..unreachable
        }
    }

    pub(super) fn busy(address: &SharedAddress, action: &str, detail: impl std::fmt::Display) -> Self {
        Self {
            what: format!("Cannot {action} at {address} now: {}", clipped(&detail.to_string())),
            advice: "Nothing is lost: it is tried again",
            kind: Kind::Busy,
        }
    }

    pub(super) fn failed(address: &SharedAddress, action: &str, detail: impl std::fmt::Display) -> Self {
        Self {
            what: format!("Cannot {action} at {address}: {}", clipped(&detail.to_string())),
            advice: "Check that the address is that of a database for notefs; another database can be given, and is filled anew",
            kind: Kind::Final,
        }
    }

    pub(super) fn rejected(address: &SharedAddress, action: &str, detail: impl std::fmt::Display) -> Self {
        Self {
            kind: Kind::Rejected,
            ..Self::failed(address, action, detail)
        }
    }

    pub(super) fn newer(address: &SharedAddress, found: i64) -> Self {
        Self {
            what: format!("The shared index at {address} has schema {found}, which this notefs does not know"),
            advice: "Use the notefs that made it, or give another database",
            kind: Kind::Final,
        }
    }

    pub(super) fn refused(address: &SharedAddress, action: &str) -> Self {
        Self {
            what: format!("Cannot {action}: {address} refused the token or password"),
            advice: "Give a token that is valid for this database and may write",
            kind: Kind::Final,
        }
    }
}

/// The whole chain of causes: the outermost says no more than that connecting failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Whether TLS refused what the server showed. An I/O error hides what it holds from the chain of causes.
fn is_about_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_refusal = |error: &(dyn std::error::Error + 'static)| {
        matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    };
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let held = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if is_refusal(inner) || held.is_some_and(|held| is_about_certificate(held)) {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn clipped(detail: &str) -> &str {
    crate::text::clip(detail, MAX_DETAIL_BYTES)
}
