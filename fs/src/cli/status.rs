//! `notefs status`: mounts and files, for people and as JSON.
//!
//! Owns the layout. Does not own the numbers (`mount/report.rs`).

use super::args::StatusArgs;
use super::units::{show_bytes, show_count, show_ms, show_things};
use super::{Outcome, find_mount, knowledge, output, wait};
use crate::control::client;
use crate::control::fleet_record::FleetRecord;
use crate::control::protocol::{Answer, FileReport, MountStatus, Request, SharedIndexed};
use crate::control::registry::{Record, Registry, absolute};
use crate::failure::{EXIT_FAILED, Failure};
use std::path::Path;

/// Runs the command.
pub(super) fn run(args: &StatusArgs) -> Outcome {
    if args.warnings {
        return knowledge::warnings(args.path.as_deref(), args.json);
    }
    match &args.path {
        Some(path) => {
            if let Some(fleet) = fleet_of(path) {
                return one_fleet(&fleet, args);
            }
            let (record, below) = find_mount(Some(path))?;
            if below.is_empty() {
                one_mount(&record, args)
            } else {
                one_file(&record, below, args)
            }
        }
        None => all_mounts(args),
    }
}

fn all_mounts(args: &StatusArgs) -> Outcome {
    let records = Registry::of_this_user().live();
    let mut code = 0;
    let mut statuses = Vec::new();
    for record in &records {
        match wait_if_asked(record, None, args).and_then(|waited| Ok((waited, ask_status(record)?))) {
            Ok((waited, status)) => {
                code = code.max(waited);
                statuses.push(status);
            }
            // One mount's trouble must not hide the others.
            Err(failure) => code = output::failure(&failure),
        }
    }
    if args.json {
        output::json(&statuses)?;
        return Ok(code);
    }
    let fleets = FleetRecord::live(&Registry::of_this_user());
    if records.is_empty() && fleets.is_empty() {
        output::note("Nothing is mounted");
    }
    for (position, status) in statuses.iter().enumerate() {
        if position > 0 {
            output::line("")?;
        }
        output::line(mount_block(status))?;
    }
    for (position, fleet) in fleets.iter().enumerate() {
        if position + statuses.len() > 0 {
            output::line("")?;
        }
        output::line(fleet_block(fleet))?;
    }
    Ok(code)
}

/// The fleet whose file this is.
fn fleet_of(path: &Path) -> Option<FleetRecord> {
    let path = absolute(path).ok()?;
    let fleets = FleetRecord::live(&Registry::of_this_user());
    fleets.into_iter().find(|fleet| fleet.file == path)
}

fn one_fleet(fleet: &FleetRecord, args: &StatusArgs) -> Outcome {
    if args.json {
        output::json(fleet)?
    } else {
        output::line(fleet_block(fleet))?
    }
    let all_run = fleet.mounts.iter().all(|row| row.state == "running");
    Ok(if all_run { 0 } else { EXIT_FAILED })
}

/// The block for one fleet, without a final newline.
fn fleet_block(fleet: &FleetRecord) -> String {
    let mut lines = vec![format!(
        "fleet of {} (pid {})",
        output::printable(&fleet.file.display().to_string()),
        fleet.pid
    )];
    if let Some(error) = &fleet.file_error {
        lines.push(format!(
            "  the file as it is now is not taken: {}",
            output::printable(error)
        ));
    }
    for row in &fleet.mounts {
        let restarts = match row.restarts {
            0 => String::new(),
            count => format!(", {}", show_things(count, "restart")),
        };
        let error = row.last_error.as_ref().filter(|_| row.state != "running");
        let error = error.map_or(String::new(), |error| format!(": {error}"));
        let dir = row.dir.display();
        lines.push(output::printable(&format!(
            "  {:<16} {}{restarts} at {dir}{error}",
            row.name, row.state
        )));
    }
    lines.join("\n")
}

fn one_mount(record: &Record, args: &StatusArgs) -> Outcome {
    let code = wait_if_asked(record, None, args)?;
    let status = ask_status(record)?;
    if args.json {
        output::json(&status)?
    } else {
        output::line(mount_block(&status))?
    }
    Ok(code)
}

fn one_file(record: &Record, below: Vec<u8>, args: &StatusArgs) -> Outcome {
    let code = wait_if_asked(record, Some(below.clone()), args)?;
    let answer = client::ask(record, &Request::FileStatus { path: below }, &mut |_| ())?;
    let Answer::File(report) = answer else {
        return Err(client::unexpected(record));
    };
    if args.json {
        output::json(&report)?
    } else {
        output::line(file_block(&report))?
    }
    Ok(code)
}

fn wait_if_asked(record: &Record, path: Option<Vec<u8>>, args: &StatusArgs) -> Outcome {
    args.wait
        .map_or(Ok(0), |step| wait::wait(record, step, path, args.timeout))
}

fn ask_status(record: &Record) -> Result<MountStatus, Failure> {
    match client::ask(record, &Request::Status {}, &mut |_| ())? {
        Answer::Status(status) => Ok(*status),
        _ => Err(client::unexpected(record)),
    }
}

/// The block for one mount, without a final newline.
fn mount_block(status: &MountStatus) -> String {
    let mut lines = vec![output::printable(&status.mountpoint)];
    let mut add = |name: &str, value: String| lines.push(format!("  {name:<9} {}", output::printable(&value)));
    let reachable = if status.store_reachable { "" } else { " (away)" };
    add("store", format!("{}{reachable}", status.store));
    if status.read_only {
        add("mode", "read-only".to_owned());
    }
    let written = &status.written;
    add(
        "written",
        format!("{}, {}", show_things(written.count, "entry"), show_bytes(written.bytes)),
    );
    add(
        "synced",
        match written.seq.saturating_sub(status.synced.seq) {
            0 => "everything".to_owned(),
            count => format!("all but the last {}", show_things(count, "change")),
        },
    );
    add("stored", stored_line(status));
    held_lines(status)
        .into_iter()
        .for_each(|(name, value)| add(name, value));
    add("indexed", indexed_line(status));
    if let Some(shared) = &status.shared {
        add("shared", shared_line(shared));
    }
    add(
        "cache",
        format!(
            "{} of {} in {}",
            show_bytes(status.cache.bytes),
            show_bytes(status.cache.limit_bytes),
            status.cache_dir
        ),
    );
    if status.pinned.policy != "off" || status.pinned.named > 0 {
        add("pinned", super::pin::line(&status.pinned));
    }
    add("requests", requests_line(status));
    add("others", others_line(status));
    if status.conflicts > 0 {
        let count = show_count(status.conflicts);
        add("conflicts", format!("{count} (`notefs conflicts` lists them)"));
    }
    if status.unlisted_directories > 0 {
        add("unlisted", show_things(status.unlisted_directories, "folder"));
    }
    if let Some(error) = &status.last_error {
        let again = if error.retryable { "; tried again by itself" } else { "" };
        add(
            "error",
            format!("{} ({} ago{again})", error.message, show_ms(error.age_ms)),
        );
    }
    lines.extend(skipped_lines(status));
    lines.push(format!("  {:<9} {}", "pid", status.pid));
    lines.join("\n")
}

/// Keys that are not shown under their own names.
fn skipped_lines(status: &MountStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if status.skipped_key_count > 0 {
        let count = show_things(status.skipped_key_count, "key");
        lines.push(format!("  {:<9} {count} under their own names:", "skipped"));
    }
    for skipped in &status.skipped_keys {
        let alias = skipped
            .alias
            .as_ref()
            .map_or(String::new(), |alias| format!(", shown as {alias}"));
        let text = format!("{:?}: {}{alias}", skipped.key, skipped.reason);
        lines.push(format!("            {}", output::printable(&text)));
    }
    lines
}

/// What is held back, what is under way because of moves, and what this store does not promise.
fn held_lines(status: &MountStatus) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if status.held_count > 0 {
        let hint = "no program asked for it; see `notefs check` and `notefs sync --release-held`";
        let count = show_things(status.held_count, "change");
        lines.push(("held", format!("{count}: {hint}")));
    }
    let held = status.held.iter();
    let text = held.map(|held| format!("{}: {} ({} ago)", held.path, held.reason, show_ms(held.age_ms)));
    lines.extend(text.map(|text| ("", text)));
    if status.moves > 0 {
        lines.push((
            "rewriting",
            format!("links, after {}", show_things(status.moves, "move")),
        ));
    }
    lines.extend(status.weaker.iter().map(|weaker| ("weaker", weaker.clone())));
    lines
}

fn stored_line(status: &MountStatus) -> String {
    if status.owed.count == 0 {
        return "everything".to_owned();
    }
    let age = status
        .owed
        .oldest_age_ms
        .map_or(String::new(), |age| format!(", the oldest for {}", show_ms(age)));
    let flight = match status.in_flight {
        0 => String::new(),
        count => format!(", {} in flight", show_count(count)),
    };
    format!(
        "all but {} ({} of at most {}){age}{flight}",
        show_things(status.owed.count, "change"),
        show_bytes(status.owed.bytes),
        show_bytes(status.owed.limit_bytes)
    )
}

fn indexed_line(status: &MountStatus) -> String {
    let indexed = &status.indexed;
    let mut line = show_things(indexed.notes, "note");
    if indexed.behind > 0 {
        line.push_str(&format!(", {} to go", show_things(indexed.behind, "change")));
    }
    if indexed.backlog > 0 {
        line.push_str(&format!(
            ", {} of the bucket to go",
            show_things(indexed.backlog, "note")
        ));
    }
    if let Some(error) = &indexed.last_error {
        line.push_str(&format!("; {error}"));
    }
    line
}

/// The index of all machines.
fn shared_line(shared: &SharedIndexed) -> String {
    let mut line = format!("in {}", shared.address);
    if !shared.compared {
        line.push_str(", not compared with all notes yet");
    }
    if shared.owed > 0 {
        line.push_str(&format!(", {} to go", show_things(shared.owed, "note")));
    }
    if let Some(away_ms) = shared.away_ms {
        let error = shared.last_error.as_deref().unwrap_or("it does not answer");
        line.push_str(&format!("; for {}: {error}", show_ms(away_ms)));
    }
    line
}

/// What is known of other writers.
fn others_line(status: &MountStatus) -> String {
    let pull = &status.pull;
    let looked = match pull.listed_age_ms {
        Some(age) => format!(
            "bucket looked at {} ago, every {}",
            show_ms(age),
            show_ms(pull.interval_ms)
        ),
        None => "bucket not looked at yet".to_owned(),
    };
    let newest = pull.peers.iter().filter_map(|peer| peer.quiet_ms).min();
    let told = newest.map_or(String::new(), |quiet| {
        format!(", the last change {} ago", show_ms(quiet))
    });
    let weaker = if pull.weaker {
        "; weaker: the store keeps no conditions, so that of two savers the last wins"
    } else {
        ""
    };
    let machines = show_things(pull.peers.len() as u64, "other machine");
    format!("{machines}{told}; {looked}{weaker}")
}

fn requests_line(status: &MountStatus) -> String {
    let counts = &status.requests;
    let kinds = [
        ("put", counts.put),
        ("get", counts.get),
        ("head", counts.head),
        ("list", counts.list),
        ("copy", counts.copy),
        ("delete", counts.delete),
        ("feed", counts.feed),
        ("failed", counts.failed),
    ];
    let shown: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{} {kind}", show_count(*count)))
        .collect();
    shown.join(", ")
}

fn file_block(file: &FileReport) -> String {
    let mut lines = vec![output::printable(&file.path)];
    let mut add = |name: &str, value: &str| lines.push(format!("  {name:<9} {}", output::printable(value)));
    add("step", &file.step);
    add(
        "size",
        &format!(
            "{}, {} of it cached",
            show_bytes(file.size),
            show_bytes(file.cached_bytes)
        ),
    );
    add("indexed", if file.indexed { "yes" } else { "no" });
    if let Some(age) = file.owed_for_ms {
        add("waiting", &format!("for {}", show_ms(age)));
    }
    for (name, value) in [("key", &file.key), ("etag", &file.etag), ("error", &file.last_error)] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    lines.join("\n")
}
