//! What went wrong, for programs and for people.
//!
//! Owns the reading of OpenDAL's errors and of the servers' codes behind them. Nothing secret passes: only the server's
//! code and message and the innermost cause of a network error are told.

use super::transport::{BucketGone, Senseless};
use crate::store::{StoreError, StoreErrorKind, StoreResult};
use opendal::ErrorKind;
use std::error::Error as _;
use std::fmt::Write;
use tokio::time::error::Elapsed;

/// The longest text of a server that is passed on.
const SERVER_TEXT_LENGTH_MAX: usize = 200;

/// Where the store is, for advice.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The store's name for people.
    pub(super) name: String,
    /// The bucket or container.
    pub(super) bucket: String,
    /// Host and port.
    pub(super) endpoint: String,
    /// Region that requests are signed for; empty where there is none.
    pub(super) region: String,
}

/// The outcomes of a call that are no failures.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Yes(T),
    NotFound,
    ConditionFailed,
    PastEnd,
}

impl<T> Answer<T> {
    pub(super) fn try_map<U>(self, map: impl FnOnce(T) -> StoreResult<U>) -> StoreResult<Answer<U>> {
        Ok(match self {
            Answer::Yes(value) => Answer::Yes(map(value)?),
            Answer::NotFound => Answer::NotFound,
            Answer::ConditionFailed => Answer::ConditionFailed,
            Answer::PastEnd => Answer::PastEnd,
        })
    }
}

/// Sorts the outcome of a call under its deadline.
pub(super) fn sort<T>(
    outcome: Result<opendal::Result<T>, Elapsed>,
    operation: &'static str,
    target: &str,
    place: &Place,
) -> StoreResult<Answer<T>> {
    let error = match outcome {
        Ok(Ok(value)) => return Ok(Answer::Yes(value)),
        Ok(Err(error)) => error,
        Err(_) => {
            let cause = unreachable(place, "the deadline has passed");
            return Err(cause.into_error(operation, target, place));
        }
    };
    match error.kind() {
        ErrorKind::NotFound => Ok(Answer::NotFound),
        ErrorKind::ConditionNotMatch => Ok(Answer::ConditionFailed),
        ErrorKind::RangeNotSatisfied => Ok(Answer::PastEnd),
        _ => Err(explain(&error, place).into_error(operation, target, place)),
    }
}

pub(super) fn garbled(operation: &'static str, target: &str, message: &str, place: &Place) -> StoreError {
    garbled_cause(place, message).into_error(operation, target, place)
}

pub(super) fn unsupported(operation: &'static str, target: &str, message: &str, place: &Place) -> StoreError {
    Cause::new(StoreErrorKind::Unsupported, message).into_error(operation, target, place)
}

/// For an object that was to be read whole.
pub(super) fn too_large(target: &str, size: u64, place: &Place) -> StoreError {
    let message = format!("it is too large to be read whole ({size} bytes)");
    Cause::new(StoreErrorKind::Refused, &message).into_error("read", target, place)
}

pub(super) fn busy(operation: &'static str, target: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        operation,
        target: target.to_owned(),
        message: "too many calls are waiting for the store".to_owned(),
        advice: String::new(),
        retryable: true,
    }
}

struct Cause {
    kind: StoreErrorKind,
    message: String,
    advice: String,
}

impl Cause {
    fn new(kind: StoreErrorKind, message: impl Into<String>) -> Cause {
        Cause {
            kind,
            message: message.into(),
            advice: String::new(),
        }
    }

    fn advise(mut self, advice: impl Into<String>) -> Cause {
        self.advice = advice.into();
        self
    }

    fn into_error(self, operation: &'static str, target: &str, place: &Place) -> StoreError {
        use StoreErrorKind::{Garbled, SlowDown, Unavailable};
        StoreError {
            kind: self.kind,
            operation,
            target: if target.is_empty() {
                place.name.clone()
            } else {
                target.to_owned()
            },
            message: self.message,
            advice: self.advice,
            retryable: matches!(self.kind, Unavailable | SlowDown | Garbled),
        }
    }
}

fn explain(error: &opendal::Error, place: &Place) -> Cause {
    if let Some(Senseless(why)) = error.source().and_then(|source| source.downcast_ref()) {
        return garbled_cause(place, why);
    }
    let bucket_gone = error
        .source()
        .is_some_and(|source| source.downcast_ref::<BucketGone>().is_some());
    let (code, text) = server_words(error.message());
    if bucket_gone {
        return by_code("NoSuchBucket", "", place).unwrap_or_else(|| Cause::new(StoreErrorKind::NoBucket, ""));
    }
    if let Some(cause) = by_code(&code, &text, place) {
        return cause;
    }
    by_kind(error, &code, &text, place)
}

/// The codes of S3 and its kin that ask for something particular.
fn by_code(code: &str, text: &str, place: &Place) -> Option<Cause> {
    use StoreErrorKind::{NoBucket, Refused, SlowDown, Unauthorised, Unavailable, Unsupported};
    let Place {
        bucket,
        endpoint,
        region,
        ..
    } = place;
    let credentials = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws/credentials";
    Some(match code {
        "NoSuchBucket" | "InvalidBucketName" => {
            Cause::new(NoBucket, format!("there is no bucket \"{bucket}\" at {endpoint}"))
                .advise("Create the bucket, or correct its name or the endpoint")
        }
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnknownAccessKeyId" | "InvalidAccessKey" => {
            Cause::new(Unauthorised, format!("{endpoint} does not know the access key")).advise(credentials)
        }
        "SignatureDoesNotMatch" => Cause::new(
            Unauthorised,
            format!("{endpoint} refuses the signature: the secret key is wrong"),
        )
        .advise(credentials),
        "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => {
            Cause::new(Unauthorised, "the session token is no longer valid").advise("Renew it, as with `aws sso login`")
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" => Cause::new(
            Unauthorised,
            format!("access to the bucket \"{bucket}\" is denied"),
        )
        .advise(
            "Give this key the rights to list the bucket and to read, write and delete its objects, or use another key",
        ),
        "RequestTimeTooSkewed" => {
            Cause::new(Unauthorised, "this machine's clock is wrong by more than 15 minutes").advise("Set the clock")
        }
        "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "IllegalLocationConstraintException"
        | "TemporaryRedirect" => {
            let region = if region.is_empty() { "none" } else { region };
            Cause::new(
                Unauthorised,
                format!("the bucket is not in the region \"{region}\" ({})", shown(code, text)),
            )
            .advise("Name the bucket's region: ?region=REGION in the address, or AWS_REGION")
        }
        "KeyTooLongError"
        | "KeyTooLong"
        | "MetadataTooLarge"
        | "InvalidURI"
        | "EntityTooLarge"
        | "XMinioInvalidObjectName" => Cause::new(Refused, shown(code, text)),
        "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" => Cause::new(SlowDown, shown(code, text)),
        "ConditionalRequestConflict" | "OperationAborted" => {
            Cause::new(Unavailable, "another write to the same object was under way")
        }
        "NotImplemented" => Cause::new(Unsupported, shown(code, text)),
        _ => return None,
    })
}

fn by_kind(error: &opendal::Error, code: &str, text: &str, place: &Place) -> Cause {
    let endpoint = &place.endpoint;
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let said = shown(code, text);
            let said = if said.is_empty() {
                String::new()
            } else {
                format!(" ({said})")
            };
            Cause::new(
                StoreErrorKind::Unauthorised,
                format!("{endpoint} refuses the credentials{said}"),
            )
            .advise("Check the access key, the secret key and their rights")
        }
        ErrorKind::RateLimited => Cause::new(StoreErrorKind::SlowDown, "the store asks for fewer requests"),
        ErrorKind::Unsupported => Cause::new(StoreErrorKind::Unsupported, one_line(error.message())),
        ErrorKind::ConfigInvalid => Cause::new(StoreErrorKind::Refused, one_line(error.message())),
        _ if error.message().starts_with("signing http request") => no_credentials(error, place),
        _ if error.message() == "send http request" || error.message().contains("timeout reached") => {
            unreachable(place, &innermost(error))
        }
        _ if error.message().starts_with('<') || error.message().contains("<html") => {
            garbled_cause(place, "an error came back as an HTML page")
        }
        _ if !code.is_empty() && !error.is_temporary() && !error.is_persistent() => {
            Cause::new(StoreErrorKind::Refused, shown(code, text))
        }
        _ => Cause::new(StoreErrorKind::Unavailable, join(shown(code, text), &innermost(error))),
    }
}

fn no_credentials(error: &opendal::Error, place: &Place) -> Cause {
    let cause = innermost(error);
    Cause::new(
        StoreErrorKind::Unauthorised,
        format!("no credentials for {} were found ({cause})", place.endpoint),
    )
    .advise("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials with AWS_PROFILE")
}

fn unreachable(place: &Place, cause: &str) -> Cause {
    Cause::new(
        StoreErrorKind::Unavailable,
        format!("{} does not answer ({cause})", place.endpoint),
    )
    .advise("Check the endpoint and the network")
}

fn garbled_cause(place: &Place, message: &str) -> Cause {
    Cause::new(StoreErrorKind::Garbled, message).advise(format!(
        "Check that {} is the object store itself, not a web page or a proxy",
        place.endpoint
    ))
}

/// The innermost cause, where a network error says what happened.
fn innermost(error: &opendal::Error) -> String {
    let mut text = error.message().to_owned();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    one_line(&text)
}

/// Code and message of the server, out of OpenDAL's rendering `S3Error { code: "…", message: "…", … }`.
fn server_words(message: &str) -> (String, String) {
    let field = |name: &str| {
        let rest = message.split_once(&format!("{name}: \""))?.1;
        let end = rest
            .char_indices()
            .find(|(at, c)| *c == '"' && !rest[..*at].ends_with('\\'))?
            .0;
        Some(one_line(&rest[..end].replace("\\\"", "\"")))
    };
    if !message.starts_with("S3Error") {
        return Default::default();
    }
    (field("code").unwrap_or_default(), field("message").unwrap_or_default())
}

fn shown(code: &str, text: &str) -> String {
    match (code.is_empty(), text.is_empty()) {
        (true, _) => text.to_owned(),
        (false, true) => code.to_owned(),
        (false, false) => format!("{code}: {text}"),
    }
}

fn join(mut first: String, second: &str) -> String {
    if first.is_empty() {
        return second.to_owned();
    }
    if !second.starts_with("S3Error") && !second.is_empty() {
        let _ = write!(first, " ({second})");
    }
    first
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(SERVER_TEXT_LENGTH_MAX)
        .collect();
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let text = |text: &str| text.to_owned();
        Place {
            name: text("s3://b"),
            bucket: text("b"),
            endpoint: text("h:1"),
            region: text("r"),
        }
    }

    fn sorted(kind: ErrorKind, message: &str) -> StoreError {
        let error = opendal::Error::new(kind, message);
        sort::<()>(Ok(Err(error)), "list", "", &place()).unwrap_err()
    }

    #[test]
    fn each_mistake_has_its_own_sentence() {
        let coded = |code: &str| {
            sorted(
                ErrorKind::Unexpected,
                &format!("S3Error {{ code: \"{code}\", message: \"m.\" }}"),
            )
        };
        assert_eq!(coded("NoSuchBucket").kind, StoreErrorKind::NoBucket);
        assert_eq!(
            coded("NoSuchBucket").to_string(),
            "Could not list s3://b: there is no bucket \"b\" at h:1. Create the bucket, or correct its name or the endpoint"
        );
        let codes = [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "AccessDenied",
            "ExpiredToken",
            "PermanentRedirect",
        ];
        let sentences: std::collections::BTreeSet<_> = codes.iter().map(|code| coded(code).to_string()).collect();
        assert_eq!(sentences.len(), codes.len());
        assert!(
            codes
                .iter()
                .all(|code| coded(code).kind == StoreErrorKind::Unauthorised && !coded(code).retryable)
        );
        assert_eq!(coded("SlowDown").kind, StoreErrorKind::SlowDown);
    }

    #[test]
    fn pages_and_silence_are_told_apart() {
        assert_eq!(sorted(ErrorKind::Unexpected, "<html>502").kind, StoreErrorKind::Garbled);
        assert_eq!(
            sorted(ErrorKind::Unexpected, "send http request").kind,
            StoreErrorKind::Unavailable
        );
        assert!(
            sorted(ErrorKind::Unexpected, "io timeout reached")
                .to_string()
                .contains("h:1 does not answer")
        );
        assert_eq!(
            sorted(ErrorKind::Unexpected, "signing http request").kind,
            StoreErrorKind::Unauthorised
        );
    }

    #[test]
    fn a_servers_words_are_one_short_line() {
        let words = server_words("S3Error { code: \"X\", message: \"a \\\"b\\\"\\n c\", resource: \"r\" }");
        assert_eq!(words.0, "X");
        assert!(words.1.starts_with("a \"b\""), "{words:?}");
        assert_eq!(one_line(&"x".repeat(1000)).len(), SERVER_TEXT_LENGTH_MAX);
    }
}
