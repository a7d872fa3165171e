//! The grammar of `notefs mcp`.
//!
//! Does not own the other commands (`args.rs`).

use clap::Args;
use std::path::PathBuf;

/// `notefs mcp`.
#[derive(Debug, Args)]
#[command(after_help = "\
An MCP server on standard input and output, to be named in the configuration of an agent's client.
Its tools: search, read, write, edit, list, move, delete, backlinks, build_context, recent,
conflicts. Paths are relative to the folder and never lead out of it; a change is made only to what
the agent has seen. Several agents may work on one folder. It ends with its input.

Examples:
  notefs mcp ~/notes
  notefs mcp --read-only ~/notes
  claude mcp add notes -- notefs mcp ~/notes")]
pub(crate) struct McpArgs {
    /// The mounted folder; without it, the mount around the current folder
    pub(crate) dir: Option<PathBuf>,
    /// Offer only the tools that change nothing
    #[arg(long)]
    pub(crate) read_only: bool,
}
