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

#[test]
fn labels_are_inside_the_picture_and_do_not_cover_each_other_where_there_is_room() {
    let titles: Vec<String> = (0..12)
        .map(|number| format!("A long title 題名 of note {number}"))
        .collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    // A star, and three notes without links.
    let graph = graph(&titles, &(1..9).map(|at| (0, at)).collect::<Vec<_>>());
    let places = layout::places(&graph);
    let low = places[..9].iter().map(|place| place[1]).fold(f64::MIN, f64::max);
    assert!(places[9..].iter().all(|place| place[1] > low), "{places:?}");
    let labels = labels::labels(&graph, &places);
    let svg = picture::svg(&graph);
    let frame = svg.split("viewBox=\"").nth(1).and_then(|rest| rest.split('"').next());
    let frame: Vec<f64> = frame
        .unwrap()
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    for (at, label) in labels.iter().enumerate() {
        let [left, right] = label.span();
        assert!(
            left > frame[0] && right < frame[0] + frame[2],
            "{} leaves the picture",
            label.text
        );
        for other in &labels[..at] {
            let beside = right <= other.span()[0] || other.span()[1] <= left;
            let is_apart = beside || (label.start()[1] - other.start()[1]).abs() >= 12.0;
            assert!(is_apart, "{} covers {}", label.text, other.text);
        }
    }
}
