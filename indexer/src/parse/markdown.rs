//! One pass over the Markdown events of a note.
//!
//! Owns what is taken from the parser: headings, links with their lines, and which text may hold tags (neither code
//! nor link text). Does not judge targets or tags (`inline`), and never looks above `from`, the end of the frontmatter.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, TextMergeWithOffset};

use super::{Heading, MAX_HEADING_BYTES, MAX_TARGET_BYTES, Note, inline};
use crate::model::LinkKind;
use crate::text;

/// Collects headings, tags and links of `source[from..]` into the note.
pub(super) fn collect(note: &mut Note, source: &str, from: usize) {
    let options =
        Options::ENABLE_WIKILINKS | Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS;
    let events = TextMergeWithOffset::new(Parser::new_ext(&source[from..], options).into_offset_iter());
    let mut collector = Collector {
        note,
        source,
        lines: Lines::default(),
        heading: None,
        links: Vec::new(),
        code: false,
        is_full: false,
    };
    for (event, range) in events {
        collector.event(event, from + range.start..from + range.end);
    }
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
