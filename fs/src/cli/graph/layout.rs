//! Where each note is in the picture.
//!
//! Owns the forces: links pull, notes push, larger ones take more room; what has no links stands below. The simulation
//! is fjadra's, a port of d3-force; it is the same for the same graph. Knows nothing of drawing.

use super::Graph;
use fjadra::{Center, Collide, Link, ManyBody, Node, PositionX, PositionY, SimulationBuilder};

/// Length of a link at rest, in the picture's units.
const LINK_LENGTH: f64 = 70.0;
/// How strongly notes push each other away.
const PUSH: f64 = -180.0;
/// How strongly everything is drawn to the middle, so that what is not linked does not fly away.
const GRAVITY: f64 = 0.05;
/// Free room around each note.
const MARGIN: f64 = 14.0;
/// Labels are wide and low, so the picture is drawn out this far to the sides.
const STRETCH: f64 = 1.5;
/// Notes without links stand in rows below the others, so far apart.
const ROW_STEP: [f64; 2] = [280.0, 24.0];
/// Steps of the simulation for a small graph; a large one gets fewer.
const STEPS: usize = 300;
/// Notes times steps at most, so that a large graph is drawn in seconds.
const WORK_MAX: usize = 600_000;

/// The radius of a note with so many neighbours.
pub(super) fn radius(degree: u64) -> f64 {
    4.0 + (degree.min(400) as f64).sqrt() * 1.6
}

/// The middle of each note.
pub(super) fn places(graph: &Graph) -> Vec<[f64; 2]> {
    let links = graph.edges.iter().filter(|edge| edge.from != edge.to);
    let mut is_linked = vec![false; graph.nodes.len()];
    for edge in links {
        is_linked[edge.from] = true;
        is_linked[edge.to] = true;
    }
    let linked: Vec<usize> = (0..is_linked.len()).filter(|number| is_linked[*number]).collect();
    let mut places = vec![[0.0; 2]; is_linked.len()];
    for (number, [x, y]) in linked.iter().zip(simulated(graph, &linked)) {
        places[*number] = [x * STRETCH, y];
    }
    let alone = (0..is_linked.len()).filter(|number| !is_linked[*number]);
    line_up(&linked, alone.collect(), &mut places);
    places
}

/// Puts notes into rows below the others.
fn line_up(linked: &[usize], alone: Vec<usize>, places: &mut [[f64; 2]]) {
    let (mut left, mut right, mut low) = (0.0_f64, 0.0_f64, 0.0_f64);
    for [x, y] in linked.iter().map(|number| places[*number]) {
        (left, right, low) = (left.min(x), right.max(x), low.max(y));
    }
    // Without links the rows are all there is: then they make a block.
    let wanted = (right - left) / ROW_STEP[0];
    let columns = wanted.max((alone.len() as f64 / 6.0).sqrt()).ceil().max(1.0) as usize;
    for (position, number) in alone.into_iter().enumerate() {
        let (column, row) = ((position % columns) as f64, (position / columns) as f64);
        places[number] = [left + column * ROW_STEP[0], low + (row + 3.0) * ROW_STEP[1]];
    }
}

/// Where the forces bring those notes that have links.
fn simulated(graph: &Graph, linked: &[usize]) -> Vec<[f64; 2]> {
    let radii: Vec<f64> = linked
        .iter()
        .map(|number| radius(graph.nodes[*number].degree))
        .collect();
    let mut position = vec![0; graph.nodes.len()];
    for (at, number) in linked.iter().enumerate() {
        position[*number] = at;
    }
    let links = graph.edges.iter().filter(|edge| edge.from != edge.to);
    let links: Vec<(usize, usize)> = links.map(|edge| (position[edge.from], position[edge.to])).collect();
    let steps = (WORK_MAX / linked.len().max(1)).clamp(20, STEPS);
    let mut simulation = SimulationBuilder::default()
        .build(linked.iter().map(|_| Node::default()))
        .add_force("link", Link::new(links).distance(LINK_LENGTH))
        .add_force("push", ManyBody::new().strength(PUSH))
        .add_force("room", Collide::new().radius(move |index| radii[index] + MARGIN))
        .add_force("x", PositionX::new().strength(GRAVITY))
        .add_force("y", PositionY::new().strength(GRAVITY))
        .add_force("middle", Center::new());
    simulation.tick(steps);
    simulation.positions().collect()
}
