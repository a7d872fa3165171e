//! Between the contract's values and OpenDAL's: options of a write, times, ETags.

use crate::store::{Condition, ETag, UserMetadata};
use crate::types::Timestamp;
use opendal::Metadata;
use opendal::options::WriteOptions;

pub(super) fn write_options(user: &UserMetadata, condition: &Condition) -> WriteOptions {
    let user_metadata = user
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut options = WriteOptions {
        user_metadata: Some(user_metadata),
        ..WriteOptions::default()
    };
    match condition {
        Condition::None => {}
        Condition::Absent => options.if_not_exists = true,
        Condition::Matches(etag) => options.if_match = Some(quoted(etag)),
    }
    options
}

/// When the store says that an object was written.
pub(super) fn modified(metadata: &Metadata) -> Timestamp {
    let Some(time) = metadata.last_modified() else {
        return Timestamp::default();
    };
    let time = time.into_inner();
    // Before 1970 both parts are negative.
    let nanos = i128::from(time.as_second()) * 1_000_000_000 + i128::from(time.subsec_nanosecond());
    Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(0))
}

/// As HTTP writes it; weak tags bear their quotes inside.
pub(super) fn quoted(etag: &ETag) -> String {
    if etag.0.starts_with("W/") {
        etag.0.clone()
    } else {
        format!("\"{}\"", etag.0)
    }
}

pub(super) fn unquoted(raw: &str) -> ETag {
    let raw = raw.trim();
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    ETag(inner.unwrap_or(raw).to_owned())
}
