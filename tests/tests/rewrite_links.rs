//! With `--rewrite-links`, links follow what programs of this machine move: by any program, whatever happens meanwhile, and on one machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::inotify::Inotify;
use notefs_tests::pair::reads;
use notefs_tests::process::shell;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, wait_until};

const ARGS: [&str; 3] = ["--rewrite-links", "--write-back", "100ms"];

/// A folder moved by git, without anybody's configuration.
const GIT_MV: &str = "export HOME=$PWD/../git-home; mkdir -p $HOME; git config --global user.name T; \
                      git config --global user.email t@example.org; git config --global --replace-all safe.directory '*'; \
                      git init -q . && git add -A && git commit -qm 1 && git mv plans 'old plans'";

/// Longer than a move rests before its links are looked at.
const RESTED: Duration = Duration::from_millis(2_500);

fn write(mount: &Mount, notes: &[(&str, &str)]) -> Result<()> {
    for (path, text) in notes {
        let path = mount.path(path);
        std::fs::create_dir_all(path.parent().context("a note is in a folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

fn vault(args: &[&str], notes: &[(&str, &str)]) -> Result<Mount> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::args(args))?;
    write(&mount, notes)?;
    Ok(mount)
}

fn moves(mount: &Mount) -> Result<Option<u64>> {
    Ok(mount.status()?["moves"].as_u64())
}

/// Waits until every move is worked off.
fn followed(mount: &Mount) -> Result<()> {
    wait_until("links that follow", PATIENCE, || match moves(mount) {
        Ok(Some(0)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

fn text(mount: &Mount, path: &str) -> Result<String> {
    std::fs::read_to_string(mount.path(path)).with_context(|| path.to_owned())
}

fn mtime(mount: &Mount, path: &str) -> Result<std::time::SystemTime> {
    Ok(mount.path(path).metadata()?.modified()?)
}

#[test]
fn links_follow_a_note_and_a_folder_whatever_moves_them() -> Result<()> {
    let mount = vault(
        &ARGS,
        &[
            (
                "index.md",
                "[[idea]] and [t](plans/big%20plan.md#why \"T\")\n`[[idea]]`\n",
            ),
            ("idea.md", "up: [[index]] and [i](index.md)\n"),
            ("plans/big plan.md", "![p](p.png) [idea](../idea.md)\n"),
            ("plans/p.png", "png"),
            ("far.md", "nothing here\n"),
        ],
    )?;
    let far = mtime(&mount, "far.md")?;
    let mut watch = Inotify::on(mount.dir())?;
    shell(mount.dir(), "mv idea.md thought.md")?;
    reads(
        &mount,
        "index.md",
        "[[thought]] and [t](plans/big%20plan.md#why \"T\")\n`[[idea]]`\n",
    )?;
    reads(&mount, "plans/big plan.md", "![p](p.png) [idea](../thought.md)\n")?;
    let mut felt = Vec::new();
    wait_until("an event for the note that was rewritten", PATIENCE, || {
        felt.extend(
            watch
                .names(Duration::from_millis(100))
                .map_err(|error| error.to_string())?,
        );
        match felt.iter().any(|name| name == "index.md") {
            true => Ok(()),
            false => Err(format!("{felt:?}")),
        }
    })?;
    shell(mount.dir(), GIT_MV)?;
    reads(
        &mount,
        "index.md",
        "[[thought]] and [t](old%20plans/big%20plan.md#why \"T\")\n`[[idea]]`\n",
    )?;
    shell(
        mount.dir(),
        "mkdir -p a/b; mv thought.md a/b/; mv 'old plans/big plan.md' a/",
    )?;
    reads(&mount, "a/b/thought.md", "up: [[index]] and [i](../../index.md)\n")?;
    reads(
        &mount,
        "index.md",
        "[[thought]] and [t](a/big%20plan.md#why \"T\")\n`[[idea]]`\n",
    )?;
    reads(
        &mount,
        "a/big plan.md",
        "![p](../old%20plans/p.png) [idea](../a/b/thought.md)\n",
    )?;
    followed(&mount)?;
    ensure!(mtime(&mount, "far.md")? == far, "a note without such links was written");
    let unresolved = mount
        .notefs()
        .run(&["unresolved", &mount.dir().display().to_string()])?;
    ensure!(
        !unresolved.stdout.contains("idea") && !unresolved.stdout.contains("plan"),
        "{}",
        unresolved.stdout
    );
    Ok(())
}

#[test]
fn a_save_meanwhile_is_never_lost() -> Result<()> {
    let mount = vault(
        &ARGS,
        &[("old.md", "x\n"), ("open.md", "[[old]]\n"), ("a.md", "[[old]]\n")],
    )?;
    let held = OpenOptions::new().read(true).write(true).open(mount.path("open.md"))?;
    std::fs::rename(mount.path("old.md"), mount.path("new.md"))?;
    // An editor that knows nothing of the move saves what it has in memory, again and again.
    let mut buffer = "[[old]]\n".to_owned();
    let until = Instant::now() + RESTED;
    let mut saves = 0;
    while Instant::now() < until {
        saves += 1;
        buffer.push_str(&format!("line {saves}\n"));
        std::fs::write(mount.path("a.md"), &buffer)?;
        std::thread::sleep(Duration::from_millis(40));
    }
    ensure!(saves > 5, "only {saves} saves");
    reads(&mount, "a.md", &buffer.replace("old", "new"))?;
    ensure!(text(&mount, "open.md")? == "[[old]]\n", "changed under its writer");
    ensure!(moves(&mount)? == Some(1), "a note was given up");
    (&held).write_all(b"[[old]] more\n")?;
    drop(held);
    reads(&mount, "open.md", "[[new]] more\n")?;
    followed(&mount)
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_undone() -> Result<()> {
    const NOTES: usize = 150;
    let mut mount = vault(&ARGS, &[("old.md", "x\n")])?;
    let name = |number: usize| format!("n{number:03}.md");
    for number in 0..NOTES {
        std::fs::write(mount.path(&name(number)), format!("note {number} [o](old.md)\n"))?;
    }
    std::fs::rename(mount.path("old.md"), mount.path("new.md"))?;
    let rewritten = |mount: &Mount| -> Result<usize> {
        let mut count = 0;
        for number in 0..NOTES {
            count += usize::from(text(mount, &name(number))?.contains("(new.md)"));
        }
        Ok(count)
    };
    wait_until("the first notes", PATIENCE, || match rewritten(&mount) {
        Ok(count) if count > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    mount.kill9();
    mount.remount()?;
    followed(&mount)?;
    for number in 0..NOTES {
        let text = text(&mount, &name(number))?;
        ensure!(
            text == format!("note {number} [o](new.md)\n"),
            "{}: {text}",
            name(number)
        );
    }
    Ok(())
}

#[test]
fn only_the_machine_that_moved_it_rewrites() -> Result<()> {
    let store = Store::ministack()?;
    let a = Mount::start_with(&store, MountOptions::args(&ARGS))?;
    write(
        &a,
        &[
            ("old.md", "x\n"),
            ("far.md", "[[old]] [t](d/old%20one.md)\n"),
            ("d/old one.md", "y\n"),
        ],
    )?;
    a.drain()?;
    let b = Mount::start_with(&store, MountOptions::args(&ARGS))?;
    reads(&b, "far.md", "[[old]] [t](d/old%20one.md)\n")?;
    reads(&b, "d/old one.md", "y\n")?;
    std::fs::rename(a.path("old.md"), a.path("new.md"))?;
    std::fs::rename(a.path("d"), a.path("e"))?;
    for mount in [&a, &b] {
        reads(mount, "far.md", "[[new]] [t](e/old%20one.md)\n")?;
        followed(mount)?;
    }
    ensure!(
        !b.log_text().contains("is now"),
        "the other machine rewrote links:\n{}",
        b.log_text()
    );
    ensure!(a.log_text().matches("is now").count() == 2, "{}", a.log_text());
    let conflicts = a.status()?["conflicts"].as_u64();
    ensure!(conflicts == Some(0), "{conflicts:?} conflicts");
    Ok(())
}

#[test]
fn nothing_is_rewritten_unless_asked_for_nor_for_what_is_no_move() -> Result<()> {
    let notes = [
        ("old.md", "x\n"),
        ("a.md", "[[old]] [t](kept.md)\n"),
        ("kept.md", "y\n"),
    ];
    let mut mount = vault(&[], &notes)?;
    std::fs::rename(mount.path("old.md"), mount.path("new.md"))?;
    std::thread::sleep(RESTED);
    ensure!(text(&mount, "a.md")? == notes[1].1, "rewritten without being asked");
    mount.unmount()?;
    mount.set_args(&ARGS);
    mount.remount()?;
    // Saves by renaming: a new file into the old place, and the old one out of the way first.
    std::fs::write(mount.path("kept.tmp"), "y 2\n")?;
    std::fs::rename(mount.path("kept.tmp"), mount.path("kept.md"))?;
    std::fs::write(mount.path("other.md"), "y 3\n")?;
    std::fs::rename(mount.path("other.md"), mount.path("kept.md"))?;
    std::fs::rename(mount.path("kept.md"), mount.path("kept.bak.md"))?;
    std::fs::write(mount.path("kept.md"), "y 4\n")?;
    std::fs::rename(mount.path("kept.bak.md"), mount.path(".kept.md"))?;
    std::thread::sleep(RESTED);
    followed(&mount)?;
    ensure!(text(&mount, "a.md")? == notes[1].1, "{}", text(&mount, "a.md")?);
    Ok(())
}
