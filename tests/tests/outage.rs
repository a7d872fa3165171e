//! A store that is down: what is cached can be read, everything can be written, nothing looks deleted, and all of it
//! arrives when the store is back.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use notefs_tests::mount::owed;
use notefs_tests::{Class, Fault, Mount, PATIENCE, Proxy, Store, sys, vault, wait_until};

const ATTACHMENT: &str = "assets/never-read.bin";

struct Scene {
    store: Store,
    proxy: Proxy,
    mount: Mount,
    notes: Vec<vault::VaultFile>,
}

/// A mount whose notes have been read once, an attachment that has not, and more of these to wait for.
fn scene(waiting: usize) -> Result<Scene> {
    let store = Store::ministack()?;
    let mut notes = vault::generate(30, 5);
    notes.retain(|file| file.path.ends_with(".md"));
    vault::put_to(&notes, &store)?;
    store.put(ATTACHMENT, &vec![42; 2_000_000])?;
    for number in 0..waiting {
        store.put(&waited_for(number), &[number as u8; 10_000])?;
    }
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    let scene = Scene {
        store,
        proxy,
        mount,
        notes,
    };
    scene.notes_are_readable()?;
    Ok(scene)
}

impl Scene {
    fn notes_are_readable(&self) -> Result<()> {
        for note in &self.notes {
            let bytes = std::fs::read(self.mount.path(&note.path)).with_context(|| note.path.clone())?;
            ensure!(bytes == note.bytes, "{} differs", note.path);
        }
        Ok(())
    }

    fn writes_go_on(&self) -> Result<()> {
        std::fs::create_dir(self.mount.path("offline"))?;
        for number in 0..20 {
            std::fs::write(
                self.mount.path(&format!("offline/{number}.md")),
                format!("offline {number}"),
            )?;
        }
        std::fs::rename(self.mount.path("offline/0.md"), self.mount.path("offline/moved.md"))?;
        std::fs::remove_file(self.mount.path("offline/1.md"))?;
        std::fs::write(self.mount.path(&self.notes[0].path), "edited offline")?;
        let text = std::fs::read_to_string(self.mount.path("offline/moved.md"))?;
        ensure!(text == "offline 0", "the file just written shows {text:?}");
        Ok(())
    }

    /// An uncached read ends by itself, with EIO and nothing else, and the name stays.
    fn uncached_reads_are_errors(&self) -> Result<()> {
        let path = self.mount.path(ATTACHMENT);
        let (answer, inbox) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || answer.send(std::fs::read(path)));
        let read = inbox
            .recv_timeout(3 * PATIENCE)
            .context("the read of an uncached file never ended")?;
        let length = read.as_ref().map(Vec::len).map_err(ToString::to_string);
        ensure!(sys::errno(&read) == libc::EIO, "an uncached read gave {length:?}");
        std::fs::metadata(self.mount.path(ATTACHMENT)).context("the uncached file's name is gone")?;
        Ok(())
    }

    fn status_tells(&self) -> Result<()> {
        wait_until("status that tells of the outage", PATIENCE, || {
            let status = self.mount.status().map_err(|error| format!("{error:#}"))?;
            let told = status["store_reachable"] == false && !status["last_error"].is_null();
            if told && owed(&status) >= Some(20) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
    }

    fn everything_arrives(&self) -> Result<()> {
        self.mount.settle()?;
        let status = self.mount.status()?;
        ensure!(
            status["store_reachable"] == true,
            "the store is back, but status says {status}"
        );
        let mut expected: BTreeSet<String> = self.notes.iter().map(|note| note.path.clone()).collect();
        expected.extend((2..20).map(|number| format!("offline/{number}.md")));
        expected.extend([ATTACHMENT.to_owned(), "offline/moved.md".to_owned()]);
        let keys: BTreeSet<String> = self.store.keys()?.into_iter().collect();
        ensure!(
            keys == expected,
            "difference: {:?}",
            keys.symmetric_difference(&expected)
        );
        let edited = self.store.get(&self.notes[0].path)?;
        ensure!(
            edited.as_deref() == Some(b"edited offline"),
            "the edit of an old note did not arrive"
        );
        let read = std::fs::read(self.mount.path(ATTACHMENT)).context("the attachment, with the store back")?;
        ensure!(read == vec![42; 2_000_000], "the attachment differs");
        Ok(())
    }
}

fn goes_on_during(fault: Fault) -> Result<()> {
    let scene = scene(0)?;
    scene.proxy.set_fault(fault);
    scene.notes_are_readable()?;
    scene.writes_go_on()?;
    scene.uncached_reads_are_errors()?;
    scene.status_tells()?;
    scene.proxy.set_fault(Fault::None);
    scene.everything_arrives()
}

fn waited_for(number: usize) -> String {
    format!("assets/waited-for-{number}.bin")
}

/// I7, and more wait than the mount has threads.
#[test]
fn who_waits_for_the_bucket_holds_up_nobody_else() -> Result<()> {
    const WAITING: usize = 40;
    let scene = scene(WAITING)?;
    let before = scene.proxy.count(Class::Get);
    scene.proxy.set_fault(Fault::BlackHole);
    let (answers, inbox) = std::sync::mpsc::channel();
    for number in 0..WAITING {
        let (path, answers) = (scene.mount.path(&waited_for(number)), answers.clone());
        std::thread::spawn(move || answers.send((number, std::fs::read(path))));
    }
    wait_until("requests that are not answered", PATIENCE, || {
        let asked = scene.proxy.count(Class::Get) - before;
        if asked >= 8 { Ok(()) } else { Err(format!("{asked}")) }
    })?;
    scene.notes_are_readable()?;
    scene.writes_go_on()?;
    scene.proxy.set_fault(Fault::None);
    for _ in 0..WAITING {
        let (number, read) = inbox.recv_timeout(3 * PATIENCE).context("a read never ended")?;
        let whole = read.as_ref().is_ok_and(|bytes| *bytes == [number as u8; 10_000]);
        ensure!(
            whole || sys::errno(&read) == libc::EIO,
            "a read gave {:?}",
            read.map(|bytes| bytes.len())
        );
    }
    Ok(())
}

#[test]
fn work_goes_on_while_connections_are_reset() -> Result<()> {
    goes_on_during(Fault::Reset)
}

#[test]
fn work_goes_on_while_the_store_is_silent() -> Result<()> {
    goes_on_during(Fault::BlackHole)
}

#[test]
fn work_goes_on_while_the_store_is_unavailable() -> Result<()> {
    goes_on_during(Fault::Unavailable)
}

#[test]
fn an_unlisted_folder_is_never_shown_empty() -> Result<()> {
    let store = Store::ministack()?;
    let names: BTreeSet<String> = (0..25).map(|number| format!("{number:02}.md")).collect();
    let notes: Vec<_> = names.iter().map(|name| format!("deep/down/{name}")).collect();
    notes.iter().try_for_each(|key| store.put(key, b"note"))?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    proxy.set_fault(Fault::Reset);
    let listing = || -> std::io::Result<BTreeSet<String>> {
        std::fs::read_dir(mount.path("deep/down"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let during = listing();
    let honest = during
        .as_ref()
        .map_or_else(|error| error.raw_os_error() == Some(libc::EIO), |seen| *seen == names);
    ensure!(honest, "during the outage the folder showed {during:?}");
    proxy.set_fault(Fault::None);
    wait_until("complete listing", PATIENCE, || match listing() {
        Ok(seen) if seen == names => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_known_cache_mounts_while_its_store_is_down() -> Result<()> {
    let mut scene = scene(0)?;
    scene.mount.drain()?;
    scene.mount.unmount()?;
    scene.proxy.set_fault(Fault::Reset);
    scene.mount.remount()?;
    scene.notes_are_readable()?;
    scene.writes_go_on()?;
    scene.proxy.set_fault(Fault::None);
    scene.everything_arrives()
}

#[test]
fn edits_of_an_outage_survive_a_kill() -> Result<()> {
    let mut scene = scene(0)?;
    scene.proxy.set_fault(Fault::Unavailable);
    scene.writes_go_on()?;
    scene.mount.kill9();
    scene.proxy.set_fault(Fault::None);
    scene.mount.remount()?;
    scene.everything_arrives()
}

#[test]
fn an_unmount_during_an_outage_ends_and_says_what_is_left() -> Result<()> {
    let mut scene = scene(0)?;
    scene.proxy.set_fault(Fault::Reset);
    scene.writes_go_on()?;
    let dir = scene.mount.dir().display().to_string();
    let finished = scene.mount.notefs().run(&["unmount", &dir, "--timeout", "3s"])?;
    let words = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(
        words.contains("2") && words.len() > 20,
        "said nothing of what is left: {words:?}"
    );
    scene.mount.kill9();
    scene.proxy.set_fault(Fault::None);
    scene.mount.remount()?;
    scene.everything_arrives()
}

#[test]
fn puts_that_fail_for_a_while_are_repeated() -> Result<()> {
    let store = Store::ministack()?;
    let proxy = Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    proxy.set_fault_on(Class::Put, Fault::Unavailable);
    std::fs::write(mount.path("note.md"), "patient")?;
    wait_until("a failed PUT", PATIENCE, || match proxy.count(Class::Put) {
        0 => Err("no PUT yet".into()),
        _ => Ok(()),
    })?;
    let state = mount.state_of("note.md")?;
    ensure!(state == "written", "a note that the store refused is called {state:?}");
    proxy.set_fault(Fault::None);
    mount.settle()?;
    ensure!(
        mount.state_of("note.md")? == "stored",
        "stored, but called {:?}",
        mount.state_of("note.md")?
    );
    ensure!(store.get("note.md")?.as_deref() == Some(b"patient"), "never arrived");
    Ok(())
}
