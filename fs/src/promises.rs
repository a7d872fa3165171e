//! What follows for a user from what a store was found to keep, in plain words.
//!
//! Owns the words. Does not own the trials (`notefs_cache::store`) nor what is done about it.

use notefs_cache::store::{Examination, Trial, Verdict};

/// The promises that do not hold in full at a store, as a mount found it; none while nobody knows.
pub(crate) fn weaker(trial: Option<Trial>) -> Vec<String> {
    let Some(trial) = trial else { return Vec::new() };
    let cases = [
        (trial.put_if_match, "update-if-unchanged"),
        (trial.put_if_absent, "create-if-absent"),
        (trial.delete_if_match, "delete-if-unchanged"),
        (trial.copy_if_absent, "copy-if-absent"),
    ];
    let lost = cases.into_iter().filter(|(kept, _)| !kept);
    lost.filter_map(|(_, name)| consequence(name))
        .map(str::to_owned)
        .collect()
}

/// What it means that a promise of the store does not hold.
pub(crate) fn consequence(name: &str) -> Option<&'static str> {
    Some(match name {
        "update-if-unchanged" => {
            "This store ignores conditions on updates: of two saves of one note within the same moment the last one wins, \
             and the other is lost. notefs looks before each write, so that later ones are still kept both"
        }
        "create-if-absent" => {
            "This store ignores conditions on creation: of two new notes of one name within the same moment only the last \
             one stays"
        }
        "delete-if-unchanged" => {
            "This store ignores conditions on deletion: a save by another machine within the moment of a deletion is deleted"
        }
        "copy-if-absent" => {
            "Copies inside this store ignore conditions: a note that is renamed onto a name which another machine takes \
             within the same moment may replace that one's note"
        }
        "large-create-if-absent" => {
            "This store ignores conditions on what is uploaded in parts: of two new files of one name and over 8 MiB that \
             arrive within the same moment only the last one stays. notefs looks before it completes such an upload"
        }
        "list-after-write" => {
            "Listings are not up to date: what others wrote may show late, or what they deleted again"
        }
        "metadata" => {
            "Modes, owners, times to the nanosecond, symlinks and extended attributes are not kept over a cold start"
        }
        "long-keys" => "Paths are shorter than elsewhere: a note whose path is too long stays on this machine",
        "clocks" => {
            "The clocks differ: names of conflict copies, times of the trash and of other tools' objects are off by that"
        }
        _ => return None,
    })
}

/// What holds and what does not after an examination, each a sentence.
pub(crate) fn in_plain_words(examination: &Examination) -> Vec<String> {
    let fails = |name: &str| {
        let finding = examination.findings.iter().find(|finding| finding.name == name);
        finding.is_some_and(|finding| finding.verdict == Verdict::Fails)
    };
    let mut words = Vec::new();
    let conditions = ["create-if-absent", "update-if-unchanged", "delete-if-unchanged"];
    if !conditions.into_iter().any(fails) {
        let but = match (fails("copy-if-absent"), fails("large-create-if-absent")) {
            (true, false) => ", but for a race of renames",
            (false, true) => ", but for a race of files over 8 MiB",
            (true, true) => ", but for races of renames and of files over 8 MiB",
            (false, false) => "",
        };
        words.push(format!(
            "No save is lost between machines{but}: each is bound to the version it began from"
        ));
    }
    let failed = examination
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fails);
    words.extend(
        failed
            .filter_map(|finding| consequence(finding.name))
            .map(str::to_owned),
    );
    words.push(match examination.versions {
        Some(true) => "The bucket keeps old versions by itself, so notefs keeps no trash in it".to_owned(),
        _ => "Deleted and overwritten notes are kept in .notefs/trash/ for 30 days, unless a mount says otherwise"
            .to_owned(),
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use notefs_cache::store::Finding;

    #[test]
    fn a_sound_store_has_no_weaker_promise() {
        let sound = Trial {
            put_if_absent: true,
            put_if_match: true,
            delete_if_match: true,
            copy_if_absent: true,
            versions: None,
        };
        assert!(weaker(Some(sound)).is_empty() && weaker(None).is_empty());
        let weak = Trial {
            put_if_match: false,
            ..sound
        };
        let words = weaker(Some(weak));
        assert_eq!(words.len(), 1);
        assert!(words[0].contains("the last one wins"), "{words:?}");
        let words = weaker(Some(Trial {
            copy_if_absent: false,
            ..sound
        }));
        assert!(words.len() == 1 && words[0].starts_with("Copies"), "{words:?}");
    }

    #[test]
    fn an_examination_is_told_in_words() {
        let finding = |name, verdict| Finding {
            name,
            verdict,
            seen: String::new(),
        };
        let mut examination = Examination {
            store: "memory://x".into(),
            findings: vec![finding("update-if-unchanged", Verdict::Holds)],
            versions: Some(true),
            clock_ahead_ms: None,
        };
        let words = in_plain_words(&examination).join("\n");
        assert!(
            words.contains("No save is lost") && words.contains("keeps no trash"),
            "{words}"
        );
        examination.findings = vec![
            finding("update-if-unchanged", Verdict::Fails),
            finding("clocks", Verdict::Fails),
        ];
        let words = in_plain_words(&examination).join("\n");
        assert!(
            !words.contains("No save is lost") && words.contains("The clocks differ"),
            "{words}"
        );
    }
}
