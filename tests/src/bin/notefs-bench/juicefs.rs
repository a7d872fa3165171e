//! JuiceFS as two clients of one volume: its data in the bucket, its metadata in an SQLite file beside them, which costs no trip.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use notefs_tests::process::{self, Finished, Guarded, tool, wait_until};
use notefs_tests::s3::S3Client;
use notefs_tests::scratch;

/// A formatted volume.
#[derive(Debug)]
pub(crate) struct JuiceFs {
    home: PathBuf,
    metadata: String,
}

/// A running mount.
#[derive(Debug)]
pub(crate) struct JuiceMount {
    dir: PathBuf,
    daemon: Option<Guarded>,
}

impl JuiceFs {
    /// Makes a volume in a bucket.
    pub(crate) fn format(bucket: &S3Client) -> Result<JuiceFs> {
        let home = scratch::folder("juicefs")?;
        let metadata = format!("sqlite3://{}/meta.db", home.display());
        let mut command = Command::new(tool("juicefs")?);
        command.args(["format", "--storage", "s3", "--bucket"]);
        command.arg(format!("http://{}/{}", bucket.address, bucket.bucket));
        command.args(["--access-key", &bucket.credentials.access_key]);
        command.args(["--secret-key", &bucket.credentials.secret_key]);
        command.arg(&metadata).arg("notes");
        process::run(command, Duration::from_secs(60)).and_then(Finished::ok)?;
        Ok(JuiceFs { home, metadata })
    }

    /// Mounts it with its own defaults and a cache of its own.
    pub(crate) fn mount(&self) -> Result<JuiceMount> {
        let home = scratch::folder("juicefs")?;
        let dir = home.join("notes");
        std::fs::create_dir(&dir)?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = Command::new(tool("juicefs")?);
        command
            .args(["mount", "--no-usage-report", "--log"])
            .arg(home.join("juicefs.log"))
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg(&self.metadata)
            .arg(&dir)
            .current_dir(&self.home)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let daemon = Some(process::spawn(command)?);
        let mount = JuiceMount { dir, daemon };
        wait_until(
            "mount of JuiceFS",
            Duration::from_secs(60),
            || match scratch::is_mounted(&mount.dir) {
                true => Ok(()),
                false => Err("not mounted".into()),
            },
        )
        .with_context(|| std::fs::read_to_string(home.join("log")).unwrap_or_default())?;
        Ok(mount)
    }
}

impl JuiceMount {
    /// Where it is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for JuiceMount {
    fn drop(&mut self) {
        drop(self.daemon.take());
        scratch::force_unmount(&self.dir);
    }
}
