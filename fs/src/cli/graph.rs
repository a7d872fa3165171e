//! `notefs graph`: the notes and their links as a picture, for Graphviz or for programs.
//!
//! Owns fetching the graph and where it is written. Does not own the picture (`graph/picture.rs`) nor the places of notes
//! and labels in it (`graph/layout.rs`, `graph/labels.rs`).

mod labels;
mod layout;
mod picture;

use super::args::{GraphArgs, GraphFormat};
use super::find::say_behind;
use super::units::show_things;
use super::{Outcome, find_mount, output};
use crate::control::knowledge::know;
use crate::control::question::Question;
use crate::failure::Failure;
use serde::Deserialize;

/// A graph as the index tells it.
#[derive(Debug, Clone, Deserialize)]
struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    left_out: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Node {
    path: String,
    title: String,
    #[serde(rename = "type")]
    note_type: String,
    degree: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Edge {
    from: usize,
    to: usize,
    relation: String,
}

/// Runs the command.
pub(super) fn run(args: &GraphArgs) -> Outcome {
    let (record, below) = find_mount(args.around.as_deref().or(args.dir.as_deref()))?;
    let question = Question::Graph {
        around: args.around.is_some().then_some(below),
        depth: args.depth,
        limit: args.limit,
    };
    let known = know(&record, question)?;
    let graph: Graph = serde_json::from_value(known.value.clone())
        .map_err(|error| Failure::new(format!("The daemon's graph was not understood: {error}")))?;
    let text = match args.format {
        GraphFormat::Json => format!("{:#}\n", known.value),
        GraphFormat::Dot => picture::dot(&graph),
        GraphFormat::Svg => picture::svg(&graph),
        GraphFormat::Html => picture::html(&graph, &record.mountpoint.display().to_string()),
    };
    match &args.output {
        Some(file) => std::fs::write(file, text).map_err(Failure::io("write", file))?,
        None => output::write(text.as_bytes())?,
    }
    if graph.left_out > 0 {
        let shown = show_things(graph.nodes.len() as u64, "note");
        output::note(format_args!("Shows {shown}; there are more (--limit)"));
    }
    say_behind(&known.behind);
    Ok(0)
}

#[cfg(test)]
mod tests;
