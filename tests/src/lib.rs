//! The harness of notefs's whole-system tests: real S3 servers, a fault proxy in front of them, real mounts of the
//! built binary, snapshots of file trees, and made-up vaults of notes.
//!
//! Nothing here knows the insides of notefs: the tests drive the binary as a user does, and look at the store with a
//! client of their own. The binary is found through `NOTEFS_BIN`, else in the target directory's `release` folder.

pub mod agent;
pub mod basic_memory;
pub mod command;
pub mod container;
pub mod endless;
pub mod inotify;
pub mod kinds;
mod lines;
pub mod model;
pub mod mount;
pub mod nfs;
pub mod pair;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rclone;
pub mod register;
pub mod requests;
pub mod rounds;
pub mod s3;
pub mod scratch;
pub mod server;
pub mod sigv4;
pub mod sqld;
pub mod store;
pub mod sys;
pub mod tree;
pub mod vault;
pub mod watch;
pub mod web;

pub use agent::Agent;
pub use command::Notefs;
pub use mount::{Mount, MountOptions};
pub use process::wait_until;
pub use proxy::{Class, Fault, Proxy};
pub use store::Store;

/// How long a condition may take that is met in well under a second on an idle machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
