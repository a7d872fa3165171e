//! `rclone mount` as a user sets it up for editing: full cache, and notefs's own delay before a write-back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Guarded, tool, wait_until};
use crate::s3::S3Client;
use crate::scratch;
use anyhow::{Context, Result};

/// A running mount.
#[derive(Debug)]
pub struct Rclone {
    dir: PathBuf,
    daemon: Option<Guarded>,
}

impl Rclone {
    /// Mounts a bucket in a fresh folder with a fresh cache.
    pub fn start(bucket: &S3Client) -> Result<Rclone> {
        Rclone::start_with(bucket, &[])
    }

    /// The same with further options.
    pub fn start_with(bucket: &S3Client, args: &[&str]) -> Result<Rclone> {
        let home = scratch::folder("rclone")?;
        let dir = home.join("notes");
        std::fs::create_dir(&dir)?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = Command::new(tool("rclone")?);
        command.args([
            "mount",
            "--config",
            "/dev/null",
            "--vfs-cache-mode",
            "full",
            "--vfs-write-back",
            "1s",
        ]);
        command
            .args(args)
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg(format!(":s3:{}", bucket.bucket))
            .arg(&dir);
        command
            .env("RCLONE_S3_PROVIDER", "Other")
            .env("RCLONE_S3_ENDPOINT", format!("http://{}", bucket.address));
        command.env("RCLONE_S3_ACCESS_KEY_ID", &bucket.credentials.access_key);
        command.env("RCLONE_S3_SECRET_ACCESS_KEY", &bucket.credentials.secret_key);
        command
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let daemon = process::spawn(command)?;
        let rclone = Rclone {
            dir,
            daemon: Some(daemon),
        };
        wait_until(
            "mount of rclone",
            Duration::from_secs(60),
            || match scratch::is_mounted(&rclone.dir) {
                true => Ok(()),
                false => Err("not mounted".into()),
            },
        )
        .with_context(|| std::fs::read_to_string(home.join("log")).unwrap_or_default())?;
        Ok(rclone)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        drop(self.daemon.take());
        scratch::force_unmount(&self.dir);
    }
}
