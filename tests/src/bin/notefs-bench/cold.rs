//! The first look at a bucket that this machine has never seen, 20 ms away.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::rclone::Rclone;
use notefs_tests::vault::{self, VaultFile};
use notefs_tests::{Mount, Proxy, Store};

use crate::table::Table;
use crate::{Column, timed};

const NOTES: usize = 500;
const READS: usize = 50;

/// Cold walk and cold reads, and the requests they cost.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let store = Store::weed()?;
    let files = vault::generate(NOTES, 23);
    vault::put_to(&files, &store)?;
    let proxy = Proxy::start(store.client()?.address)?;
    proxy.set_latency(Duration::from_millis(20));
    let distant = store.via(proxy.address())?;
    {
        let mount = Mount::start(&distant)?;
        look(Column::Notefs, mount.dir(), &files, &proxy, table)?;
    }
    let mut client = store.client()?.clone();
    client.address = proxy.address();
    let rclone = Rclone::start(&client)?;
    look(Column::Rclone, rclone.dir(), &files, &proxy, table)
}

fn look(column: Column, root: &Path, files: &[VaultFile], proxy: &Proxy, table: &mut Table) -> Result<()> {
    let before = proxy.total();
    let walked = timed(|| {
        let count = shell(root, "find . -type f -size -1000k -printf '%s\\n' | wc -l")?;
        ensure!(
            count.trim().parse::<usize>()? == files.len(),
            "walked {count} of {} files",
            files.len()
        );
        Ok(())
    })?;
    table.add(
        "cold list of 510 files, 20 ms away",
        "ms",
        column,
        walked.as_secs_f64() * 1e3,
    );
    table.add(
        "  requests of the cold list",
        "n",
        column,
        (proxy.total() - before) as f64,
    );
    let read = timed(|| {
        // Spread over the vault, so that no one folder's readahead answers for all.
        for file in files.iter().step_by(files.len() / READS).take(READS) {
            let bytes = std::fs::read(root.join(&file.path)).with_context(|| file.path.clone())?;
            ensure!(bytes == file.bytes, "{} differs", file.path);
        }
        Ok(())
    })?;
    table.add(
        "cold read of a note, 20 ms away",
        "ms",
        column,
        read.as_secs_f64() * 1e3 / READS as f64,
    );
    Ok(())
}
