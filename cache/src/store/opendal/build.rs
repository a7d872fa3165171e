//! Puts an operator together: address, credentials, layers, and the one TLS provider of the process.
//!
//! Owns nothing about what an address may say: `url` has read it.

use super::errors::Place;
use super::fence::Fence;
use super::operators::Operators;
use super::transport::{CheckedTransport, Counters};
use super::{CONCURRENT_CALLS_MAX, CONCURRENT_UPLOADS_MAX, OpendalStore, RETRIES_MAX, TRY_DEADLINE_SECONDS, seconds};
#[cfg(test)]
use crate::store::Store;
use crate::store::{Capabilities, StoreError, StoreErrorKind, StoreResult, key::KEY_LENGTH_MAX_BYTES};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{HttpTransporter, OperationContext, Operator};
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::sync::Semaphore;

const RETRY_DELAY_MIN_MILLISECONDS: u64 = 100;
const RETRY_DELAY_MAX_SECONDS: u64 = 5;

/// A request on its way outlives its sender by what lies in buffers and at the server: seconds at most.
const LATE_WRITE_MS: u64 = 10_000;

static TLS_PROVIDER: Once = Once::new();

/// A bucket, with everything decided that an address may leave open.
#[derive(Debug, Clone)]
pub(in crate::store) struct S3Place {
    /// The store's name for people.
    pub(in crate::store) name: String,
    /// The bucket.
    pub(in crate::store) bucket: String,
    /// The prefix without slashes at its ends; may be empty.
    pub(in crate::store) prefix: String,
    /// `http(s)://host[:port]`; none for Amazon.
    pub(in crate::store) endpoint: Option<String>,
    /// Region to sign for.
    pub(in crate::store) region: String,
    /// Profile of the shared credentials file.
    pub(in crate::store) profile: Option<String>,
    /// Whether the bucket's name goes into the host's.
    pub(in crate::store) virtual_host: bool,
}

/// A builder that has read no credentials yet.
fn builder(s3: &S3Place) -> opendal::services::S3 {
    let mut builder = opendal::services::S3::default()
        .bucket(&s3.bucket)
        .region(&s3.region)
        .root(&s3.prefix);
    if let Some(endpoint) = &s3.endpoint {
        // Amazon's instance service knows nothing of other stores, and asking it takes long elsewhere.
        builder = builder.endpoint(endpoint).disable_ec2_metadata();
    } else {
        builder = builder.endpoint(&format!("https://s3.{}.amazonaws.com", s3.region));
    }
    if let Some(profile) = &s3.profile {
        builder = builder.profile(profile);
    }
    if s3.virtual_host {
        builder = builder.enable_virtual_host_style();
    }
    builder
}

/// Makes the adapter; asks nobody yet.
pub(in crate::store) fn open_s3(s3: &S3Place) -> StoreResult<OpendalStore> {
    let amazon = s3.endpoint.is_none();
    let endpoint = s3.endpoint.as_deref().unwrap_or("Amazon S3");
    let place = Place {
        name: s3.name.clone(),
        bucket: s3.bucket.clone(),
        endpoint: endpoint.to_owned(),
        region: s3.region.clone(),
    };
    let prefix_length = if s3.prefix.is_empty() { 0 } else { s3.prefix.len() + 1 };
    let key_length = KEY_LENGTH_MAX_BYTES.saturating_sub(prefix_length);
    let capabilities = Capabilities {
        put_if_absent: true,
        put_if_match: true,
        delete_if_match: true,
        copy: true,
        // Most servers beside Amazon ignore the condition; there the adapter looks first, and a race may be lost.
        copy_if_absent: amazon,
        user_metadata: true,
        late_write_ms: LATE_WRITE_MS,
        key_length_max_bytes: key_length,
        segment_length_max_bytes: key_length,
    };
    let s3 = s3.clone();
    assemble(move || Operator::new(builder(&s3)), place, capabilities)
}

/// A store at a test's own server, with credentials of its own.
#[cfg(test)]
pub(super) fn open_at(endpoint: &str) -> OpendalStore {
    let at = endpoint.to_owned();
    let make = move || {
        let builder = opendal::services::S3::default()
            .bucket("bkt")
            .region("us-east-1")
            .root("p")
            .endpoint(&at)
            .access_key_id("key")
            .secret_access_key("hush")
            .disable_config_load()
            .disable_ec2_metadata();
        Operator::new(builder)
    };
    let text = |text: &str| text.to_owned();
    let place = Place {
        name: text("s3://bkt/p"),
        bucket: text("bkt"),
        endpoint: text(endpoint),
        region: text("us-east-1"),
    };
    let capabilities = crate::store::MemoryStore::new("").capabilities();
    assemble(make, place, capabilities).unwrap()
}

fn assemble(
    make: impl Fn() -> opendal::Result<Operator> + Send + Sync + 'static,
    place: Place,
    capabilities: Capabilities,
) -> StoreResult<OpendalStore> {
    // Fails only if the program has installed one already, which then serves as well.
    TLS_PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let counters = Arc::new(Counters::default());
    let transport = HttpTransporter::new(CheckedTransport::new(Arc::clone(&counters), Fence::around(&place)));
    let context = OperationContext::new().with_http_transport(transport);
    let operators = Operators::new(Box::new(move || Ok(make()?.with_context(context.clone()))));
    Ok(OpendalStore {
        operators: operators.map_err(|error| unusable(&place, &error))?,
        place,
        capabilities,
        counters,
        calls: Arc::new(Semaphore::new(CONCURRENT_CALLS_MAX)),
        uploads: Semaphore::new(CONCURRENT_UPLOADS_MAX),
    })
}

/// Timeout inside, retry outside: each try has a deadline of its own.
pub(super) fn layered(operator: Operator, body_deadline: Duration) -> Operator {
    let timeout = TimeoutLayer::new()
        .with_timeout(seconds(TRY_DEADLINE_SECONDS))
        .with_io_timeout(body_deadline);
    let retry = RetryLayer::new()
        .with_min_delay(Duration::from_millis(RETRY_DELAY_MIN_MILLISECONDS))
        .with_max_delay(seconds(RETRY_DELAY_MAX_SECONDS))
        .with_max_times(RETRIES_MAX)
        .with_jitter();
    operator.layer(timeout).layer(retry)
}

fn unusable(place: &Place, error: &opendal::Error) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Refused,
        operation: "open",
        target: place.name.clone(),
        message: error.message().to_owned(),
        advice: "Correct the store's address".to_owned(),
        retryable: false,
    }
}
