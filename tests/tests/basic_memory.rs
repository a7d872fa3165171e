//! Basic Memory, unmodified, on a real mount: its notes are those of a plain folder, and it sees what others write.

use anyhow::{Result, ensure};
use notefs_tests::basic_memory::{self, BasicMemory, course};
use notefs_tests::{Mount, MountOptions, Store, scratch};

#[test]
fn basic_memory_works_on_a_mount_as_in_a_plain_folder() -> Result<()> {
    let store = Store::folder()?;
    let mount = Mount::start(&store)?;
    let elsewhere = Mount::start_with(&store, MountOptions::args(&["--write-back", "100ms"]))?;
    let plain = scratch::folder("plain")?;
    // One server for both folders: each start takes seconds.
    let user = BasicMemory::with_projects(&[("mounted", mount.dir()), ("plain", &plain)])?;
    let mut server = user.serve()?;
    for project in ["mounted", "plain"] {
        course::run(&mut server, project)?;
    }
    for project in ["mounted", "plain"] {
        for (query, files) in course::ANSWERS {
            server.finds(project, query, files)?;
        }
    }
    let texts = basic_memory::same_texts(mount.dir(), &plain)?;
    ensure!(texts.len() == 6, "{texts:?}");

    // Its watcher tells it of an editor here and of another machine.
    std::fs::write(mount.path("new.md.part"), "# From an editor\n\nbongo\n")?;
    std::fs::rename(mount.path("new.md.part"), mount.path("new.md"))?;
    server.finds("mounted", "bongo", &["new.md"])?;
    std::fs::write(elsewhere.path("far.md"), "# From afar\n\nkudu\n")?;
    server.finds("mounted", "kudu", &["far.md"])?;
    std::fs::remove_file(elsewhere.path("kept/Renamed.md"))?;
    server.finds("mounted", "number0", &[])?;
    mount.drain()?;
    server.end()
}
