//! How long questions take: notefs as an agent's server and as a command, beside a plain table of SQLite's FTS5 and ripgrep, which both
//! know nothing of what changes. And how fast notes become searchable: a whole bucket of them, and one that is saved.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, tool};
use notefs_tests::vault::{self, VaultFile};
use notefs_tests::{Agent, Mount, PATIENCE, Store, scratch};
use serde_json::{Value, json};

/// Questions of each kind, and notes saved.
const SAMPLES: usize = 100;

/// Longest time until all notes are indexed.
const INDEXED_WITHIN: &str = "10m";

/// A plain table of FTS5: told a folder, it reads all notes, says how long that took, and then answers a query a line.
const FTS5: &str = r#"
import os, sqlite3, sys, time
begun = time.monotonic()
db = sqlite3.connect(sys.argv[2])
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE VIRTUAL TABLE note USING fts5(path UNINDEXED, body)")
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".md"):
            path = os.path.join(folder, name)
            db.execute("INSERT INTO note VALUES (?, ?)", (path, open(path, encoding="utf-8").read()))
db.commit()
print(time.monotonic() - begun, flush=True)
for line in sys.stdin:
    sql = "SELECT path, snippet(note, 1, '[', ']', '…', 12) FROM note WHERE note MATCH ? ORDER BY rank LIMIT 20"
    print(len(db.execute(sql, (line.strip(),)).fetchall()), flush=True)
"#;

/// A query; another one for each number, where that can be.
pub(crate) type Query = fn(usize) -> String;

/// The kinds of questions: what is asked, in a form that all understand.
pub(crate) const KINDS: [(&str, Query); 3] = [
    ("a word of one note", |number| format!("unique{number:05}")),
    ("a word of most notes", |_| "latency".to_owned()),
    ("a phrase", |number| {
        ["\"of the\"", "\"crash editor\"", "\"note a\"", "\"garden river\""][number % 4].to_owned()
    }),
];

type Contender<'a> = (&'static str, Box<dyn FnMut(&str) -> Result<()> + 'a>);

/// Measures vaults of these sizes; a table and the same as JSON.
pub(crate) fn measure(sizes: &[usize]) -> Result<(String, Value)> {
    let mut lines = vec![
        "| notes | what | p50 | p99 |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let mut rows = Vec::new();
    for &size in sizes {
        eprintln!("{size} notes ...");
        for (what, value) in of_size(size)? {
            lines.push(format!("| {size} | {what} | {} |", value.cells()));
            rows.push(json!({"notes": size, "what": what, "value": value.json()}));
        }
    }
    Ok((lines.join("\n"), Value::from(rows)))
}

/// A figure.
pub(crate) enum Figure {
    /// Times of single questions.
    Times(Vec<Duration>),
    /// Notes a second.
    Speed(f64),
}

impl Figure {
    fn quantiles(times: &[Duration]) -> [f64; 2] {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        [0.5, 0.99].map(|share| {
            let at = ((sorted.len() - 1) as f64 * share).ceil() as usize;
            sorted[at].as_secs_f64() * 1e3
        })
    }

    /// As cells of a table.
    pub(crate) fn cells(&self) -> String {
        match self {
            Figure::Times(times) => Figure::quantiles(times).map(|ms| format!("{ms:.2} ms")).join(" | "),
            Figure::Speed(speed) => format!("{speed:.0} notes/s | "),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        match self {
            Figure::Times(times) => json!({"p50_p99_ms": Figure::quantiles(times)}),
            Figure::Speed(speed) => json!({"notes_per_second": speed}),
        }
    }
}

fn of_size(size: usize) -> Result<Vec<(String, Figure)>> {
    let files = vault::generate(size, 7);
    let notes = files.iter().filter(|file| file.path.ends_with(".md")).count() as f64;
    let copy = scratch::folder("copy")?;
    vault::write_to(&files, &copy)?;
    let (mount, indexed_in) = indexed(&files)?;
    let mut figures = vec![(
        "notefs indexes a bucket".to_owned(),
        Figure::Speed(notes / indexed_in.as_secs_f64()),
    )];
    let mut table = Table::start(&copy)?;
    let speed = notes / table.filled_in.as_secs_f64();
    figures.push(("FTS5 is filled".to_owned(), Figure::Speed(speed)));
    let mut agent = Agent::start(&mount, &["--read-only"])?;
    for (kind, query) in KINDS {
        let asked = ask_all((&mount, &copy), &mut agent, &mut table, &|number| query(number % size))?;
        figures.extend(
            asked
                .into_iter()
                .map(|(who, times)| (format!("{kind}: {who}"), Figure::Times(times))),
        );
    }
    figures.push((
        "a saved note is found".to_owned(),
        Figure::Times(found_after_saves(&mount, &mut agent)?),
    ));
    agent.end()?;
    Ok(figures)
}

/// A mount of a bucket that other tools filled, once all of it is indexed, and how long that took from the start of the daemon.
fn indexed(files: &[VaultFile]) -> Result<(Mount, Duration)> {
    let store = Store::folder()?;
    let folder = store.url.strip_prefix("fs://").context("a store that is a folder")?;
    vault::write_to(files, Path::new(folder))?;
    let start = Instant::now();
    let mount = Mount::start(&store)?;
    let dir = mount.dir().display().to_string();
    let mut wait = mount.notefs().command(["status", &dir, "--wait", "indexed"])?;
    wait.args(["--timeout", INDEXED_WITHIN]);
    process::run(wait, Duration::from_secs(660))?.ok()?;
    Ok((mount, start.elapsed()))
}

/// Each contender is asked each question in turn, so that all meet the same machine.
fn ask_all(
    (mount, copy): (&Mount, &Path),
    agent: &mut Agent,
    table: &mut Table,
    query: &dyn Fn(usize) -> String,
) -> Result<Vec<(&'static str, Vec<Duration>)>> {
    let dir = mount.dir().display().to_string();
    let mut contenders: [Contender; 4] = [
        (
            "notefs, asked by an agent",
            Box::new(|query| {
                let found = agent.call("search", json!({"query": query}))?;
                ensure!(
                    found["hits"].as_array().is_some_and(|hits| !hits.is_empty()),
                    "nothing found for {query}"
                );
                Ok(())
            }),
        ),
        (
            "notefs search",
            Box::new(|query| mount.notefs().output(&["search", &dir, query]).map(drop)),
        ),
        ("a plain table of FTS5", Box::new(|query| table.ask(query))),
        (
            "ripgrep",
            Box::new(|query| {
                let mut grep = Command::new("rg");
                grep.args(["-l", "-F", "-i", query.trim_matches('"')]).arg(copy);
                process::run(grep, PATIENCE).map(drop)
            }),
        ),
    ];
    let mut times = contenders.each_ref().map(|(name, _)| (*name, Vec::new()));
    for number in 0..SAMPLES {
        let query = query(number * 7);
        for ((_, ask), (_, times)) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            ask(&query)?;
            times.push(start.elapsed());
        }
    }
    Ok(times.into())
}

/// From the beginning of a save to the answer that has it.
fn found_after_saves(mount: &Mount, agent: &mut Agent) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..SAMPLES {
        let path = format!("saved {number}.md");
        let start = Instant::now();
        std::fs::write(mount.path(&path), format!("# Saved\n\nsavedword{number}x\n"))?;
        let found = agent.call("search", json!({"query": format!("savedword{number}x")}))?;
        times.push(start.elapsed());
        ensure!(
            found["hits"][0]["path"] == path.as_str(),
            "not found after its save: {found}"
        );
    }
    Ok(times)
}

/// The plain table, in a process of its own.
struct Table {
    _process: process::Guarded,
    input: std::process::ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    filled_in: Duration,
}

impl Table {
    fn start(folder: &Path) -> Result<Table> {
        let database = scratch::folder("fts5")?.join("plain.db");
        let mut command = Command::new(tool("python3")?);
        command.args(["-c", FTS5]).arg(folder).arg(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process::spawn(command)?;
        let (input, output) = process.take_pipes()?;
        let mut table = Table {
            _process: process,
            input,
            output: BufReader::new(output),
            filled_in: Duration::ZERO,
        };
        table.filled_in = Duration::from_secs_f64(table.line()?);
        Ok(table)
    }

    fn line(&mut self) -> Result<f64> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("the table said {line:?}"))
    }

    fn ask(&mut self, query: &str) -> Result<()> {
        writeln!(self.input, "{query}")?;
        ensure!(self.line()? > 0.0, "the table found nothing for {query}");
        Ok(())
    }
}
