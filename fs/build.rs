//! Makes shell completions and manual pages from the command line's own definition.
//!
//! They land in `OUT_DIR`, and in the folder `NOTEFS_ASSETS_DIR` if that is set, for packages.

use clap::CommandFactory;
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};

#[allow(dead_code, unused_imports, reason = "the build needs the grammar, not the values")]
#[path = "src/cli/args.rs"]
mod args;
#[allow(dead_code, reason = "the build needs the parsers' names only")]
#[path = "src/cli/units.rs"]
mod units;

fn main() -> io::Result<()> {
    for watched in ["build.rs", "src/cli/args.rs", "src/cli/args", "src/cli/units.rs"] {
        println_cargo(&format!("rerun-if-changed={watched}"));
    }
    println_cargo("rerun-if-env-changed=NOTEFS_ASSETS_DIR");
    for variable in ["OUT_DIR", "NOTEFS_ASSETS_DIR"] {
        if let Some(folder) = std::env::var_os(variable) {
            write_assets(&PathBuf::from(folder))?;
        }
    }
    Ok(())
}

/// Tells cargo something.
fn println_cargo(text: &str) {
    use io::Write;
    writeln!(io::stdout(), "cargo::{text}").ok();
}

/// Writes `completions/` and `man/` below `folder`.
fn write_assets(folder: &Path) -> io::Result<()> {
    let completions = folder.join("completions");
    let man = folder.join("man");
    std::fs::create_dir_all(&completions)?;
    std::fs::create_dir_all(&man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut args::Cli::command(), "notefs", &completions)?;
    }
    clap_mangen::generate_to(args::Cli::command(), &man)
}
