//! A process of its own that performs changes on a mount, so that the kernel raises the inotify events of a local change.
//!
//! Telling the kernel that something changed (invalidation) raises no event. Only an operation through the mount does, and
//! the daemon must never perform one itself: killed in the middle of its own request, it would leave a mount that hangs.
//! So it starts this program once more, as a single thread that does one thing at a time:
//!
//! ```text
//!  daemon ── command ──> actor ── openat, unlinkat, ... ──> kernel ── request ──> daemon (knows the actor by its pid)
//!         <── errno ────
//! ```
//!
//! The actor has nothing but a socket to the daemon, dies with it, and lets go of the mount when it is idle, so that it
//! never keeps one from being unmounted for long.
//!
//! Owns: the commands, both ends of the socket, the process. Does not own: what is to be felt, and what the requests are
//! answered (`fuse/felt.rs`).

mod actor;
mod command;
mod process;

pub(crate) use actor::run;
pub(crate) use command::Command;
pub(crate) use process::{Actor, Refusal};
