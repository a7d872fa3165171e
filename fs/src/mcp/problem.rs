//! Errors that an agent can act on.
//!
//! Owns what each says: what happened, where, what to do next, and whether the same call may work later. Does not own when they arise.

use crate::failure::Failure;
use rustix::io::Errno;
use serde::Serialize;

/// What kind of problem it is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The arguments do not fit the tool.
    BadArguments,
    /// The path is none below the folder.
    BadPath,
    /// There is nothing.
    NotFound,
    /// There is something already.
    Exists,
    /// The note is not what the caller thinks it is.
    Changed,
    /// The text to replace is not in the note, or more than once.
    NoMatch,
    /// It is no text.
    NotText,
    /// It is beyond a limit.
    TooLarge,
    /// It is a folder, a link or something else, and not a note.
    NotANote,
    /// The folder holds something.
    NotEmpty,
    /// Others change it all the time.
    Busy,
    /// Not allowed.
    Denied,
    /// There is no room.
    Full,
    /// The store or the daemon does not answer.
    Unavailable,
    /// Nothing is mounted any more.
    MountGone,
    /// Anything else.
    Failed,
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// For programs.
    pub(super) kind: Kind,
    /// What happened.
    pub(super) what: String,
    /// The path or the argument that it is about.
    #[serde(rename = "where")]
    pub(super) place: String,
    /// What to do next.
    pub(super) what_to_do: String,
    /// Whether the same call may work later.
    pub(super) retryable: bool,
}

impl Problem {
    /// A problem; which kinds pass by themselves is known here.
    pub(super) fn new(
        kind: Kind,
        place: impl Into<String>,
        what: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Problem {
        Problem {
            kind,
            what: what.into(),
            place: place.into(),
            what_to_do: what_to_do.into(),
            retryable: matches!(kind, Kind::Busy | Kind::Full | Kind::Unavailable | Kind::MountGone),
        }
    }

    /// What the system says about a path.
    pub(super) fn io(path: &str, error: &std::io::Error) -> Problem {
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        Problem::errno(path, Errno::from_raw_os_error(code))
    }

    /// The same, of a system call.
    pub(super) fn errno(path: &str, errno: Errno) -> Problem {
        let (kind, what_to_do) = match errno {
            Errno::NOENT => (
                Kind::NotFound,
                "`list` shows what is there, `search` finds notes by their words",
            ),
            Errno::EXIST => (Kind::Exists, "Choose another name, or read what is there"),
            Errno::LOOP => (
                Kind::NotANote,
                "Links are not followed here: name the note that it points at",
            ),
            Errno::NOTDIR | Errno::ISDIR => (
                Kind::NotANote,
                "`list` its folder to see what is a note and what is a folder",
            ),
            Errno::NOTEMPTY => (Kind::NotEmpty, "Delete or move what it holds first"),
            Errno::ACCESS | Errno::PERM => (Kind::Denied, "Ask the user: its mode does not let you"),
            Errno::ROFS => (Kind::Denied, "The folder is mounted read-only; only read"),
            Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => (Kind::BadPath, "Choose another name"),
            Errno::NOSPC | Errno::DQUOT => (
                Kind::Full,
                "Tell the user; `notefs status` shows what is not stored yet",
            ),
            Errno::NOTCONN | Errno::CONNABORTED | Errno::STALE | Errno::NODEV => {
                return Problem::gone(path, "The folder's daemon is gone");
            }
            Errno::IO | Errno::TIMEDOUT | Errno::AGAIN | Errno::INTR | Errno::BUSY => (
                Kind::Unavailable,
                "Try again in a minute; `notefs status` says whether the store can be reached",
            ),
            _ => (Kind::Failed, "Tell the user"),
        };
        let what = std::io::Error::from(errno).to_string();
        Problem::new(kind, path, what, what_to_do)
    }

    /// What the daemon or a command says.
    pub(super) fn failure(place: &str, failure: Failure) -> Problem {
        let what_to_do = failure.hint.unwrap_or_else(|| "Tell the user".to_owned());
        Problem::new(Kind::Failed, place, failure.message, what_to_do)
    }

    /// Nothing is mounted.
    pub(super) fn gone(place: &str, what: impl Into<String>) -> Problem {
        let what_to_do = "Ask the user to mount it again with `notefs mount`; then the same call works";
        Problem::new(Kind::MountGone, place, what, what_to_do)
    }
}
