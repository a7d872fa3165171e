//! The control socket: how commands talk to the daemon of a mount.
//!
//! Owns the protocol (JSON lines; one request for each connection, then progress lines, then one reply), the server, the
//! client and the registry of running mounts. Does not own what a request does (`mount/serve.rs`) nor the words that
//! people see (`cli`).

pub(crate) mod client;
pub(crate) mod fleet_record;
pub(crate) mod knowledge;
pub(crate) mod protocol;
pub(crate) mod question;
pub(crate) mod registry;
pub(crate) mod server;
