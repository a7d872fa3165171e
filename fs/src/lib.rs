//! A bucket of notes as a folder: the front ends, the command line and the mount that ties replica, index and kernel together.
//!
//! Owns: what the kernel and the user see. Does not own: the replica and its agreement with the bucket (`notefs-cache`),
//! the meaning of notes (`notefs-indexer`).

pub mod cli;
pub mod filesystem;
pub mod fuse;
pub mod nfs;

mod archive;
mod beneath;
mod bridge;
mod config;
mod control;
mod daemon;
mod events;
mod failure;
mod felt;
mod fleet;
mod mcp;
mod metrics;
mod mount;
mod promises;
mod save;
mod service;
mod snapshot;
mod supervise;
mod walk;
