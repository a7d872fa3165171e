//! Where each note's label is: beside, above or below its note, wherever the fewest other labels and notes are in its way.
//!
//! Owns the guess how wide a text is. Does not own drawing (`picture.rs`), nor where the notes are (`layout.rs`).

use super::layout::radius;
use super::{Graph, picture};

/// Notes up to which ways are sought around each other; of more, all labels are to the right.
const SOUGHT_MAX: usize = 2_000;

/// What a character takes of a font of 11: letters, and the wide ones of East Asia and emoji.
const LETTER: f64 = 6.2;
const WIDE_LETTER: f64 = 12.0;
const FIRST_WIDE: char = '\u{1100}';

/// Height of a line, its part above the base line, and the gap to its note.
const HEIGHT: f64 = 12.0;
const ASCENT: f64 = 9.0;
const GAP: f64 = 3.0;

/// A label's text and its box.
pub(super) struct Label {
    pub(super) text: String,
    area: Area,
}

/// Left, top, right, bottom.
#[derive(Clone, Copy)]
struct Area([f64; 4]);

impl Area {
    /// How much of it another one covers.
    fn overlap(&self, other: &Area) -> f64 {
        let across = (self.0[2].min(other.0[2]) - self.0[0].max(other.0[0])).max(0.0);
        let down = (self.0[3].min(other.0[3]) - self.0[1].max(other.0[1])).max(0.0);
        across * down
    }
}

impl Label {
    /// Where its text begins, on the base line.
    pub(super) fn start(&self) -> [f64; 2] {
        [self.area.0[0], self.area.0[1] + ASCENT]
    }

    /// Its left and right end.
    pub(super) fn span(&self) -> [f64; 2] {
        [self.area.0[0], self.area.0[2]]
    }
}

fn width(text: &str) -> f64 {
    text.chars()
        .map(|c| if c < FIRST_WIDE { LETTER } else { WIDE_LETTER })
        .sum()
}

/// The label of each note.
pub(super) fn labels(graph: &Graph, places: &[[f64; 2]]) -> Vec<Label> {
    let notes: Vec<Area> = graph
        .nodes
        .iter()
        .zip(places)
        .map(|(node, [x, y])| {
            let radius = radius(node.degree);
            Area([x - radius, y - radius, x + radius, y + radius])
        })
        .collect();
    let mut labels: Vec<Label> = graph
        .nodes
        .iter()
        .zip(&notes)
        .map(|(node, note)| {
            let text = picture::label(node);
            let area = ways(note, width(&text))[0];
            Label { text, area }
        })
        .collect();
    if graph.nodes.len() <= SOUGHT_MAX {
        seek(graph, &notes, &mut labels);
    }
    labels
}

/// The notes with the most links choose first.
fn seek(graph: &Graph, notes: &[Area], labels: &mut [Label]) {
    let mut order: Vec<usize> = (0..notes.len()).collect();
    order.sort_by_key(|number| std::cmp::Reverse(graph.nodes[*number].degree));
    let mut taken: Vec<Area> = Vec::new();
    for number in order {
        let label = &mut labels[number];
        let covered = |way: &Area| {
            let by_labels: f64 = taken.iter().map(|other| way.overlap(other)).sum();
            let by_notes: f64 = notes.iter().map(|other| way.overlap(other)).sum();
            by_labels + by_notes
        };
        let best = ways(&notes[number], width(&label.text))
            .into_iter()
            .map(|way| (covered(&way), way))
            .reduce(|best, other| if other.0 + 1.0 < best.0 { other } else { best });
        if let Some((_, way)) = best {
            label.area = way;
        }
        taken.push(label.area);
    }
}

/// Right of its note, left of it, below, above.
fn ways(note: &Area, width: f64) -> [Area; 4] {
    let [left, top, right, bottom] = note.0;
    let (x, y) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
    let at = |x: f64, y: f64| Area([x, y, x + width, y + HEIGHT]);
    [
        at(right + GAP, y - HEIGHT / 2.0),
        at(left - GAP - width, y - HEIGHT / 2.0),
        at(x - width / 2.0, bottom + GAP),
        at(x - width / 2.0, top - GAP - HEIGHT),
    ]
}
