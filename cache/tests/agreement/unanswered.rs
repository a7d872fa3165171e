//! Uploads that land without an answer, and others who build upon them before the next try.

use super::{BASE, World, run, tree};
use notefs_cache::store::{CallKind, StoreErrorKind, UserMetadata};
use std::collections::BTreeMap;

/// How a program saves.
#[derive(Clone, Copy, Debug)]
enum Save {
    InPlace,
    ByRename,
}

const SAVES: [Save; 2] = [Save::InPlace, Save::ByRename];

impl World {
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

    async fn settle(&self) -> BTreeMap<String, String> {
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
