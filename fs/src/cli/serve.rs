//! `notefs serve nfs`: serves in this process and says how to mount what is served.
//!
//! Does not own the server (`nfs`) nor its life (`mount`).

use super::args::ServeNfsArgs;
use super::mount::serve_here;
use super::{Outcome, output};
use crate::config::{self, Places};
use crate::mount::{point, system_mount};

/// Runs the command.
pub(super) fn nfs(args: &ServeNfsArgs) -> Outcome {
    let plan = config::serve_plan(args, &Places::from_environment()?)?;
    point::prepare_cache(&plan.cache_dir)?;
    serve_here(&plan, &mut || {
        output::line(format_args!("Serving {} at {}", plan.store, plan.dir.display()))?;
        output::line(format_args!("  Linux: {}", system_mount::linux_line(args.addr)))?;
        output::line(format_args!("  macOS: {}", system_mount::macos_line(args.addr)))
    })
}
