//! The virtual folder `.notefs`: questions as folders, answers as links, on a real mount, and nothing of it where nobody asked.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notefs_tests::inotify::Inotify;
use notefs_tests::process::shell;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, scratch, wait_until};
use serde_json::Value;

fn vault_with(args: &[&str]) -> Result<Mount> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(args))?;
    for folder in ["projects", "old"] {
        std::fs::create_dir(mount.path(folder))?;
    }
    let notes = [
        ("home.md", "# Home\n\nSee [[projects/plan]]. A quagga.\n"),
        (
            "projects/plan.md",
            "---\ntags: [work/now, herd]\n---\n# Plan\n\nThe quagga, a quagga and [[home]].\n",
        ),
        ("old/plan.md", "---\ntags: [work]\n---\nolder, without the animal\n"),
    ];
    for (path, text) in notes {
        std::fs::write(mount.path(path), text)?;
    }
    Ok(mount)
}

fn vault() -> Result<Mount> {
    vault_with(&[])
}

/// The names in a folder, in their order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

#[test]
fn questions_are_folders_and_their_answers_links_to_notes() -> Result<()> {
    let mount = vault()?;
    let dot = |path: &str| mount.path(".notefs").join(path);
    ensure!(names(&dot(""))? == ["backlinks", "conflicts", "recent", "search", "status.json", "tags"]);
    let found = names(&dot("search/quagga"))?;
    ensure!(
        found.len() == 2 && found[0].starts_with("001 ") && found[1].starts_with("002 "),
        "{found:?}"
    );
    let text = shell(mount.dir(), "cat .notefs/search/'quagga -animal'/*")?;
    ensure!(text.contains("# Plan") && text.contains("# Home"), "{text}");
    ensure!(names(&dot("search/nowhere to be found"))?.is_empty());
    ensure!(names(&dot("tags"))? == ["herd", "work"]);
    ensure!(names(&dot("tags/work"))? == ["now", "plan (2).md", "plan.md"]);
    ensure!(names(&dot("tags/work/now"))? == ["plan.md"]);
    let target = std::fs::read_link(dot("tags/work/now/plan.md"))?;
    ensure!(target == Path::new("../../../../projects/plan.md"), "{target:?}");
    ensure!(std::fs::read(dot("tags/work/now/plan.md"))? == std::fs::read(mount.path("projects/plan.md"))?);
    ensure!(names(&dot("backlinks"))? == ["home.md", "old", "projects"]);
    ensure!(names(&dot("backlinks/projects/plan.md"))? == ["home.md"]);
    ensure!(std::fs::read_to_string(dot("backlinks/projects/plan.md/home.md"))?.starts_with("# Home"));
    ensure!(names(&dot("recent"))?.len() == 3 && names(&dot("conflicts"))?.is_empty());
    // An edit is an edit of the note.
    shell(mount.dir(), "echo 'and a dodo' >> .notefs/tags/herd/plan.md")?;
    ensure!(std::fs::read_to_string(mount.path("projects/plan.md"))?.ends_with("and a dodo\n"));
    ensure!(mount.search("dodo")? == ["projects/plan.md"]);
    let status: Value = serde_json::from_str(&std::fs::read_to_string(dot("status.json"))?)?;
    ensure!(status["mountpoint"] == mount.dir().display().to_string(), "{status}");
    Ok(())
}

#[test]
fn answers_are_never_older_than_the_last_save() -> Result<()> {
    let mount = vault()?;
    for number in 0..20 {
        std::fs::write(mount.path(&format!("n{number}.md")), "a thylacine\n")?;
        let found = names(&mount.path(".notefs/search/thylacine"))?;
        ensure!(found.len() == number + 1, "after save {number}: {found:?}");
        let newest = shell(mount.dir(), "readlink '.notefs/recent/001 '*")?;
        ensure!(newest.trim() == format!("../../n{number}.md"), "{newest}");
    }
    // Even from within the folder.
    let script = "cd .notefs/search/thylacine; ls | wc -l; echo a thylacine > ../../../last.md; ls | wc -l; pwd -P";
    let seen = shell(mount.dir(), script)?;
    ensure!(seen.starts_with("20\n21\n"), "{seen}");
    let owed = || mount.status().map(|status| status["owed"]["count"].clone());
    wait_until("a state of the mount that follows", PATIENCE, || {
        let text = std::fs::read_to_string(mount.path(".notefs/status.json")).map_err(|error| error.to_string())?;
        let told: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let owed = owed().map_err(|error| format!("{error:#}"))?;
        if told["owed"]["count"] == owed && owed == 0 {
            Ok(())
        } else {
            Err(text)
        }
    })
}

#[test]
fn nothing_sees_the_folder_unless_it_asks_for_it() -> Result<()> {
    let mount = vault()?;
    let mut watch = Inotify::on(mount.dir())?;
    let all = shell(
        mount.dir(),
        "find .notefs/ -mindepth 1 | wc -l; cat .notefs/search/quagga/* > ../seen",
    )?;
    ensure!(all.trim().parse::<usize>()? > 10, "{all}");
    let copy = scratch::folder("copy")?;
    let script = format!(
        "ls -A; find . -path '*.notefs*'; rsync -a ./ '{copy}/'; cp -a . '{copy}/again'; find '{copy}' -name '*.notefs*'",
        copy = copy.display()
    );
    let seen = shell(mount.dir(), &script)?;
    ensure!(seen == "home.md\nold\nprojects\n", "{seen}");
    std::fs::write(mount.path("last.md"), "the last")?;
    let felt = wait_until("an event of the last note", PATIENCE, || {
        let names = watch
            .names(Duration::from_millis(200))
            .map_err(|error| format!("{error:#}"))?;
        if names.iter().any(|name| name == "last.md") {
            Ok(names)
        } else {
            Err(format!("{names:?}"))
        }
    })?;
    ensure!(felt.iter().all(|name| name == "last.md"), "{felt:?}");
    let git = "export HOME=$PWD/..; git init -q; git add -A; git -c user.name=T -c user.email=t@example.org commit -qm all; \
               git status --porcelain; git ls-files";
    let seen = shell(mount.dir(), git)?;
    ensure!(seen == "home.md\nlast.md\nold/plan.md\nprojects/plan.md\n", "{seen}");
    mount.drain()?;
    let found = mount.search("quagga")?;
    ensure!(found.len() == 2, "the folder is indexed: {found:?}");
    Ok(())
}

#[test]
fn nothing_in_the_folder_can_be_changed() -> Result<()> {
    let mount = vault()?;
    let commands = [
        "mkdir .notefs",
        "rmdir .notefs",
        "mv .notefs x",
        "mv home.md .notefs/",
        "touch .notefs/x",
        "mkdir .notefs/search/x/y",
        "rm .notefs/status.json",
        "rm .notefs/tags/herd/plan.md",
        "echo x > .notefs/status.json",
        "chmod 777 .notefs",
        "ln home.md .notefs/home.md",
        "ln -s x .notefs/tags/x",
        "mv .notefs/recent .notefs/newest",
        "truncate -s 0 .notefs/status.json",
        "chown 1 .notefs/tags",
        "setfattr -n user.x -v y .notefs/recent",
    ];
    for command in commands {
        ensure!(shell(mount.dir(), command).is_err(), "this was done: {command}");
    }
    ensure!(names(mount.dir())? == ["home.md", "old", "projects"]);
    // What is there can be taken along.
    shell(
        mount.dir(),
        "cp .notefs/status.json status-copy.json; cp -r .notefs/tags ../tags; ls -l .notefs/ >/dev/null",
    )?;
    let copied: Value = serde_json::from_str(&std::fs::read_to_string(mount.path("status-copy.json"))?)?;
    ensure!(copied["mountpoint"] == mount.dir().display().to_string());
    Ok(())
}

#[test]
fn the_name_of_a_query_is_data() -> Result<()> {
    let mount = vault()?;
    let note = "\"quoted\" 'note' 💥 שלום.md";
    std::fs::write(mount.path(note), "an aurochs\n")?;
    let found = names(&mount.path(".notefs/search/aurochs"))?;
    ensure!(found == [format!("001 {note}")], "{found:?}");
    let long = "x".repeat(255);
    let hostile = [
        "'; DROP TABLE note; --",
        "\"",
        "*",
        "NEAR(",
        "a OR b AND",
        "tag:",
        "prop:x<",
        "\u{202e}",
        "-",
        "^",
        "$(reboot)",
        "before:never",
        &long,
    ];
    for query in hostile {
        names(&mount.path(".notefs/search").join(query)).with_context(|| format!("{query:?}"))?;
    }
    for absent in [
        "search/.git",
        "search/.hidden",
        "tags/none",
        "backlinks/none.md",
        "backlinks/.notefs",
        "none",
        "recent/001 none.md",
    ] {
        let looked = std::fs::symlink_metadata(mount.path(".notefs").join(absent));
        ensure!(
            looked.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT)),
            "{absent}"
        );
    }
    ensure!(mount.search("quagga")?.len() == 2);
    Ok(())
}

#[test]
fn listings_show_the_folder_or_it_is_not_there_as_the_mount_says() -> Result<()> {
    let mut mount = vault_with(&["--dot-notefs", "shown"])?;
    let seen = shell(mount.dir(), "ls -A; ls -A; ls .notefs/tags")?;
    let listed = ".notefs\nhome.md\nold\nprojects\n";
    ensure!(seen == format!("{listed}{listed}herd\nwork\n"), "{seen}");
    mount.unmount()?;
    mount.set_args(&["--dot-notefs", "off"]);
    mount.remount()?;
    let looked = std::fs::metadata(mount.path(".notefs"));
    ensure!(looked.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT)));
    let made = std::fs::create_dir(mount.path(".notefs"));
    ensure!(made.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)));
    Ok(())
}
