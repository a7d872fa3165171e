//! Deletions that take place without an answer, or late, and names that are given back before the next try.

use super::{BASE, World, run, tree};
use notefs_cache::FileKind;
use notefs_cache::store::{CallKind, Store, StoreErrorKind, UserMetadata};
use std::collections::BTreeMap;

/// A file that was never read is renamed and its old name removed without an answer; then somebody gives that name to another file.
#[test]
fn a_new_file_under_the_old_name_is_not_taken_for_the_renamed_one() {
    run(async {
        for (reads, killed) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = World::new(&[("note.md", BASE)]).await;
            world.open_again("c");
            world.a.rename("note.md", "z.md").await.unwrap();
            world.store.lose_replies(Some(CallKind::Delete), 1);
            world.a.replica.write_back_once().await;
            assert!(world.store.raw_get("note.md").is_none(), "it was to be removed");
            world.store.raw_put("note.md", "another\n", UserMetadata::new());
            if killed {
                world.open_again("c");
            }
            world.a.rename("z.md", "again.md").await.unwrap();
            if reads {
                assert_eq!(world.a.read("again.md").await.unwrap(), BASE);
            }
            let seen = world.settle().await;
            let both = tree(&[("again.md", BASE), ("note.md", "another\n")]);
            assert_eq!(seen, both, "read {reads}, killed {killed}");
        }
    });
}

/// What the machine does between its unanswered deletion of `note.md`, whose file is `moved.md` now, and giving it that name back.
#[derive(Clone, Copy, Debug)]
struct Between {
    /// The content was never read here.
    unread: bool,
    killed: bool,
    /// Adds a line when the name is back.
    edits: bool,
}

impl Between {
    fn all() -> impl Iterator<Item = Between> {
        (0..8).map(|bits| Between {
            unread: bits & 1 > 0,
            killed: bits & 2 > 0,
            edits: bits & 4 > 0,
        })
    }

    /// Answers what everybody sees, and the text of the machine's file.
    async fn go_back(self, text: &str, made_anew: Option<&str>) -> (BTreeMap<String, String>, String) {
        let mut world = World::new(&[("note.md", text)]).await;
        let name = if self.unread { "c" } else { "a" };
        if self.unread {
            world.open_again(name);
        } else {
            world.a.read("note.md").await.unwrap();
        }
        world.a.rename("note.md", "moved.md").await.unwrap();
        world.store.lose_replies(Some(CallKind::Delete), 1);
        world.a.replica.write_back_once().await;
        assert!(world.store.raw_get("note.md").is_none(), "it was to be removed");
        if let Some(text) = made_anew {
            world.store.raw_put("note.md", text.to_owned(), UserMetadata::new());
        }
        if self.killed {
            world.open_again(name);
        }
        world.a.rename("moved.md", "note.md").await.unwrap();
        let mut ours = text.to_owned();
        if self.edits {
            ours += "five\n";
            world.a.save("note.md", &ours).await.unwrap();
        }
        (world.settle().await, ours)
    }
}

/// Somebody who had opened the note before a line was added makes it anew.
#[test]
fn what_is_made_anew_after_our_deletion_takes_no_line_out() {
    for between in Between::all() {
        run(async {
            let theirs = format!("zero\n{BASE}");
            let (seen, ours) = between.go_back(&format!("{BASE}added\n"), Some(&theirs)).await;
            let texts: Vec<&String> = seen.values().collect();
            let both = texts.len() == 2 && texts.contains(&&theirs) && texts.contains(&&ours);
            assert!(both, "{between:?}: {seen:?}");
        });
    }
}

#[test]
fn a_file_whose_name_is_given_back_after_an_unanswered_deletion_is_stored_again() {
    for between in Between::all() {
        run(async {
            let (seen, ours) = between.go_back(BASE, None).await;
            assert_eq!(seen, tree(&[("note.md", &ours)]), "{between:?}");
        });
    }
}

/// The deletion takes place when its sender has given it up, and the name is asked for again.
#[test]
fn a_deletion_that_comes_late_takes_nothing_that_was_stored_after_it() {
    run(async {
        for killed in [false, true] {
            let mut world = World::new(&[("note.md", BASE)]).await;
            let mut capabilities = world.store.capabilities();
            capabilities.late_write_ms = 10_000;
            world.store.set_capabilities(capabilities);
            world.kill_a();
            world.clock.pass(10_000);
            world.a.read("note.md").await.unwrap();
            world.a.rename("note.md", "moved.md").await.unwrap();
            world
                .store
                .fail_next(Some(CallKind::Delete), StoreErrorKind::Unavailable, 1);
            world.a.replica.write_back_once().await;
            if killed {
                world.kill_a();
            }
            world.a.rename("moved.md", "note.md").await.unwrap();
            world.clock.pass(3_000);
            world.a.replica.write_back_once().await;
            world.store.raw_delete("note.md");
            let seen = world.settle().await;
            assert_eq!(seen, tree(&[("note.md", BASE)]), "killed {killed}");
        }
    });
}

/// What has not been read here and has been moved and edited elsewhere is followed, whatever became of our own deletion.
#[test]
fn an_unread_file_that_was_moved_back_here_and_elsewhere_is_what_the_others_made_of_it() {
    run(async {
        for killed in [false, true] {
            let mut world = World::new(&[("note.md", BASE)]).await;
            world.open_again("c");
            world.a.rename("note.md", "moved.md").await.unwrap();
            world.store.lose_replies(Some(CallKind::Delete), 1);
            world.a.replica.write_back_once().await;
            if killed {
                world.open_again("c");
            }
            world.a.rename("moved.md", "note.md").await.unwrap();
            world.b.replica.pull_once().await.unwrap();
            world.b.rename("moved.md", "note.md").await.unwrap();
            let theirs = format!("{BASE}five\n");
            world.b.save("note.md", &theirs).await.unwrap();
            world.b.push(&world.clock).await;
            assert!(world.store.raw_get("moved.md").is_none(), "it was to be moved");
            for _ in 0..3 {
                world.settle().await;
            }
            assert_eq!(world.settle().await, tree(&[("note.md", &theirs)]), "killed {killed}");
        }
    });
}

#[test]
fn an_empty_folder_whose_name_is_given_back_after_an_unanswered_deletion_stays() {
    run(async {
        for killed in [false, true] {
            let mut world = World::new(&[]).await;
            world.a.create("folder", FileKind::Directory).await.unwrap();
            world.a.push(&world.clock).await;
            world.a.rename("folder", "moved").await.unwrap();
            world.store.lose_replies(Some(CallKind::Delete), 1);
            world.a.replica.write_back_once().await;
            assert!(world.store.raw_get("folder/").is_none(), "it was to be removed");
            if killed {
                world.kill_a();
            }
            world.a.rename("moved", "folder").await.unwrap();
            for _ in 0..3 {
                world.settle().await;
            }
            let there = ["folder/", "moved/"].map(|key| world.store.raw_get(key).is_some());
            assert_eq!(there, [true, false], "killed {killed}");
            assert!(world.b.ino("folder").await.is_ok(), "killed {killed}");
        }
    });
}

/// The same name with nothing lost: a deletion that was refused is no deletion, and edits merge as ever.
#[test]
fn a_deletion_that_was_refused_holds_up_no_merge() {
    run(async {
        let world = World::new(&[("note.md", BASE)]).await;
        world.a.read("note.md").await.unwrap();
        let theirs = "one\nthree\nfour\n";
        world.store.raw_put("note.md", theirs, UserMetadata::new());
        world.a.rename("note.md", "moved.md").await.unwrap();
        world.a.save("moved.md", &format!("{BASE}five\n")).await.unwrap();
        let seen = world.settle().await;
        assert_eq!(seen, tree(&[("moved.md", &format!("{theirs}five\n"))]));
    });
}
