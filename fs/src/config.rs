//! From command line, environment and configuration file to one checked plan of a mount.
//!
//! Owns precedence (command line, then `NOTEFS_*`, then file, then default), default places and the refusal of unknown
//! keys and of secrets. Does not own the grammar (`cli/args.rs`) nor the mount point's state (`mount/point.rs`).

mod cache_dir;
mod file;
mod fleet;
pub(crate) mod index;
mod memory;

pub(crate) use cache_dir::long_hash;
pub(crate) use file::ConfigFile;
pub(crate) use fleet::{FleetMount, read_fleet};

use crate::cli::args::{Durability, Litter, LogFormat, LogLevel, MountArgs, Pin, Protocol, ServeNfsArgs};
use crate::cli::units::Keep;
use crate::daemon::log::Look;
use crate::failure::Failure;
use crate::metrics::server::MetricsPlace;
use cache_dir::default_cache_dir;
use notefs_cache::Pinning;
use notefs_cache::store::StoreUrl;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bound on clean cached content where nobody said otherwise.
const CACHE_SIZE_DEFAULT_BYTES: u64 = 10 << 30;

/// Bound on edits that are not stored where nobody said otherwise.
const DIRTY_LIMIT_DEFAULT_BYTES: u64 = 10 << 30;

/// Write-back delay where nobody said otherwise.
const WRITE_BACK_DEFAULT: Duration = Duration::from_secs(1);

/// How long the trash keeps things where nobody said otherwise: 30 days.
const TRASH_DEFAULT: Keep = Keep(Some(Duration::from_secs(30 * 86_400)));

/// The longest write-back delay that makes sense: one day.
const WRITE_BACK_MAX: Duration = Duration::from_secs(86_400);

/// Where the system's NFS client finds the server of a mount, unless --addr says otherwise: ports from here on, by the
/// folder's name, so that a mount is found again by a later daemon.
const NFS_PORTS: std::ops::Range<u16> = 20_500..28_000;

/// What programs reach the folder through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FrontEndPlan {
    /// The FUSE device.
    Fuse,
    /// An NFS server.
    Nfs(NfsPlan),
}

/// An NFS server as it will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NfsPlan {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Serve peers that are not on this machine.
    pub(crate) insecure_listen: bool,
    /// What about the system's client.
    pub(crate) mount: SystemMountPlan,
}

/// The mount of an NFS server by the system's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SystemMountPlan {
    /// None of ours.
    None,
    /// It is to be made.
    Make,
    /// It is there and waits for its server, which has died: nothing is mounted, and programs go on.
    Rejoin,
}

impl MountPlan {
    /// Where the server of the folder's mount listens, if that is one of NFS.
    pub(crate) fn nfs(&mut self) -> Option<&mut NfsPlan> {
        match &mut self.front_end {
            FrontEndPlan::Nfs(nfs) => Some(nfs),
            FrontEndPlan::Fuse => None,
        }
    }

    /// How its log looks.
    pub(crate) fn log_look(&self) -> Look {
        Look {
            json: self.log_json,
            level: self.log_level,
        }
    }

    /// Whether a mount is made on the folder.
    pub(crate) fn makes_mount(&self) -> bool {
        match &self.front_end {
            FrontEndPlan::Fuse => true,
            FrontEndPlan::Nfs(nfs) => nfs.mount == SystemMountPlan::Make,
        }
    }
}

/// What a mount may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Memory that what it keeps and does at once is sized for; `None`: as much as is of use.
    pub(crate) memory_bytes: Option<u64>,
    /// Requests to the store, on average.
    pub(crate) requests_per_second: Option<u32>,
}

/// A mount as it will be made: every path absolute, every value checked, no secret inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    /// The store's canonical URL.
    pub(crate) store: String,
    /// Nobody named a store: the one on this machine is made if it is not there.
    pub(crate) make_store: bool,
    /// The folder to mount on; of a server alone, its address as `nfs://ADDRESS`.
    pub(crate) dir: PathBuf,
    /// What programs reach the folder through.
    pub(crate) front_end: FrontEndPlan,
    /// The private cache folder.
    pub(crate) cache_dir: PathBuf,
    /// Bound on clean cached content.
    pub(crate) cache_size_bytes: u64,
    /// Bound on edits that are not stored.
    pub(crate) dirty_limit_bytes: u64,
    /// Write-back delay.
    pub(crate) write_back: Duration,
    /// How often to look at the whole bucket; `None`: adaptive.
    pub(crate) poll: Option<Duration>,
    /// How long deleted and overwritten versions are kept, if they are.
    pub(crate) trash: Option<Duration>,
    /// Store what macOS strews about, too.
    pub(crate) stores_litter: bool,
    /// The index that all machines share, without its secret.
    pub(crate) index: Option<String>,
    /// What is kept on this machine without being named.
    pub(crate) pin: Pinning,
    /// Whether the virtual folder is shown; none: there is no such folder.
    pub(crate) dot_notefs: Option<bool>,
    /// Refuse changes.
    pub(crate) read_only: bool,
    /// Let other users in.
    pub(crate) allow_other: bool,
    /// Raise file events for changes of other machines.
    pub(crate) events: bool,
    /// Rewrite links to what programs of this machine move.
    pub(crate) rewrite_links: bool,
    /// Hide the files of a folder that is not empty.
    pub(crate) nonempty: bool,
    /// `fsync` and `close` wait for the store.
    pub(crate) stored_on_sync: bool,
    /// What the mount may take of machine and store.
    pub(crate) budget: Budget,
    /// A file of profiles with the store's keys; only its name is known here.
    pub(crate) credentials_file: Option<PathBuf>,
    /// Where metrics are served.
    pub(crate) metrics: Option<MetricsPlace>,
    /// The log file; in the foreground only if one was asked for.
    pub(crate) log: Option<PathBuf>,
    /// Log lines are JSON.
    pub(crate) log_json: bool,
    /// 0 errors, 1 warnings, 2 rare events, 3 decisions, 4 everything.
    pub(crate) log_level: u8,
}

/// The environment, so far as it decides about default places; a value, so that tests need not change the real one.
pub(crate) struct Places {
    /// Where relative paths begin.
    pub(crate) current_dir: PathBuf,
    /// `$HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub(crate) state_home: Option<PathBuf>,
    /// `$NOTEFS_STORE` and `$NOTEFS_INDEX`.
    pub(crate) store: Option<String>,
    pub(crate) index: Option<String>,
}

impl Places {
    /// From this process's environment; a relative XDG folder counts as unset, as its specification says.
    pub(crate) fn from_environment() -> Result<Places, Failure> {
        let folder = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        Ok(Places {
            current_dir: std::env::current_dir().map_err(Failure::io("find", Path::new("the current folder")))?,
            home: folder("HOME"),
            data_home: folder("XDG_DATA_HOME"),
            state_home: folder("XDG_STATE_HOME"),
            store: std::env::var("NOTEFS_STORE").ok().filter(|store| !store.is_empty()),
            index: index::from_environment(),
        })
    }

    /// An XDG folder or its place below the home folder.
    fn below_home(&self, xdg: &Option<PathBuf>, fallback: &str, option: &str) -> Result<PathBuf, Failure> {
        let home = || self.home.as_ref().map(|home| home.join(fallback));
        xdg.clone().or_else(home).ok_or_else(|| {
            Failure::new("Neither HOME nor an XDG folder is set, so there is no default place")
                .hint(format!("Set HOME, or say where with {option}"))
        })
    }
}

/// Makes the plan. Touches nothing but the configuration file.
pub(crate) fn plan(args: &MountArgs, places: &Places) -> Result<MountPlan, Failure> {
    let file = match &args.config {
        Some(path) => file::read(&places.current_dir.join(path))?,
        None => ConfigFile::default(),
    };
    let (store_word, dir_word) = split_words(&args.words)?;
    let named = store_word.or(places.store.clone()).or(file.store.clone());
    let dir = dir_word.or(file.dir.clone()).ok_or_else(|| {
        Failure::usage("The folder to mount on is missing")
            .hint("Write `notefs mount [STORE] DIR`, as in `notefs mount ~/notes`")
    })?;
    plan_of(args, &file, (named, dir), places)
}

/// The plan for a store and a folder that are known.
fn plan_of(
    args: &MountArgs,
    file: &ConfigFile,
    (named, dir): (Option<String>, PathBuf),
    places: &Places,
) -> Result<MountPlan, Failure> {
    let make_store = named.is_none();
    let store = named.map_or_else(|| default_store(places), Ok)?;
    let store = StoreUrl::parse(&store)
        .map_err(|e| Failure::usage(e.to_string()))?
        .to_string();
    let cache_dir = match args.cache.as_ref().or(file.cache.as_ref()) {
        Some(cache) => places.current_dir.join(cache),
        None => default_cache_dir(places, &store)?,
    };
    let log = args.log.as_ref().or(file.log.as_ref());
    let log = log.map(|log| places.current_dir.join(log));
    let dir = places.current_dir.join(dir);
    let metrics = args.metrics.as_ref().or(file.metrics.as_ref());
    let credentials_file = args.credentials_file.as_ref().or(file.credentials_file.as_ref());
    let durability = args.durability.or(file.durability).unwrap_or_default();
    let plan = MountPlan {
        store,
        make_store,
        front_end: front_end(args, file, &dir)?,
        dir,
        log: log.or_else(|| (!args.foreground).then(|| cache_dir.join("notefs.log"))),
        cache_dir,
        cache_size_bytes: args.cache_size.or(file.cache_size).unwrap_or(CACHE_SIZE_DEFAULT_BYTES),
        dirty_limit_bytes: args
            .dirty_limit
            .or(file.dirty_limit)
            .unwrap_or(DIRTY_LIMIT_DEFAULT_BYTES),
        write_back: args.write_back.or(file.write_back).unwrap_or(WRITE_BACK_DEFAULT),
        poll: args.poll.or(file.poll),
        trash: args.trash.or(file.trash).unwrap_or(TRASH_DEFAULT).0,
        stores_litter: args.litter.or(file.litter) == Some(Litter::Store),
        index: index::address([&args.index, &places.index, &file.index])?,
        pin: pinning(args.pin.or(file.pin)),
        dot_notefs: args.dot_notefs.or(file.dot_notefs).unwrap_or_default().shown(),
        read_only: args.read_only.or(file.read_only).unwrap_or(false),
        allow_other: args.allow_other.or(file.allow_other).unwrap_or(false),
        events: args.events.or(file.events).unwrap_or(true),
        rewrite_links: args.rewrite_links.or(file.rewrite_links).unwrap_or(false),
        stored_on_sync: durability == Durability::Stored,
        budget: Budget {
            memory_bytes: args
                .memory
                .or(file.memory)
                .or_else(|| memory::default_bytes(Path::new("/"))),
            requests_per_second: args.requests_per_second.or(file.requests_per_second),
        },
        credentials_file: credentials_file.map(|path| places.current_dir.join(path)),
        metrics: metrics
            .map(|text| parse_metrics(text, args.insecure_metrics || file.insecure_metrics, places))
            .transpose()?,
        nonempty: args.nonempty || file.nonempty,
        log_json: args.log_format.or(file.log_format) == Some(LogFormat::Json),
        log_level: log_level(args, file),
    };
    if plan.write_back > WRITE_BACK_MAX {
        return Err(
            Failure::usage("A write-back delay of more than a day leaves notes on this machine only")
                .hint("Use at most 24h"),
        );
    }
    check_places(&plan)?;
    Ok(plan)
}

/// The level as the log counts it: 0 errors only, 4 everything. `-v` says more than the level does.
fn log_level(args: &MountArgs, file: &ConfigFile) -> u8 {
    let level = args.log_level.or(file.log_level).unwrap_or_default() as u8;
    match args.verbose {
        0 => level,
        more => level.max(LogLevel::Info as u8 + more).min(LogLevel::Trace as u8),
    }
}

/// Where metrics are served: `ADDRESS:PORT` of this machine, or `unix:PATH`.
fn parse_metrics(text: &str, insecure: bool, places: &Places) -> Result<MetricsPlace, Failure> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(MetricsPlace::Unix(places.current_dir.join(path)));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        Failure::usage(format!("`{text}` is no place to serve metrics"))
            .hint("Write --metrics 127.0.0.1:PORT or --metrics unix:PATH")
    })?;
    if address.ip().is_loopback() || insecure {
        return Ok(MetricsPlace::Tcp(address));
    }
    Err(Failure::usage(format!(
        "{address} can be reached from other machines, and whoever reaches it reads the metrics"
    ))
    .hint("Serve them on 127.0.0.1 or a Unix socket, or say --insecure-metrics"))
}

fn pinning(asked: Option<Pin>) -> Pinning {
    match asked {
        None => Pinning::default(),
        Some(Pin::All) => Pinning::All,
        Some(Pin::Notes) => Pinning::Notes,
        Some(Pin::Off) => Pinning::Off,
    }
}

fn front_end(args: &MountArgs, file: &ConfigFile, dir: &Path) -> Result<FrontEndPlan, Failure> {
    match (
        args.protocol.or(file.protocol).unwrap_or_default(),
        args.addr.or(file.addr),
    ) {
        (Protocol::Fuse, None) => Ok(FrontEndPlan::Fuse),
        (Protocol::Fuse, Some(_)) => {
            Err(Failure::usage("--addr is for NFS").hint("Add --protocol nfs, or leave --addr out"))
        }
        (Protocol::Nfs, address) => {
            let ports = u64::from(NFS_PORTS.end - NFS_PORTS.start);
            let offset = (long_hash(dir.as_os_str().as_encoded_bytes()) % ports) as u16;
            let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), NFS_PORTS.start + offset);
            let address = address.unwrap_or(usual);
            check_address(address, false)?;
            Ok(FrontEndPlan::Nfs(NfsPlan {
                address,
                insecure_listen: false,
                mount: SystemMountPlan::Make,
            }))
        }
    }
}

/// Makes the plan of `notefs serve nfs`.
pub(crate) fn serve_plan(args: &ServeNfsArgs, places: &Places) -> Result<MountPlan, Failure> {
    check_address(args.addr, args.insecure_listen)?;
    let address = format!("nfs://{}", args.addr);
    let mount_args = MountArgs {
        words: vec![args.store.clone().into(), address.clone().into()],
        foreground: true,
        cache: args.cache.clone(),
        cache_size: args.cache_size,
        write_back: args.write_back,
        litter: args.litter,
        pin: args.pin,
        rewrite_links: args.rewrite_links.then_some(true),
        read_only: args.read_only.then_some(true),
        allow_other: args.allow_other.then_some(true),
        log: args.log.clone(),
        verbose: args.verbose,
        ..MountArgs::default()
    };
    Ok(MountPlan {
        dir: address.into(),
        front_end: FrontEndPlan::Nfs(NfsPlan {
            address: args.addr,
            insecure_listen: args.insecure_listen,
            mount: SystemMountPlan::None,
        }),
        ..plan(&mount_args, places)?
    })
}

/// NFS has no secrets between client and server: it is for this machine, unless somebody insists.
fn check_address(address: SocketAddr, insecure: bool) -> Result<(), Failure> {
    if address.port() == 0 {
        return Err(Failure::usage("The address lacks a port").hint("Write one, as in --addr 127.0.0.1:20490"));
    }
    if !insecure && !address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{address} can be reached from other machines, and NFS trusts whoever reaches it"
        ))
        .hint("Listen on 127.0.0.1, or say --insecure-listen"));
    }
    Ok(())
}

/// One word is the folder, two are store and folder.
fn split_words(words: &[OsString]) -> Result<(Option<String>, Option<PathBuf>), Failure> {
    match words {
        [] => Ok((None, None)),
        [dir] if dir.to_str().is_some_and(|text| text.contains("://")) => {
            let store = dir.to_string_lossy();
            Err(Failure::usage("The folder to mount on is missing")
                .hint(format!("Write it behind the store: `{store} DIR`")))
        }
        [dir] => Ok((None, Some(dir.into()))),
        [store, dir, ..] => match store.to_str() {
            Some(store) => Ok((Some(store.to_owned()), Some(dir.into()))),
            None => Err(Failure::usage("The store's URL is not valid UTF-8").hint("Percent-encode its unusual bytes")),
        },
    }
}

/// The store that lives on this machine alone.
fn default_store(places: &Places) -> Result<String, Failure> {
    let data = places.below_home(&places.data_home, ".local/share", "STORE, as in fs:///srv/notes")?;
    let url = StoreUrl::folder(&data.join("notefs/default")).map_err(|e| Failure::new(e.to_string()))?;
    Ok(url.to_string())
}

/// The folder of a store in this machine's file system, if it is one.
pub(crate) fn store_folder(store: &str) -> Option<PathBuf> {
    StoreUrl::parse(store).ok()?.as_folder().map(Path::to_path_buf)
}

/// A cache or a local store below the mount would make the daemon wait for itself.
pub(crate) fn check_places(plan: &MountPlan) -> Result<(), Failure> {
    if plan.dir.to_str().is_none() || plan.cache_dir.to_str().is_none() {
        return Err(Failure::usage("The folder's name is not valid UTF-8").hint("Mount on a folder with a plain name"));
    }
    if plan.cache_dir.starts_with(&plan.dir) {
        let message = format!(
            "The cache {} would lie inside the mount {}",
            plan.cache_dir.display(),
            plan.dir.display()
        );
        return Err(Failure::usage(message).hint("Choose another folder with --cache"));
    }
    if let Some(folder) = store_folder(&plan.store)
        && (folder.starts_with(&plan.dir) || plan.dir.starts_with(&folder))
    {
        let message = format!(
            "The store {} and the folder {} lie inside each other",
            folder.display(),
            plan.dir.display()
        );
        return Err(Failure::usage(message).hint("Mount on a folder outside the store"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
