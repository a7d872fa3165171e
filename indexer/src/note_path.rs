//! Which files are notes, judged by their path alone.
//!
//! Owns [`is_note`], the list of note extensions, and a note's stem. Paths are bytes below the mount root, separated
//! by '/', without a leading slash. Does not look at content, and does not touch the file system.

use crate::text::file_name;

/// Extensions of indexed files; earlier ones are preferred when a link fits several notes.
pub(crate) const NOTE_EXTENSIONS: [&str; 13] = [
    "md", "markdown", "mdx", "mdown", "mkd", "qmd", "rmd", "org", "rst", "adoc", "asciidoc", "txt", "text",
];

/// How many of [`NOTE_EXTENSIONS`] are Markdown.
const MARKDOWN_EXTENSIONS: usize = 7;

/// Extensions that a wiki link names as a file; anything else after a dot is part of a title ("Version 1.2").
const ATTACHMENT_EXTENSIONS: &[&str] = &[
    "avif",
    "base",
    "bmp",
    "canvas",
    "csv",
    "docx",
    "drawio",
    "epub",
    "excalidraw",
    "flac",
    "gif",
    "heic",
    "html",
    "jpeg",
    "jpg",
    "json",
    "m4a",
    "mkv",
    "mov",
    "mp3",
    "mp4",
    "odt",
    "ogg",
    "ogv",
    "opus",
    "pdf",
    "png",
    "pptx",
    "svg",
    "tiff",
    "wav",
    "webm",
    "webp",
    "xlsx",
    "yaml",
    "yml",
    "zip",
];

/// Whether the file at `path` is a text note to be indexed.
///
/// True for the extensions of Markdown, Org, reStructuredText, AsciiDoc and plain text in any case. False below any
/// segment that begins with a dot (`.git`, `.obsidian`, `.notefs`, `._x`, `.DS_Store`), for names editors use while
/// saving (`x.md~`, `#x.md#`, `~$x.txt`, `x.swp`), and for paths that are no plain relative path.
pub fn is_note(path: &[u8]) -> bool {
    if path
        .split(|byte| *byte == b'/')
        .any(|segment| segment.is_empty() || segment[0] == b'.')
    {
        return false;
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    !name.starts_with(b"#") && !name.starts_with(b"~$") && extension_rank(name).is_some()
}

fn extension_rank(name: &[u8]) -> Option<usize> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let extension = &name[dot + 1..];
    NOTE_EXTENSIONS
        .iter()
        .position(|known| extension.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether the note's structure is to be read as Markdown; other notes are plain text.
pub(crate) fn is_markdown(path: &[u8]) -> bool {
    extension_rank(path).is_some_and(|rank| rank < MARKDOWN_EXTENSIONS)
}

/// The path or name without its note extension, and the rank of that extension if it had one.
pub(crate) fn split_extension(path: &str) -> (&str, Option<usize>) {
    let name = file_name(path);
    match extension_rank(name.as_bytes()) {
        Some(rank) if name.len() > NOTE_EXTENSIONS[rank].len() + 1 => {
            (&path[..path.len() - NOTE_EXTENSIONS[rank].len() - 1], Some(rank))
        }
        _ => (path, None),
    }
}

/// The file name without its note extension: what a wiki link to the note usually says.
pub(crate) fn stem(path: &str) -> &str {
    split_extension(file_name(path)).0
}

/// Whether a wiki link to `target` means a file that is no note.
pub(crate) fn is_attachment(target: &str) -> bool {
    let extension = file_name(target)
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ATTACHMENT_EXTENSIONS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_by_path() {
        for path in [
            "a.md",
            "A.MD",
            "d/e/n.Markdown",
            "x.mdx",
            "t.txt",
            "o.org",
            "r.rst",
            "a.adoc",
            "..a/x.md",
            "a b.md",
        ] {
            let hidden = path.starts_with("..");
            assert_eq!(is_note(path.as_bytes()), !hidden, "{path}");
        }
        for path in [
            "",
            "/a.md",
            "a//b.md",
            "a.png",
            "md",
            ".md",
            ".git/x.md",
            "d/.obsidian/x.md",
            ".notefs/s/x.md",
            "a.md~",
            "#a.md#",
            ".#a.md",
            "a.md.swp",
            ".a.md.swp",
            "._a.md",
            ".DS_Store",
            "~$a.txt",
            "4913",
            "a.md.tmp",
            "d.md/",
        ] {
            assert!(!is_note(path.as_bytes()), "{path}");
        }
        assert!(is_note(b"d/\xff\xfe.md"), "a name need not be UTF-8");
    }

    #[test]
    fn stems() {
        assert_eq!(stem("d/Foo.Bar.MD"), "Foo.Bar");
        assert_eq!(stem("d/v1.2"), "v1.2");
        assert_eq!(split_extension("d.md/x").0, "d.md/x");
        assert!(is_attachment("img/x.PNG") && !is_attachment("Node.js") && !is_attachment("Version 1.2"));
    }
}
