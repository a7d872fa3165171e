//! Which of two versions of a note stands.
//!
//! Owns [`ObjectVersion`] and the rule, as a pure function over values. The databases hold the same rule as SQL, and the
//! behaviour suite holds the two against each other. Nothing here asks a machine's clock: times are the store's.

/// A version of an object in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The store's etag.
    pub etag: String,
    /// When the store took it, by the store's own clock (Last-Modified), in milliseconds since 1970.
    pub stored_ms: i64,
    /// The machine that wrote it; empty if unknown.
    pub writer: String,
    /// What that machine called this write; empty if unknown.
    pub write_id: String,
}

/// How far two clocks of one store may differ, in milliseconds. A version that says what it was made from comes after that, even
/// if its time is this much earlier; beyond it, an etag that came back (a change and its undoing) must not look like that.
pub(super) const STORE_CLOCK_SLACK_MS: i64 = 10_000;

/// A version as a row has it or a change brings it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) version: &'a ObjectVersion,
    /// The etag of the version it was made from.
    pub(super) replaces: Option<&'a str>,
    pub(super) gone: bool,
}

/// Whether `incoming` takes the place of `standing`. Of two different versions exactly one takes the other's place,
/// whichever comes first.
pub(super) fn replaces(incoming: Claim<'_>, standing: Claim<'_>) -> bool {
    if is_same(incoming.version, standing.version) {
        // A name that is taken away and given back within a second brings the same version back: who says so has seen the row of what is gone.
        return match (incoming.gone, standing.gone) {
            (false, true) => incoming.replaces == Some(&standing.version.etag),
            (incoming, standing) => incoming && !standing,
        };
    }
    let made_from = is_made_from(incoming, standing);
    if made_from != is_made_from(standing, incoming) {
        return made_from;
    }
    let order = |version: &ObjectVersion| (version.stored_ms, version.etag.clone(), version.write_id.clone());
    order(incoming.version) > order(standing.version)
}

/// [`replaces`] in SQL, for `INSERT INTO note … ON CONFLICT … WHERE`: `excluded` comes in, `note` stands, and `gone` is 0 or 1.
/// The same version is also taken from a program that understands more of notes.
pub(super) fn rule() -> String {
    let made_from = |later: &str, earlier: &str| {
        format!(
            "coalesce({later}.replaces = {earlier}.etag AND {later}.stored_ms >= {earlier}.stored_ms - {STORE_CLOCK_SLACK_MS}, false)"
        )
    };
    let (from, into) = (made_from("excluded", "note"), made_from("note", "excluded"));
    format!(
        "CASE WHEN excluded.etag = note.etag AND excluded.stored_ms = note.stored_ms
           AND (excluded.write_id = note.write_id OR excluded.write_id = '' OR note.write_id = '')
         THEN excluded.gone > note.gone
           OR (excluded.gone < note.gone AND coalesce(excluded.replaces = note.etag, false))
           OR (excluded.gone = note.gone AND excluded.gone = 0 AND excluded.parse_version > note.parse_version)
         WHEN {from} <> {into} THEN {from}
         ELSE (excluded.stored_ms, excluded.etag, excluded.write_id) > (note.stored_ms, note.etag, note.write_id) END"
    )
}

fn is_made_from(later: Claim<'_>, earlier: Claim<'_>) -> bool {
    later.replaces == Some(&earlier.version.etag)
        && later.version.stored_ms >= earlier.version.stored_ms.saturating_sub(STORE_CLOCK_SLACK_MS)
}

/// Who learned of an object from a listing does not know who wrote it.
fn is_same(a: &ObjectVersion, b: &ObjectVersion) -> bool {
    let is_known = !a.write_id.is_empty() && !b.write_id.is_empty();
    a.etag == b.etag && a.stored_ms == b.stored_ms && (!is_known || a.write_id == b.write_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, stored_ms: i64, write_id: &str) -> ObjectVersion {
        ObjectVersion {
            etag: etag.into(),
            stored_ms,
            writer: "m".into(),
            write_id: write_id.into(),
        }
    }

    fn claim<'a>(version: &'a ObjectVersion, replaces: Option<&'a str>) -> Claim<'a> {
        Claim {
            version,
            replaces,
            gone: false,
        }
    }

    fn gone(version: &ObjectVersion) -> Claim<'_> {
        Claim {
            version,
            replaces: None,
            gone: true,
        }
    }

    #[test]
    fn what_was_made_from_the_other_stands() {
        let (first, second) = (version("a", 2_000, "1"), version("b", 2_000, "2"));
        assert!(replaces(claim(&second, Some("a")), claim(&first, None)));
        assert!(!replaces(claim(&first, None), claim(&second, Some("a"))));
        // The tie would go the other way by the etag.
        let third = version("0", 1_500, "3");
        assert!(replaces(claim(&third, Some("b")), claim(&second, Some("a"))));
        assert!(!replaces(claim(&second, Some("a")), claim(&third, Some("b"))));
    }

    #[test]
    fn an_etag_that_came_back_is_told_by_time() {
        let (second, third) = (version("b", 200_000, "2"), version("a", 300_000, "3"));
        assert!(!replaces(claim(&second, Some("a")), claim(&third, Some("b"))));
        assert!(replaces(claim(&third, Some("b")), claim(&second, Some("a"))));
        assert!(!replaces(claim(&second, Some("a")), claim(&third, Some("c"))));
    }

    #[test]
    fn otherwise_the_stores_clock_tells_and_then_the_etag() {
        let (early, late) = (version("z", 1_000, "9"), version("a", 2_000, "1"));
        assert!(replaces(claim(&late, None), claim(&early, None)));
        assert!(!replaces(claim(&early, None), claim(&late, None)));
        let tie = version("b", 2_000, "0");
        assert!(replaces(claim(&tie, None), claim(&late, None)));
        assert!(!replaces(claim(&late, None), claim(&tie, None)));
        let again = version("a", 2_000, "2");
        assert!(replaces(claim(&again, None), claim(&late, None)));
        assert!(!replaces(claim(&late, None), claim(&again, None)));
    }

    #[test]
    fn the_same_version_changes_nothing_but_can_go() {
        let known = version("a", 1_000, "1");
        let listed = version("a", 1_000, "");
        for same in [&known, &listed] {
            assert!(!replaces(claim(same, None), claim(&known, None)));
            assert!(replaces(gone(same), claim(&known, None)));
            assert!(!replaces(claim(same, None), gone(&known)), "it was told late");
            assert!(replaces(claim(same, Some("a")), gone(&known)), "it is back");
            assert!(!replaces(gone(same), gone(&known)));
        }
        let newer = version("b", 1_001, "2");
        assert!(!replaces(gone(&known), claim(&newer, None)));
        assert!(replaces(claim(&newer, None), gone(&known)));
    }
}
