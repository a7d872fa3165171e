//! Where in a note's text its link targets stand, byte by byte, and how each is written.
//!
//! Owns finding the spans again that the index counts as links, and writing another target in their place so that it reads as the
//! old one did (`<…>`, percent escapes). Links in code and in HTML are none, as for the index. A target whose span cannot be told for
//! certain is left out: it is better not rewritten than torn. Does not know where a link leads (`resolve`).

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use super::{MAX_LINKS, Note, frontmatter, inline, is_file};
use crate::model::LinkKind;
use crate::note_path;

/// Characters besides control characters and spaces that end or change a Markdown target written without `<>`.
const MARKDOWN_SYNTAX: &str = "()<>\\#?\"'&*_`[]";

/// How a target is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In `[[…]]`.
    Wiki,
    /// In `(…)` or behind `]:`.
    Plain,
    /// The same in `<…>`.
    Angle,
}

/// A link target in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) kind: LinkKind,
    pub(crate) form: Form,
    /// What it means: without fragment, decoded.
    pub(crate) target: String,
    /// Whether it names a file that is no note.
    pub(crate) is_file: bool,
    /// Where the target stands, without fragment, alias and title.
    pub(crate) span: Range<usize>,
    /// Of a wiki link, all between the brackets; of a definition, its label.
    pub(crate) label: Option<Range<usize>>,
}

/// Every link target in the text of the note at `path`, in order. None where the parser gives up.
pub(crate) fn spots(path: &[u8], source: &str) -> Vec<Spot> {
    if !note_path::is_markdown(path) {
        return Vec::new();
    }
    let found = catch_unwind(AssertUnwindSafe(|| {
        let block = frontmatter::split(source);
        let mut spots = Spots::default();
        if let Some(block) = &block {
            spots.plain_text(source, block.yaml_at..block.yaml_end);
        }
        spots.markdown(source, block.map_or(0, |block| block.body_at));
        spots.found
    }));
    let mut found = found.unwrap_or_default();
    found.sort_by_key(|spot| spot.span.start);
    found.dedup_by(|next, before| next.span.start < before.span.end);
    found.truncate(MAX_LINKS);
    found
}

/// `target` written as the one that stands in `spot`; `None` where that form cannot say it.
pub(crate) fn written(spot: &Spot, source: &str, target: &str) -> Option<String> {
    let before = &source[spot.span.clone()];
    if target.is_empty() || target.contains(|c: char| c.is_control()) {
        return None;
    }
    if spot.form == Form::Wiki {
        let fits = !target.contains(['[', ']', '|', '#']) && target.trim() == target && !target.ends_with('\\');
        return fits.then(|| target.to_owned());
    }
    // A name in two scripts is escaped as a whole where the old one was.
    let escapes_all = before
        .as_bytes()
        .windows(2)
        .any(|pair| pair[0] == b'%' && pair[1] >= b'8');
    let must_escape = |c: char| match spot.form {
        Form::Angle => "<>\\%#?&".contains(c),
        _ => c == ' ' || c == '%' || c.is_whitespace() || MARKDOWN_SYNTAX.contains(c) && c != '_' && c != '\'',
    };
    let mut out = String::with_capacity(target.len());
    let mut buffer = [0; 4];
    for c in target.chars() {
        if must_escape(c) || escapes_all && !c.is_ascii() {
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    Some(out)
}

/// A link that the parser has opened.
struct Open {
    link_type: LinkType,
    embed: bool,
    target: String,
    range: Range<usize>,
    /// Where what it shows ends.
    shown_to: usize,
}

#[derive(Default)]
struct Spots {
    found: Vec<Spot>,
}

impl Spots {
    fn markdown(&mut self, source: &str, from: usize) {
        let options =
            Options::ENABLE_WIKILINKS | Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS;
        let parser = Parser::new_ext(&source[from..], options);
        for (_, definition) in parser.reference_definitions().iter() {
            let span = from + definition.span.start..from + definition.span.end;
            self.definition(source, span, &definition.dest);
        }
        let mut open: Vec<Open> = Vec::new();
        for (event, range) in parser.into_offset_iter() {
            let range = from + range.start..from + range.end;
            match event {
                Event::Start(
                    Tag::Link {
                        link_type, dest_url, ..
                    }
                    | Tag::Image {
                        link_type, dest_url, ..
                    },
                ) => {
                    let embed = source[range.clone()].starts_with('!');
                    open.push(Open {
                        link_type,
                        embed,
                        target: dest_url.into_string(),
                        shown_to: range.start + 1 + usize::from(embed),
                        range,
                    });
                }
                Event::End(TagEnd::Link | TagEnd::Image) => {
                    let Some(link) = open.pop() else { continue };
                    if let Some(around) = open.last_mut() {
                        around.shown_to = around.shown_to.max(link.range.end);
                    }
                    self.link(source, &link);
                }
                _ => {
                    if let Some(around) = open.last_mut() {
                        around.shown_to = around.shown_to.max(range.end);
                    }
                }
            }
        }
    }

    fn link(&mut self, source: &str, link: &Open) {
        match link.link_type {
            LinkType::WikiLink { .. } => self.wiki(source, link.range.clone(), link.embed, Some(&link.target)),
            LinkType::Inline => {
                let rest = &source[link.shown_to.min(link.range.end)..link.range.end];
                if let Some(at) = rest.find("](") {
                    let at = link.shown_to + at + 2;
                    self.destination(source, at..link.range.end, link.embed, &link.target, None);
                }
            }
            // The others have their target in a definition, or none that names a note.
            _ => {}
        }
    }

    fn definition(&mut self, source: &str, span: Range<usize>, target: &str) {
        let text = &source[span.clone()];
        let Some(end) = text
            .match_indices("]:")
            .map(|(at, _)| at)
            .find(|at| !text[..*at].ends_with('\\'))
        else {
            return;
        };
        let Some(begin) = text.find('[').filter(|begin| *begin < end) else {
            return;
        };
        let label = span.start + begin + 1..span.start + end;
        self.destination(source, span.start + end + 2..span.end, false, target, Some(label));
    }

    /// The target at the beginning of `range`, which the parser understood as `target`.
    fn destination(
        &mut self,
        source: &str,
        range: Range<usize>,
        embed: bool,
        target: &str,
        label: Option<Range<usize>>,
    ) {
        let text = &source[range.clone()];
        let start = text.len() - text.trim_start().len();
        let text = &text[start..];
        let (form, skip, length) = match text.strip_prefix('<') {
            Some(inner) => (Form::Angle, 1, inner.find('>').unwrap_or(inner.len())),
            None => (Form::Plain, 0, plain_length(text)),
        };
        let raw = &text[skip..skip + length];
        if unescaped(raw) != target {
            return;
        }
        let raw = raw.split('#').next().unwrap_or(raw);
        let raw = raw.split('?').next().unwrap_or(raw);
        let at = range.start + start + skip;
        self.push(LinkKind::Markdown, form, (embed, target), at..at + raw.len(), label);
    }

    /// A wiki link that stands in `range`.
    fn wiki(&mut self, source: &str, range: Range<usize>, embed: bool, target: Option<&str>) {
        let text = &source[range.clone()];
        let (Some(begin), Some(end)) = (text.find("[["), text.rfind("]]")) else {
            return;
        };
        let Some(inner) = text.get(begin + 2..end) else { return };
        let page = inner.split('|').next().unwrap_or(inner).trim_end_matches('\\');
        if target.is_some_and(|target| target.trim_end_matches('\\').trim() != page.trim()) {
            return;
        }
        let name = page.split('#').next().unwrap_or(page);
        let at = range.start + begin + 2;
        let start = at + (name.len() - name.trim_start().len());
        let label = at..at + inner.len();
        self.push(
            LinkKind::Wiki,
            Form::Wiki,
            (embed, page),
            start..start + name.trim().len(),
            Some(label),
        );
    }

    /// Wiki links where no Markdown is, as the index finds them.
    fn plain_text(&mut self, source: &str, range: Range<usize>) {
        let mut at = range.start;
        while let Some(open) = source[at..range.end].find("[[").map(|offset| at + offset) {
            let rest = &source[open + 2..range.end];
            let rest = &rest[..rest.find('\n').unwrap_or(rest.len())];
            at = open + 2;
            if let Some(end) = rest.find("]]") {
                let skip = rest[..end].rfind("[[").map_or(0, |nested| nested + 2);
                self.wiki(source, open + skip..open + end + 4, false, None);
                at = open + end + 4;
            }
        }
    }

    /// Adds it if it is a link to the index, too.
    fn push(
        &mut self,
        kind: LinkKind,
        form: Form,
        (embed, target): (bool, &str),
        span: Range<usize>,
        label: Option<Range<usize>>,
    ) {
        let mut judged = Note::default();
        inline::push_link(&mut judged, kind, embed, (target, None), (1, span.start));
        if let Some(link) = judged.links.pop() {
            self.found.push(Spot {
                kind,
                form,
                is_file: is_file(&link),
                target: link.target,
                span,
                label,
            });
        }
    }
}

/// How far a target without `<>` goes: to a space, or to the parenthesis that it has not opened.
fn plain_length(text: &str) -> usize {
    let (mut depth, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 0 => return at,
            ')' => depth -= 1,
            _ if c.is_ascii_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

/// Without the backslashes that Markdown allows before punctuation.
fn unescaped(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && next.is_ascii_punctuation() => {}
            _ => {
                out.push(c);
                continue;
            }
        }
        out.extend(chars.next());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(String, String)> {
        let show = |spot: Spot| (source[spot.span.clone()].to_owned(), spot.target);
        spots(b"x.md", source).into_iter().map(show).collect()
    }

    #[test]
    fn each_kind_of_link_has_its_span() {
        for (source, raw, target) in [
            ("see [[a b]].", "a b", "a b"),
            ("[[ a b |shown]]", "a b", "a b"),
            ("[[a#h|shown]]", "a", "a"),
            ("[[a#^block]]", "a", "a"),
            ("![[a]]", "a", "a"),
            ("| x |\n|---|\n| [[a\\|shown]] |", "a", "a"),
            ("[t](a.md)", "a.md", "a.md"),
            ("[t](a.md#h \"title\")", "a.md", "a.md"),
            ("[t](<a b.md#h>)", "a b.md", "a b.md"),
            ("[t](a%20b.md)", "a%20b.md", "a b.md"),
            ("[t](a(1).md)", "a(1).md", "a(1).md"),
            ("[`](` *t* ](a.md)", "a.md", "a.md"),
            ("![t](d/a.md)", "d/a.md", "d/a.md"),
            ("[![i](http://h/x.png)](a.md)", "a.md", "a.md"),
            ("[x][r]\n\n[r]: d/a.md 'T'", "d/a.md", "d/a.md"),
            ("[r]\n\n[r]: <d/a b.md>\n", "d/a b.md", "d/a b.md"),
            ("---\nup: \"[[a]]\"\n---\ntext", "a", "a"),
            ("Grüße aus [[Köln]]", "Köln", "Köln"),
        ] {
            assert_eq!(found(source), [(raw.to_owned(), target.to_owned())], "{source}");
        }
    }

    #[test]
    fn what_is_no_link_to_the_index_has_none() {
        for source in [
            "`[[a]]`",
            "```\n[[a]] [t](a.md)\n```",
            "    [[a]]",
            "<!-- [[a]] -->",
            "[t](https://example.org/a.md)",
            "<https://example.org/a.md>",
            "[t](#heading)",
            "\\[[a\\]]",
        ] {
            assert_eq!(found(source), [], "{source}");
        }
        assert_eq!(spots(b"x.txt", "[[a]]"), []);
    }

    #[test]
    fn a_target_is_written_as_the_old_one_was() {
        let rewritten = |source: &str, target: &str| written(&spots(b"x.md", source)[0], source, target);
        for (source, target, expected) in [
            ("[[a]]", "b c", Some("b c")),
            ("[[a]]", "b#c", None),
            ("[[a]]", "b]", None),
            ("[t](a.md)", "b c.md", Some("b%20c.md")),
            ("[t](a.md)", "ö.md", Some("ö.md")),
            ("[t](%C3%A4.md)", "ö.md", Some("%C3%B6.md")),
            ("[t](a%20b.md)", "ö c.md", Some("ö%20c.md")),
            ("[t](<a b.md>)", "b c.md", Some("b c.md")),
            ("[t](a.md)", "b(1).md", Some("b%281%29.md")),
            ("[t](a.md)", "100%.md", Some("100%25.md")),
            ("[t](a.md)", "a_b-c.md", Some("a_b-c.md")),
        ] {
            assert_eq!(rewritten(source, target).as_deref(), expected, "{source} {target}");
        }
    }
}
