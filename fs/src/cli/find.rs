//! `notefs search`, `backlinks`, `links` and `tags`.
//!
//! Owns how results look to people and as JSON. Does not own what is found (`notefs_indexer`).

use super::args::{PathArgs, SearchArgs, TagsArgs};
use super::units::{show_count, show_things};
use super::{Outcome, find_mount, output};
use crate::control::knowledge::{self, Search};
use crate::control::protocol::{Behind, IndexRows, Request};
use crate::failure::{EXIT_FAILED, Failure};
use notefs_indexer::marked_snippet;
use serde_json::{Value, json};
use std::path::Path;

/// Bold, and back to normal.
const BOLD: (&str, &str) = ("\u{1b}[1m", "\u{1b}[0m");

/// Bold yellow, and back to normal.
const MATCH: (&str, &str) = ("\u{1b}[1;33m", "\u{1b}[0m");

/// `notefs search`.
pub(super) fn search(args: &SearchArgs) -> Outcome {
    let (dir, query) = match args.words.as_slice() {
        [query] => (None, query),
        [dir, query, ..] => (Some(Path::new(dir)), query),
        [] => return Err(Failure::usage("There is nothing to search for")),
    };
    let (record, below) = find_mount(dir)?;
    let below = if dir.is_some() { below } else { Vec::new() };
    let search = Search {
        query: query.to_string_lossy().into_owned(),
        limit: args.limit,
        offset: args.offset,
        below,
    };
    let found = search.ask(&record)?;
    if args.json {
        let nothing = found.hits.is_empty();
        output::json(&search.json(&record, found))?;
        return Ok(if nothing { EXIT_FAILED } else { 0 });
    }
    let colours = output::stdout_has_colours();
    for (rank, hit) in found.hits.iter().enumerate() {
        show_hit(args.offset as usize + rank + 1, hit, colours)?;
    }
    if found.has_more {
        let next = args.offset + args.limit;
        output::note(format_args!("There are more (--offset {next})"));
    }
    say_behind(&found.behind);
    say_shared(found.shared, found.shared_error.as_deref());
    if found.hits.is_empty() {
        output::note(format_args!("Nothing found for `{}`", output::printable(&search.query)));
        return Ok(EXIT_FAILED);
    }
    Ok(0)
}

fn show_hit(rank: usize, hit: &Value, colours: bool) -> Result<(), Failure> {
    let place = match hit["line"].as_u64() {
        Some(line) => format!("{}:{line}", text(hit, "path")),
        None => text(hit, "path"),
    };
    let (bold, matched) = if colours { (BOLD, MATCH) } else { (("", ""), ("", "")) };
    output::line(format_args!(
        "{rank:>3}. {}{place}{}  {}",
        bold.0,
        bold.1,
        text(hit, "title")
    ))?;
    let snippet = hit["snippet"].as_str().unwrap_or_default();
    if !snippet.is_empty() {
        output::line(format_args!("     {}", marked_snippet(snippet, matched.0, matched.1)))?;
    }
    Ok(())
}

/// A field, safe to show.
pub(super) fn text(row: &Value, name: &str) -> String {
    output::printable(row[name].as_str().unwrap_or_default())
}

/// `notefs backlinks`.
pub(super) fn backlinks(args: &PathArgs) -> Outcome {
    let (record, path) = find_mount(Some(&args.path))?;
    let rows = knowledge::rows(&record, &Request::Backlinks { path })?;
    show_rows(args.json, rows, |row| {
        format!(
            "{}:{}: {}",
            text(row, "path"),
            row["line"].as_u64().unwrap_or_default(),
            text(row, "text")
        )
    })
}

/// `notefs links`.
pub(super) fn links(args: &PathArgs) -> Outcome {
    let (record, path) = find_mount(Some(&args.path))?;
    let rows = knowledge::rows(&record, &Request::Links { path })?;
    show_rows(args.json, rows, |row| {
        let line = row["line"].as_u64().unwrap_or_default();
        let relation = match text(row, "relation") {
            plain if plain == "links_to" => String::new(),
            typed => format!("{typed} "),
        };
        match row["resolved"].as_str() {
            Some(_) => format!("{line}: {relation}{} -> {}", text(row, "target"), text(row, "resolved")),
            None => format!("{line}: {relation}{}{}", text(row, "target"), why_unresolved(row)),
        }
    })
}

/// Why a link leads to no note; a picture, say, is none and need not be missing.
pub(super) fn why_unresolved(link: &Value) -> &'static str {
    match link["is_file"] == true {
        true => " (a file)",
        false => " (no such note)",
    }
}

/// `notefs tags`.
pub(super) fn tags(args: &TagsArgs) -> Outcome {
    let (record, _) = find_mount(args.dir.as_deref())?;
    let mut rows = knowledge::rows(&record, &Request::Tags {})?;
    for row in &mut rows.rows {
        *row = json!({"tag": row[0], "notes": row[1]});
    }
    show_rows(args.json, rows, |row| {
        format!(
            "{:>7}  {}",
            show_count(row["notes"].as_u64().unwrap_or_default()),
            text(row, "tag")
        )
    })
}

fn show_rows(as_json: bool, rows: IndexRows, show: impl Fn(&Value) -> String) -> Outcome {
    if as_json {
        output::json(&rows.rows)?;
    } else {
        for row in &rows.rows {
            output::line(show(row))?;
        }
    }
    say_behind(&rows.behind);
    say_shared(rows.shared, rows.shared_error.as_deref());
    Ok(0)
}

/// Says on stderr that the shared index took part, or why not.
pub(super) fn say_shared(shared: bool, error: Option<&str>) {
    if shared {
        output::note("The shared index has answered, too");
    }
    if let Some(error) = error {
        output::note(output::printable(error));
    }
}

/// Says on stderr what search does not see yet.
pub(super) fn say_behind(behind: &Behind) {
    if behind.backlog > 0 {
        let (left, total) = (
            show_count(behind.backlog),
            show_count(behind.backlog_total.max(behind.backlog)),
        );
        output::note(format_args!("Index is still behind: {left} of {total} notes to go"));
    } else if behind.changes > 0 {
        output::note(format_args!(
            "Index is still behind: {} changes to go",
            show_count(behind.changes)
        ));
    }
    if behind.unlisted_directories > 0 {
        let count = show_things(behind.unlisted_directories, "folder");
        output::note(format_args!(
            "Index is still behind: {count} of the bucket not listed yet"
        ));
    }
}
