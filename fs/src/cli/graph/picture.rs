//! The picture of a graph: as SVG, as a page around it, and in Graphviz's language.
//!
//! Owns shapes, colours and escaping: whatever a note is called, the result is well-formed and runs nothing of it.
//! Does not own where things are (`layout.rs`).

use super::labels::{Label, labels};
use super::layout::{places, radius};
use super::{Graph, Node};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest label, in characters.
const LABEL_CHARACTERS_MAX: usize = 40;
/// Room around notes and labels.
const BORDER: f64 = 40.0;
/// Colours of types of notes, the most frequent first; what is beyond them is grey.
const COLOURS: [&str; 8] = [
    "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#eeca3b", "#9d755d",
];
const OTHER_COLOUR: &str = "#888888";
/// What makes the page one to move about in, and to search.
const PAGE_SCRIPT: &str = include_str!("page.js");

/// The graph as a picture.
pub(super) fn svg(graph: &Graph) -> String {
    let places = places(graph);
    let labels = labels(graph, &places);
    let (mut low, mut high) = ([0.0_f64; 2], [0.0_f64; 2]);
    for (place, label) in places.iter().zip(&labels) {
        let [left, right] = label.span();
        low = [low[0].min(left), low[1].min(place[1])];
        high = [high[0].max(right), high[1].max(place[1])];
    }
    let size = [high[0] - low[0] + 2.0 * BORDER, high[1] - low[1] + 2.0 * BORDER];
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{:.1} {:.1} {:.1} {:.1}\" width=\"{:.0}\" height=\"{:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#999\"/></marker></defs>\n\
         <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#fff\"/>\n",
        low[0] - BORDER,
        low[1] - BORDER,
        size[0],
        size[1],
        size[0],
        size[1],
        low[0] - BORDER,
        low[1] - BORDER,
        size[0],
        size[1]
    );
    draw_edges(graph, &places, &mut out);
    draw_nodes(graph, &places, &labels, &mut out);
    out.push_str("</svg>\n");
    out
}

fn draw_edges(graph: &Graph, places: &[[f64; 2]], out: &mut String) {
    out.push_str("<g stroke=\"#999\" stroke-opacity=\"0.6\">\n");
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (places.get(edge.from), places.get(edge.to)) else {
            continue;
        };
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy).max(1e-6);
        // The arrow ends at the rim of the note, not in its middle.
        let rim = (radius(graph.nodes[edge.to].degree) + 1.0).min(length) / length;
        let end = [to[0] - dx * rim, to[1] - dy * rim];
        writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" data-from=\"{}\" data-to=\"{}\" \
             marker-end=\"url(#arrow)\"><title>{}</title></line>",
            from[0],
            from[1],
            end[0],
            end[1],
            edge.from,
            edge.to,
            xml(&edge.relation)
        )
        .ok();
    }
    out.push_str("</g>\n");
}

fn draw_nodes(graph: &Graph, places: &[[f64; 2]], labels: &[Label], out: &mut String) {
    let colours = colours(graph);
    for (number, ((node, place), label)) in graph.nodes.iter().zip(places).zip(labels).enumerate() {
        let (radius, start) = (radius(node.degree), label.start());
        writeln!(
            out,
            "<g data-node=\"{number}\"><circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"{}\" stroke=\"#fff\">\
             <title>{}</title></circle><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222\" paint-order=\"stroke\" stroke=\"#fff\" \
             stroke-width=\"3\">{}</text></g>",
            place[0],
            place[1],
            colours.get(node.note_type.as_str()).unwrap_or(&OTHER_COLOUR),
            xml(&node.path),
            start[0],
            start[1],
            xml(&label.text)
        )
        .ok();
    }
}

/// A colour for each of the most frequent types.
fn colours(graph: &Graph) -> BTreeMap<&str, &'static str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.nodes {
        *counts.entry(&node.note_type).or_default() += 1;
    }
    let mut types: Vec<(&str, usize)> = counts.into_iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    types.into_iter().map(|(name, _)| name).zip(COLOURS).collect()
}

/// A note's title, cut.
pub(super) fn label(node: &Node) -> String {
    let mut characters = node.title.chars();
    let mut label: String = characters.by_ref().take(LABEL_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        label.push('…');
    }
    label
}

/// The graph as a page that needs nothing else.
pub(super) fn html(graph: &Graph, name: &str) -> String {
    let name = xml(name);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n\
         <style>html,body{{margin:0;height:100%;font:14px sans-serif}}body{{display:flex;flex-direction:column}}\
         header{{padding:6px 10px;border-bottom:1px solid #ddd}}input{{margin-left:1em}}svg{{flex:1;width:100%;min-height:0}}\
         .dim{{opacity:.12}}g[data-node]{{cursor:pointer}}</style></head>\n\
         <body><header><b>{name}</b> {} notes, {} links<input id=\"find\" type=\"search\" placeholder=\"Find a note\">\
         <span id=\"told\"></span></header>\n{}<script>\n{PAGE_SCRIPT}</script></body></html>\n",
        graph.nodes.len(),
        graph.edges.len(),
        svg(graph)
    )
}

/// The graph for Graphviz.
pub(super) fn dot(graph: &Graph) -> String {
    let mut out = "digraph notes {\n  node [shape=box, style=rounded];\n".to_owned();
    for (number, node) in graph.nodes.iter().enumerate() {
        writeln!(
            out,
            "  n{number} [label={}, tooltip={}];",
            quoted(&label(node)),
            quoted(&node.path)
        )
        .ok();
    }
    for edge in &graph.edges {
        let shown = if edge.relation == "links_to" {
            String::new()
        } else {
            format!(" [label={}]", quoted(&edge.relation))
        };
        writeln!(out, "  n{} -> n{}{shown};", edge.from, edge.to).ok();
    }
    out.push_str("}\n");
    out
}

/// A string of Graphviz's language.
fn quoted(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text in XML; what XML cannot hold becomes a question mark.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
