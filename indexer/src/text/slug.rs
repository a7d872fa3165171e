//! Permalinks: a path or title as lower-case words joined by hyphens.
//!
//! Owns [`slug`], with the rules of Basic Memory, so that its notes and ours call each other by the same permalinks.
//! Does not decide which permalink a note has when its author names one.

/// Longest text that is made a slug of, in bytes.
const MAX_SLUG_BYTES: usize = 1024;

/// The permalink of `text`, a path without its extension or the target of a link.
///
/// Letters become ASCII, `aB` becomes `a-b`, apostrophes vanish, all else but `/`, `.` and digits becomes one hyphen,
/// and hyphens at the ends of a segment go. Chinese ideographs stay, set off from Latin words; emoji vanish, so that
/// a slug may be empty.
pub(crate) fn slug(text: &str) -> String {
    let plain = transliterated(super::clip(text, MAX_SLUG_BYTES));
    let mut out = String::with_capacity(plain.len());
    let mut before = None;
    for c in plain.chars() {
        let starts_word = c.is_ascii_uppercase()
            && before.is_some_and(|before: char| before.is_ascii_lowercase() || before.is_ascii_digit());
        let meets_other_script = before.is_some_and(|before| is_ideograph(before) != is_ideograph(c))
            && before.is_some_and(is_word)
            && is_word(c);
        if starts_word || meets_other_script {
            out.push('-');
        }
        before = Some(c);
        match c {
            '\'' => {}
            '/' | '.' => out.push(c),
            _ if is_word(c) => out.push(c.to_ascii_lowercase()),
            _ => out.push('-'),
        }
    }
    let segments = out.split('/').map(|segment| {
        let words: Vec<&str> = segment.split('-').filter(|word| !word.is_empty()).collect();
        words.join("-")
    });
    segments.collect::<Vec<_>>().join("/")
}

fn transliterated(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() || is_ideograph(c) {
            plain.push(c);
        } else if is_emoji(c) || matches!(c, '\u{ff00}'..='\u{ffef}') {
            // Neither these nor full-width forms have a word of their own.
        } else {
            let spelled = spelled(c).or_else(|| deunicode::deunicode_char(c));
            plain.push_str(spelled.unwrap_or_default());
        }
    }
    plain
}

/// Where Basic Memory's table spells a letter or sign in use otherwise than ours; capitals begin a word.
fn spelled(c: char) -> Option<&'static str> {
    let spelled = match c {
        'し' | 'シ' => "shi",
        'ち' | 'チ' => "chi",
        'っ' | 'ッ' | 'つ' | 'ツ' => "tsu",
        'ー' => "-",
        'א' => "A",
        'ח' => "H",
        'ט' => "T",
        'כ' | 'ך' => "KH",
        'צ' | 'ץ' => "TS",
        'ק' => "k",
        'ש' => "SH",
        'Є' => "Ie",
        '¼' => " 1/4",
        '½' => " 1/2",
        '¾' => " 3/4",
        '™' => "(tm)",
        '№' => "No. ",
        '℃' => "degC",
        '℉' => "degF",
        _ => return None,
    };
    Some(spelled)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || is_ideograph(c)
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{3000}'..='\u{303f}')
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{fe00}'..='\u{fe0f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs_are_those_of_basic_memory() {
        for (path, expected) in [
            ("Straße/Ärger & Co.", "strasse/arger-co."),
            ("HTMLParser2Go", "htmlparser2-go"),
            ("中文Mixed文档 v2", "中文-mixed-文档-v2"),
            ("🎈", ""),
            ("x.tar", "x.tar"),
            ("it's O'Neil", "its-oneil"),
            ("Core_Lib", "core-lib"),
            ("のノ", "nono"),
            ("ツーリスト しごと", "tsu-risuto-shigoto"),
            ("メモ（２）：下書き", "memo-下書-ki"),
            ("שלום את", "shlvm-at"),
            ("Ｆull-width！", "ull-width"),
            ("1½ Tee™ №5", "1-1/2-tee-tm-no.-5"),
            ("a  --  b/ c -", "a-b/c"),
            ("cafe\u{301}", "cafe"),
            ("dir/File Name", "dir/file-name"),
        ] {
            assert_eq!(slug(path), expected, "{path}");
        }
        assert!(slug(&"ä".repeat(100_000)).len() <= 2 * super::MAX_SLUG_BYTES);
    }
}
