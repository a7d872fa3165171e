//! The real Basic Memory in a plain folder, on notefs and on `rclone mount`, or in any folder that is named: the same steps each
//! time, which pass or tell why not, and how long they take. What ends up in each folder is compared with the plain one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod bulk;
mod commands;
mod edits;
mod machines;
mod outcome;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use notefs_tests::basic_memory::{BasicMemory, course};
use notefs_tests::rclone::Rclone;
use notefs_tests::{Mount, MountOptions, Store, scratch};

use outcome::Left;
use report::{Report, Table};

const USAGE: &str = "usage: scripts/basic-memory [DIR [--elsewhere DIR]] [--notes N] [--only plain,notefs,rclone]";

/// The one project of each user.
const PROJECT: &str = "notes";

/// What to try.
struct Plan {
    folder: Option<PathBuf>,
    elsewhere: Option<PathBuf>,
    notes: usize,
    /// Some of the places alone, between commas.
    only: Option<String>,
}

/// A folder to try, and the same as another machine has it.
struct Place<'a> {
    folder: &'a Path,
    elsewhere: Option<&'a Path>,
}

fn plan() -> Result<Plan> {
    let mut plan = Plan {
        folder: None,
        elsewhere: None,
        notes: 500,
        only: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value; {USAGE}"));
        match arg.as_str() {
            "--notes" => plan.notes = value()?.parse().context("--notes takes a number")?,
            "--only" => plan.only = Some(value()?),
            "--elsewhere" => plan.elsewhere = Some(PathBuf::from(value()?).canonicalize()?),
            _ if arg.starts_with('-') || plan.folder.is_some() => bail!("unknown argument {arg}; {USAGE}"),
            _ => plan.folder = Some(Path::new(&arg).canonicalize().with_context(|| arg.clone())?),
        }
    }
    ensure!(
        plan.elsewhere.is_none() || plan.folder.is_some(),
        "--elsewhere needs DIR; {USAGE}"
    );
    Ok(plan)
}

/// All steps in one folder. A step that fails does not end them.
fn steps(user: &BasicMemory, place: &Place<'_>, notes: usize, report: &mut Report) -> Result<()> {
    commands::run(user, place.folder, report);
    let mut server = user.serve().context("the server does not start")?;
    for (number, (tool, arguments)) in course::calls().into_iter().chain(course::more_edits()).enumerate() {
        let operation = arguments["operation"].as_str().unwrap_or_default();
        report.step(&format!("mcp {:>2}: {tool} {operation}", number + 1), || {
            server.call(PROJECT, tool, &arguments).map(drop)
        });
    }
    for (query, files) in course::ANSWERS {
        report.step(&format!("mcp search {query}"), || server.finds(PROJECT, query, files));
    }
    edits::run(&mut server, place, report);
    machines::run(&mut server, place, report)?;
    bulk::two_servers(user, &mut server, place.folder, report)?;
    server.end()?;
    bulk::import(user, place.folder, notes, report);
    Ok(())
}

/// One place from an empty folder to its figures; what is left there.
fn tried(name: &str, place: &Place<'_>, notes: usize, table: &mut Table) -> Result<Left> {
    let mut report = Report::new(name);
    let user = BasicMemory::new()?;
    if let Err(error) = steps(&user, place, notes, &mut report) {
        report.step("the course goes on", || Err(error));
    }
    let left = Left::read(place.folder, &user)?;
    report.step("only notes are among the notes", || left.only_notes());
    if let Some(plain) = table.plain() {
        report.step("the folder equals a plain one", || left.same_tree(plain));
        report.step("the database equals that of a plain folder", || {
            left.same_knowledge(plain)
        });
    }
    if let Some(elsewhere) = place.elsewhere.filter(|elsewhere| *elsewhere != place.folder) {
        report.step("the other machine has the same folder", || {
            edits::eventually("same folder elsewhere", || left.same_elsewhere(elsewhere))
        });
    }
    table.add(report);
    // Each place takes minutes: what is known so far is shown.
    eprintln!("{}", table.text());
    Ok(left)
}

fn all(plan: &Plan, table: &mut Table) -> Result<()> {
    if plan.tries("plain") {
        let plain = scratch::folder("plain")?;
        let place = Place {
            folder: &plain,
            elsewhere: Some(&plain),
        };
        let left = tried("plain folder", &place, plan.notes, table)?;
        table.set_plain(left);
    }
    if let Some(folder) = &plan.folder {
        return named(plan, folder, table);
    }
    if plan.tries("notefs") {
        let store = Store::weed()?;
        let (here, there) = (
            Mount::start(&store)?,
            Mount::start_with(&store, MountOptions::default())?,
        );
        let place = Place {
            folder: here.dir(),
            elsewhere: Some(there.dir()),
        };
        tried("notefs", &place, plan.notes, table)?;
    }
    if plan.tries("rclone") {
        let store = Store::weed()?;
        let args = ["--dir-cache-time", "1s", "--poll-interval", "0"];
        let (here, there) = (
            Rclone::start_with(store.client()?, &args)?,
            Rclone::start_with(store.client()?, &args)?,
        );
        let place = Place {
            folder: here.dir(),
            elsewhere: Some(there.dir()),
        };
        tried("rclone mount", &place, plan.notes, table)?;
    }
    Ok(())
}

/// The folder that was named, in a folder of its own.
fn named(plan: &Plan, folder: &Path, table: &mut Table) -> Result<()> {
    let own = format!("basic-memory-{}", std::process::id());
    let (own_folder, elsewhere) = (folder.join(&own), plan.elsewhere.as_ref().map(|dir| dir.join(&own)));
    std::fs::create_dir(&own_folder)?;
    let place = Place {
        folder: &own_folder,
        elsewhere: elsewhere.as_deref(),
    };
    tried(&folder.display().to_string(), &place, plan.notes, table)?;
    Ok(std::fs::remove_dir_all(own_folder)?)
}

impl Plan {
    fn tries(&self, place: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.split(',').any(|word| word == place))
    }
}

fn main() -> Result<()> {
    let plan = plan()?;
    let mut table = Table::default();
    let result = all(&plan, &mut table);
    // What was seen before a failure is worth seeing.
    println!("{}", table.text());
    scratch::clean_up();
    result?;
    ensure!(
        !table.has_failures_in_question(),
        "some steps failed where Basic Memory is meant to work"
    );
    Ok(())
}
