//! Opening what a mount is made of: the store, the replica and the index.
//!
//! Owns the first question to the store, and what is done when one of them cannot be used. Does not own the order (`mount.rs`).

use super::{cache_failure, store_failure};
use crate::bridge::{self, Bridge, KeptFrom, LinkRewriter, Share, forget_moves, index_failure};
use crate::config::{MountPlan, index};
use crate::failure::Failure;
use notefs_cache::clock::SystemClock;
use notefs_cache::store::{Store, StoreUrl, open_store, preflight};
use notefs_cache::{Options, Replica};
use notefs_indexer::{Index, IndexError, SharedAddress, is_note};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long the store may take to answer the first question.
const PREFLIGHT_DEADLINE_SECONDS: u64 = 30;

/// Longest wait for the bucket on behalf of one operation of a program.
const REMOTE_DEADLINE_SECONDS: u64 = 30;

/// The keys of a file that was named win over those of the environment, and no child sees these. Answers where the shared index is, if there
/// is one, with what opens it.
pub(super) fn use_credentials(plan: &MountPlan) -> Result<Option<SharedAddress>, Failure> {
    let file = plan.credentials_file.as_deref();
    let index = plan.index.as_ref().map(|planned| index::with_secret(planned, file));
    // SAFETY: no other thread is there yet, as `run` demands.
    unsafe {
        std::env::remove_var(index::ADDRESS_VARIABLE);
        std::env::remove_var(index::TOKEN_VARIABLE);
    }
    let Some(file) = file else { return index.transpose() };
    // SAFETY: as above.
    unsafe {
        for name in crate::daemon::KEY_VARIABLES {
            std::env::remove_var(name);
        }
        std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", file);
    }
    index.transpose()
}

pub(super) fn open_replica(
    plan: &MountPlan,
    store: Arc<dyn Store>,
    runtime: &Runtime,
) -> Result<Arc<Replica>, Failure> {
    let replica = Replica::open(options(plan), store, runtime.handle().clone()).map_err(cache_failure)?;
    replica.set_dirty_limit(plan.dirty_limit_bytes);
    replica.set_pinning(plan.pin);
    follow_moves(plan, &replica);
    if let Some(bytes) = plan.budget.memory_bytes {
        replica.set_memory(bytes).map_err(cache_failure)?;
    }
    if let Some(rate) = plan.budget.requests_per_second {
        replica.set_requests_per_second(rate);
    }
    Ok(replica)
}

/// Whether links are rewritten in this mount.
pub(super) fn rewrites_links(plan: &MountPlan) -> bool {
    plan.rewrite_links && !plan.read_only
}

fn follow_moves(plan: &MountPlan, replica: &Replica) {
    if rewrites_links(plan) {
        replica.record_moves(Some(is_note));
    } else if !plan.rewrite_links {
        forget_moves(replica);
    }
}

/// Starts to rewrite links, where that is wanted.
pub(super) fn start_rewriter(
    plan: &MountPlan,
    replica: &Arc<Replica>,
    indexes: &Indexes,
    runtime: &Runtime,
) -> Result<Option<LinkRewriter>, Failure> {
    let parts = (indexes.index.clone(), indexes.bridge.clone());
    let start = || LinkRewriter::start(replica.clone(), parts, runtime.handle().clone());
    rewrites_links(plan).then(start).transpose()
}

fn options(plan: &MountPlan) -> Options {
    Options {
        cache_dir: plan.cache_dir.clone(),
        cache_size_bytes: plan.cache_size_bytes,
        write_back: plan.write_back,
        poll: plan.poll,
        stores_litter: plan.stores_litter,
        read_only: plan.read_only,
        default_uid: rustix::process::getuid().as_raw(),
        default_gid: rustix::process::getgid().as_raw(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        remote_deadline: Duration::from_secs(REMOTE_DEADLINE_SECONDS),
        clock: Arc::new(SystemClock::default()),
    }
}

/// Opens the store and asks it one question. A store that is away is no reason to refuse notes that are cached.
pub(super) fn reach_store(plan: &MountPlan, runtime: &Runtime) -> Result<(Arc<dyn Store>, Vec<String>), Failure> {
    let url = StoreUrl::parse(&plan.store).map_err(store_failure)?;
    let deadline = Duration::from_secs(PREFLIGHT_DEADLINE_SECONDS);
    runtime.block_on(async {
        let store = open_store(&url).await.map_err(store_failure)?;
        let trouble = match tokio::time::timeout(deadline, preflight(store.as_ref())).await {
            Ok(Ok(())) => return Ok((store, Vec::new())),
            Ok(Err(error)) if !error.retryable => return Err(store_failure(error)),
            Ok(Err(error)) => store_failure(error),
            Err(_) => Failure::new(format!(
                "The store {} did not answer within {PREFLIGHT_DEADLINE_SECONDS} s",
                store.name()
            ))
            .hint("Check the network and the endpoint"),
        };
        if !Replica::exists(&plan.cache_dir) {
            return Err(trouble);
        }
        tracing::warn!("Mounting without the store: {trouble}");
        let warning = format!("{trouble}. Cached notes can be read, and changes are kept until the store is back");
        Ok((store, vec![warning]))
    })
}

/// What makes notes findable.
#[derive(Clone)]
pub(super) struct Indexes {
    pub(super) index: Arc<Index>,
    pub(super) bridge: Arc<Bridge>,
    /// The index of all machines, if there is one.
    pub(super) share: Option<Arc<Share>>,
}

/// Opens the index, and starts the bridge that keeps it current and the share that tells others.
pub(super) fn start_index(
    plan: &MountPlan,
    replica: &Arc<Replica>,
    shared: Option<SharedAddress>,
    runtime: &Runtime,
) -> Result<Indexes, Failure> {
    let (index, path, is_new) = open_index(&plan.cache_dir)?;
    let index = Arc::new(index);
    let (kept_from, position) = (KeptFrom::default(), path.with_extension("shared"));
    let share = match shared {
        Some(address) => {
            let place = (address, vault_of(&plan.store));
            let share = Share::start(
                replica.clone(),
                place,
                (position, kept_from.clone()),
                runtime.handle().clone(),
            )?;
            Some(Arc::new(share))
        }
        None => {
            bridge::forget(&position);
            None
        }
    };
    let bridge = Bridge::start(
        replica.clone(),
        (index.clone(), &path, kept_from),
        runtime.handle().clone(),
        is_new,
    )?;
    Ok(Indexes {
        index,
        bridge: Arc::new(bridge),
        share,
    })
}

/// What all machines of a vault call it: its bucket and prefix, and the host of its endpoint, but Amazon's, whose buckets have one name
/// everywhere. Neither scheme nor port counts, and all addresses of this machine are one.
fn vault_of(store: &str) -> String {
    let place = store.split('?').next().unwrap_or(store).trim_end_matches('/');
    let host = StoreUrl::parse(store).ok().and_then(|url| url.host());
    match host {
        None => place.to_owned(),
        Some(host) if is_this_machine(&host) => format!("{place}@localhost"),
        Some(host) => format!("{place}@{host}"),
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Opens the index. It can always be made anew from the notes, so one that cannot be used is moved aside.
fn open_index(cache_dir: &Path) -> Result<(Index, PathBuf, bool), Failure> {
    let path = cache_dir.join("index.db");
    let is_new = !path.exists();
    match Index::open(&path) {
        Ok(index) => Ok((index, path, is_new)),
        Err(error @ (IndexError::Corrupt { .. } | IndexError::Newer { .. })) => {
            let reason = index_failure(error).message;
            tracing::warn!("{reason}; it is made anew, and the old one is kept as index.db.corrupt");
            for suffix in ["", "-wal", "-shm"] {
                let old = cache_dir.join(format!("index.db{suffix}"));
                let aside = cache_dir.join(format!("index.db.corrupt{suffix}"));
                match std::fs::rename(&old, &aside) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(Failure::io("move", &old)(error)),
                    _ => {}
                }
            }
            Ok((Index::open(&path).map_err(index_failure)?, path, true))
        }
        Err(error) => Err(index_failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_the_same_by_every_address_of_its_provider_and_no_other() {
        let same = |stores: &[&str], name: &str| {
            stores
                .iter()
                .for_each(|store| assert_eq!(vault_of(store), name, "{store}"))
        };
        same(
            &[
                "s3://notes/team",
                "s3://notes/team/?region=eu",
                "s3://notes/team?endpoint=https://s3.eu-west-1.amazonaws.com&region=eu",
            ],
            "s3://notes/team",
        );
        same(
            &[
                "s3://b?endpoint=https://Play.Min.io&region=eu",
                "s3://b?endpoint=http://play.min.io:9000",
            ],
            "s3://b@play.min.io",
        );
        same(
            &[
                "s3://b?endpoint=http://127.0.0.1:9000",
                "s3://b?endpoint=http://localhost",
                "s3://b?endpoint=http://[::1]:1",
                "s3://b?endpoint=http://127.9.9.9:9000",
            ],
            "s3://b@localhost",
        );
        same(&["s3://b?endpoint=http://[fd00::10]:9000"], "s3://b@[fd00::10]");
        same(&["fs:///notes", "fs:///notes/"], "fs:///notes");
    }
}
