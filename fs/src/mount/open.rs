//! Opening what a mount is made of: the store, the replica and the index.
//!
//! Owns the first question to the store, and what is done when one of them cannot be used. Does not own the order (`mount.rs`).

use super::{cache_failure, store_failure};
use crate::bridge::{Bridge, LinkRewriter, forget_moves, index_failure};
use crate::config::MountPlan;
use crate::failure::Failure;
use notefs_cache::clock::SystemClock;
use notefs_cache::store::{Store, StoreUrl, open_store, preflight};
use notefs_cache::{Options, Replica};
use notefs_indexer::{Index, IndexError, is_note};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long the store may take to answer the first question.
const PREFLIGHT_DEADLINE_SECONDS: u64 = 30;

/// Longest wait for the bucket on behalf of one operation of a program.
const REMOTE_DEADLINE_SECONDS: u64 = 30;

/// The keys of a file that was named win over those of the environment, and no child sees these.
pub(super) fn use_credentials(plan: &MountPlan) {
    let Some(file) = &plan.credentials_file else { return };
    // SAFETY: no other thread is there yet, as `run` demands.
    unsafe {
        for name in crate::daemon::KEY_VARIABLES {
            std::env::remove_var(name);
        }
        std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", file);
    }
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
    parts: (Arc<Index>, Arc<Bridge>),
    runtime: &Runtime,
) -> Result<Option<LinkRewriter>, Failure> {
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

/// Opens the index and starts the bridge that keeps it current.
pub(super) fn start_index(
    plan: &MountPlan,
    replica: &Arc<Replica>,
    runtime: &Runtime,
) -> Result<(Arc<Index>, Arc<Bridge>), Failure> {
    let (index, path, is_new) = open_index(&plan.cache_dir)?;
    let index = Arc::new(index);
    let handle = runtime.handle().clone();
    let bridge = Bridge::start(replica.clone(), (index.clone(), &path), handle, is_new)?;
    Ok((index, Arc::new(bridge)))
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
