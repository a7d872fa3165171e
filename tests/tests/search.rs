//! A note is found the moment its save has returned, and a search never pretends to know what is not indexed yet.

use anyhow::{Context, Result, ensure};
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, vault, wait_until};
use serde_json::Value;

fn mounted() -> Result<Mount> {
    Mount::start(&Store::folder()?)
}

fn finds(mount: &Mount, query: &str, path: &str) -> Result<()> {
    let found = mount.search(query)?;
    ensure!(
        found.iter().any(|given| given == path),
        "a search for {query:?} found {found:?}, not {path:?}"
    );
    Ok(())
}

fn wait_for_index(mount: &Mount) -> Result<()> {
    mount
        .notefs()
        .output(&["status", &mount.dir().display().to_string(), "--wait", "indexed"])?;
    let status = mount.status()?;
    ensure!(behind(&status) == Some(0), "waited, but behind: {status}");
    Ok(())
}

/// How many changes and adopted notes the index has not seen.
fn behind(status: &Value) -> Option<u64> {
    let indexed = &status["indexed"];
    Some(indexed["behind"].as_u64()? + indexed["backlog"].as_u64()?)
}

#[test]
fn a_save_is_searchable_when_it_returns() -> Result<()> {
    let mount = mounted()?;
    for number in 0..100 {
        let path = format!("note {number}.md");
        if number % 2 == 0 {
            std::fs::write(mount.path(&path), format!("# N\n\nunmistakable{number}x\n"))?;
        } else {
            std::fs::write(mount.path("save.tmp"), format!("# N\n\nunmistakable{number}x\n"))?;
            std::fs::rename(mount.path("save.tmp"), mount.path(&path))?;
        }
        let found = mount.search(&format!("unmistakable{number}x"))?;
        ensure!(
            found == [path.clone()],
            "right after the save of {path:?} the search found {found:?}"
        );
    }
    Ok(())
}

#[test]
fn an_edit_a_rename_and_a_removal_are_searchable_at_once() -> Result<()> {
    let mount = mounted()?;
    std::fs::write(mount.path("one.md"), "# One\n\nalphaword\n")?;
    finds(&mount, "alphaword", "one.md")?;
    std::fs::write(mount.path("one.md"), "# One\n\nbetaword\n")?;
    ensure!(mount.search("alphaword")?.is_empty(), "the old content is still found");
    finds(&mount, "betaword", "one.md")?;
    std::fs::create_dir(mount.path("folder"))?;
    std::fs::rename(mount.path("one.md"), mount.path("folder/two.md"))?;
    ensure!(
        mount.search("betaword")? == ["folder/two.md"],
        "after a rename: {:?}",
        mount.search("betaword")?
    );
    std::fs::rename(mount.path("folder"), mount.path("moved"))?;
    ensure!(
        mount.search("betaword")? == ["moved/two.md"],
        "after a folder's rename: {:?}",
        mount.search("betaword")?
    );
    std::fs::remove_dir_all(mount.path("moved"))?;
    ensure!(mount.search("betaword")?.is_empty(), "a removed note is still found");
    Ok(())
}

#[test]
fn words_of_many_kinds_are_found() -> Result<()> {
    let mount = mounted()?;
    let note = "---\ntitle: Ein Titel\nstatus: verschoben\ntags: [front-tag]\n---\n# Heading word\n\n\
                Café naïve Größe, 全文検索は速い, 가나다라, object storage. #inline-tag `code_word`\n";
    std::fs::write(mount.path("many.md"), note)?;
    let queries = [
        "Titel",
        "heading",
        "cafe",
        "Café",
        "naive",
        "größe",
        "検索",
        "全文",
        "가나",
        "stor*",
        "inline-tag",
    ];
    for query in queries {
        finds(&mount, query, "many.md")?;
    }
    finds(&mount, "\"object storage\"", "many.md")?;
    for query in [
        "\"",
        "AND",
        "(",
        "a AND (",
        "NEAR(",
        "*",
        "-",
        "'; drop table notes; --",
        "col:val",
    ] {
        mount
            .search(query)
            .with_context(|| format!("an odd query failed: {query:?}"))?;
    }
    Ok(())
}

#[test]
fn the_best_note_comes_first() -> Result<()> {
    let mount = mounted()?;
    for number in 0..30 {
        std::fs::write(
            mount.path(&format!("filler {number}.md")),
            "words about zebras and much more ".repeat(30),
        )?;
    }
    std::fs::write(mount.path("zebras.md"), "# Zebras\n\nzebras zebras zebras\n")?;
    let found = mount.search("zebras")?;
    ensure!(
        found.first().is_some_and(|path| path == "zebras.md"),
        "the best match is {found:?}"
    );
    ensure!(found.len() == 31, "found {} of 31", found.len());
    Ok(())
}

#[test]
fn backlinks_and_tags_follow_the_notes() -> Result<()> {
    let mount = mounted()?;
    std::fs::create_dir(mount.path("sub"))?;
    std::fs::write(mount.path("target.md"), "# Target\n")?;
    std::fs::write(mount.path("wiki.md"), "See [[target]] #green\n")?;
    std::fs::write(
        mount.path("alias.md"),
        "See [[target|that one]] and ![[target#part]] #green\n",
    )?;
    std::fs::write(mount.path("sub/markdown.md"), "See [it](../target.md) #blue/light\n")?;
    std::fs::write(mount.path("code.md"), "```\n[[target]] #red\n```\n")?;
    let backlinks = |mount: &Mount| {
        mount
            .notefs()
            .output(&["backlinks", &mount.path("target.md").display().to_string()])
    };
    let told = backlinks(&mount)?;
    for from in ["wiki.md", "alias.md", "sub/markdown.md"] {
        ensure!(told.contains(from), "no backlink from {from}: {told}");
    }
    ensure!(!told.contains("code.md"), "a link in a code block counts: {told}");
    let tags = mount.notefs().output(&["tags", &mount.dir().display().to_string()])?;
    ensure!(
        tags.contains("green") && tags.contains("blue/light") && !tags.contains("red"),
        "tags: {tags}"
    );
    std::fs::remove_file(mount.path("wiki.md"))?;
    let told = backlinks(&mount)?;
    ensure!(!told.contains("wiki.md"), "a removed note still links: {told}");
    Ok(())
}

#[test]
fn an_adopted_bucket_is_indexed_by_itself() -> Result<()> {
    let store = Store::ministack()?;
    vault::put_to(&vault::generate(150, 11), &store)?;
    let mut mount = Mount::start(&store)?;
    wait_for_index(&mount)?;
    for number in [0, 1, 77, 149] {
        finds(&mount, &format!("unique{number:05}"), &vault::note_path(number))?;
    }
    mount.unmount()?;
    mount.remount()?;
    finds(&mount, "unique00077", &vault::note_path(77)).context("after a remount")?;
    mount.kill9();
    mount.remount()?;
    finds(&mount, "unique00149", &vault::note_path(149)).context("after a kill")
}

#[test]
fn a_search_says_when_it_is_behind() -> Result<()> {
    let store = Store::ministack()?;
    vault::put_to(&vault::generate(400, 13), &store)?;
    let proxy = notefs_tests::Proxy::start(store.client()?.address)?;
    let mount = Mount::start(&store.via(proxy.address())?)?;
    // While no note can be fetched, the index cannot be complete unless it already was.
    proxy.set_fault_on(notefs_tests::Class::Get, notefs_tests::Fault::Unavailable);
    let dir = mount.dir().display().to_string();
    let behind = behind(&mount.status()?).context("no figure for what is not indexed")?;
    let finished = mount.notefs().run(&["search", &dir, "unique00399"])?;
    let words = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
    let told = ["behind", "not yet indexed", "still", "incomplete"]
        .iter()
        .any(|word| words.contains(word));
    ensure!(
        behind == 0 || told,
        "{behind} notes behind, but the search said only: {words:?}"
    );
    proxy.set_fault(notefs_tests::Fault::None);
    wait_for_index(&mount)?;
    finds(&mount, "unique00399", &vault::note_path(399))
}

#[test]
fn a_lost_index_is_built_again() -> Result<()> {
    let mut mount = mounted()?;
    vault::write_to(&vault::generate(40, 17), mount.dir())?;
    wait_for_index(&mount)?;
    mount
        .notefs()
        .output(&["index", "rebuild", &mount.dir().display().to_string()])?;
    wait_for_index(&mount)?;
    finds(&mount, "unique00039", &vault::note_path(39)).context("after a rebuild")?;
    mount.unmount()?;
    for entry in std::fs::read_dir(mount.cache())? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("index"))
        {
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?
            } else {
                std::fs::remove_file(&path)?
            }
        }
    }
    mount.remount()?;
    wait_until("index of a mount whose index was deleted", PATIENCE, || {
        finds(&mount, "unique00039", &vault::note_path(39)).map_err(|error| format!("{error:#}"))
    })
}

#[test]
fn strange_notes_do_not_stop_the_writer_or_the_index() -> Result<()> {
    let mount = mounted()?;
    std::fs::write(mount.path("latin1.md"), b"# Caf\xe9\n\nlatinword \xff\xfe\n")?;
    std::fs::write(mount.path("yaml.md"), "---\n: [unclosed\n\t&a *a\n---\nyamlword\n")?;
    std::fs::write(mount.path("nul.md"), b"before\0after nulword\n")?;
    std::fs::write(mount.path("nested.md"), format!("{} nestedword\n", "> ".repeat(5_000)))?;
    std::fs::write(mount.path("long.md"), format!("{} longword\n", "x".repeat(2_000_000)))?;
    let huge = std::fs::File::create(mount.path("huge.md"))?;
    huge.set_len(2_000_000_000)?;
    drop(huge);
    std::fs::write(mount.path("good.md"), "goodword\n")?;
    finds(&mount, "goodword", "good.md")?;
    for (word, path) in [
        ("latinword", "latin1.md"),
        ("yamlword", "yaml.md"),
        ("nulword", "nul.md"),
    ] {
        finds(&mount, word, path)?;
    }
    Ok(())
}

#[test]
fn results_name_the_folder_of_the_shell() -> Result<()> {
    let mount = mounted()?;
    std::fs::create_dir(mount.path("sub"))?;
    std::fs::write(mount.path("sub/here.md"), "# Here\n\nwhereword in a sentence\n")?;
    let mut command = mount.notefs().command(["search", "whereword", "--json"])?;
    command.current_dir(mount.path("sub"));
    let finished = notefs_tests::process::run(command, PATIENCE)?.ok()?;
    ensure!(
        finished.stdout.contains("sub/here.md"),
        "without a folder: {}",
        finished.stdout
    );
    serde_json::from_str::<Value>(&finished.stdout).context("no JSON")?;
    let plain = mount
        .notefs()
        .output(&["search", &mount.dir().display().to_string(), "whereword"])?;
    ensure!(
        plain.contains("sub/here.md") && plain.contains("sentence"),
        "no path or no snippet: {plain}"
    );
    let none = mount
        .notefs()
        .run(&["search", &mount.dir().display().to_string(), "nosuchword"])?;
    ensure!(none.code() == 1, "nothing found gave exit code {}", none.code());
    Ok(())
}

#[test]
fn a_read_only_mount_is_searchable() -> Result<()> {
    let store = Store::ministack()?;
    store.put("read.md", b"# Read\n\nreadonlyword\n")?;
    let mount = Mount::start_with(&store, MountOptions::args(&["--read-only"]))?;
    wait_for_index(&mount)?;
    finds(&mount, "readonlyword", "read.md")
}
