//! Uploads that land without an answer, and others who build upon them before the next try.

use super::{BASE, Machine, World, options, run, tree};
use notefs_cache::store::{CallKind, StoreErrorKind, UserMetadata};
use std::collections::BTreeMap;

/// How a program saves.
#[derive(Clone, Copy, Debug)]
enum Save {
    InPlace,
    ByRename,
}

const SAVES: [Save; 2] = [Save::InPlace, Save::ByRename];

/// When the machine is killed, if it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    /// The text that was sent is still the file's.
    BeforeSave,
    /// It is not any more.
    AfterSave,
}

impl World {
    pub(super) fn kill_a(&mut self) {
        self.open_again("a");
    }

    /// What is `a` is killed, and this machine takes its place.
    pub(super) fn open_again(&mut self, name: &str) {
        let options_of = |name| options(self.dir.path(), name, &self.clock, 0);
        let store = self.store.clone();
        let nobody = Machine::open(options_of("nobody"), store.clone()).unwrap();
        drop(std::mem::replace(&mut self.a, nobody));
        self.a = Machine::open(options_of(name), store).unwrap();
    }

    /// The same as [`World::go_on`], with kills in between.
    async fn go_on_killed(
        &mut self,
        (how, kill): (Save, Kill),
        name: &str,
        theirs: &str,
        ours: &str,
    ) -> BTreeMap<String, String> {
        self.store.raw_put(name, theirs.to_owned(), UserMetadata::new());
        if kill == Kill::BeforeSave {
            self.kill_a();
        }
        self.save_on_a(how, name, ours).await;
        self.kill_a();
        self.settle().await
    }

    async fn save_on_a(&self, how: Save, name: &str, text: &str) {
        match how {
            Save::InPlace => self.a.save(name, text).await.unwrap(),
            Save::ByRename => self.a.replace(name, text).await.unwrap(),
        }
    }

    /// The upload of `text` lands, and its answer is lost.
    async fn store_unanswered(&self, how: Save, name: &str, text: &str) {
        self.save_on_a(how, name, text).await;
        self.store.lose_replies(Some(CallKind::Put), 1);
        self.a.replica.write_back_once().await;
        let stored = self.store.raw_get(name).map(|(bytes, _)| bytes.to_vec());
        assert_eq!(stored.as_deref(), Some(text.as_bytes()), "it was to be stored");
        assert!(self.a.replica.status().owed.count > 0, "and not to be known");
    }

    /// Somebody stores `theirs`, `a` stores `ours`, and all look; answers what everybody sees.
    async fn go_on(&self, how: Save, name: &str, theirs: &str, ours: &str) -> BTreeMap<String, String> {
        self.store.raw_put(name, theirs.to_owned(), UserMetadata::new());
        self.save_on_a(how, name, ours).await;
        self.settle().await
    }

    pub(super) async fn settle(&self) -> BTreeMap<String, String> {
        self.clock.pass(60_000);
        self.a.push(&self.clock).await;
        for machine in [&self.a, &self.b] {
            machine.replica.pull_once().await.unwrap();
        }
        self.outcome().await
    }
}

#[test]
fn a_line_that_is_put_back_stays() {
    run(async {
        for how in SAVES {
            let world = World::new(&[("note.md", BASE)]).await;
            world.store_unanswered(how, "note.md", "one\nthree\nfour\n").await;
            let seen = world.go_on(how, "note.md", "one\nthree\nfour\nfive\n", BASE).await;
            assert_eq!(seen, tree(&[("note.md", "one\ntwo\nthree\nfour\nfive\n")]), "{how:?}");
        }
    });
}

#[test]
fn a_line_that_is_moved_is_there_once() {
    run(async {
        for how in SAVES {
            let world = World::new(&[("note.md", BASE)]).await;
            let first = "zero\none\ntwo\nthree\nfour\n";
            world.store_unanswered(how, "note.md", first).await;
            let theirs = format!("{first}five\n");
            let seen = world
                .go_on(how, "note.md", &theirs, "one\ntwo\nzero\nthree\nfour\n")
                .await;
            let merged = "one\ntwo\nzero\nthree\nfour\nfive\n";
            assert_eq!(seen, tree(&[("note.md", merged)]), "{how:?}");
        }
    });
}

#[test]
fn what_others_add_to_a_new_note_is_merged_with_it() {
    run(async {
        for how in SAVES {
            let world = World::new(&[]).await;
            world.store_unanswered(how, "new.md", BASE).await;
            let seen = world
                .go_on(how, "new.md", &format!("{BASE}five\n"), &format!("zero\n{BASE}"))
                .await;
            assert_eq!(seen, tree(&[("new.md", &format!("zero\n{BASE}five\n"))]), "{how:?}");
        }
    });
}

#[test]
fn of_two_uploads_the_one_that_landed_is_the_base() {
    run(async {
        for how in SAVES {
            let world = World::new(&[("note.md", BASE)]).await;
            world.store_unanswered(how, "note.md", "zero\none\nthree\nfour\n").await;
            let put_back = format!("zero\n{BASE}");
            world.save_on_a(how, "note.md", &put_back).await;
            world
                .store
                .fail_next(Some(CallKind::Put), StoreErrorKind::Unavailable, 1);
            world.clock.pass(60_000);
            world.a.replica.write_back_once().await;
            let theirs = "zero\none\nthree\nfour\nfive\n";
            let seen = world.go_on(how, "note.md", theirs, &put_back).await;
            assert_eq!(seen, tree(&[("note.md", &format!("{put_back}five\n"))]), "{how:?}");
        }
    });
}

#[test]
fn what_others_add_to_the_old_name_goes_along() {
    run(async {
        let world = World::new(&[("note.md", BASE)]).await;
        world
            .store_unanswered(Save::InPlace, "note.md", "one\nthree\nfour\n")
            .await;
        let theirs = "one\nthree\nfour\nfive\n";
        world.store.raw_put("note.md", theirs, UserMetadata::new());
        world.a.rename("note.md", "moved.md").await.unwrap();
        world.a.save("moved.md", BASE).await.unwrap();
        let seen = world.settle().await;
        assert_eq!(seen, tree(&[("moved.md", "one\ntwo\nthree\nfour\nfive\n")]));
    });
}

#[test]
fn an_upload_that_did_not_land_is_no_base() {
    run(async {
        for how in SAVES {
            let world = World::new(&[("note.md", BASE)]).await;
            world.save_on_a(how, "note.md", "one\nthree\nfour\n").await;
            world
                .store
                .fail_next(Some(CallKind::Put), StoreErrorKind::Unavailable, 1);
            world.a.replica.write_back_once().await;
            let seen = world
                .go_on(how, "note.md", &format!("{BASE}five\n"), "one\nthree\nfour\n")
                .await;
            assert_eq!(seen, tree(&[("note.md", "one\nthree\nfour\nfive\n")]), "{how:?}");
        }
    });
}

#[test]
fn where_it_is_open_who_took_a_line_out_both_texts_are_kept() {
    run(async {
        for how in SAVES {
            let world = World::new(&[("note.md", BASE)]).await;
            world.store_unanswered(how, "note.md", "one\nzero\nfour\n").await;
            // Built upon that, with one of the lines that it lacks; ours has both again.
            let theirs = "one\nthree\nzero\nfour\nfive\n";
            let ours = "one\ntwo\nthree\nzero\nfour\n";
            let seen = world.go_on(how, "note.md", theirs, ours).await;
            let texts: Vec<&str> = seen.values().map(String::as_str).collect();
            assert!(
                texts.len() == 2 && texts.contains(&theirs) && texts.contains(&ours),
                "{how:?}: {seen:?}"
            );
        }
    });
}

/// Each save with each kill.
fn killed(test: impl AsyncFn((Save, Kill))) {
    for how in SAVES {
        for kill in [Kill::BeforeSave, Kill::AfterSave] {
            run(test((how, kill)));
        }
    }
}

#[test]
fn a_line_that_is_put_back_stays_over_a_kill() {
    killed(async |when| {
        let mut world = World::new(&[("note.md", BASE)]).await;
        world.store_unanswered(when.0, "note.md", "one\nthree\nfour\n").await;
        let seen = world
            .go_on_killed(when, "note.md", "one\nthree\nfour\nfive\n", BASE)
            .await;
        assert_eq!(seen, tree(&[("note.md", "one\ntwo\nthree\nfour\nfive\n")]), "{when:?}");
    });
}

#[test]
fn a_line_that_is_moved_is_there_once_over_a_kill() {
    killed(async |when| {
        let mut world = World::new(&[("note.md", BASE)]).await;
        let first = "zero\none\ntwo\nthree\nfour\n";
        world.store_unanswered(when.0, "note.md", first).await;
        let (theirs, ours) = (format!("{first}five\n"), "one\ntwo\nzero\nthree\nfour\n");
        let seen = world.go_on_killed(when, "note.md", &theirs, ours).await;
        assert_eq!(
            seen,
            tree(&[("note.md", "one\ntwo\nzero\nthree\nfour\nfive\n")]),
            "{when:?}"
        );
    });
}

#[test]
fn what_others_add_to_a_new_note_is_merged_with_it_over_a_kill() {
    killed(async |when| {
        let mut world = World::new(&[]).await;
        world.store_unanswered(when.0, "new.md", BASE).await;
        let (theirs, ours) = (format!("{BASE}five\n"), format!("zero\n{BASE}"));
        let seen = world.go_on_killed(when, "new.md", &theirs, &ours).await;
        assert_eq!(seen, tree(&[("new.md", &format!("zero\n{BASE}five\n"))]), "{when:?}");
    });
}

/// What came out of an exchange is kept, or thrown away, under another name.
#[test]
fn what_came_out_of_an_exchange_is_known_over_a_kill() {
    for kept in [true, false] {
        run(async {
            let mut world = World::new(&[("note.md", BASE)]).await;
            world
                .store_unanswered(Save::InPlace, "note.md", "one\nthree\nfour\n")
                .await;
            let theirs = "one\nthree\nfour\nfive\n";
            world.store.raw_put("note.md", theirs, UserMetadata::new());
            world.a.save("other.md", BASE).await.unwrap();
            world.a.exchange("note.md", "other.md").await.unwrap();
            if !kept {
                world.a.remove("other.md").await.unwrap();
            }
            world.kill_a();
            let mut expected = tree(&[("note.md", "one\ntwo\nthree\nfour\nfive\n")]);
            if kept {
                expected.insert("other.md".to_owned(), "one\nthree\nfour\n".to_owned());
            }
            assert_eq!(world.settle().await, expected, "kept: {kept}");
        });
    }
}

/// What was sent is removed, and the file that came out of an exchange gets its name, with a line put back.
#[test]
fn what_was_sent_and_removed_is_known_to_the_file_that_gets_its_name() {
    run(async {
        for (killed, rest) in [(false, ""), (true, ""), (true, &*"long line\n".repeat(8 << 10))] {
            let base = format!("{BASE}{rest}");
            let mut world = World::new(&[("note.md", &base)]).await;
            let sent = format!("one\nthree\nfour\n{rest}");
            world.a.read("note.md").await.unwrap();
            world.a.save("other.md", &sent).await.unwrap();
            world.a.exchange("note.md", "other.md").await.unwrap();
            world.store.lose_replies(Some(CallKind::Put), 2);
            world.a.replica.write_back_once().await;
            let stored = world.store.raw_get("note.md").map(|(bytes, _)| bytes.to_vec());
            assert_eq!(stored.as_deref(), Some(sent.as_bytes()), "it was to be stored");
            let theirs = format!("{sent}five\n");
            world.store.raw_put("note.md", theirs, UserMetadata::new());
            world.a.remove("note.md").await.unwrap();
            if killed {
                world.kill_a();
            }
            let ours = format!("zero\n{base}");
            world.a.save("other.md", &ours).await.unwrap();
            world.a.rename("other.md", "note.md").await.unwrap();
            let seen = world.settle().await;
            let merged = tree(&[("note.md", &format!("{ours}five\n"))]);
            assert!(
                seen == merged,
                "killed {killed}, {} bytes: {:?}",
                rest.len(),
                seen.keys()
            );
        }
    });
}

/// The text that was sent is stored under a name of its own by then, and owes nothing.
#[test]
fn a_text_that_is_stored_under_another_name_is_known_over_a_kill() {
    run(async {
        let mut world = World::new(&[("note.md", BASE)]).await;
        let sent = "one\nthree\nfour\n";
        world.a.save("other.md", sent).await.unwrap();
        world.clock.pass(10);
        world.a.exchange("other.md", "note.md").await.unwrap();
        world.store.lose_replies(Some(CallKind::Put), 1);
        world.a.replica.write_back_once().await;
        let stored = world.store.raw_get("note.md").map(|(bytes, _)| bytes.to_vec());
        assert_eq!(stored.as_deref(), Some(sent.as_bytes()), "it was to be stored");
        let theirs = format!("{sent}five\n");
        world.store.raw_put("note.md", theirs, UserMetadata::new());
        let ours = format!("zero\n{BASE}");
        world.a.save("other.md", &ours).await.unwrap();
        world.a.exchange("other.md", "note.md").await.unwrap();
        world.kill_a();
        let expected = tree(&[("note.md", &format!("{ours}five\n")), ("other.md", sent)]);
        assert_eq!(world.settle().await, expected);
    });
}
