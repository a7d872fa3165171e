//! The grammar of `notefs pin`.
//!
//! Does not own the other commands (`args.rs`).

use clap::Args;
use std::path::PathBuf;

/// `notefs pin`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is pinned is fetched in the background, the newest first, and leaves the cache last. A folder's
pin holds for all that is and will be in it, and follows the folder; a file's belongs to its name.
Text notes up to 1 MiB are pinned already (`notefs mount --pin`). Without PATH, and with --list, the
pins are listed with how much of each is here.

Examples:
  notefs pin                                      The mount around the current folder
  notefs pin ~/notes/projects
  notefs pin --remove ~/notes/projects
  notefs pin --list ~/notes --json
  notefs status ~/notes --wait pinned             Before leaving the network")]
pub(crate) struct PinArgs {
    /// A file or folder in a mount; the mounted folder itself for all of it
    pub(crate) path: Option<PathBuf>,
    /// Take the pin of PATH back
    #[arg(long, requires = "path", conflicts_with = "list")]
    pub(crate) remove: bool,
    /// List the pins of the mount that PATH lies in
    #[arg(long)]
    pub(crate) list: bool,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}
