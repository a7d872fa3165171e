//! One pass over the Markdown events of a note.
//!
//! Owns what is taken from the parser: headings, links with their lines, which text may hold tags (neither code
//! nor link text), and the runs of inline text that may be observations. Does not judge targets or tags (`inline`) nor
//! runs (`semantics`), and never looks above `from`, the end of the frontmatter.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, TextMergeWithOffset};

use super::{Heading, MAX_HEADING_BYTES, MAX_TARGET_BYTES, Note, inline, semantics};
use crate::model::{LinkKind, WarningKind};
use crate::text;

/// Marks that may mean something in Markdown, line ends among them, that are read of one note: each may cost the parser 100 bytes.
const MAX_MARKS: usize = 1 << 20;

/// Collects headings, tags and links of `source[from..]` into the note.
pub(super) fn collect(note: &mut Note, source: &str, from: usize) {
    let source = match nth_mark(&source[from..], MAX_MARKS) {
        Some(end) => {
            let message = format!(
                "More than {MAX_MARKS} marks and lines: what is behind them is found, and neither link, tag nor heading"
            );
            note.remark(WarningKind::TooMany, message);
            &source[..from + end]
        }
        None => source,
    };
    let options =
        Options::ENABLE_WIKILINKS | Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS;
    let events = TextMergeWithOffset::new(Parser::new_ext(&source[from..], options).into_offset_iter());
    let note_has_semantics = note.has_semantics();
    let mut collector = Collector {
        note,
        source,
        lines: Lines::default(),
        heading: None,
        links: Vec::new(),
        code: false,
        is_full: false,
        run: None,
        code_spans: Vec::new(),
        items: 0,
        quotes: 0,
        tables: 0,
        has_semantics: note_has_semantics,
    };
    for (event, range) in events {
        let range = from + range.start..from + range.end;
        collector.follow(&event, &range);
        collector.event(event, range);
    }
    collector.end_run();
}

/// Where a text has its `n`th mark, counted from 0.
fn nth_mark(text: &str, n: usize) -> Option<usize> {
    let is_mark = |byte: u8| byte == b'\n' || byte.is_ascii_punctuation();
    if text.len() <= n {
        return None;
    }
    let marks = text.bytes().enumerate().filter(|(_, byte)| is_mark(*byte));
    marks.map(|(at, _)| at).nth(n)
}

struct Collector<'a> {
    note: &'a mut Note,
    source: &'a str,
    lines: Lines,
    heading: Option<Heading>,
    /// Links that are open, outermost first.
    links: Vec<OpenLink>,
    code: bool,
    /// The note holds no more links.
    is_full: bool,
    /// The run of inline text that is being read, in the source.
    run: Option<Range<usize>>,
    /// Code within the run.
    code_spans: Vec<Range<usize>>,
    /// How many list items, quotes and tables are open.
    items: usize,
    quotes: usize,
    tables: usize,
    /// Whether observations and relations are wanted.
    has_semantics: bool,
}

struct OpenLink {
    kind: LinkKind,
    embed: bool,
    target: String,
    label: String,
    has_label: bool,
    at: usize,
}

impl Collector<'_> {
    /// Keeps the current run: blocks end it, what is inline makes it longer.
    fn follow(&mut self, event: &Event<'_>, range: &Range<usize>) {
        let is_inline = match event {
            Event::Start(tag) => is_inline(&tag.to_end()),
            Event::End(tag) => is_inline(tag),
            Event::Html(_) | Event::Rule | Event::DisplayMath(_) => false,
            _ => !self.code,
        };
        if is_inline {
            let run = self.run.get_or_insert_with(|| range.clone());
            run.end = run.end.max(range.end);
            if matches!(event, Event::Code(_)) {
                self.code_spans.push(range.clone());
            }
            return;
        }
        self.end_run();
        let (count, opens) = match event {
            Event::Start(Tag::Item) => (&mut self.items, true),
            Event::End(TagEnd::Item) => (&mut self.items, false),
            Event::Start(Tag::BlockQuote(_)) => (&mut self.quotes, true),
            Event::End(TagEnd::BlockQuote(_)) => (&mut self.quotes, false),
            Event::Start(Tag::Table(_)) => (&mut self.tables, true),
            Event::End(TagEnd::Table) => (&mut self.tables, false),
            _ => return,
        };
        *count = if opens { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Judges the run that has ended.
    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let code_spans = std::mem::take(&mut self.code_spans);
        if !self.has_semantics || self.tables > 0 {
            return;
        }
        let source = &self.source[run.clone()];
        if self.quotes == 0 && !self.note.observations_are_full() {
            let line = self.lines.of(self.source, run.start);
            if let Some(observation) = semantics::observation(source, line) {
                self.note.add_observation(observation);
            }
        }
        if self.items > 0 && source.contains("[[") {
            let masked = masked(source, run.start, &code_spans);
            if let Some(typed) = semantics::typed_link(&masked) {
                self.note.set_relation(run.start + typed.at, typed);
            }
        }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let line = self.lines.of(self.source, range.start);
                self.heading = Some(Heading {
                    level: level_number(level),
                    line,
                    text: String::new(),
                });
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some(mut heading) = self.heading.take() {
                    heading.text = text::clip(heading.text.trim(), MAX_HEADING_BYTES).to_owned();
                    self.note.add_heading(heading);
                }
            }
            Event::Start(Tag::Link {
                link_type, dest_url, ..
            }) => self.open(link_type, &dest_url, false, range.start),
            Event::Start(Tag::Image {
                link_type, dest_url, ..
            }) => self.open(link_type, &dest_url, true, range.start),
            Event::End(TagEnd::Link | TagEnd::Image) => self.close(),
            Event::Start(Tag::CodeBlock(_)) => self.code = true,
            Event::End(TagEnd::CodeBlock) => self.code = false,
            Event::Text(shown) => {
                if !self.code && self.links.is_empty() {
                    inline::tags(self.note, self.source, range);
                }
                self.show(&shown);
            }
            Event::Code(shown) => self.show(&shown),
            Event::SoftBreak | Event::HardBreak => self.show(" "),
            _ => {}
        }
    }

    fn show(&mut self, shown: &str) {
        if let Some(heading) = &mut self.heading {
            append(&mut heading.text, shown, MAX_HEADING_BYTES);
        }
        if let Some(link) = self.links.last_mut() {
            append(&mut link.label, shown, MAX_TARGET_BYTES);
        }
    }

    fn open(&mut self, link_type: LinkType, target: &str, embed: bool, at: usize) {
        let (kind, has_label) = match link_type {
            LinkType::WikiLink { has_pothole } => (LinkKind::Wiki, has_pothole),
            _ => (LinkKind::Markdown, true),
        };
        // The clip keeps one byte too many of a long target, so that it is still seen to be too long.
        let target = text::clip(target, MAX_TARGET_BYTES + 4).to_owned();
        self.links.push(OpenLink {
            kind,
            embed,
            target,
            label: String::new(),
            has_label,
            at,
        });
    }

    fn close(&mut self) {
        let Some(link) = self.links.pop() else { return };
        if self.is_full {
            return;
        }
        let line = self.lines.of(self.source, link.at);
        let target = if link.kind == LinkKind::Wiki {
            link.target.trim_end_matches('\\')
        } else {
            &link.target
        };
        let label = link.has_label.then_some(link.label.as_str());
        self.is_full = !inline::push_link(self.note, link.kind, link.embed, (target, label), (line, link.at));
    }
}

/// Whether a tag is part of a line of text.
fn is_inline(tag: &TagEnd) -> bool {
    matches!(
        tag,
        TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::Link
            | TagEnd::Image
    )
}

/// The run with its code struck out, each byte in its place.
fn masked(source: &str, start: usize, code_spans: &[Range<usize>]) -> String {
    let mut masked = source.as_bytes().to_vec();
    for span in code_spans {
        masked[span.start - start..span.end - start].fill(b'`');
    }
    String::from_utf8(masked).unwrap_or_default()
}

fn append(out: &mut String, shown: &str, max_bytes: usize) {
    out.push_str(text::clip(shown, max_bytes.saturating_sub(out.len())));
}

fn level_number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// Line numbers of offsets that mostly grow: counts only between the last offset and the next.
#[derive(Default)]
struct Lines {
    at: usize,
    newlines: u32,
}

impl Lines {
    /// The line, from 1, on which byte `at` of `source` is.
    fn of(&mut self, source: &str, at: usize) -> u32 {
        if at >= self.at {
            self.newlines += inline::lines_in(&source[self.at..at]);
        } else {
            self.newlines -= inline::lines_in(&source[at..self.at]);
        }
        self.at = at;
        self.newlines + 1
    }
}
