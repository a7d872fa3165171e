//! The index that machines share, in libSQL and in PostgreSQL: how long the first machine takes to fill it, how soon a machine that knows
//! nothing answers from it, and how long the same questions take in it and in this machine's own index.
//!
//! The machine that knows nothing comes to a store which is silent as soon as it is asked for its keys: so nothing but the shared index can
//! answer, then and later. What lies in that store does not matter then, so it is an empty bucket, to which the database is given over once
//! a folder has filled it. Asked as users do: `notefs mount`, then `notefs search`, and afterwards by an agent, all indexes in turn.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::postgres::Postgres;
use notefs_tests::process;
use notefs_tests::sqld::Sqld;
use notefs_tests::{Agent, Class, Fault, Mount, MountOptions, Notefs, Proxy, Store, scratch, vault};
use serde_json::{Value, json};

use crate::search::{Figure, KINDS};

/// Machines that start with nothing, for each database.
const STARTS: usize = 10;

/// Questions of each kind.
const SAMPLES: usize = 100;

/// Longest time until the first machine has told a database all notes.
const TOLD_WITHIN: &str = "30m";
const TOLD_DEADLINE: Duration = Duration::from_secs(1_830);

/// A database.
struct Database<'a> {
    name: &'static str,
    url: String,
    /// Its table of vaults.
    vaults: &'static str,
    /// Runs SQL in it, past notefs.
    run: &'a dyn Fn(&str) -> Result<()>,
}

/// Measures a vault of this size; a table and the same as JSON.
pub(crate) fn measure(size: usize) -> Result<(String, Value)> {
    let (sqld, postgres) = (Sqld::start()?, Postgres::start()?);
    let databases = [
        Database {
            name: "libSQL",
            url: sqld.url(),
            vaults: "vault",
            run: &|sql| sqld.run(sql),
        },
        Database {
            name: "PostgreSQL",
            url: postgres.url("test"),
            vaults: "notefs.vault",
            run: &|sql| postgres.run(sql).map(drop),
        },
    ];
    let figures = figures(&databases, size)?;
    let header = [
        "| notes | what | p50 | p99 |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let lines = figures
        .iter()
        .map(|(what, figure)| format!("| {size} | {what} | {} |", figure.cells()));
    let rows = figures
        .iter()
        .map(|(what, figure)| json!({"notes": size, "what": what, "value": figure.json()}));
    let rows: Vec<Value> = rows.collect();
    Ok((
        header.into_iter().chain(lines).collect::<Vec<_>>().join("\n"),
        Value::from(rows),
    ))
}

fn figures(databases: &[Database<'_>], size: usize) -> Result<Vec<(String, Figure)>> {
    let store = Store::folder()?;
    let folder = store.url.strip_prefix("fs://").context("a store that is a folder")?;
    vault::write_to(&vault::generate(size, 7), Path::new(folder))?;
    let bucket = Store::ministack()?;
    let mut figures = Vec::new();
    let mut teller = None;
    for database in databases {
        let name = database.name;
        eprintln!("the first machine tells {name} ...");
        drop(teller.take());
        let (mount, speed) = told(&store, &database.url, size)?;
        figures.push((format!("{name}: the first machine tells of all notes"), speed));
        teller = Some(mount);
    }
    let teller = teller.context("no machine has told a database")?;
    for database in databases {
        let name = database.name;
        eprintln!("machines that know nothing ask {name} ...");
        give_over(database, &bucket)?;
        let (mounted, answered) = starts(&bucket, &database.url, size)?;
        eprintln!("  mounted: {}, answered: {}", mounted.cells(), answered.cells());
        figures.push((format!("{name}: `notefs mount` of a new machine returns"), mounted));
        figures.push((format!("{name}: ... and `notefs search` has answered"), answered));
    }
    figures.extend(questions(&teller, &bucket, databases, size)?);
    Ok(figures)
}

/// Lets the bucket, which nobody has told of anything, have what the folder has filled.
fn give_over(database: &Database<'_>, bucket: &Store) -> Result<()> {
    // A machine of the bucket makes its vault.
    drop(Fresh::start(bucket, &database.url)?);
    let vaults = database.vaults;
    (database.run)(&format!(
        "UPDATE {vaults} SET name = name || ' before' WHERE name LIKE 's3:%'"
    ))?;
    (database.run)(&format!(
        "UPDATE {vaults} SET name = (SELECT replace(name, ' before', '') FROM {vaults} WHERE name LIKE 's3:%') WHERE name LIKE 'fs:%'"
    ))
}

/// A machine that has indexed the bucket and told the database of it, and how fast.
fn told(store: &Store, url: &str, size: usize) -> Result<(Mount, Figure)> {
    let options = MountOptions {
        env: vec![("NOTEFS_INDEX".to_owned(), url.to_owned())],
        ..MountOptions::default()
    };
    let start = Instant::now();
    let mount = Mount::start_with(store, options)?;
    let dir = mount.dir().display().to_string();
    for step in ["indexed", "shared"] {
        let mut wait = mount.notefs().command(["status", &dir, "--wait", step])?;
        wait.args(["--timeout", TOLD_WITHIN]);
        process::run(wait, TOLD_DEADLINE)?.ok()?;
        eprintln!("  {step} after {:.0?}", start.elapsed());
    }
    Ok((mount, Figure::Speed(size as f64 / start.elapsed().as_secs_f64())))
}

/// A mount in the background, as users have it.
struct Fresh {
    notefs: Notefs,
    dir: PathBuf,
    proxy: Proxy,
}

impl Fresh {
    /// Mounts on a machine that knows nothing.
    fn start(store: &Store, url: &str) -> Result<(Fresh, Duration)> {
        let proxy = Proxy::start(store.client()?.address)?;
        // One list says that the store is there, one that nobody has told of the root.
        proxy.set_fault_after(2, Class::List, Fault::BlackHole);
        let home = scratch::folder("fresh")?;
        let dir = home.join("notes");
        std::fs::create_dir(&dir)?;
        let fresh = Fresh {
            notefs: Notefs::new(&home, &store.env),
            dir,
            proxy,
        };
        let address = store.via(fresh.proxy.address())?.url;
        let start = Instant::now();
        fresh.notefs.output(&["mount", &address, &fresh.at(), "--index", url])?;
        Ok((fresh, start.elapsed()))
    }

    fn at(&self) -> String {
        self.dir.display().to_string()
    }

    /// Asks for a note, and sees that it was answered without a look at the bucket.
    fn ask(&self, query: &str) -> Result<()> {
        let answer = self.notefs.json(&["search", &self.at(), query, "--json"])?;
        ensure!(
            answer["from"] == "shared"
                && answer["complete"] == false
                && answer["hits"].as_array().is_some_and(|hits| hits.len() == 1),
            "{query} was answered with {answer}"
        );
        let read = self
            .proxy
            .log()
            .into_iter()
            .filter(|seen| seen.key.ends_with(".md"))
            .count();
        ensure!(read == 0, "{read} requests for notes");
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.notefs.run(&["unmount", &self.at()]).ok();
        scratch::force_unmount(Path::new(&self.dir));
    }
}

/// From the start of `notefs mount` to its end, and to the first answer.
fn starts(store: &Store, url: &str, size: usize) -> Result<(Figure, Figure)> {
    let (mut mounted, mut answered) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let (fresh, took) = Fresh::start(store, url)?;
        let asked = Instant::now();
        fresh.ask(&format!("unique{:05}", number * 7 % size))?;
        mounted.push(took);
        answered.push(took + asked.elapsed());
    }
    Ok((Figure::Times(mounted), Figure::Times(answered)))
}

/// The same questions to each index in turn, so that all meet the same machine.
fn questions(teller: &Mount, bucket: &Store, databases: &[Database<'_>], size: usize) -> Result<Vec<(String, Figure)>> {
    let mut machines = Vec::new();
    for database in databases {
        machines.push((database.name, Fresh::start(bucket, &database.url)?.0));
    }
    let mut agents = vec![("SQLite", "local", Agent::start(teller, &["--read-only"])?)];
    for (name, fresh) in &machines {
        let mut command = fresh.notefs.command(["mcp", "--read-only"])?;
        command.arg(&fresh.dir);
        agents.push((*name, "shared", Agent::of(command)?.0));
    }
    let mut figures = Vec::new();
    for (kind, query) in KINDS {
        eprintln!("{kind} ...");
        let mut times = vec![(Vec::new(), 0); agents.len()];
        for number in 0..SAMPLES {
            let query = query(number * 7 % size);
            for ((_, from, agent), (times, silent)) in agents.iter_mut().zip(&mut times) {
                let start = Instant::now();
                let found = agent.call("search", json!({"query": query}))?;
                times.push(start.elapsed());
                let is_found = found["hits"].as_array().is_some_and(|hits| !hits.is_empty());
                *silent += usize::from(!is_found || found["from"] != *from);
            }
        }
        for ((name, ..), (times, silent)) in agents.iter().zip(times) {
            let unanswered = match silent {
                0 => String::new(),
                silent => format!(" ({silent} of {SAMPLES} without an answer)"),
            };
            figures.push((format!("{kind}: {name}{unanswered}"), Figure::Times(times)));
        }
    }
    for (_, _, agent) in agents {
        agent.end()?;
    }
    Ok(figures)
}
