//! Links find their notes, whenever these come and go.

use super::{Fixture, gone, moved, put};

fn to(path: &str) -> Option<String> {
    Some(path.to_owned())
}

#[test]
fn links_and_backlinks_of_every_form() {
    let fixture = Fixture::with(&[
        ("hub.md", "# Hub Title\n"),
        ("d/wiki.md", "see\n[[hub]] and [[Hub Title|x]] and [[hub#Part]]\n"),
        ("d/markdown.md", "a\n\nb [t](../hub.md#p) ![[hub]]\n"),
        ("d/alias.md", "---\naliases: [The Nickname]\n---\n[[The nickname]]"),
        ("d/none.md", "[[nowhere]] [x](hub.md) ![[pic.png]] [y](./hub.md)"),
    ]);
    assert_eq!(fixture.targets("d/wiki.md"), [to("hub.md"), to("hub.md"), to("hub.md")]);
    assert_eq!(fixture.targets("d/markdown.md"), [to("hub.md"), to("hub.md")]);
    assert_eq!(fixture.targets("d/alias.md"), [to("d/alias.md")]);
    assert_eq!(fixture.targets("d/none.md"), [None, to("hub.md"), None, None]);
    let inbound = [("d/markdown.md", 3), ("d/markdown.md", 3), ("d/none.md", 1)];
    let inbound = inbound
        .into_iter()
        .chain([("d/wiki.md", 2); 3])
        .map(|(path, line)| (path.to_owned(), line));
    assert_eq!(fixture.inbound("hub.md"), inbound.collect::<Vec<_>>());
    let link = &fixture.index.backlinks(b"hub.md").unwrap()[5];
    assert_eq!(
        (link.text.as_str(), link.fragment.as_deref()),
        ("[[hub]] and [[Hub Title|x]] and [[hub#Part]]", Some("Part"))
    );
    assert_eq!(
        fixture.index.stats().unwrap().unresolved_links,
        2,
        "an attachment is no missing note"
    );
}

#[test]
fn a_link_resolves_when_its_note_appears_and_not_after_it_is_gone() {
    let fixture = Fixture::with(&[("a.md", "[[new]] [[Späte Notiz]]")]);
    assert_eq!(fixture.targets("a.md"), [None, None]);
    fixture.apply(put("far/away/new.md", "x"));
    fixture.apply(put("spa\u{308}te notiz.md", "x"));
    assert_eq!(
        fixture.targets("a.md"),
        [to("far/away/new.md"), to("spa\u{308}te notiz.md")]
    );
    assert_eq!(fixture.index.stats().unwrap().unresolved_links, 0);
    fixture.apply(put("new.md", "nearer"));
    assert_eq!(fixture.targets("a.md")[0], to("new.md"));
    assert!(fixture.inbound("far/away/new.md").is_empty());
    fixture.apply(gone("new.md"));
    fixture.apply(gone("far/away/new.md"));
    assert_eq!(fixture.targets("a.md")[0], None);
    assert_eq!(fixture.index.stats().unwrap().unresolved_links, 1);
    fixture.apply(put("b.md", "# New"));
    assert_eq!(fixture.targets("a.md")[0], to("b.md"), "by title");
}

#[test]
fn links_follow_moves() {
    let fixture = Fixture::with(&[
        ("d/a.md", "[b](b.md) [up](../top.md) [[b]]"),
        ("d/b.md", "x"),
        ("top.md", "x"),
    ]);
    fixture.apply(moved("d", "e/f"));
    assert_eq!(
        fixture.targets("e/f/a.md"),
        [to("e/f/b.md"), None, to("e/f/b.md")],
        "a relative link leads elsewhere now"
    );
    fixture.apply(moved("e/f/b.md", "e/f/renamed.md"));
    assert_eq!(fixture.targets("e/f/a.md"), [None, None, None]);
    fixture.apply(moved("e/f/renamed.md", "e/f/b.txt"));
    assert_eq!(fixture.targets("e/f/a.md")[2], to("e/f/b.txt"));
    assert!(fixture.index.contains(b"e/f/b.txt").unwrap() && !fixture.index.contains(b"d/b.md").unwrap());
}

#[test]
fn a_long_line_is_shown_around_the_link() {
    let text = format!("{}[[b]]{}", "x ".repeat(5_000), " y".repeat(5_000));
    let fixture = Fixture::with(&[("a.md", &text), ("b.md", "")]);
    let shown = &fixture.index.backlinks(b"b.md").unwrap()[0].text;
    assert!(shown.contains("[[b]]") && shown.len() <= 400, "{shown}");
}
