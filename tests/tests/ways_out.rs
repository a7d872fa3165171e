//! What was written can be taken elsewhere and comes back the same: archives of JSON and commits of git.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::shell;
use notefs_tests::tree::Tree;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, scratch, wait_until};
use serde_json::Value;

/// Bytes of a file that takes more lines than one: three pieces and a bit.
const LARGE_BYTES: usize = (9 << 20) + 17;

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Everything that a folder of notes may hold.
fn fill(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("ideas/empty"))?;
    std::fs::write(root.join("ideas/first.md"), "# First\n\nwith ümlauts [[second]]\n")?;
    std::fs::write(root.join("second.md"), "")?;
    std::fs::write(root.join("run.sh"), "#!/bin/sh\n")?;
    std::fs::set_permissions(root.join("run.sh"), std::fs::Permissions::from_mode(0o750))?;
    std::fs::write(root.join("picture.bin"), [0, 0xff, 0xfe, b'\n'])?;
    let large: Vec<u8> = (0..LARGE_BYTES).map(|at| (at % 251) as u8).collect();
    std::fs::write(root.join("large.bin"), large)?;
    let odd = std::ffi::OsStr::from_bytes(b"not\xffutf8 \"quoted\" \\ \t.md");
    std::fs::write(root.join(odd), "odd")?;
    std::os::unix::fs::symlink("ideas/first.md", root.join("link.md"))?;
    std::os::unix::fs::symlink("/nowhere/at all", root.join("dangling"))?;
    std::fs::hard_link(root.join("run.sh"), root.join("ideas/same.sh"))?;
    Command::new("mkfifo").arg(root.join("pipe")).status()?;
    let set = Command::new("setfattr")
        .args(["-n", "user.colour", "-v", "green"])
        .arg(root.join("second.md"))
        .status()?;
    ensure!(set.success(), "setfattr failed");
    Ok(())
}

fn export(mount: &Mount, spelling: &str, to: &Path) -> Result<Vec<u8>> {
    mount
        .notefs()
        .output(&["export", &shown(mount.dir()), spelling, &shown(to)])?;
    std::fs::read(to).with_context(|| shown(to))
}

fn an_archive_comes_back_the_same(store: &Store, spelling: &str) -> Result<()> {
    let mount = Mount::start(store)?;
    fill(mount.dir())?;
    let folder = scratch::folder("archive")?;
    let archive = export(&mount, spelling, &folder.join("a"))?;
    let again = export(&mount, spelling, &folder.join("b"))?;
    ensure!(archive == again, "two archives of one folder differ");
    let other = Mount::start(&Store::folder()?)?;
    std::fs::write(other.path("stays.md"), "stays")?;
    let args = ["import", &shown(other.dir()), &shown(&folder.join("a"))];
    other.notefs().output(&args)?;
    std::fs::remove_file(other.path("stays.md"))?;
    // The folder itself is in no archive; another inode has another number and another time of change.
    Tree::read(other.dir())?.assert_same(&Tree::read(mount.dir())?, "the imported folder")?;
    let inode = std::fs::metadata(other.path("ideas/first.md"))?.ino();
    other.notefs().output(&args)?;
    let same = std::fs::metadata(other.path("ideas/first.md"))?.ino();
    ensure!(inode == same, "a second import wrote what was there already");
    Ok(())
}

#[test]
fn an_archive_comes_back_the_same_as_lines() -> Result<()> {
    an_archive_comes_back_the_same(&Store::ministack()?, "--jsonl")
}

#[test]
fn an_archive_comes_back_the_same_as_one_object() -> Result<()> {
    an_archive_comes_back_the_same(&Store::folder()?, "--json")
}

#[test]
fn an_archive_can_hold_what_the_index_knows() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    fill(mount.dir())?;
    let fact = "---\ntype: idea\ntags: [x]\n---\n- [decision] Use it #now\n- part_of [[First]]\n";
    std::fs::write(mount.path("third.md"), fact)?;
    let folder = scratch::folder("archive")?;
    let export = |mount: &Mount, name: &str| -> Result<String> {
        let to = shown(&folder.join(name));
        mount
            .notefs()
            .output(&["export", &shown(mount.dir()), "--graph", "--jsonl", &to])?;
        Ok(std::fs::read_to_string(to)?)
    };
    let archive = export(&mount, "a")?;
    ensure!(archive == export(&mount, "b")?, "two archives of one folder differ");
    let of = |path: &str| -> Result<Value> {
        let lines = archive.lines().map(serde_json::from_str::<Value>);
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        let line = lines.into_iter().find(|line| line["path"] == path);
        Ok(line.with_context(|| path.to_owned())?["note"].clone())
    };
    let third = of("third.md")?;
    ensure!(
        third["type"] == "idea" && third["observations"][0]["category"] == "decision",
        "{third}"
    );
    let link = &third["links"][0];
    ensure!(
        link["relation"] == "part_of" && link["resolved"] == "ideas/first.md",
        "{third}"
    );
    ensure!(of("ideas/first.md")?["title"] == "First" && of("run.sh")?.is_null());
    let other = Mount::start(&Store::folder()?)?;
    other
        .notefs()
        .output(&["import", &shown(other.dir()), &shown(&folder.join("a"))])?;
    Tree::read(other.dir())?.assert_same(&Tree::read(mount.dir())?, "the imported folder")?;
    ensure!(
        archive == export(&other, "c")?,
        "the imported folder makes another archive"
    );
    Ok(())
}

#[test]
fn an_archive_cannot_lead_out_of_the_folder() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    let outside = scratch::folder("outside")?;
    let link = format!(
        r#"{{"path":"link","kind":"symlink","content":{{"text":"{}"}}}}"#,
        shown(&outside)
    );
    let through_link = format!(
        "{link}\n{}",
        r#"{"path":"link/evil","kind":"file","content":{"text":"x"}}"#
    );
    let lines = [
        (
            r#"{"path":"../evil","kind":"file","content":{"text":"x"}}"#,
            "no path below",
        ),
        (
            r#"{"path":"/evil","kind":"file","content":{"text":"x"}}"#,
            "no path below",
        ),
        (&through_link, "Could not reach"),
        (
            "{\"path\":\"half\",\"kind\":\"file\",\"content\":{\"text\":\"x\"}}\n{\"path\":\"ha",
            "cannot be read",
        ),
        (r#"{"path":"a","kind":"file","unknown":1}"#, "cannot be read"),
    ];
    for (line, expected) in lines {
        let archive = outside.join("archive");
        std::fs::write(&archive, format!("{{\"notefs_export\":1}}\n{line}\n"))?;
        let said = mount
            .notefs()
            .failure(&["import", &shown(mount.dir()), &shown(&archive)], 1)?;
        ensure!(said.contains(expected), "{line}: {said}");
    }
    std::fs::write(outside.join("archive"), "{\"notefs_export\":2}\n")?;
    let said = mount
        .notefs()
        .failure(&["import", &shown(mount.dir()), &shown(&outside.join("archive"))], 1)?;
    ensure!(said.contains("version"), "{said}");
    let names: Vec<_> = std::fs::read_dir(&outside)?.collect::<Result<_, _>>()?;
    ensure!(names.len() == 1, "something was made outside: {names:?}");
    for entry in std::fs::read_dir(mount.dir())? {
        let name = entry?.file_name().display().to_string();
        ensure!(!name.contains(".tmp"), "a draft is left: {name}");
    }
    Ok(())
}

/// Runs git and answers its output.
fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git").args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "git {args:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn bare_repository() -> Result<PathBuf> {
    let remote = scratch::folder("remote")?.join("notes.git");
    git(&["init", "--quiet", "--bare", "--initial-branch", "main", &shown(&remote)])?;
    Ok(remote)
}

fn snapshot(mount: &Mount, remote: &Path, more: &[&str]) -> Result<String> {
    let (dir, remote) = (shown(mount.dir()), shown(remote));
    let mut args = vec!["snapshot", dir.as_str(), "--git", remote.as_str()];
    args.extend(more);
    Ok(mount.notefs().output(&args)?.trim().to_owned())
}

#[test]
fn a_snapshot_holds_the_folder_and_the_next_one_only_what_has_changed() -> Result<()> {
    let mount = Mount::start(&Store::ministack()?)?;
    fill(mount.dir())?;
    let remote = bare_repository()?;
    let first = snapshot(&mount, &remote, &[])?;
    let clone = scratch::folder("clone")?.join("notes");
    git(&["clone", "--quiet", &shown(&remote), &shown(&clone)])?;
    for name in [
        "ideas/first.md",
        "run.sh",
        "picture.bin",
        "large.bin",
        "ideas/same.sh",
        "second.md",
    ] {
        ensure!(
            std::fs::read(clone.join(name))? == std::fs::read(mount.path(name))?,
            "{name} differs"
        );
    }
    ensure!(std::fs::read_link(clone.join("dangling"))? == Path::new("/nowhere/at all"));
    ensure!(std::fs::metadata(clone.join("run.sh"))?.permissions().mode() & 0o111 != 0);
    ensure!(
        snapshot(&mount, &remote, &[])? == first,
        "nothing changed, and there is a commit"
    );
    std::fs::write(mount.path("ideas/first.md"), "edited")?;
    std::fs::remove_file(mount.path("picture.bin"))?;
    let second = snapshot(&mount, &remote, &["-m", "by hand"])?;
    let changes = git(&[
        "--git-dir",
        &shown(&remote),
        "show",
        "--name-status",
        "--format=%s %P",
        &second,
    ])?;
    let changes: Vec<&str> = changes.split_whitespace().collect();
    ensure!(
        changes == ["by", "hand", first.as_str(), "M", "ideas/first.md", "D", "picture.bin"],
        "{changes:?}"
    );
    git(&["--git-dir", &shown(&remote), "fsck", "--strict"])?;
    Ok(())
}

#[test]
fn another_machines_snapshot_is_built_upon_and_a_commit_comes_back() -> Result<()> {
    let (here, there) = (Mount::start(&Store::folder()?)?, Mount::start(&Store::folder()?)?);
    fill(here.dir())?;
    let remote = bare_repository()?;
    let first = snapshot(&here, &remote, &[])?;
    snapshot(&there, &remote, &["--restore"])?;
    for name in ["ideas/first.md", "run.sh", "picture.bin", "large.bin"] {
        ensure!(
            std::fs::read(there.path(name))? == std::fs::read(here.path(name))?,
            "{name} differs"
        );
    }
    ensure!(std::fs::read_link(there.path("link.md"))? == Path::new("ideas/first.md"));
    ensure!(
        snapshot(&there, &remote, &[])? == first,
        "the same files made another commit"
    );
    std::fs::write(there.path("there.md"), "there")?;
    let second = snapshot(&there, &remote, &[])?;
    std::fs::write(here.path("here.md"), "here")?;
    let third = snapshot(&here, &remote, &[])?;
    let parents = git(&["--git-dir", &shown(&remote), "log", "--format=%H", "main"])?;
    ensure!(parents.split_whitespace().eq([&third, &second, &first]), "{parents}");
    let inode = std::fs::metadata(there.path("large.bin"))?.ino();
    ensure!(snapshot(&there, &remote, &["--restore", "--at", "main~1"])? == second);
    ensure!(snapshot(&there, &remote, &["--restore", "--at", "HEAD~2", "--delete"])? == first);
    ensure!(
        !there.path("there.md").exists(),
        "--delete left a file that the commit does not have"
    );
    ensure!(
        std::fs::metadata(there.path("large.bin"))?.ino() == inode,
        "an equal file was written again"
    );
    Ok(())
}

#[test]
fn a_remote_that_cannot_be_reached_is_named_without_its_secret() -> Result<()> {
    let mount = Mount::start(&Store::folder()?)?;
    std::fs::write(mount.path("a.md"), "a")?;
    let remote = "http://me:topsecretword@127.0.0.1:1/notes.git";
    let dir = shown(mount.dir());
    let said = mount.notefs().failure(&["snapshot", &dir, "--git", remote], 1)?;
    ensure!(
        said.contains("127.0.0.1:1") && !said.contains("topsecretword"),
        "{said}"
    );
    Ok(())
}

#[test]
fn run_leaves_a_snapshot_of_what_the_command_wrote() -> Result<()> {
    let store = Store::ministack()?;
    let home = scratch::folder("job")?;
    let dir = home.join("notes");
    std::fs::create_dir(&dir)?;
    let notefs = notefs_tests::Notefs::new(&home, &store.env);
    let remote = bare_repository()?;
    let (dir, remote) = (shown(&dir), shown(&remote));
    let script = "echo from a job >\"$NOTEFS_DIR/job.md\"";
    let job = [
        "run",
        "--snapshot-git",
        &remote,
        &store.url,
        &dir,
        "--",
        "sh",
        "-c",
        script,
    ];
    notefs.output(&job)?;
    ensure!(git(&["--git-dir", &remote, "show", "main:job.md"])? == "from a job\n");
    ensure!(store.get("job.md")?.as_deref() == Some(b"from a job\n".as_slice()));
    let lost = ["run", "--snapshot-git", "/nowhere.git", &store.url, &dir, "--", "true"];
    let said = notefs.failure(&lost, 74)?;
    ensure!(said.contains("/nowhere.git"), "{said}");
    Ok(())
}

#[test]
fn the_lines_of_an_archive_are_json_that_other_tools_read() -> Result<()> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::default())?;
    std::fs::create_dir(mount.path("b"))?;
    std::fs::write(mount.path("b/note.md"), "# Note\n")?;
    let exported = mount.notefs().output(&["export", &shown(mount.dir()), "--json", "-"])?;
    let archive: Value = serde_json::from_str(&exported)?;
    let paths: Vec<&str> = archive["entries"]
        .as_array()
        .context("no entries")?
        .iter()
        .filter_map(|entry| entry["path"].as_str())
        .collect();
    ensure!(paths == ["b", "b/note.md"], "{paths:?}");
    ensure!(archive["entries"][1]["content"]["text"] == "# Note\n", "{archive}");
    Ok(())
}

#[test]
fn an_archive_goes_through_a_pipe_and_to_where_a_link_leads() -> Result<()> {
    let mount = Mount::start_with(&Store::folder()?, MountOptions::default())?;
    std::fs::write(mount.path("note.md"), "# Note\n")?;
    let folder = scratch::folder("archive")?;
    let (pipe, link, file) = (folder.join("pipe"), folder.join("link"), folder.join("file"));
    let expected = export(&mount, "--json", &file)?;
    let script = "mkfifo pipe && ln -s file link && (cat pipe >read &) && sleep 0.2";
    shell(&folder, script)?;
    mount
        .notefs()
        .output(&["export", &shown(mount.dir()), "--json", &shown(&pipe)])?;
    ensure!(
        std::fs::symlink_metadata(&pipe)?.file_type().is_fifo(),
        "the pipe was replaced"
    );
    wait_until("archive from the pipe", PATIENCE, || {
        let read = std::fs::read(folder.join("read")).map_err(|error| error.to_string())?;
        if read == expected {
            Ok(())
        } else {
            Err(format!("{} bytes", read.len()))
        }
    })?;
    std::fs::write(&file, "before")?;
    ensure!(export(&mount, "--json", &link)? == expected, "another archive");
    ensure!(std::fs::symlink_metadata(&link)?.is_symlink(), "the link was replaced");
    Ok(())
}
