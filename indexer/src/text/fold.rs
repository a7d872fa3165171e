//! Equal names: lower case, canonical decomposition, accents off.
//!
//! macOS writes `Café.md` decomposed, everybody else composed; both must be one link target. [`key`] makes them
//! equal and keeps `resume` and `résumé` apart; [`strip`] also drops the accents, as the full-text table does.
//! Owns a small decomposition table (Latin, Greek with tonos, Cyrillic, kana; Hangul by arithmetic) so that no
//! Unicode crate is needed. Does not own the folding inside SQLite.

use std::collections::HashMap;
use std::sync::OnceLock;

const HANGUL_FIRST: u32 = 0xAC00;
const HANGUL_LAST: u32 = 0xD7A3;
/// Syllables per leading consonant: 21 vowels times 28 (27 finals and none).
const HANGUL_PER_LEAD: u32 = 588;
const HANGUL_TAILS: u32 = 28;
const LEAD_FIRST: u32 = 0x1100;
const VOWEL_FIRST: u32 = 0x1161;
/// One before the first final consonant: "no final" is index 0.
const TAIL_BASE: u32 = 0x11A7;

/// A combining mark and, alternating, a lower-case letter that carries it and the letter without it.
#[rustfmt::skip]
const MARKED: &[(char, &str)] = &[
    ('\u{0300}', "àaèeìiòoùuǜüǹnѐеѝиḕēṑōẁwầâằăềêồôờơừưỳy"),
    (
        '\u{0301}',
        "áaéeíióoúuýyćcĺlńnŕrśsźzǘüǵgǻåǽæǿøΐϊάαέεήηίιΰϋόούυώωϓϒѓгќкḉçḗēḯïḱkḿmṍõṓōṕpṹũẃwấâ\
         ắăếêốôớơứư",
    ),
    ('\u{0302}', "âaêeîiôoûuĉcĝgĥhĵjŝsŵwŷyẑzậạệẹộọ"),
    ('\u{0303}', "ãañnõoĩiũuṽvẫâẵăẽeễêỗôỡơữưỹy"),
    ('\u{0304}', "āaēeīiōoūuǖüǟäǡȧǣæǭǫȫöȭõȱȯȳyӣиӯуḡgḹḷṝṛ"),
    ('\u{0306}', "ăaĕeğgĭiŏoŭuйиўуӂжӑаӗеḝȩặạ"),
    ('\u{0307}', "ċcėeġgżzȧaȯoḃbḋdḟfḣhṁmṅnṗpṙrṡsṥśṧšṩṣṫtẇwẋxẏyẛſ"),
    ('\u{0308}', "äaëeïiöoüuÿyϊιϋυϔϒёеїіӓаӛәӝжӟзӥиӧоӫөӭэӱуӵчӹыḧhṏõṻūẅwẍxẗt"),
    ('\u{0309}', "ảaẩâẳăẻeểêỉiỏoổôởơủuửưỷy"),
    ('\u{030a}', "åaůuẘwẙy"),
    ('\u{030b}', "őoűuӳу"),
    ('\u{030c}', "čcďděeľlňnřršsťtžzǎaǐiǒoǔuǚüǧgǩkǯʒǰjȟh"),
    ('\u{030f}', "ȁaȅeȉiȍoȑrȕuѷѵ"),
    ('\u{0311}', "ȃaȇeȋiȏoȓrȗu"),
    ('\u{031b}', "ơoưu"),
    ('\u{0323}', "ḅbḍdḥhḳkḷlṃmṇnṛrṣsṭtṿvẉwẓzạaẹeịiọoợơụuựưỵy"),
    ('\u{0324}', "ṳu"),
    ('\u{0325}', "ḁa"),
    ('\u{0326}', "șsțt"),
    ('\u{0327}', "çcģgķkļlņnŗrşsţtȩeḑdḩh"),
    ('\u{0328}', "ąaęeįiųuǫo"),
    ('\u{032d}', "ḓdḙeḽlṋnṱtṷu"),
    ('\u{032e}', "ḫh"),
    ('\u{0330}', "ḛeḭiṵu"),
    ('\u{0331}', "ḇbḏdḵkḻlṉnṟrṯtẕzẖh"),
    (
        '\u{3099}',
        "がかぎきぐくげけごこざさじしずすぜせぞそだたぢちづつでてどとばはびひぶふべへぼほゔうゞゝガカギキグクゲケゴコザサジシズスゼセゾソダタヂチヅツデテドトバハビヒブフ\
         ベヘボホヴウヷワヸヰヹヱヺヲヾヽ",
    ),
    ('\u{309a}', "ぱはぴひぷふぺへぽほパハピヒプフペヘポホ"),
];

fn decompositions() -> &'static HashMap<char, (char, char)> {
    static TABLE: OnceLock<HashMap<char, (char, char)>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for (mark, letters) in MARKED {
            let mut letters = letters.chars();
            while let (Some(marked), Some(bare)) = (letters.next(), letters.next()) {
                table.insert(marked, (bare, *mark));
            }
        }
        table
    })
}

fn voiced_kana() -> &'static HashMap<(char, char), char> {
    static TABLE: OnceLock<HashMap<(char, char), char>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let kana = decompositions().iter().filter(|(marked, _)| is_kana(**marked));
        kana.map(|(marked, parts)| (*parts, *marked)).collect()
    })
}

fn is_kana(c: char) -> bool {
    ('\u{3041}'..='\u{30ff}').contains(&c)
}

/// A mark that [`strip`] drops. The voicing marks of kana are not among them: they make another letter.
pub(crate) fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// The name's key: two names with one key are the same name in any case and any Unicode normal form.
pub(crate) fn key(text: &str) -> String {
    folded(text, true)
}

/// [`key`] without accents: what a reader who types no accents means.
pub(crate) fn strip(text: &str) -> String {
    folded(text, false)
}

fn folded(text: &str, keep_accents: bool) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    push_folded(text, keep_accents, &mut out);
    out
}

/// Appends the folded text to `out`, so that a caller in a loop can keep one buffer.
pub(crate) fn push_folded(text: &str, keep_accents: bool, out: &mut String) {
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
            continue;
        }
        for lower in c.to_lowercase() {
            push_decomposed(lower, keep_accents, out);
        }
    }
}

fn push_decomposed(c: char, keep_accents: bool, out: &mut String) {
    let code = c as u32;
    if (HANGUL_FIRST..=HANGUL_LAST).contains(&code) {
        return push_jamo(code - HANGUL_FIRST, out);
    }
    if is_accent(c) && !keep_accents {
        return;
    }
    match decompositions().get(&c) {
        // Twice at most: a letter carries two marks (Vietnamese).
        Some((bare, mark)) => {
            push_decomposed(*bare, keep_accents, out);
            push_decomposed(*mark, keep_accents, out);
        }
        None => out.push(c),
    }
}

fn push_jamo(syllable: u32, out: &mut String) {
    let tail = syllable % HANGUL_TAILS;
    let parts = [
        LEAD_FIRST + syllable / HANGUL_PER_LEAD,
        VOWEL_FIRST + syllable % HANGUL_PER_LEAD / HANGUL_TAILS,
        TAIL_BASE + tail,
    ];
    let count = if tail == 0 { 2 } else { 3 };
    out.extend(parts[..count].iter().filter_map(|code| char::from_u32(*code)));
}

/// The one character that `first` followed by `second` stands for, in the scripts that are cut into bigrams:
/// a syllable of two Hangul parts, or a voiced kana. `None` when they stay two.
pub(crate) fn compose(first: char, second: char) -> Option<char> {
    let (a, b) = (first as u32, second as u32);
    if (LEAD_FIRST..LEAD_FIRST + 19).contains(&a) && (VOWEL_FIRST..VOWEL_FIRST + 21).contains(&b) {
        let syllable = (a - LEAD_FIRST) * HANGUL_PER_LEAD + (b - VOWEL_FIRST) * HANGUL_TAILS;
        return char::from_u32(HANGUL_FIRST + syllable);
    }
    let open = (HANGUL_FIRST..=HANGUL_LAST).contains(&a) && (a - HANGUL_FIRST).is_multiple_of(HANGUL_TAILS);
    if open && (TAIL_BASE + 1..TAIL_BASE + HANGUL_TAILS).contains(&b) {
        return char::from_u32(a + (b - TAIL_BASE));
    }
    if matches!(second, '\u{3099}' | '\u{309a}') {
        voiced_kana().get(&(first, second)).copied()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_normal_forms_and_cases_have_one_key() {
        for (composed, decomposed) in [
            ("Café", "cafe\u{301}"),
            ("ÅNGSTRÖM", "a\u{30a}ngstro\u{308}m"),
            ("Việt", "vie\u{323}\u{302}t"),
            ("한국", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"),
            ("ガイド", "\u{30ab}\u{3099}イト\u{3099}"),
            ("Йод", "и\u{306}од"),
        ] {
            assert_eq!(key(composed), key(decomposed), "{composed}");
        }
        assert_ne!(key("resume"), key("résumé"));
        assert_eq!(strip("Résumé Việt"), "resume viet");
        assert_ne!(strip("か"), strip("が"), "a voiced kana is another letter");
    }

    #[test]
    fn decomposed_syllables_compose() {
        let parts: Vec<char> = "\u{1112}\u{1161}\u{11ab}".chars().collect();
        let open = compose(parts[0], parts[1]).unwrap();
        assert_eq!(compose(open, parts[2]), Some('한'));
        assert_eq!(compose('か', '\u{3099}'), Some('が'));
        assert_eq!(compose('a', 'b'), None);
    }
}
