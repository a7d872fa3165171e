//! A save costs one PUT, whatever the editor does underneath, and its temporary files never reach the bucket.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{shell, tool};
use notefs_tests::{Mount, MountOptions, Proxy, Store, sys};

const NOTE: &str = "ideas/note.md";
const BEFORE: &str = "# Note\n\nfirst line\n";

/// An extended attribute that programs set.
const TAGGED: &str = "user.xdg.tags";

struct Desk {
    store: Store,
    proxy: Proxy,
    mount: Mount,
}

/// A mount with one note that the bucket holds, and a proxy that has seen nothing yet.
fn desk() -> Result<Desk> {
    let store = Store::ministack()?;
    store.put(NOTE, BEFORE.as_bytes())?;
    let proxy = Proxy::start(store.client()?.address)?;
    // Long enough that a loaded machine's editor starts, saves and ends within the delay.
    let options = MountOptions::args(&["--write-back", "4s"]);
    let mount = Mount::start_with(&store.via(proxy.address())?, options)?;
    ensure!(
        std::fs::read_to_string(mount.path(NOTE))? == BEFORE,
        "the adopted note differs"
    );
    Ok(Desk { store, proxy, mount })
}

impl Desk {
    fn folder(&self) -> std::path::PathBuf {
        self.mount.path("ideas")
    }

    /// Runs `save`; then the bucket must hold `expected` after one PUT of the note and nothing else but `extra`.
    fn one_put(&self, expected: &str, extra: &[&str], save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.proxy.forget();
        save(&self.folder())?;
        let seen = std::fs::read_to_string(self.mount.path(NOTE))?;
        ensure!(seen == expected, "the folder shows {seen:?}");
        self.mount.settle()?;
        let changes = self.proxy.changes();
        let (of_note, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.ends_with(" ideas/note.md"));
        ensure!(of_note == ["Put ideas/note.md"], "not one PUT: {changes:?}");
        let strays: Vec<_> = others
            .iter()
            .filter(|change| !extra.iter().any(|key| change.ends_with(key)))
            .collect();
        ensure!(strays.is_empty(), "temporary names reached the bucket: {changes:?}");
        let stored = self.store.get(NOTE)?.context("the note is not in the bucket")?;
        ensure!(
            String::from_utf8_lossy(&stored) == expected,
            "the bucket holds {:?}",
            String::from_utf8_lossy(&stored)
        );
        Ok(())
    }
}

fn vim(settings: &str) -> Result<()> {
    tool("vim")?;
    let script = format!(
        "vim -Nu NONE -i NONE -es -c 'set {settings}' -c 'normal! Goadded by vim' -c 'wq' note.md </dev/null; ls -A"
    );
    desk()?.one_put(&format!("{BEFORE}added by vim\n"), &[], |folder| {
        let left = shell(folder, &script)?;
        ensure!(left == "note.md\n", "vim left behind: {left}");
        Ok(())
    })
}

#[test]
fn vim_with_backupcopy_yes_is_one_put() -> Result<()> {
    vim("writebackup backupcopy=yes")
}

#[test]
fn vim_with_backupcopy_no_is_one_put() -> Result<()> {
    vim("writebackup backupcopy=no")
}

#[test]
fn vim_with_backupcopy_auto_is_one_put() -> Result<()> {
    vim("writebackup backupcopy=auto fsync")
}

#[test]
fn vim_without_writebackup_is_one_put() -> Result<()> {
    vim("nowritebackup nobackup")
}

/// Runs an editor on a terminal, and types once it shows `sign`: what is typed earlier, an editor may throw away.
fn on_a_terminal(folder: &Path, editor: &str, sign: &str, keys: &str) -> Result<()> {
    tool("script")?;
    let script = format!(
        "t=$(mktemp -d); mkfifo $t/keys; exec 3<>$t/keys
         TERM=xterm timeout 250 script -qfec '{editor}' $t/screen <$t/keys >/dev/null & editor=$!
         for i in $(seq 4000); do grep -aq '{sign}' $t/screen && break; sleep 0.05; done
         printf '{keys}' >&3; wait $editor; rm -r $t"
    );
    shell(folder, &script).map(drop)
}

#[test]
fn vim_in_a_terminal_is_one_put() -> Result<()> {
    tool("vim")?;
    desk()?.one_put(&format!("{BEFORE}typed\n"), &[], |folder| {
        on_a_terminal(
            folder,
            "vim -Nu NONE -i NONE note.md",
            "first line",
            "Gotyped\\033:wq\\r",
        )
    })
}

#[test]
fn nano_is_one_put() -> Result<()> {
    tool("nano")?;
    desk()?.one_put(&format!("typed {BEFORE}"), &[], |folder| {
        on_a_terminal(folder, "nano -I note.md", "first line", "typed \\017\\r\\030")
    })
}

#[test]
fn emacs_is_one_put_and_its_backup() -> Result<()> {
    tool("emacs")?;
    // The backup is a file that the user keeps, so it belongs into the bucket.
    desk()?.one_put(&format!("{BEFORE}by emacs\n"), &["note.md~"], |folder| {
        let edit = "(progn (goto-char (point-max)) (insert \"by emacs\\n\") (save-buffer))";
        shell(
            folder,
            &format!("HOME=$(mktemp -d) emacs --batch -Q note.md --eval '{edit}'"),
        )?;
        Ok(())
    })
}

#[test]
fn sed_in_place_is_one_put() -> Result<()> {
    desk()?.one_put(&BEFORE.replace("first", "second"), &[], |folder| {
        shell(folder, "sed -i s/first/second/ note.md")?;
        Ok(())
    })
}

/// Visual Studio Code truncates and writes in place, then flushes.
#[test]
fn vscode_in_place_is_one_put() -> Result<()> {
    desk()?.one_put("by code\n", &[], |folder| {
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(folder.join("note.md"))?;
        file.write_all(b"by code\n")?;
        Ok(file.sync_data()?)
    })
}

/// Its atomic mode writes `note.md.vsctmp` and renames.
#[test]
fn vscode_atomic_is_one_put() -> Result<()> {
    desk()?.one_put("by code\n", &[], |folder| {
        let temporary = folder.join("note.md.vsctmp");
        let mut file = File::create(&temporary)?;
        file.write_all(b"by code\n")?;
        file.sync_data()?;
        Ok(std::fs::rename(temporary, folder.join("note.md"))?)
    })
}

/// Obsidian writes in place and sets the times.
#[test]
fn obsidian_is_one_put() -> Result<()> {
    desk()?.one_put("by obsidian\n", &[], |folder| {
        std::fs::write(folder.join("note.md"), "by obsidian\n")?;
        Ok(sys::set_times(&folder.join("note.md"), 1_700_000_000, 5_000_000)?)
    })
}

/// gedit and all of GLib write `.goutputstream-XXXXXX`, flush, and rename.
#[test]
fn gedit_is_one_put() -> Result<()> {
    desk()?.one_put("by gedit\n", &[], |folder| {
        let temporary = folder.join(".goutputstream-A1B2C3");
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(b"by gedit\n")?;
        file.sync_all()?;
        drop(file);
        Ok(std::fs::rename(temporary, folder.join("note.md"))?)
    })
}

/// Writes a replacement for the note with the note's mode and attributes, as office programs do.
fn replacement(folder: &Path, name: &str, content: &str) -> Result<()> {
    let (note, path) = (folder.join("note.md"), folder.join(name));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    file.write_all(content.as_bytes())?;
    file.set_permissions(note.metadata()?.permissions())?;
    sys::set_xattr(&path, TAGGED, &sys::get_xattr(&note, TAGGED)?, 0)?;
    Ok(file.sync_all()?)
}

/// Marks the note with a mode and an attribute, saves as `save` does, and looks for both cold.
fn keeps_mode_and_attribute(expected: &str, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut desk = desk()?;
    let note = desk.mount.path(NOTE);
    std::fs::set_permissions(&note, PermissionsExt::from_mode(0o640))?;
    sys::set_xattr(&note, TAGGED, b"kept", 0)?;
    desk.mount.settle()?;
    desk.one_put(expected, &[], save)?;
    ensure!(
        desk.store.keys()? == [NOTE],
        "the bucket holds {:?}",
        desk.store.keys()?
    );
    for when in ["warm", "cold"] {
        let (mode, attribute) = (note.metadata()?.mode() & 0o7777, sys::get_xattr(&note, TAGGED)?);
        ensure!(mode == 0o640 && attribute == b"kept", "{when}: {mode:o} {attribute:?}");
        let names = shell(&desk.folder(), "ls -A")?;
        ensure!(names == "note.md\n", "{when}: left behind: {names}");
        if when == "warm" {
            desk.mount.start_cold()?;
        }
    }
    Ok(())
}

/// LibreOffice locks, writes a temporary file, renames it over the note, and unlocks.
#[test]
fn libreoffice_is_one_put() -> Result<()> {
    keeps_mode_and_attribute("by office\n", |folder| {
        let lock = folder.join(".~lock.note.md#");
        let mut owner = OpenOptions::new().write(true).create_new(true).open(&lock)?;
        owner.write_all(b",user,host,26.11.2026 12:00,file:///home/user/.config/libreoffice/4;")?;
        replacement(folder, "lu4711abc.tmp", "by office\n")?;
        std::fs::rename(folder.join("lu4711abc.tmp"), folder.join("note.md"))?;
        Ok(std::fs::remove_file(lock)?)
    })
}

/// Microsoft Office writes an owner file and a temporary one, moves the old document aside, puts the new one in its place,
/// and removes the old: for a moment the name is gone.
#[test]
fn microsoft_office_is_one_put() -> Result<()> {
    keeps_mode_and_attribute("by office\n", |folder| {
        let (owner, note, aside) = (
            folder.join("~$note.md"),
            folder.join("note.md"),
            folder.join("5E6F7A8B.tmp"),
        );
        std::fs::write(&owner, [b"\x04user".as_slice(), &[0; 157]].concat())?;
        replacement(folder, "A1B2C3D4.tmp", "by office\n")?;
        std::fs::rename(&note, &aside)?;
        std::fs::rename(folder.join("A1B2C3D4.tmp"), &note)?;
        std::fs::remove_file(aside)?;
        Ok(std::fs::remove_file(owner)?)
    })
}

/// Ten saves within the delay are one change of the note.
#[test]
fn saves_in_quick_succession_are_one_put() -> Result<()> {
    desk()?.one_put("save 9\n", &[], |folder| {
        (0..10).try_for_each(|number| Ok(std::fs::write(folder.join("note.md"), format!("save {number}\n"))?))
    })
}

#[test]
fn a_warm_read_asks_the_store_nothing() -> Result<()> {
    let desk = desk()?;
    desk.mount.settle()?;
    desk.proxy.forget();
    for _ in 0..20 {
        ensure!(
            std::fs::read_to_string(desk.mount.path(NOTE))? == BEFORE,
            "content changed"
        );
        shell(&desk.folder(), "ls -l; stat note.md")?;
    }
    let log = desk.proxy.log();
    let of_notes: Vec<_> = log.iter().filter(|seen| seen.key.starts_with("ideas")).collect();
    ensure!(of_notes.is_empty(), "warm reads asked the store: {of_notes:?}");
    Ok(())
}

#[test]
fn a_renamed_note_is_copied_inside_the_store() -> Result<()> {
    let desk = desk()?;
    desk.mount.settle()?;
    desk.proxy.forget();
    std::fs::rename(desk.mount.path(NOTE), desk.mount.path("ideas/renamed.md"))?;
    desk.mount.settle()?;
    let changes = desk.proxy.changes();
    ensure!(
        changes == ["Copy ideas/renamed.md", "Delete ideas/note.md"],
        "a rename did {changes:?}"
    );
    ensure!(
        desk.store.get("ideas/renamed.md")?.as_deref() == Some(BEFORE.as_bytes()),
        "content differs"
    );
    Ok(())
}
