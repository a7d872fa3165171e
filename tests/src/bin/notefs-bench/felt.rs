//! From a save on one machine to another that shows it, and to the file event there: notefs beside rclone and JuiceFS, each as two
//! mounts of one bucket that is 20 ms away, on each of two servers.
//!
//! Who raises no event is only asked what it shows; a change that it has not shown within the limit counts as never.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::inotify::Inotify;
use notefs_tests::rclone::Rclone;
use notefs_tests::s3::S3Client;
use notefs_tests::{Mount, MountOptions, Proxy, Store, wait_until};
use serde_json::{Value, json};

use crate::juicefs::JuiceFs;

const LATENCY: Duration = Duration::from_millis(20);

/// Notes that are edited; every fourth change is a new one.
const NOTES: usize = 20;

/// Starts a server.
type Server = fn() -> Result<Store>;

/// Those that can be asked for.
const SERVERS: [(&str, Server); 2] = [("ministack", Store::ministack), ("weed", Store::weed)];

/// How exactly it is looked.
const LOOK: Duration = Duration::from_millis(2);

/// What a change of one contender took, in milliseconds; `None`: longer than the limit.
#[derive(Debug, Default)]
struct Samples {
    shown: Vec<Option<f64>>,
    event: Vec<Option<f64>>,
}

/// One contender's part.
struct Course {
    changes: usize,
    limit: Duration,
    raises_events: bool,
}

/// Runs all of them, on both servers or on the one that is `asked` for, and answers a table and the same as JSON.
pub(crate) fn measure(changes: usize, asked: Option<&str>) -> Result<(String, Value)> {
    let servers = SERVERS
        .iter()
        .filter(|(name, _)| asked.is_none_or(|asked| asked == *name));
    let (mut texts, mut all) = (Vec::new(), Vec::new());
    for (name, server) in servers {
        let mut rows: Vec<(&str, Samples)> = Vec::new();
        let measured = on_server(changes, *server, &mut rows);
        texts.push(format!("on {name}:\n{}", text(&rows)));
        all.push(json!({ "server": name, "rows": as_json(&rows) }));
        // What was measured before a failure is worth seeing.
        measured.inspect_err(|_| eprintln!("{}", texts.join("\n")))?;
    }
    ensure!(!texts.is_empty(), "--server takes ministack or weed");
    Ok((texts.join("\n\n"), json!({ "servers": all })))
}

fn on_server(changes: usize, server: Server, rows: &mut Vec<(&str, Samples)>) -> Result<()> {
    let few = Course {
        changes: changes.min(5),
        limit: Duration::from_secs(60),
        raises_events: false,
    };
    let often = Course {
        changes: changes.min(50),
        limit: Duration::from_secs(10),
        raises_events: false,
    };
    let all = Course { changes, ..often };
    rows.push(("notefs", notefs(server, changes, "1s").context("notefs")?));
    told(rows);
    rows.push(("juicefs", juicefs(server, &all)?));
    told(rows);
    let polling = ["--poll-interval", "1s"];
    rows.push(("rclone --poll-interval 1s", rclone(server, &few, &polling)?));
    told(rows);
    rows.push(("notefs --write-back 100ms", notefs(server, changes, "100ms")?));
    told(rows);
    let seconds = ["--dir-cache-time", "1s", "--poll-interval", "0"];
    rows.push(("rclone --dir-cache-time 1s", rclone(server, &often, &seconds)?));
    told(rows);
    Ok(())
}

/// Says what is known so far.
fn told(rows: &[(&str, Samples)]) {
    eprintln!("{}", text(rows));
}

/// A bucket that is 20 ms away; the proxies live as long as their store is used.
fn distant(server: Server) -> Result<(Proxy, Store)> {
    let store = server()?;
    let proxy = Proxy::start(store.client()?.address)?;
    proxy.set_latency(LATENCY);
    let store = store.via(proxy.address())?;
    Ok((proxy, store))
}

fn client_of(store: &Store, proxy: &Proxy) -> Result<S3Client> {
    let mut client = store.client()?.clone();
    client.address = proxy.address();
    Ok(client)
}

fn notefs(server: Server, changes: usize, delay: &str) -> Result<Samples> {
    let (_proxy, store) = distant(server)?;
    let options = || MountOptions::args(&["--write-back", delay]);
    let (a, b) = (
        Mount::start_with(&store, options())?,
        Mount::start_with(&store, options())?,
    );
    let course = Course {
        changes,
        limit: Duration::from_secs(30),
        raises_events: true,
    };
    run((a.dir(), b.dir()), &course)
}

fn rclone(server: Server, course: &Course, args: &[&str]) -> Result<Samples> {
    let (proxy, store) = distant(server)?;
    let client = client_of(&store, &proxy)?;
    let (a, b) = (Rclone::start_with(&client, args)?, Rclone::start_with(&client, args)?);
    run((a.dir(), b.dir()), course)
}

fn juicefs(server: Server, course: &Course) -> Result<Samples> {
    let (proxy, store) = distant(server)?;
    let volume = JuiceFs::format(&client_of(&store, &proxy)?)?;
    let (a, b) = (volume.mount()?, volume.mount()?);
    run((a.dir(), b.dir()), course)
}

/// Makes the changes one after the other on `a` and waits for each on `b`.
fn run((a, b): (&Path, &Path), course: &Course) -> Result<Samples> {
    for note in 0..NOTES {
        std::fs::write(a.join(format!("note {note}.md")), "first\n")?;
    }
    wait_until("first notes on the other machine", Duration::from_secs(400), || {
        let listed = std::fs::read_dir(b).map(Iterator::count);
        let texts = (0..NOTES).map(|note| std::fs::read_to_string(b.join(format!("note {note}.md"))));
        match texts.collect::<std::io::Result<Vec<_>>>() {
            Ok(texts) if texts.iter().all(|text| text == "first\n") => Ok(()),
            other => Err(format!("{listed:?} {other:?}")),
        }
    })?;
    let mut watch = Inotify::on(b)?;
    let mut samples = Samples::default();
    for change in 0..course.changes {
        let name = match change % 4 {
            3 => format!("new {change}.md"),
            _ => format!("note {}.md", change % NOTES),
        };
        let text = format!("change {change}\n{}", "words of a note. ".repeat(50));
        // Not in step with anybody's clock.
        std::thread::sleep(Duration::from_millis(change as u64 * 379 % 1_000));
        watch.names(Duration::ZERO)?;
        std::fs::write(a.join(&name), &text)?;
        let (shown, event) = one(&mut watch, &b.join(&name), &text, course)?;
        samples.shown.push(shown);
        samples.event.push(event);
    }
    Ok(samples)
}

fn one(watch: &mut Inotify, file: &Path, text: &str, course: &Course) -> Result<(Option<f64>, Option<f64>)> {
    let (saved, name) = (
        Instant::now(),
        file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    );
    let passed = || Some(saved.elapsed().as_secs_f64() * 1e3);
    let (mut shown, mut event) = (None, None);
    while saved.elapsed() < course.limit {
        let named = watch.names(LOOK)?.contains(&name);
        event = event.or(passed().filter(|_| named));
        let same = shown.is_none() && std::fs::read_to_string(file).is_ok_and(|read| read == text);
        shown = shown.or(passed().filter(|_| same));
        if shown.is_some() && (event.is_some() || !course.raises_events) {
            break;
        }
    }
    Ok((shown, event))
}

/// The sample below which this part of all is; a sample that never came is above all others.
fn quantile(samples: &[Option<f64>], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied()
}

fn text(rows: &[(&str, Samples)]) -> String {
    let mut lines = vec![format!(
        "{:<28} {:>7} {:>10} {:>10} {:>10} {:>10} {:>7}",
        "save on A, ms until B", "changes", "shows p50", "shows p99", "event p50", "event p99", "events"
    )];
    let cell = |samples: &[Option<f64>], part| match quantile(samples, part) {
        Some(value) if value.is_finite() => format!("{value:.0}"),
        _ => "never".to_owned(),
    };
    for (name, samples) in rows {
        lines.push(format!(
            "{name:<28} {:>7} {:>10} {:>10} {:>10} {:>10} {:>7}",
            samples.shown.len(),
            cell(&samples.shown, 0.5),
            cell(&samples.shown, 0.99),
            cell(&samples.event, 0.5),
            cell(&samples.event, 0.99),
            samples.event.iter().flatten().count(),
        ));
    }
    lines.join("\n")
}

fn as_json(rows: &[(&str, Samples)]) -> Value {
    let rows = rows.iter().map(|(name, samples)| {
        json!({
            "name": name,
            "unit": "ms",
            "shown": samples.shown,
            "event": samples.event,
        })
    });
    json!(rows.collect::<Vec<_>>())
}
