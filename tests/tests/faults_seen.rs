//! What programs and `notefs status` see under each fault of a store, and after it: the table in fs/SEMANTICS.md, row by row.
//! Each test prints its row.

#![allow(clippy::print_stderr, reason = "the rows that it prints are the table")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::{Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, sys, wait_until};

const CACHED: &str = "notes/cached.md";
const UNCACHED: &str = "notes/uncached.bin";
const SIZE: usize = 300_000;

/// How often `status` is asked whether the store is there.
const SAMPLES: usize = 30;

/// Listings by which a mount with a new cache tries the address and reads the hint objects; without them nothing is mounted.
const LISTINGS_OF_A_START: u32 = 2;

struct Scene {
    store: Store,
    proxy: Proxy,
    mount: Mount,
}

/// What was seen while the fault lasted.
struct Seen {
    uncached: Result<usize, i32>,
    waited: Duration,
    told: String,
}

/// A mount that has read one note, and not the other file.
fn scene() -> Result<Scene> {
    let store = Store::ministack()?;
    store.put(CACHED, b"cached")?;
    store.put(UNCACHED, &vec![7; SIZE])?;
    let proxy = Proxy::start(store.client()?.address)?;
    let options = MountOptions::args(&["--write-back", "100ms"]);
    let mount = Mount::start_with(&store.via(proxy.address())?, options)?;
    let scene = Scene { store, proxy, mount };
    scene.cached_reads_work()?;
    ensure!(scene.mount.path(UNCACHED).metadata()?.len() == SIZE as u64);
    Ok(scene)
}

/// A call that must end by itself.
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (answer, inbox) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || answer.send(call()));
    inbox.recv_timeout(3 * PATIENCE).context("the call never ended")
}

fn write_synced(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl Scene {
    fn cached_reads_work(&self) -> Result<()> {
        let text = std::fs::read_to_string(self.mount.path(CACHED)).context("a cached note")?;
        ensure!(text == "cached", "the cached note shows {text:?}");
        Ok(())
    }

    /// Programs at work, and what `status` says of it.
    fn work(&self, told: impl Fn(&serde_json::Value) -> bool) -> Result<Seen> {
        self.cached_reads_work()?;
        write_synced(&self.mount.path("notes/new.md"), "new").context("a new note")?;
        let state = self.mount.state_of("notes/new.md")?;
        ensure!(state == "synced" || state == "stored", "after fsync it is {state}");
        std::fs::rename(self.mount.path("notes/new.md"), self.mount.path("notes/renamed.md"))?;
        let (path, start) = (self.mount.path(UNCACHED), Instant::now());
        let read = in_time(move || std::fs::read(path))?;
        let waited = start.elapsed();
        let uncached = read.as_ref().map(Vec::len).map_err(|_| sys::errno(&read));
        ensure!(self.mount.path(UNCACHED).exists(), "the uncached file's name is gone");
        let told = wait_until("status that tells of it", PATIENCE, || {
            let status = self.mount.status().map_err(|error| format!("{error:#}"))?;
            match told(&status) {
                true => Ok(format!(
                    "reachable: {}, {}",
                    status["store_reachable"], status["last_error"]
                )),
                false => Err(status.to_string()),
            }
        })?;
        Ok(Seen { uncached, waited, told })
    }

    /// The end of the fault: all arrives by itself, once, and nothing else.
    fn recover(&self) -> Result<Duration> {
        let start = Instant::now();
        self.proxy.set_fault(Fault::None);
        self.proxy.set_latency(Duration::ZERO);
        self.mount.settle()?;
        let seconds = start.elapsed();
        let read = std::fs::read(self.mount.path(UNCACHED)).context("the uncached file, afterwards")?;
        ensure!(read == vec![7; SIZE], "the uncached file differs");
        let keys: BTreeSet<String> = self.store.keys()?.into_iter().collect();
        let wanted = [CACHED, "notes/renamed.md", UNCACHED].map(str::to_owned);
        ensure!(keys == BTreeSet::from(wanted), "the bucket holds {keys:?}");
        let renamed = self.store.get("notes/renamed.md")?;
        ensure!(
            renamed.as_deref() == Some(b"new".as_slice()),
            "the new note arrived as {renamed:?}"
        );
        let status = self.mount.status()?;
        ensure!(
            status["store_reachable"] == true && status["conflicts"] == 0,
            "afterwards: {status}"
        );
        Ok(seconds)
    }
}

/// A folder that nobody has listed, looked into while listings are spoilt, and afterwards.
fn listing_under(fault: Fault, latency: Duration) -> Result<Result<usize, i32>> {
    let store = Store::ministack()?;
    let names: BTreeSet<String> = (0..9).map(|number| format!("{number}.md")).collect();
    names
        .iter()
        .try_for_each(|name| store.put(&format!("deep/down/{name}"), b"note"))?;
    let proxy = Proxy::start(store.client()?.address)?;
    proxy.set_fault_after(LISTINGS_OF_A_START, Class::List, fault);
    proxy.set_latency(latency);
    let mount = Mount::start(&store.via(proxy.address())?)?;
    let list = |folder: PathBuf| -> std::io::Result<BTreeSet<String>> {
        std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let folder = mount.path("deep/down");
    let during = in_time(move || list(folder))?;
    let seen = during.as_ref().map(BTreeSet::len).map_err(|_| sys::errno(&during));
    ensure!(
        seen == Ok(names.len()) || seen == Err(libc::EIO),
        "an unlisted folder showed {during:?}"
    );
    proxy.set_fault(Fault::None);
    wait_until("complete listing", PATIENCE, || match list(mount.path("deep/down")) {
        Ok(shown) if shown == names => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(seen)
}

fn shown(outcome: &Result<usize, i32>) -> String {
    match outcome {
        Ok(_) => "as ever".to_owned(),
        Err(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
    }
}

/// A fault of every request: what is here works, what is not is EIO and never absent, and it all arrives afterwards. `reachable`: what
/// `status` says of the store all the while, if that is one thing.
fn seen_under(name: &str, fault: Fault, words: &[&str], reachable: Option<bool>) -> Result<()> {
    let scene = scene()?;
    scene.proxy.set_fault(fault);
    let seen = scene.work(|status| {
        let told = status["last_error"].to_string().to_lowercase();
        words.iter().any(|word| told.contains(word))
    })?;
    for _ in 0..SAMPLES {
        let now = scene.mount.status()?["store_reachable"].as_bool();
        ensure!(reachable.is_none() || now == reachable, "reachable is {now:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(seen.uncached == Err(libc::EIO), "an uncached read: {:?}", seen.uncached);
    let seconds = scene.recover()?;
    let listing = listing_under(fault, Duration::ZERO)?;
    ensure!(listing == Err(libc::EIO), "an unlisted folder: {listing:?}");
    eprintln!(
        "{name} | uncached read: {} after {:.0?} | unlisted folder: {} | status: {} | stored {seconds:.1?} after its end",
        shown(&seen.uncached),
        seen.waited,
        shown(&listing),
        seen.told
    );
    Ok(())
}

#[test]
fn an_error_of_the_server_is_eio_and_told() -> Result<()> {
    seen_under(
        "500 InternalError",
        Fault::Refused(500, "InternalError"),
        &["internalerror"],
        Some(false),
    )
}

#[test]
fn a_store_that_is_unavailable_is_eio_and_told() -> Result<()> {
    seen_under(
        "503 ServiceUnavailable",
        Fault::Unavailable,
        &["unavailable", "503"],
        Some(false),
    )
}

#[test]
fn a_store_that_asks_to_slow_down_is_eio_and_told() -> Result<()> {
    seen_under("503 SlowDown", Fault::Refused(503, "SlowDown"), &["slow"], Some(false))
}

#[test]
fn a_connection_that_is_reset_is_eio_and_told() -> Result<()> {
    seen_under("reset", Fault::Reset, &["does not answer"], Some(false))
}

#[test]
fn a_store_that_never_answers_is_eio_and_told() -> Result<()> {
    seen_under("silence", Fault::BlackHole, &["does not answer"], Some(false))
}

#[test]
fn a_reply_that_is_lost_is_eio_and_told_and_no_conflict() -> Result<()> {
    seen_under("reply lost", Fault::DropReply, &["does not answer"], Some(false))
}

#[test]
fn a_body_that_is_cut_off_is_eio_and_never_shown() -> Result<()> {
    seen_under("body cut off", Fault::Truncated, &["could not"], None)
}

#[test]
fn expired_credentials_are_eio_and_named() -> Result<()> {
    seen_under(
        "403 ExpiredToken",
        Fault::Refused(403, "ExpiredToken"),
        &["no longer valid"],
        Some(true),
    )
}

#[test]
fn a_web_page_is_eio_and_named() -> Result<()> {
    seen_under("web page", Fault::WebPage, &["not an object store"], Some(false))
}

#[test]
fn a_slow_store_is_only_slow() -> Result<()> {
    let scene = scene()?;
    scene.proxy.set_latency(Duration::from_secs(2));
    let seen = scene.work(|status| status["store_reachable"] == true)?;
    ensure!(seen.uncached == Ok(SIZE), "an uncached read: {:?}", seen.uncached);
    let seconds = scene.recover()?;
    let listing = listing_under(Fault::None, Duration::from_secs(2))?;
    ensure!(listing == Ok(9), "an unlisted folder: {listing:?}");
    eprintln!(
        "2 s for each request | uncached read: after {:.0?} | status: {} | stored {seconds:.1?} after its end",
        seen.waited, seen.told
    );
    Ok(())
}
