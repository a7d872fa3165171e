//! Pictures of graphs.

use super::*;

fn graph(titles: &[&str], edges: &[(usize, usize)]) -> Graph {
    let node = |title: &&str| Node {
        path: format!("{title}.md"),
        title: (*title).to_owned(),
        note_type: "note".to_owned(),
        degree: 2,
    };
    let edge = |(from, to): &(usize, usize)| Edge {
        from: *from,
        to: *to,
        relation: "links_to".to_owned(),
    };
    Graph {
        nodes: titles.iter().map(node).collect(),
        edges: edges.iter().map(edge).collect(),
        left_out: 0,
    }
}

#[test]
fn whatever_a_note_is_called_is_text() {
    let hostile = graph(
        &["</svg><script>alert(1)</script>", "a\"b\\", "\u{7}\u{202e}💥"],
        &[(0, 1)],
    );
    for text in [picture::svg(&hostile), picture::html(&hostile, "<i>\"n\"")] {
        assert!(
            !text.contains("<script>alert") && !text.contains("<i>") && !text.contains('\u{7}'),
            "{text}"
        );
        assert_eq!(text.matches("<circle").count(), 3);
        assert_eq!(text.matches("<line").count(), 1);
    }
    assert!(picture::dot(&hostile).contains(r#"label="a\"b\\""#));
}

#[test]
fn linked_notes_are_nearer_than_others_and_all_are_apart() {
    let titles: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    // Two rings that have nothing to do with each other.
    let ring = |first: usize| (0..20).map(move |at| (first + at, first + (at + 1) % 20));
    let graph = graph(&titles, &ring(0).chain(ring(20)).collect::<Vec<_>>());
    let places = layout::places(&graph);
    let distance = |a: usize, b: usize| (places[a][0] - places[b][0]).hypot(places[a][1] - places[b][1]);
    let linked: f64 = ring(0).map(|(a, b)| distance(a, b)).sum::<f64>() / 20.0;
    let apart: f64 = (0..20).map(|at| distance(at, 20 + at)).sum::<f64>() / 20.0;
    assert!(linked < apart, "linked {linked}, not linked {apart}");
    for a in 0..40 {
        for b in 0..a {
            assert!(distance(a, b) > 5.0, "{a} and {b} are {} apart", distance(a, b));
        }
    }
    assert_eq!(places, layout::places(&graph), "another picture of the same graph");
    assert!(layout::places(&self::graph(&[], &[])).is_empty());
}
