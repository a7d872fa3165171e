//! Where each note is in the picture.
//!
//! Owns the forces: links pull, notes push, larger ones take more room. The simulation is fjadra's, a port of d3-force;
//! it is the same for the same graph. Knows nothing of drawing.

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
    let radii: Vec<f64> = graph.nodes.iter().map(|node| radius(node.degree)).collect();
    let links: Vec<(usize, usize)> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let steps = (WORK_MAX / graph.nodes.len().max(1)).clamp(20, STEPS);
    let mut simulation = SimulationBuilder::default()
        .build(graph.nodes.iter().map(|_| Node::default()))
        .add_force("link", Link::new(links).distance(LINK_LENGTH))
        .add_force("push", ManyBody::new().strength(PUSH))
        .add_force("room", Collide::new().radius(move |index| radii[index] + MARGIN))
        .add_force("x", PositionX::new().strength(GRAVITY))
        .add_force("y", PositionY::new().strength(GRAVITY))
        .add_force("middle", Center::new());
    simulation.tick(steps);
    simulation.positions().collect()
}
