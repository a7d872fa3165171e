//! What is in the trash, how it comes back, and its end after its time.

use super::Trashed;
use super::name::{PREFIX, day_start_seconds, parse};
use crate::error::{Error, Result};
use crate::replica::{Replica, TARGET_RANGE};
use crate::store::{ETag, Listed, ObjectKey, ObjectMetadata, PartialMetadata, escape_name};
use crate::types::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Versions read into memory; of a fuller trash the oldest are shown.
const LISTED_MAX: usize = 100_000;

/// Deletions of one sweep.
const SWEPT_MAX: usize = 1_000;

/// The longest and the shortest time between two sweeps.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
const SWEEP_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How often the sweeper looks whether it is to end.
const STOP_POLL_MS: u64 = 250;

/// Bytes of a version that are brought back at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// How often one operation may need something from the bucket.
const NEEDS_MAX: usize = 64;

impl Replica {
    /// The versions in the trash below a path (empty for all), newest first.
    pub async fn trash_list(&self, below: &[u8]) -> Result<Vec<Trashed>> {
        let mut found = Vec::new();
        let mut lister = self.store.list(PREFIX, true).await?;
        while let Some(page) = lister.next_page().await? {
            let lines = page.iter().filter_map(understand);
            found.extend(lines.filter(|version| is_below(&version.path, below)));
            if found.len() >= LISTED_MAX {
                break;
            }
        }
        found.sort_by(|one, other| (other.when, &one.path).cmp(&(one.when, &other.path)));
        Ok(found)
    }

    /// Whether old versions are the bucket's own business.
    pub fn bucket_keeps_versions(&self) -> bool {
        self.trash.is_versioned()
    }

    /// How long deleted and overwritten versions are kept; `None` if they are not.
    pub fn trash_keeps(&self) -> Option<Duration> {
        self.trash.keep()
    }

    /// Makes a version a file beside its old path, whole, for the caller to rename into place: as an ordinary change of a program, which
    /// the kernel and all watchers hear of. The newest version unless another is named; its folder must exist. With `overwrite`, what
    /// the rename will replace is kept in turn, however lately a version was. Answers the version and the file's name.
    pub async fn trash_draft(
        self: &Arc<Self>,
        path: &[u8],
        version: Option<&str>,
        overwrite: bool,
    ) -> Result<(Trashed, Vec<u8>)> {
        let mut found = self.trash_list(path).await?;
        found.retain(|trashed| trashed.path == path && version.is_none_or(|version| trashed.version == version));
        let Some(trashed) = found.into_iter().next() else {
            let which = version.map_or(String::new(), |version| format!(" version {version} of"));
            let shown = String::from_utf8_lossy(path);
            return Err(Error::Unusable(format!(
                "The trash holds no{which} {shown}\n\nHint: `notefs trash ls` lists what it holds"
            )));
        };
        let folder = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(&b""[..], |at| &path[..at]);
        let parent = self.answered(|replica| replica.resolve(folder)).await?.ino;
        if overwrite {
            self.trash.forget(&key_text(path));
        }
        let unique = self.options.clock.now().as_nanos();
        let name = format!(".notefs-restored-{}-{unique:x}", trashed.version).into_bytes();
        if let Err(error) = self.draft(&trashed, parent, &name).await {
            self.unlink(parent, &name).ok();
            return Err(error);
        }
        Ok((trashed, name))
    }

    /// Runs an operation until it is answered, fetching what it needs.
    async fn answered<T>(&self, operation: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        for _ in 0..NEEDS_MAX {
            match operation(self) {
                Err(Error::Need(need)) => self.satisfy(need).await?,
                answered => return answered,
            }
        }
        Err(Error::Posix(libc::EIO))
    }

    fn new_inode(&self, kind: FileKind, meta: &PartialMetadata, mode: u32) -> NewInode {
        NewInode {
            kind,
            mode: meta.mode.unwrap_or(mode),
            uid: meta.uid.unwrap_or(self.options.default_uid),
            gid: meta.gid.unwrap_or(self.options.default_gid),
            rdev: meta.rdev.unwrap_or(0),
            target: meta.target.clone().unwrap_or_default(),
        }
    }

    /// Makes the version a file of another name, content first and all, so that nobody sees half of it under its own.
    async fn draft(&self, trashed: &Trashed, parent: Ino, name: &[u8]) -> Result<()> {
        let key = ObjectKey::parse(&trashed.key).map_err(|problem| Error::Unusable(problem.to_string()))?;
        let gone = || Error::Unusable("It has left the trash in this moment".to_owned());
        let info = self.store.head(&key).await?.ok_or_else(gone)?;
        let user = info.user.clone().unwrap_or_default();
        let mut meta = ObjectMetadata::decode(&user);
        let kind = meta
            .kind
            .filter(|kind| *kind != FileKind::Directory)
            .unwrap_or(FileKind::File);
        if kind == FileKind::Symlink && meta.target.is_none() {
            let object = self.store.get(&key, Some(TARGET_RANGE), Some(&info.etag)).await?;
            let object = object.ok_or_else(gone)?;
            meta.target = Some(object.bytes.to_vec());
        }
        let new = self.new_inode(kind, &meta, 0o644);
        let ino = self.answered(|replica| replica.create(parent, name, &new)).await?.ino;
        if kind == FileKind::File {
            self.fill(ino, &key, &info.etag, info.size).await?;
        }
        for (name, value) in meta.xattrs.iter().flatten() {
            self.answered(|replica| replica.set_xattr(ino, name, value, XattrMode::Set))
                .await?;
        }
        let change = AttrChange {
            mtime: Some(TimeChange::To(meta.mtime.unwrap_or(info.last_modified))),
            ..AttrChange::default()
        };
        self.answered(|replica| replica.set_attr(ino, &change)).await.map(drop)
    }

    async fn fill(&self, ino: Ino, key: &ObjectKey, etag: &ETag, size: u64) -> Result<()> {
        let mut offset = 0;
        while offset < size {
            let end = size.min(offset + CHUNK_BYTES);
            let part = self.store.get(key, Some(offset..end), Some(etag)).await?;
            let part = part.ok_or_else(|| Error::Unusable("It has left the trash in this moment".to_owned()))?;
            self.answered(|replica| replica.write(ino, offset, &part.bytes, false))
                .await?;
            offset = end;
        }
        Ok(())
    }

    /// Removes what has been kept for its time, now and then, until the replica ends.
    pub(crate) async fn run_trash_sweeper(self: Arc<Self>) {
        let Some(keep) = self.trash.keep() else { return };
        let interval = sweep_interval(keep);
        let mut next_ms = self.now_ms() + interval.as_millis() as u64;
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(STOP_POLL_MS)).await;
            if self.now_ms() < next_ms || self.store_unreachable() {
                continue;
            }
            next_ms = self.now_ms() + interval.as_millis() as u64;
            match self.sweep_trash(keep).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "Removed old versions from the trash"),
                Err(error) => tracing::warn!(%error, "Could not look through the trash; it is tried again"),
            }
        }
    }

    /// Removes what is older than `keep`, up to a bound; tells how much that was. Days that are young are not listed.
    async fn sweep_trash(&self, keep: Duration) -> Result<usize> {
        let expired_ns = self.options.clock.now().as_nanos() - i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
        let mut swept = 0;
        for day in self.old_days(expired_ns).await? {
            let mut lister = self.store.list(&day, true).await?;
            while let Some(page) = lister.next_page().await? {
                for listed in page {
                    let old = understand(&listed).filter(|version| version.when.as_nanos() < expired_ns);
                    let (Some(old), Some(info)) = (old, listed.object) else {
                        continue;
                    };
                    let Ok(key) = ObjectKey::parse(&old.key) else { continue };
                    self.store.delete(&key, Some(&info.etag)).await?;
                    swept += 1;
                    if swept >= SWEPT_MAX {
                        return Ok(swept);
                    }
                }
            }
        }
        Ok(swept)
    }

    /// The prefixes of days that began before a moment.
    async fn old_days(&self, expired_ns: i64) -> Result<Vec<String>> {
        let mut lister = self.store.list(PREFIX, false).await?;
        let mut days = HashSet::new();
        while let Some(page) = lister.next_page().await? {
            days.extend(page.into_iter().map(|listed| listed.key));
        }
        let mut days: Vec<String> = days.into_iter().collect();
        days.retain(|prefix| {
            let day = prefix.strip_prefix(PREFIX).and_then(|day| day.strip_suffix('/'));
            let start = day.and_then(day_start_seconds);
            start.is_some_and(|start| start.saturating_mul(1_000_000_000) < expired_ns)
        });
        days.sort_unstable();
        Ok(days)
    }
}

/// A tenth of the time that versions are kept, within bounds.
fn sweep_interval(keep: Duration) -> Duration {
    (keep / 10).clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX)
}

fn understand(listed: &Listed) -> Option<Trashed> {
    parse(&listed.key, listed.object.as_ref()?.size)
}

fn is_below(path: &[u8], below: &[u8]) -> bool {
    let rest = path.strip_prefix(below);
    below.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The key of a path by the ordinary mapping.
fn key_text(path: &[u8]) -> String {
    let segments = path.split(|byte| *byte == b'/').map(escape_name);
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_what_is_below_it() {
        assert!(is_below(b"a/b.md", b"") && is_below(b"a/b.md", b"a") && is_below(b"a/b.md", b"a/b.md"));
        assert!(!is_below(b"ab.md", b"a") && !is_below(b"a", b"a/b"));
    }

    #[test]
    fn sweeps_are_bounded_in_time() {
        assert_eq!(sweep_interval(Duration::from_secs(30 * 86_400)), SWEEP_INTERVAL_MAX);
        assert_eq!(sweep_interval(Duration::from_secs(2)), SWEEP_INTERVAL_MIN);
    }
}
