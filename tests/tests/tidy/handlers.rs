//! I7, as far as it shows in the text: what answers a request waits for nothing, and catches what panics. What it does then is tested by
//! `fs/src/filesystem.rs`, `fs/src/fuse/watchdog.rs` and `tests/tests/outage.rs`.

use anyhow::{Context, Result};

use super::{code, none, root, sources};

/// What runs on the threads that read requests.
const HANDLERS: [&str; 8] = [
    "fs/src/fuse/handlers.rs",
    "fs/src/fuse/directory.rs",
    "fs/src/fuse/reply.rs",
    "fs/src/filesystem",
    "fs/src/nfs/procedures",
    "cache/src/replica/names.rs",
    "cache/src/replica/content.rs",
    "cache/src/state",
];

/// I7: what answers a request waits for nothing, and catches what panics.
#[test]
fn no_handler_waits_or_panics_past_its_guard() -> Result<()> {
    let waits = [
        "block_on(",
        "thread::sleep(",
        ".recv()",
        ".recv_timeout(",
        "Condvar",
        ".join()",
    ];
    let mut breaches = Vec::new();
    for (path, text) in sources()?
        .into_iter()
        .filter(|(path, _)| HANDLERS.iter().any(|place| path.starts_with(place)))
    {
        let code = code(text.split("#[cfg(test)]").next().unwrap_or_default());
        // What is handed to a thread that may wait, may.
        let handed_on = code.matches("spawn_blocking(").count();
        let found = waits
            .iter()
            .filter(|word| code.matches(*word).count() > if **word == "block_on(" { handed_on } else { 0 });
        breaches.extend(found.map(|word| format!("{path} waits: {word}")));
    }
    let handlers = std::fs::read_to_string(root().join("fs/src/fuse/handlers.rs"))?;
    let (_, requests) = handlers.split_once("Filesystem for FrontEnd").context("no handlers")?;
    let unguarded = requests.split("\n    fn ").skip(1).filter(|handler| {
        handler.contains("request: &Request") && !handler.starts_with("init(") && !handler.contains("self.serve")
    });
    breaches.extend(unguarded.filter_map(|handler| Some(format!("{} passes no guard", handler.split_once('(')?.0))));
    none(breaches, "requests that may hold up or break the mount")
}
