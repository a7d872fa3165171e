//! `notefs context`, `orphans`, `unresolved`, `recent`, `query` and `status --warnings`.
//!
//! Owns how the knowledge in the notes looks to people and as JSON. Does not own what is known (`notefs_indexer`) nor
//! pictures of it (`graph.rs`).

use super::args::{ContextArgs, ListArgs, QueryArgs};
use super::find::{say_behind, say_shared, text, why_unresolved};
use super::{Outcome, find_mount, output};
use crate::control::knowledge::know;
use crate::control::question::{Known, Question};
use crate::failure::Failure;
use serde_json::Value;
use std::path::Path;

/// Warnings shown at most.
const WARNINGS_MAX: u32 = 1_000;

/// `notefs orphans`.
pub(super) fn orphans(args: &ListArgs) -> Outcome {
    let (record, _) = find_mount(args.dir.as_deref())?;
    let known = know(&record, Question::Orphans { limit: args.limit })?;
    list(args.json, &known, |row| {
        format!("{}  {}", text(row, "path"), text(row, "title"))
    })
}

/// `notefs unresolved`.
pub(super) fn unresolved(args: &ListArgs) -> Outcome {
    let (record, _) = find_mount(args.dir.as_deref())?;
    let known = know(&record, Question::Unresolved { limit: args.limit })?;
    list(args.json, &known, |row| {
        let sources: Vec<String> = each(&row["sources"])
            .map(|source| format!("{}:{}", text(source, "path"), source["line"]))
            .collect();
        let count = row["count"].as_u64().unwrap_or_default();
        let more = if count > sources.len() as u64 { ", …" } else { "" };
        format!("{count:>5}  {}  ({}{more})", text(row, "target"), sources.join(", "))
    })
}

/// `notefs recent`.
pub(super) fn recent(args: &ListArgs) -> Outcome {
    let (record, below) = find_mount(args.dir.as_deref())?;
    let below = if args.dir.is_some() { below } else { Vec::new() };
    let known = know(
        &record,
        Question::Recent {
            below,
            limit: args.limit,
        },
    )?;
    list(args.json, &known, |row| {
        format!(
            "{}  {}  {}",
            text(row, "modified"),
            text(row, "path"),
            text(row, "title")
        )
    })
}

/// `notefs status --warnings`.
pub(super) fn warnings(path: Option<&Path>, as_json: bool) -> Outcome {
    let (record, _) = find_mount(path)?;
    let known = know(&record, Question::Warnings { limit: WARNINGS_MAX })?;
    list(as_json, &known, |row| {
        format!(
            "{}: {} [{}]",
            text(row, "path"),
            text(row, "message"),
            text(row, "kind")
        )
    })
}

/// `notefs context`.
pub(super) fn context(args: &ContextArgs) -> Outcome {
    let (record, path) = find_mount(Some(&args.path))?;
    let known = know(
        &record,
        Question::Context {
            path,
            depth: args.depth,
            limit: args.limit,
        },
    )?;
    if args.json {
        output::json(&known.value)?;
    } else {
        output::line(context_lines(&known.value).join("\n"))?;
    }
    say_behind(&known.behind);
    Ok(0)
}

fn context_lines(context: &Value) -> Vec<String> {
    let note = &context["note"];
    let mut lines = vec![format!("{}  {}", text(note, "path"), text(note, "title"))];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name:<10} {value}"));
        }
    };
    for name in ["type", "permalink", "created", "modified"] {
        add(name, text(note, name));
    }
    let tags: Vec<&str> = each(&note["tags"]).filter_map(Value::as_str).collect();
    add("tags", output::printable(&tags.join(", ")));
    for observation in each(&note["observations"]) {
        let context = remark(observation);
        add(
            "fact",
            format!(
                "[{}] {}{context}",
                text(observation, "category"),
                text(observation, "content")
            ),
        );
    }
    for link in each(&context["links"]) {
        let target = match link["resolved"].as_str() {
            Some(_) => text(link, "resolved"),
            None => format!("{}{}", text(link, "target"), why_unresolved(link)),
        };
        add(
            "link",
            format!("{} -> {target}{}", text(link, "relation"), remark(link)),
        );
    }
    for link in each(&context["backlinks"]) {
        let place = format!("{}:{}", text(link, "path"), link["line"]);
        add("backlink", format!("{} <- {place}", text(link, "relation")));
    }
    for related in each(&context["related"]) {
        let way = if related["outbound"] == true { "->" } else { "<-" };
        let step = format!("{} {} {way}", text(related, "via"), text(related, "relation"));
        add(
            "near",
            format!("{} {}  ({step})", related["distance"], text(related, "path")),
        );
    }
    if context["has_more"] == true {
        add("near", "… and more (--limit)".to_owned());
    }
    lines
}

fn remark(row: &Value) -> String {
    match text(row, "context") {
        context if context.is_empty() => context,
        context => format!(" ({context})"),
    }
}

/// `notefs query`.
pub(super) fn query(args: &QueryArgs) -> Outcome {
    let (dir, sql) = match args.words.as_slice() {
        [sql] => (None, sql),
        [dir, sql, ..] => (Some(Path::new(dir)), sql),
        [] => return Err(Failure::usage("There is no query")),
    };
    let (record, _) = find_mount(dir)?;
    let sql = sql
        .to_str()
        .ok_or_else(|| Failure::usage("The query is not UTF-8"))?
        .to_owned();
    let known = know(&record, Question::Query { sql, limit: args.limit })?;
    if args.json {
        output::json(&known.value)?;
    } else {
        for row in std::iter::once(&known.value["columns"]).chain(each(&known.value["rows"])) {
            let cells: Vec<String> = each(row).map(cell).collect();
            output::line(cells.join("\t"))?;
        }
        if known.value["has_more"] == true {
            output::note(format_args!("There are more than {} rows (--limit)", args.limit));
        }
    }
    say_behind(&known.behind);
    Ok(0)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => output::printable(text),
        other => other.to_string(),
    }
}

fn list(as_json: bool, known: &Known, show: impl Fn(&Value) -> String) -> Outcome {
    if as_json {
        output::json(&known.value)?;
    } else {
        for row in each(&known.value) {
            output::line(show(row))?;
        }
    }
    say_behind(&known.behind);
    say_shared(known.shared, known.shared_error.as_deref());
    Ok(0)
}

fn each(rows: &Value) -> impl Iterator<Item = &Value> {
    rows.as_array().into_iter().flatten()
}
