//! The limits of calls to a store: how long, how many at once, how large.

/// How long a call may take, repeats included, before the time for its bytes.
pub(super) const CALL_DEADLINE_SECONDS: u64 = 30;
/// How long one try of a small request, or a pause within an answer, may take.
pub(super) const TRY_DEADLINE_SECONDS: u64 = 10;
/// How long one request that carries a body may take.
pub(super) const UPLOAD_TRY_DEADLINE_SECONDS: u64 = 150;
/// The slowest line that is still served: each byte lengthens a call's deadline by this much.
pub(super) const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
/// Repeats of one request.
pub(super) const RETRIES_MAX: usize = 4;
/// Calls under way at once; more wait.
pub(super) const CONCURRENT_CALLS_MAX: usize = 32;
/// Large uploads under way at once; more wait.
pub(super) const CONCURRENT_UPLOADS_MAX: usize = 4;
/// Size of an upload's parts, unless there would be too many.
pub(super) const PART_SIZE_BYTES: u64 = 8 << 20;
/// Parts of one upload under way at once.
pub(super) const CONCURRENT_PARTS_MAX: usize = 3;
/// The most parts of one upload.
pub(super) const PARTS_MAX: u64 = 10_000;
/// The largest object that a server copies in one request; beyond, OpenDAL's copy loses the user metadata.
pub(super) const COPY_SIZE_MAX_BYTES: u64 = 5 << 30;

/// The most that is taken of an object which is asked for whole: what is larger is read in ranges, whatever was said of its size before.
pub(super) const WHOLE_BYTES_MAX: u64 = 128 << 20;
