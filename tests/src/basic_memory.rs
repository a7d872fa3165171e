//! Basic Memory, unmodified: its home with configuration and database, its command line, its server, and what a folder of its
//! notes holds. The database lies on a local disk, as its SQLite asks for, and never in a folder of notes.
//!
//! Search is by words: the model behind its other kind is nothing that a test may download.

pub mod course;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::process::{self, tool};
use crate::tree::{Kind, Tree};
use crate::{Agent, PATIENCE, scratch, wait_until};

/// How long one command may take: an import of some thousand notes takes minutes.
const COMMAND_LIMIT: Duration = Duration::from_secs(1_800);

/// One user of the program.
#[derive(Debug)]
pub struct BasicMemory {
    home: PathBuf,
}

/// A running `basic-memory mcp` and its client.
#[derive(Debug)]
pub struct Server {
    agent: Agent,
}

impl BasicMemory {
    /// A new user without projects.
    pub fn new() -> Result<BasicMemory> {
        let home = scratch::folder("basic-memory")?;
        std::fs::create_dir(home.join("main"))?;
        Ok(BasicMemory { home })
    }

    /// A user who has these projects already, whose notes do not name their project.
    pub fn with_projects(projects: &[(&str, &Path)]) -> Result<BasicMemory> {
        BasicMemory::configured(projects, json!({"permalinks_include_project": false}))
    }

    /// A user on another machine who has one project already, as the program itself would have added it.
    pub fn with_project(name: &str, folder: &Path) -> Result<BasicMemory> {
        BasicMemory::configured(&[(name, folder)], json!({}))
    }

    fn configured(projects: &[(&str, &Path)], mut config: Value) -> Result<BasicMemory> {
        let user = BasicMemory::new()?;
        let folders: Map<String, Value> = projects
            .iter()
            .map(|(name, folder)| ((*name).to_owned(), json!({"path": folder, "mode": "local"})))
            .collect();
        config["projects"] = folders.into();
        config["default_project"] = projects.first().map_or("main", |(name, _)| name).into();
        std::fs::create_dir(user.home.join("config"))?;
        std::fs::write(user.home.join("config/config.json"), config.to_string())?;
        Ok(user)
    }

    /// The lines that a question to the program's database brings, asked past the program.
    pub fn asked(&self, sql: &str) -> Result<Vec<String>> {
        let mut command = Command::new("sqlite3");
        command
            .arg("-readonly")
            .arg(self.home.join("config/memory.db"))
            .arg(sql);
        let lines = process::run(command, COMMAND_LIMIT)
            .and_then(process::Finished::ok)?
            .stdout;
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// A command that is set up but not started.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(tool("basic-memory")?);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))?;
        command.args(args).env_clear().current_dir(&self.home).stderr(log);
        for name in ["PATH", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", &self.home).env("LANG", "C.UTF-8");
        command.env("BASIC_MEMORY_HOME", self.home.join("main"));
        command.env("BASIC_MEMORY_CONFIG_DIR", self.home.join("config"));
        command.env("BASIC_MEMORY_SEMANTIC_SEARCH_ENABLED", "false");
        command.env("BASIC_MEMORY_AUTO_UPDATE", "false");
        Ok(command)
    }

    /// Runs a command that must succeed; its standard output.
    pub fn output(&self, args: &[&str]) -> Result<String> {
        let finished = process::run(self.command(args)?, COMMAND_LIMIT).and_then(process::Finished::ok);
        Ok(finished
            .with_context(|| format!("basic-memory {}", args.join(" ")))?
            .stdout)
    }

    /// Starts a server; it watches all projects.
    pub fn serve(&self) -> Result<Server> {
        let (agent, welcome) = Agent::of(self.command(&["mcp"])?)?;
        ensure!(
            welcome["serverInfo"]["name"] == "Basic Memory",
            "the server said {welcome}"
        );
        Ok(Server { agent })
    }
}

impl Server {
    /// Calls a tool that must succeed, in this project; what it answers as JSON.
    pub fn call(&mut self, project: &str, name: &str, arguments: &Value) -> Result<Value> {
        let mut arguments = arguments.clone();
        arguments["project"] = project.into();
        arguments["output_format"] = "json".into();
        let result = self
            .agent
            .request("tools/call", json!({"name": name, "arguments": arguments}))?;
        let answer = &result["structuredContent"]["result"];
        let refused = answer["error"].is_string()
            || ["deleted", "moved"].iter().any(|done| answer[done] == false)
            || answer.as_str().is_some_and(|text| text.starts_with("# Error"));
        if result["isError"] == true || refused {
            bail!("{name} {arguments}: {result}");
        }
        Ok(answer.clone())
    }

    /// The files of the notes that a search for words finds.
    pub fn found(&mut self, project: &str, query: &str) -> Result<BTreeSet<String>> {
        let answer = self.call(
            project,
            "search_notes",
            &json!({"query": query, "entity_types": ["entity"], "page_size": 100}),
        )?;
        let rows = answer["results"].as_array().into_iter().flatten();
        Ok(rows
            .filter_map(|row| row["file_path"].as_str().map(str::to_owned))
            .collect())
    }

    /// Waits until a search finds exactly these files.
    pub fn finds(&mut self, project: &str, query: &str, files: &[&str]) -> Result<()> {
        let wanted: BTreeSet<String> = files.iter().map(|file| (*file).to_owned()).collect();
        wait_until(&format!("answer {wanted:?} to {query:?}"), PATIENCE, || {
            match self.found(project, query) {
                Ok(found) if found == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Closes the server's input; it must end by itself, with 0.
    pub fn end(self) -> Result<()> {
        self.agent.end()
    }
}

/// The files below a folder with their texts.
pub fn texts(folder: &Path) -> Result<BTreeMap<String, String>> {
    let tree = Tree::read(folder)?;
    let files = tree.entries.iter().filter(|(_, entry)| entry.kind == Kind::File);
    files
        .map(|(path, _)| {
            let text = std::fs::read(folder.join(path)).with_context(|| path.display().to_string())?;
            Ok((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()))
        })
        .collect()
}

/// Waits until two folders hold the same files: the program answers before it has written a note.
pub fn same_texts(one: &Path, other: &Path) -> Result<BTreeMap<String, String>> {
    wait_until("same notes in both folders", PATIENCE, || {
        let both = (texts(one), texts(other));
        match both {
            (Ok(left), Ok(right)) if left == right => Ok(left),
            both => Err(format!("{both:?}")),
        }
    })
}
