//! What macOS strews about stays on its machine, and what was stored is not lost by such a name.

use super::machine::note_keys;
use super::{Pair, pair};
use notefs_cache::Step;
use notefs_cache::store::UserMetadata;

#[test]
fn litter_stays_here_until_it_has_an_ordinary_name() {
    let Pair { store, a, b } = pair("litter");
    a.mkdir("dir");
    a.save("._note.md", "fork");
    a.save("dir/.DS_Store", "view");
    a.mkdir(".Trashes");
    a.mkdir(".Trashes/501");
    a.save(".Trashes/501/old.md", "old");
    a.settle();
    // For others a folder with nothing but litter is an empty one.
    assert_eq!(note_keys(&store), ["dir/", "first.md"]);
    for path in ["._note.md", "dir/.DS_Store", ".Trashes", ".Trashes/501/old.md"] {
        let ino = a.ino(path);
        assert!(a.replica.is_kept_here(ino).unwrap(), "{path}");
        assert_eq!(a.replica.step(ino).unwrap(), Step::Synced, "{path}");
    }
    a.rename("._note.md", "note.md");
    a.rename(".Trashes/501", "mine");
    a.settle();
    assert_eq!(note_keys(&store), ["dir/", "first.md", "mine/old.md", "note.md"]);
    b.pull(true);
    assert_eq!(
        (b.read("mine/old.md"), b.read("note.md")),
        ("old".into(), "fork".into())
    );
    assert!(!b.tree().contains_key(".Trashes") && !b.tree().contains_key("dir/.DS_Store"));
}

#[test]
fn a_folder_whose_last_note_leaves_litter_behind_stays() {
    let Pair { store, a, .. } = pair("left");
    a.mkdir("dir");
    a.save("dir/note.md", "one");
    a.save("dir/.DS_Store", "view");
    a.mkdir("other");
    a.save("other/note.md", "one");
    a.save("other/new", "view");
    a.settle();
    assert_eq!(
        note_keys(&store),
        ["dir/note.md", "first.md", "other/new", "other/note.md"]
    );
    a.unlink("dir/note.md");
    a.unlink("other/new");
    a.save("other/tmp", "view");
    a.unlink("other/note.md");
    a.rename("other/tmp", "other/.DS_Store");
    a.settle();
    assert_eq!(note_keys(&store), ["dir/", "first.md", "other/"]);
}

#[test]
fn what_is_stored_stays_stored_whatever_it_is_called() {
    let Pair { store, a, b } = pair("stored");
    a.save("note.md", "one");
    a.settle();
    a.rename("note.md", "._note.md");
    a.settle();
    assert_eq!(note_keys(&store), ["._note.md", "first.md"]);
    b.pull(true);
    assert_eq!(b.read("._note.md"), "one");
    b.save("._note.md", "two");
    b.settle();
    a.pull(true);
    assert_eq!(a.read("._note.md"), "two", "an edit of a stored one was kept back");
    a.unlink("._note.md");
    a.settle();
    assert_eq!(note_keys(&store), ["first.md"]);
    a.save("._note.md", "three");
    a.settle();
    assert_eq!(note_keys(&store), ["first.md"], "a new file of that name is litter");
    b.pull(true);
    a.save("tmp", "four");
    store.raw_put(".DS_Store", "foreign".to_owned(), UserMetadata::new());
    a.pull(true);
    assert_eq!(a.read(".DS_Store"), "foreign", "what the bucket holds is seen");
    a.unlink(".DS_Store");
    a.rename("tmp", ".DS_Store");
    a.settle();
    assert!(
        !note_keys(&store).contains(&"tmp".to_owned()),
        "{:?}",
        note_keys(&store)
    );
    assert_eq!(a.read(".DS_Store"), "four");
}

#[test]
fn an_object_of_its_name_does_not_replace_what_is_kept_here() {
    let Pair { store, a, .. } = pair("hidden");
    a.save("._x", "mine");
    a.settle();
    store.raw_put("._x", "theirs".to_owned(), UserMetadata::new());
    a.pull(true);
    assert_eq!(a.read("._x"), "mine");
    a.save("._x", "mine too");
    a.settle();
    a.unlink("._x");
    a.settle();
    a.pull(true);
    assert_eq!(a.read("._x"), "theirs", "the bucket's was lost or stays hidden");
}

#[test]
fn a_folder_that_others_removed_takes_its_view_along_and_nothing_else() {
    let Pair { a, b, .. } = pair("views");
    for dir in ["seen", "forked"] {
        a.mkdir(dir);
        a.save(&format!("{dir}/note.md"), "one");
    }
    a.settle();
    b.pull(false);
    b.save("seen/.DS_Store", "view");
    b.save("forked/.DS_Store", "view");
    b.save("forked/._note.md", "fork");
    b.settle();
    for dir in ["seen", "forked"] {
        a.unlink(&format!("{dir}/note.md"));
        a.rmdir(dir);
    }
    a.settle();
    b.pull(true);
    b.eventually("the removal of a folder", || !b.tree().contains_key("seen"));
    assert_eq!(b.read("forked/._note.md"), "fork");
    assert!(!b.tree().contains_key("forked/note.md"));
}

#[test]
fn nothing_drops_or_mends_what_is_kept_here() {
    let Pair { store, a, .. } = pair("evicted");
    let fork = "fork ".repeat(60_000);
    a.save("._big", &fork);
    a.settle();
    let note = "note ".repeat(200_000);
    for number in 0..14 {
        a.save(&format!("{number}.md"), &note);
    }
    a.settle();
    a.eventually("an eviction", || {
        let status = a.replica.status();
        status.cache_bytes <= status.cache_limit_bytes
    });
    assert_eq!(a.read("._big"), fork);
    let report = a.check();
    assert_eq!(report.step_count, 0, "{:?}", report.steps);
    assert_eq!(note_keys(&store).len(), 15);
    let owed = a.replica.status().owed;
    assert_eq!(owed.count, 0);
}
