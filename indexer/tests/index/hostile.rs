//! Notes made to hurt: indexed, with a warning, in bounded time.

use std::time::{Duration, Instant};

use notefs_indexer::{Change, MAX_NOTE_BYTES, WarningKind};

use super::{Fixture, put, put_bytes};

/// Generous, for a debug build on a busy machine; what it guards against is minutes.
const MAX_PER_NOTE: Duration = Duration::from_secs(30);

#[test]
fn strange_notes_are_indexed_with_a_warning() {
    let fixture = Fixture::new();
    let links: String = (0..100_000).map(|n| format!("[[target {n}]] ")).collect();
    let notes: Vec<(&str, Vec<u8>, Option<WarningKind>)> = vec![
        (
            "line.md",
            [vec![b'x'; 5 << 20], b" findme".to_vec()].concat(),
            Some(WarningKind::TooLarge),
        ),
        ("links.md", links.into_bytes(), Some(WarningKind::TooMany)),
        ("brackets.md", "[".repeat(20_000).into_bytes(), None),
        ("quotes.md", ">".repeat(20_000).into_bytes(), None),
        ("latin1.md", b"findme caf\xe9".to_vec(), Some(WarningKind::NotUtf8)),
        (
            "utf16.md",
            [
                &[0xff, 0xfe][..],
                &"findme ü".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            ]
            .concat(),
            None,
        ),
        (
            "yaml.md",
            b"---\na: [\n---\nfindme".to_vec(),
            Some(WarningKind::Frontmatter),
        ),
        ("nul.md", b"findme\0\0after".to_vec(), None),
        (
            "binary.txt",
            (0..=255).cycle().take(100_000).collect(),
            Some(WarningKind::NotUtf8),
        ),
        ("empty.md", Vec::new(), None),
        ("\u{202e}rtl \u{1f4a5}.md", "findme".into(), None),
    ];
    for (path, bytes, kind) in &notes {
        let start = Instant::now();
        fixture.apply(put_bytes(path.as_bytes(), bytes));
        assert!(start.elapsed() < MAX_PER_NOTE, "{path} took {:?}", start.elapsed());
        let warnings = fixture.index.warnings(100).unwrap();
        let found: Vec<_> = warnings
            .iter()
            .filter(|warning| warning.path == *path)
            .map(|warning| warning.kind)
            .collect();
        assert_eq!(found, kind.iter().copied().collect::<Vec<_>>(), "{path}");
        assert!(fixture.index.contains(path.as_bytes()).unwrap());
    }
    let mut found = fixture.found("findme");
    found.sort();
    assert_eq!(
        found,
        ["latin1.md", "nul.md", "utf16.md", "yaml.md", "\u{202e}rtl \u{1f4a5}.md"]
    );
    assert_eq!(fixture.found("after"), ["nul.md"]);
    assert_eq!(fixture.index.stats().unwrap().warnings, 5);
}

#[test]
fn a_huge_note_is_indexed_from_its_prefix() {
    let fixture = Fixture::new();
    let bytes = "word ".repeat(MAX_NOTE_BYTES as usize / 5).into_bytes();
    fixture.apply(Change::Upsert {
        path: b"huge.md".to_vec(),
        bytes,
        total_bytes: 2 << 30,
        mtime_ns: 0,
    });
    let warning = &fixture.index.warnings(1).unwrap()[0];
    assert_eq!(warning.kind, WarningKind::TooLarge);
    assert!(warning.message.contains("2147483648"), "{}", warning.message);
    let start = Instant::now();
    assert_eq!(fixture.found("word"), ["huge.md"]);
    assert!(start.elapsed() < MAX_PER_NOTE);
}

#[test]
fn a_path_need_not_be_utf8() {
    let fixture = Fixture::with(&[("a.md", "[[\u{fffd}name]]")]);
    fixture.apply(put_bytes(b"d/\xffname.md", b"findme"));
    let hit = &fixture.index.search("findme", 1, 0).unwrap()[0];
    assert_eq!(
        (hit.path.as_str(), hit.path_bytes.as_slice()),
        ("d/\u{fffd}name.md", &b"d/\xffname.md"[..])
    );
    fixture.apply(Change::Moved {
        from: b"d".to_vec(),
        to: b"\xfe".to_vec(),
    });
    assert!(fixture.index.contains(b"\xfe/\xffname.md").unwrap());
}

#[test]
fn a_hub_with_many_namesakes_is_answered() {
    let fixture = Fixture::new();
    let mut notes: Vec<_> = (0..500)
        .map(|n| put(&format!("d{n}/README.md"), "[[README]] [up](../index.md)"))
        .collect();
    notes.push(put("index.md", "[[README]]"));
    fixture.index.apply(notes, 1).unwrap();
    let start = Instant::now();
    assert_eq!(fixture.inbound("index.md").len(), 500);
    assert_eq!(fixture.inbound("d7/README.md"), [("d7/README.md".to_owned(), 1)]);
    assert!(start.elapsed() < MAX_PER_NOTE);
}

#[test]
fn a_note_of_marks_is_read_up_to_a_bound() {
    let fixture = Fixture::new();
    let marks = "[".repeat(1 << 20);
    let text = format!("# Early\n\n[[one]]\n\n{marks}\n\n# Late\n\n[[two]] findme\n");
    fixture.apply(put("marks.md", &text));
    let links: Vec<String> = fixture
        .index
        .links(b"marks.md")
        .unwrap()
        .into_iter()
        .map(|link| link.target)
        .collect();
    assert_eq!(links, ["one"]);
    assert_eq!(fixture.found("findme"), ["marks.md"]);
    let warnings = fixture.index.warnings(9).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].kind, WarningKind::TooMany);
}

/// Tells a process of its own that it is the one whose memory is measured.
const MEASURED: &str = "NOTEFS_TEST_PEAK";
/// What one note may take at its peak, beside the program: half as much again as the worst of them takes.
const MAX_PEAK_KIB: u64 = 340 << 10;

/// As much of each kind as is read of one note: those that take most for their parts, of many that were tried.
fn notes_made_to_swell() -> Vec<Vec<u8>> {
    let whole = MAX_NOTE_BYTES as usize;
    let full = |piece: &str| piece.repeat(whole / piece.len()).into_bytes();
    let levels: String = (1..40)
        .map(|n| format!("a{n}: &a{n} [*a{0},*a{0},*a{0}]\n", n - 1))
        .collect();
    let long = "lol ".repeat(5_000);
    let keys: String = (0..6_000).map(|n| format!("k{n}: v\n")).collect();
    vec![
        full("x"),
        full("[[a|b]] "),
        full("天"),
        full("\0\n"),
        full("[[[["),
        full("*a"),
        (0..MAX_NOTE_BYTES).map(|n| (n % 251) as u8 | 0x80).collect(),
        format!("---\na0: &a0 {long}\n{levels}---\n").into_bytes(),
        b"---\na: &a [*a, &b {c: *a, d: *b}]\n---\n".to_vec(),
        format!("---\n{keys}---\n").into_bytes(),
    ]
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are worth seeing")]
fn notes_made_to_swell_take_bounded_memory() {
    if std::env::var_os(MEASURED).is_none() {
        // The peak of a process only grows, so each measurement has one of its own.
        let own = std::env::current_exe().unwrap();
        let mut alone = std::process::Command::new(own);
        alone.args([
            "--exact",
            "hostile::notes_made_to_swell_take_bounded_memory",
            "--nocapture",
        ]);
        let output = alone.env(MEASURED, "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success() && told.contains("1 passed"), "{output:?}");
        return;
    }
    let fixture = Fixture::new();
    let before = peak_kib();
    for (number, bytes) in notes_made_to_swell().iter().enumerate() {
        let start = Instant::now();
        fixture.apply(put_bytes(b"a.md", bytes));
        println!("note {number}: {:.1?}, peak {} KiB", start.elapsed(), peak_kib());
        assert!(
            start.elapsed() < MAX_PER_NOTE,
            "note {number} took {:?}",
            start.elapsed()
        );
    }
    let grown = peak_kib() - before;
    assert!(grown < MAX_PEAK_KIB, "the peak grew by {grown} KiB");
}
