//! The index that all machines share, in real databases: it follows what is stored, answers who knows nothing yet, tells of others' changes,
//! and nobody misses it when it is away.

#![allow(clippy::print_stderr, reason = "a failed run is repeated by its seed")]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notefs_tests::pair::{reads, shows};
use notefs_tests::postgres::Postgres;
use notefs_tests::process::shell;
use notefs_tests::sqld::Sqld;
use notefs_tests::{Agent, Class, Fault, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};
use serde_json::{Value, json};

/// What shows nowhere.
const PASSWORD: &str = "hunter2hunter2";

/// Words of which each note has some.
const WORDS: [&str; 6] = ["zebra", "giraffe", "heron", "otter", "lynx", "marten"];

/// Edits of the random test.
const EDITS: usize = 40;

fn machine(store: &Store, index: &str, more: &[&str]) -> Result<Mount> {
    let options = MountOptions {
        env: vec![("NOTEFS_INDEX".to_owned(), index.to_owned())],
        ..MountOptions::args(&[&["--write-back", "100ms", "--poll", "1s"][..], more].concat())
    };
    Mount::start_with(store, options)
}

/// A machine that knows nothing and whose store is silent as soon as it is asked for its keys.
fn fresh_machine(store: &Store, index: &str) -> Result<(Mount, Proxy)> {
    let proxy = Proxy::start(store.client()?.address)?;
    // One list says that the store is there, one that nobody has told of the root.
    proxy.set_fault_after(2, Class::List, Fault::BlackHole);
    let mount = machine(&store.via(proxy.address())?, index, &[])?;
    Ok((mount, proxy))
}

/// Waits until the shared index knows all that is stored.
fn shared(mount: &Mount) -> Result<()> {
    mount.drain()?;
    let dir = mount.dir().display().to_string();
    mount
        .notefs()
        .output(&["status", &dir, "--wait", "shared", "--timeout", "60s"])?;
    Ok(())
}

fn answer(mount: &Mount, query: &str) -> Result<Value> {
    let dir = mount.dir().display().to_string();
    let finished = mount
        .notefs()
        .run(&["search", &dir, query, "--json", "--limit", "1000"])?;
    serde_json::from_str(&finished.stdout).with_context(|| finished.stderr)
}

/// Which notes each word finds, with their titles.
fn findings(mount: &Mount, from: &str) -> Result<BTreeMap<String, Vec<(String, String)>>> {
    let mut findings = BTreeMap::new();
    for word in WORDS {
        let answer = answer(mount, word)?;
        ensure!(answer["from"] == from, "{word} is answered by another index: {answer}");
        let hits = answer["hits"].as_array().context("no hits")?.iter();
        let text = |hit: &Value, field: &str| hit[field].as_str().unwrap_or_default().to_owned();
        let mut found: Vec<_> = hits.map(|hit| (text(hit, "path"), text(hit, "title"))).collect();
        found.sort();
        findings.insert(word.to_owned(), found);
    }
    Ok(findings)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// One edit by one of the machines, or by another tool. Of two who meddle with one note either may come late.
fn edit(random: &mut Random, machines: [&Mount; 2], store: &Store) -> Result<()> {
    let mount = machines[random.below(2)];
    let (folder, other) = (
        format!("folder{}", random.below(3)),
        format!("folder{}", random.below(3)),
    );
    let note = format!("{folder}/note{}.md", random.below(6));
    let text = format!(
        "# {} {}\n\n{}\n",
        WORDS[random.below(6)],
        random.below(100),
        WORDS[random.below(6)]
    );
    let done = match random.below(10) {
        0..=4 => std::fs::create_dir_all(mount.path(&folder)).and_then(|()| std::fs::write(mount.path(&note), text)),
        5 => std::fs::remove_file(mount.path(&note)),
        6 | 7 => std::fs::rename(
            mount.path(&note),
            mount.path(&format!("{other}/moved{}.md", random.below(6))),
        ),
        8 => std::fs::rename(mount.path(&folder), mount.path(&other)),
        _ => return store.put(&note, text.as_bytes()),
    };
    match done {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTEMPTY)) => Ok(()),
        done => Ok(done?),
    }
}

fn they_agree(store: Store, index: &str) -> Result<()> {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let given = number("NOTEFS_TEST_SEED").or_else(|| number("NOTEFS_TEST_FIRST_SEED"));
    let seed = given.unwrap_or(time.as_nanos() as u64 | 1);
    eprintln!("NOTEFS_TEST_SEED={seed}");
    let mut random = Random(seed);
    store.put(
        "folder0/before.md",
        b"# An otter\n\nThat was there before anybody mounted.\n",
    )?;
    let (a, b) = (machine(&store, index, &[])?, machine(&store, index, &[])?);
    for _ in 0..EDITS {
        edit(&mut random, [&a, &b], &store).with_context(|| format!("seed {seed}"))?;
    }
    a.drain()?;
    b.drain()?;
    let (fresh, _proxy) = fresh_machine(&store, index)?;
    let keys = || -> Result<usize> { Ok(store.keys()?.iter().filter(|key| key.ends_with(".md")).count()) };
    wait_until("one answer of all machines and their indexes", PATIENCE, || {
        let agree = || -> Result<()> {
            shared(&a)?;
            shared(&b)?;
            let (here, there) = (findings(&a, "local")?, findings(&b, "local")?);
            ensure!(here == there, "the machines differ: {here:?} {there:?}");
            let all = findings(&fresh, "shared")?;
            ensure!(here == all, "the shared index differs: {here:?} {all:?}");
            let noted: std::collections::BTreeSet<_> = here.values().flatten().collect();
            ensure!(noted.len() == keys()?, "{} notes for {} keys", noted.len(), keys()?);
            Ok(())
        };
        agree().map_err(|error| format!("seed {seed}: {error:#}"))
    })?;
    let kept = findings(&a, "local")?;
    a.notefs()
        .output(&["index", "rebuild", &a.dir().display().to_string()])?;
    let built = findings(&a, "local")?;
    ensure!(
        kept == built,
        "seed {seed}: the index built anew differs: {kept:?} {built:?}"
    );
    Ok(())
}

#[test]
fn machines_their_indexes_and_libsql_agree() -> Result<()> {
    they_agree(Store::ministack()?, &Sqld::start()?.url())
}

#[test]
fn machines_their_indexes_and_postgres_agree() -> Result<()> {
    they_agree(Store::ministack()?, &Postgres::start()?.url("test"))
}

#[test]
fn a_database_that_dies_is_missed_by_nobody_and_catches_up() -> Result<()> {
    let (store, mut database) = (Store::ministack()?, Sqld::start()?);
    let url = database.url();
    let mut mount = machine(&store, &url, &[])?;
    std::fs::write(mount.path("early.md"), "an otter\n")?;
    shared(&mount)?;
    database.kill();
    for number in 0..20 {
        std::fs::write(mount.path(&format!("{number}.md")), format!("an otter {number}\n"))?;
        ensure!(mount.search(&format!("\"otter {number}\""))? == [format!("{number}.md")]);
    }
    std::fs::remove_file(mount.path("early.md"))?;
    mount.drain()?;
    wait_until("status that tells of it", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?["shared"].clone();
        let told = status["last_error"].is_string() && status["away_ms"].is_u64();
        if told { Ok(()) } else { Err(status.to_string()) }
    })?;
    mount.kill9();
    mount.remount()?;
    database.start_again()?;
    shared(&mount)?;
    let (fresh, _proxy) = fresh_machine(&store, &url)?;
    let found = fresh.search("otter")?;
    ensure!(
        found.len() == 20 && !found.contains(&"early.md".to_owned()),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn a_fresh_machine_searches_before_it_has_read_anything() -> Result<()> {
    let (store, database) = (Store::ministack()?, Sqld::start()?);
    let writer = machine(&store, &database.url(), &[])?;
    std::fs::create_dir(writer.path("deep"))?;
    for number in 0..10 {
        std::fs::write(writer.path(&format!("deep/{number}.md")), format!("a heron {number}\n"))?;
    }
    shared(&writer)?;
    std::fs::write(
        writer.path("hub.md"),
        "# Hub\n\n[[deep/7]] and [three](deep/3.md) #birds\n",
    )?;
    shared(&writer)?;
    let (fresh, proxy) = fresh_machine(&store, &database.url())?;
    let answer = answer(&fresh, "\"heron 7\"")?;
    ensure!(answer["hits"][0]["path"] == "deep/7.md", "{answer}");
    ensure!(answer["from"] == "shared" && answer["complete"] == false, "{answer}");
    let read = proxy.log().into_iter().filter(|seen| seen.key.ends_with(".md")).count();
    ensure!(read == 0, "{read} requests for notes");
    let said = fresh
        .notefs()
        .run(&["search", &fresh.dir().display().to_string(), "heron"])?
        .stderr;
    ensure!(
        said.contains("shared index has answered") && said.contains("behind"),
        "{said}"
    );
    knows_of_notes_it_never_saw(&fresh)?;
    proxy.set_fault(Fault::None);
    reads(&fresh, "deep/7.md", "a heron 7\n")
}

/// Links, tags and the newest notes, on the command line and in the virtual folder.
fn knows_of_notes_it_never_saw(fresh: &Mount) -> Result<()> {
    let dir = fresh.dir().display().to_string();
    let ask = |args: &[&str]| -> Result<Value> { fresh.notefs().json(&[args, &["--json"]].concat()) };
    let backlinks = ask(&["backlinks", &format!("{dir}/deep/7.md")])?;
    ensure!(
        backlinks[0]["path"] == "hub.md" && backlinks[0]["line"] == 3,
        "{backlinks}"
    );
    let links = ask(&["links", &format!("{dir}/hub.md")])?;
    ensure!(
        links[0]["resolved"] == "deep/7.md" && links[1]["resolved"] == "deep/3.md",
        "{links}"
    );
    let tags = ask(&["tags", &dir])?;
    ensure!(tags[0]["tag"] == "birds" && tags[0]["notes"] == 1, "{tags}");
    let mut agent = Agent::start(fresh, &["--read-only"])?;
    for (tool, arguments, rows, count) in [
        ("backlinks", json!({"path": "deep/3.md"}), "links", 1),
        ("recent", json!({}), "notes", 11),
    ] {
        let told = agent.call(tool, arguments)?;
        ensure!(
            told[rows].as_array().map(Vec::len) == Some(count) && told["from"] == "shared" && told["complete"] == false,
            "{told}"
        );
    }
    let recent = ask(&["recent", &dir])?;
    ensure!(recent.as_array().is_some_and(|notes| notes.len() == 11), "{recent}");
    for (folder, count) in [("recent", 11), ("tags/birds", 1), ("search/heron", 10)] {
        let names = std::fs::read_dir(fresh.path(&format!(".notefs/{folder}")))?.count();
        ensure!(names == count, "{names} notes in {folder}");
    }
    Ok(())
}

#[test]
fn what_the_database_refuses_is_a_warning_and_the_rest_is_shared() -> Result<()> {
    let (store, database) = (Store::folder()?, Postgres::start()?);
    let mount = machine(&store, &database.url("test"), &[])?;
    std::fs::write(mount.path("early.md"), "an otter\n")?;
    shared(&mount)?;
    database.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.title = 'poison' THEN RAISE EXCEPTION 'it is too odd'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON notefs.note FOR EACH ROW EXECUTE FUNCTION refuse()",
    )?;
    for (name, title) in [("a", "food"), ("b", "poison"), ("c", "food")] {
        std::fs::write(mount.path(&format!("{name}.md")), format!("# {title}\n"))?;
    }
    shared(&mount)?;
    let dir = mount.dir().display().to_string();
    let warnings = || mount.notefs().json(&["status", &dir, "--warnings", "--json"]);
    let told = warnings()?;
    ensure!(told.as_array().is_some_and(|rows| rows.len() == 1), "{told}");
    ensure!(told[0]["path"] == "b.md" && told[0]["kind"] == "not-shared", "{told}");
    ensure!(
        told[0]["message"]
            .as_str()
            .is_some_and(|message| message.contains("it is too odd")),
        "{told}"
    );
    let taken = database.run("SELECT count(*) FROM notefs.note WHERE gone = 0")?;
    ensure!(taken.trim() == "3", "{taken} notes");
    std::fs::write(mount.path("b.md"), "# cured\n")?;
    shared(&mount)?;
    ensure!(warnings()? == serde_json::json!([]), "{}", warnings()?);
    Ok(())
}

#[test]
fn what_is_gone_here_is_not_found_there() -> Result<()> {
    let (store, database) = (Store::ministack()?, Sqld::start()?);
    for (name, text) in [
        ("kept", "a lynx [[gone]] [[changed]]\n"),
        ("gone", "a lynx\n"),
        ("changed", "a lynx [[kept]]\n"),
    ] {
        store.put(&format!("{name}.md"), text.as_bytes())?;
    }
    let teller = machine(&store, &database.url(), &[])?;
    shared(&teller)?;
    let proxy = Proxy::start(store.client()?.address)?;
    // What the notes say cannot be read, so that this machine's own index stays behind.
    proxy.set_fault_on(Class::Get, Fault::Unavailable);
    let fresh = machine(&store.via(proxy.address())?, &database.url(), &["--pin", "off"])?;
    shows(&fresh, ".", 3)?;
    proxy.set_fault(Fault::Unavailable);
    std::fs::remove_file(fresh.path("gone.md"))?;
    std::fs::write(fresh.path("changed.md"), "a marten [[kept]]\n")?;
    std::fs::write(fresh.path("new.md"), "a lynx\n")?;
    let found = fresh.search("lynx")?;
    ensure!(found == ["new.md", "kept.md"], "{found:?}");
    let kept = fresh.path("kept.md").display().to_string();
    let links = fresh.notefs().json(&["links", &kept, "--json"])?;
    ensure!(
        links[0]["resolved"].is_null() && links[1]["resolved"] == "changed.md",
        "{links}"
    );
    // Indexed here, with a link to what is not.
    let backlinks = fresh.notefs().json(&["backlinks", &kept, "--json"])?;
    ensure!(backlinks[0]["path"] == "changed.md", "{backlinks}");
    Ok(())
}

#[test]
fn a_row_of_another_machine_is_seen_without_its_feed() -> Result<()> {
    let (store, database) = (Store::ministack()?, Sqld::start()?);
    let proxy = Proxy::start(store.client()?.address)?;
    let reader = machine(&store.via(proxy.address())?, &database.url(), &[])?;
    shows(&reader, ".", 0)?;
    // Neither the bucket nor who else writes to it can be listed from now on.
    proxy.set_fault_on(Class::List, Fault::Unavailable);
    let writer = machine(&store, &database.url(), &[])?;
    std::fs::write(writer.path("note.md"), "a marten\n")?;
    reads(&reader, "note.md", "a marten\n")?;
    std::fs::write(writer.path("note.md"), "two martens\n")?;
    reads(&reader, "note.md", "two martens\n")?;
    std::fs::remove_file(writer.path("note.md"))?;
    shows(&reader, ".", 0)
}

#[test]
fn the_secret_appears_nowhere() -> Result<()> {
    let (store, database) = (Store::folder()?, Sqld::with_tokens()?);
    let token = database.token("rw")?;
    let libsql = format!("{}?authToken={token}", database.url());
    let postgres = format!("postgres://me:{PASSWORD}@127.0.0.1:1/nowhere");
    for (index, secret) in [(libsql, token.as_str()), (postgres, PASSWORD)] {
        let mount = machine(&store, &index, &["-vv"])?;
        std::fs::write(mount.path("note.md"), "an otter\n")?;
        if secret == token {
            shared(&mount)?;
        }
        let dir = mount.dir().display().to_string();
        let ways: [&[&str]; 4] = [
            &["status", &dir],
            &["status", &dir, "--json"],
            &["search", &dir, "otter", "--json"],
            &["status"],
        ];
        for way in ways {
            let finished = mount.notefs().run(way)?;
            ensure!(!format!("{finished:?}").contains(secret), "{way:?}: {finished:?}");
        }
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", mount.pid()?))?;
        ensure!(!arguments.contains(secret), "{arguments}");
        let places = [mount.cache(), mount.notefs().home()];
        for place in places {
            let script = format!(
                "grep -rlaF -- '{secret}' '{}' --exclude-dir=notes || true",
                place.display()
            );
            let leaks = shell(Path::new("/"), &script)?;
            ensure!(leaks.is_empty(), "{leaks}");
        }
    }
    Ok(())
}

/// The mount works, and its status says what is wrong with the database.
fn told_and_no_more(mount: &Mount, address: &str) -> Result<()> {
    std::fs::write(mount.path("note.md"), "an otter\n")?;
    ensure!(mount.search("otter")? == ["note.md"]);
    wait_until("status that tells of it", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?["shared"].clone();
        let told = status["last_error"].is_string() && status["address"] == address;
        if told { Ok(()) } else { Err(status.to_string()) }
    })?;
    let shown = mount.notefs().output(&["status", &mount.dir().display().to_string()])?;
    ensure!(shown.contains(&format!("shared    in {address}")), "{shown}");
    ensure!(!shown.contains(PASSWORD), "{shown}");
    Ok(())
}

#[test]
fn a_wrong_token_or_address_is_told_and_the_mount_goes_on() -> Result<()> {
    let (store, database) = (Store::folder()?, Sqld::with_tokens()?);
    let nowhere = "postgres://me@127.0.0.1:1/nowhere";
    told_and_no_more(&machine(&store, nowhere, &[])?, nowhere)?;
    let url = database.url();
    let mount = machine(&store, &format!("{url}?authToken={PASSWORD}"), &[])?;
    told_and_no_more(&mount, &url)?;
    let other = mount.notefs().home().join("other");
    std::fs::create_dir(&other)?;
    let other = other.display().to_string();
    let index = format!("libsql://notes.example?authToken={PASSWORD}");
    let said = mount
        .notefs()
        .failure(&["mount", "--index", &index, &store.url, &other], 2)?;
    ensure!(
        said.contains("NOTEFS_INDEX_TOKEN") && !said.contains(PASSWORD),
        "{said}"
    );
    let said = mount
        .notefs()
        .failure(&["mount", "--index", "mysql://h/db", &store.url, &other], 2)?;
    ensure!(said.contains("libsql://"), "{said}");
    Ok(())
}

#[test]
fn an_encrypted_database_is_believed_only_with_its_certificate() -> Result<()> {
    let (store, database) = (Store::folder()?, Postgres::encrypted()?);
    let url = format!("{}?sslmode=require", database.url("test"));
    let mount = machine(&store, &url, &[])?;
    std::fs::write(mount.path("a.md"), "# An otter\n")?;
    wait_until("word of the certificate", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?.to_string();
        match status.contains("SSL_CERT_FILE") {
            true => Ok(()),
            false => Err(status),
        }
    })?;
    drop(mount);
    let options = MountOptions {
        env: vec![
            ("NOTEFS_INDEX".to_owned(), url),
            ("SSL_CERT_FILE".to_owned(), database.authority().display().to_string()),
        ],
        ..MountOptions::args(&["--write-back", "100ms"])
    };
    let mount = Mount::start_with(&store, options)?;
    std::fs::write(mount.path("b.md"), "# A heron\n")?;
    shared(&mount)?;
    let connections = "pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'notefs'";
    let encrypted = database.run(&format!("SELECT count(*) > 0 AND bool_and(ssl) FROM {connections}"))?;
    ensure!(encrypted.trim() == "t", "{encrypted}");
    let told = database.run("SELECT count(*) FROM notefs.note WHERE gone = 0 AND path = 'b.md'::bytea")?;
    ensure!(told.trim() == "1", "{told}");
    Ok(())
}
