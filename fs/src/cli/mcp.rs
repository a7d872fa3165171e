//! `notefs mcp`.
//!
//! Owns which mount is meant. Does not own the server (`mcp`).

use super::args::McpArgs;
use super::{Outcome, whole_mount};

/// Runs the command.
pub(super) fn run(args: &McpArgs) -> Outcome {
    let record = whole_mount(args.dir.as_deref())?;
    crate::mcp::serve(&record.mountpoint, args.read_only).map(|()| 0)
}
