//! Agents: the real `notefs mcp` on a real mount, spoken to as clients of the Model Context Protocol speak.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use notefs_tests::process::{self, tool};
use notefs_tests::{Agent, Mount, MountOptions, PATIENCE, Store, scratch, wait_until};
use serde_json::{Value, json};

/// The largest note that tools read or write.
const NOTE_BYTES_MAX: usize = 4 << 20;

/// Two notes that link, one with facts.
fn vault() -> Result<Mount> {
    let mount = Mount::start(&Store::folder()?)?;
    std::fs::create_dir(mount.path("projects"))?;
    std::fs::write(mount.path("home.md"), "# Home\n\nSee [[Plan]].\n")?;
    let plan = "---\ntitle: Plan\ntype: project\ntags: [work]\n---\n# Plan\n\n- [decision] Use FUSE #fuse\n- part_of [[home]]\n";
    std::fs::write(mount.path("projects/plan.md"), plan)?;
    Ok(mount)
}

fn paths(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row["path"].as_str()).collect()
}

fn names(listed: &Value) -> Vec<&str> {
    let entries = listed["entries"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["name"].as_str()).collect()
}

#[test]
fn an_agent_reads_what_people_wrote_and_writes_what_search_finds() -> Result<()> {
    let mount = vault()?;
    let mut agent = Agent::start(&mount, &[])?;
    let tools = agent.request("tools/list", json!({}))?;
    let tools: Vec<_> = tools["tools"].as_array().into_iter().flatten().collect();
    ensure!(tools.len() == 11, "{tools:?}");
    let read = agent.call("read", json!({"path": "projects/plan.md"}))?;
    let text = std::fs::read_to_string(mount.path("projects/plan.md"))?;
    ensure!(read["text"] == text && read["size_bytes"] == text.len(), "{read}");
    let made = agent.call(
        "write",
        json!({"path": "new/deep/note.md", "text": "# New\n\nzebrafish and [[home]]\n"}),
    )?;
    let found = agent.call("search", json!({"query": "zebrafish"}))?;
    ensure!(
        paths(&found["hits"]) == ["new/deep/note.md"] && found["complete"] == true,
        "{found}"
    );
    let found = agent.call("search", json!({"query": "zebrafish", "folder": "projects"}))?;
    ensure!(paths(&found["hits"]).is_empty(), "{found}");
    let edited = agent.call(
        "edit",
        json!({"path": "new/deep/note.md", "old_text": "zebrafish", "new_text": "שלום 💥", "version": made["version"]}),
    )?;
    agent.call(
        "edit",
        json!({"path": "new/deep/note.md", "new_text": "- [fact] added\n"}),
    )?;
    let expected = "# New\n\nשלום 💥 and [[home]]\n- [fact] added\n";
    ensure!(std::fs::read_to_string(mount.path("new/deep/note.md"))? == expected);
    ensure!(edited["version"] != made["version"]);
    agent.call("move", json!({"from": "new/deep/note.md", "to": "kept/note.md"}))?;
    let listed = agent.call("list", json!({"folder": "kept"}))?;
    ensure!(
        names(&listed) == ["note.md"] && listed["entries"][0]["size_bytes"] == expected.len(),
        "{listed}"
    );
    agent.call("delete", json!({"path": "new/deep"}))?;
    let listed = agent.call("list", json!({"limit": 2}))?;
    ensure!(
        names(&listed) == ["home.md", "kept"] && listed["next_after"] == "kept",
        "{listed}"
    );
    let listed = agent.call("list", json!({"limit": 2, "after": "kept"}))?;
    ensure!(
        names(&listed) == ["new", "projects"] && listed["next_after"].is_null(),
        "{listed}"
    );
    let read = agent.call("read", json!({"path": "kept/note.md"}))?;
    agent.call("delete", json!({"path": "kept/note.md", "version": read["version"]}))?;
    ensure!(!mount.path("kept/note.md").exists());
    agent.end()
}

#[test]
fn an_agent_asks_what_the_notes_know() -> Result<()> {
    let mount = vault()?;
    let mut agent = Agent::start(&mount, &["--read-only"])?;
    let links = agent.call("backlinks", json!({"path": "home.md"}))?;
    ensure!(
        links["count"] == 1
            && links["links"][0]["path"] == "projects/plan.md"
            && links["links"][0]["relation"] == "part_of",
        "{links}"
    );
    let context = agent.call("build_context", json!({"path": "projects/plan.md", "depth": 1}))?;
    let context = &context["context"];
    ensure!(
        context["note"]["observations"][0]["category"] == "decision",
        "{context}"
    );
    ensure!(paths(&context["related"]) == ["home.md"], "{context}");
    let recent = agent.call("recent", json!({"folder": "projects"}))?;
    ensure!(paths(&recent["notes"]) == ["projects/plan.md"], "{recent}");
    let none = agent.call("conflicts", json!({}))?;
    ensure!(none["count"] == 0, "{none}");
    // A name that a link would call leads on to the path.
    let problem = agent.problem("read", json!({"path": "Plan"}))?;
    let way = problem["what_to_do"].as_str().unwrap_or_default();
    ensure!(
        problem["kind"] == "not_found" && way.contains("projects/plan.md"),
        "{problem}"
    );
    // Changing tools are not there.
    let reply = agent.reply(
        "tools/call",
        json!({"name": "write", "arguments": {"path": "x.md", "text": ""}}),
    )?;
    ensure!(
        reply["error"]["code"] == -32602 && !mount.path("x.md").exists(),
        "{reply}"
    );
    for arguments in [json!({"path": 3}), json!({"paths": []})] {
        let problem = agent.problem("read", arguments)?;
        ensure!(
            problem["kind"] == "bad_arguments" && problem["retryable"] == false,
            "{problem}"
        );
    }
    agent.end()
}

#[test]
fn a_change_is_made_only_to_what_its_agent_has_seen() -> Result<()> {
    let mount = vault()?;
    let (mut one, mut two) = (Agent::start(&mount, &[])?, Agent::start(&mount, &[])?);
    let note = "home.md";
    let seen = two.call("read", json!({"path": note}))?["version"].clone();
    one.call("edit", json!({"path": note, "old_text": "See", "new_text": "Look at"}))?;
    let late = [
        (
            "edit",
            json!({"path": note, "old_text": "Home", "new_text": "House", "version": seen}),
        ),
        ("write", json!({"path": note, "text": "all new", "version": seen})),
        ("delete", json!({"path": note, "version": seen})),
    ];
    for (tool, arguments) in late {
        let problem = two.problem(tool, arguments)?;
        ensure!(
            problem["kind"] == "changed" && problem["retryable"] == false,
            "{tool}: {problem}"
        );
    }
    let problem = two.problem("edit", json!({"path": note, "old_text": "See", "new_text": "Mind"}))?;
    ensure!(problem["kind"] == "no_match", "{problem}");
    let problem = two.problem("write", json!({"path": note, "text": "all new"}))?;
    ensure!(problem["kind"] == "exists", "{problem}");
    let problem = two.problem("move", json!({"from": "projects/plan.md", "to": note}))?;
    ensure!(problem["kind"] == "exists", "{problem}");
    ensure!(std::fs::read_to_string(mount.path(note))? == "# Home\n\nLook at [[Plan]].\n");
    let seen = two.call("read", json!({"path": note}))?["version"].clone();
    two.call("write", json!({"path": note, "text": "all new\n", "version": seen}))?;
    ensure!(std::fs::read_to_string(mount.path(note))? == "all new\n");
    Ok(())
}

#[test]
fn no_edit_of_agents_that_change_one_note_at_once_is_lost() -> Result<()> {
    const EDITS: usize = 40;
    let mount = vault()?;
    std::fs::write(mount.path("list.md"), "")?;
    std::fs::write(mount.path("count.md"), "0\n")?;
    let work = |name: &str| -> Result<()> {
        let mut agent = Agent::start(&mount, &[])?;
        for number in 0..EDITS {
            agent.call(
                "edit",
                json!({"path": "list.md", "new_text": format!("{name} {number}\n")}),
            )?;
            // As agents do: read, think, and write if nobody was faster.
            loop {
                let seen = agent.call("read", json!({"path": "count.md"}))?;
                let count: usize = seen["text"].as_str().unwrap_or_default().trim().parse()?;
                let next = json!({"path": "count.md", "text": format!("{}\n", count + 1), "version": seen["version"]});
                let result = agent.request("tools/call", json!({"name": "write", "arguments": next}))?;
                if result["isError"] != true {
                    break;
                }
                let kind = &result["structuredContent"]["error"]["kind"];
                ensure!(kind == "changed" || kind == "busy", "{result}");
            }
        }
        agent.end()
    };
    std::thread::scope(|scope| {
        let others = ["a", "b", "c"].map(|name| scope.spawn(move || work(name)));
        others
            .into_iter()
            .try_for_each(|other| other.join().map_err(|_| anyhow::anyhow!("an agent panicked"))?)
    })?;
    let list = std::fs::read_to_string(mount.path("list.md"))?;
    for name in ["a", "b", "c"] {
        let own: Vec<&str> = list.lines().filter(|line| line.starts_with(name)).collect();
        let expected: Vec<String> = (0..EDITS).map(|number| format!("{name} {number}")).collect();
        ensure!(own == expected, "{name}: {own:?}");
    }
    let count = std::fs::read_to_string(mount.path("count.md"))?;
    ensure!(count == format!("{}\n", 3 * EDITS), "{count}");
    let left = std::fs::read_dir(mount.dir())?.count();
    ensure!(left == 4, "{left} names in the folder: a draft is left");
    Ok(())
}

#[test]
fn a_path_never_leads_out_of_the_folder() -> Result<()> {
    let mount = vault()?;
    let outside = scratch::folder("outside")?;
    std::fs::write(outside.join("secret.md"), "secret\n")?;
    symlink(outside.join("secret.md"), mount.path("link.md"))?;
    symlink(&outside, mount.path("away"))?;
    symlink("home.md", mount.path("inside.md"))?;
    let mut agent = Agent::start(&mount, &[])?;
    let up = format!("../{}", mount.dir().file_name().context("a name")?.to_string_lossy());
    let absolute = outside.join("secret.md").display().to_string();
    let long = "x".repeat(10_000);
    let hostile = [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        &absolute,
        "../x.md",
        &up,
        "projects/../../x.md",
        "projects//plan.md",
        "projects/",
        "./home.md",
        "away/secret.md",
        "away/new.md",
        "link.md",
        "inside.md",
        "a\0b",
        &long,
        ".notefs/x",
        "home.md/x",
    ];
    for path in hostile {
        let calls = [
            ("read", json!({"path": path})),
            ("edit", json!({"path": path, "new_text": "x"})),
            ("write", json!({"path": path, "text": "x"})),
            ("move", json!({"from": "home.md", "to": path})),
            ("write", json!({"path": path, "text": "x", "version": "0"})),
        ];
        for (tool, arguments) in calls {
            let problem = agent.problem(tool, arguments)?;
            ensure!(!problem.to_string().contains("secret\\n"), "{problem}");
        }
    }
    for folder in ["..", "/", "/etc", "away", "projects/..", "link.md"] {
        agent.problem("list", json!({"folder": folder}))?;
        agent.problem("recent", json!({"folder": format!("{folder}/x")}))?;
    }
    agent.problem("delete", json!({"path": "away/secret.md"}))?;
    ensure!(std::fs::read_to_string(outside.join("secret.md"))? == "secret\n");
    ensure!(std::fs::read_dir(&outside)?.count() == 1);
    ensure!(std::fs::read_to_string(mount.path("home.md"))? == "# Home\n\nSee [[Plan]].\n");
    // What a link is can be seen, and the link itself can go.
    let listed = agent.call("list", json!({}))?;
    ensure!(
        names(&listed) == ["away", "home.md", "inside.md", "link.md", "projects"],
        "{listed}"
    );
    ensure!(listed["entries"][2]["target"] == "home.md", "{listed}");
    agent.call("delete", json!({"path": "link.md"}))?;
    ensure!(outside.join("secret.md").exists());
    agent.end()
}

#[test]
fn what_is_too_large_or_no_text_is_refused_and_long_notes_come_in_parts() -> Result<()> {
    let mount = vault()?;
    let mut agent = Agent::start(&mount, &[])?;
    std::fs::write(mount.path("huge.md"), vec![b'x'; NOTE_BYTES_MAX + 1])?;
    std::fs::write(mount.path("bytes.md"), b"caf\xe9")?;
    process::shell(mount.dir(), "mkfifo pipe")?;
    for (path, kind) in [
        ("huge.md", "too_large"),
        ("bytes.md", "not_text"),
        ("pipe", "not_a_note"),
        ("projects", "not_a_note"),
    ] {
        for (tool, arguments) in [
            ("read", json!({"path": path})),
            ("edit", json!({"path": path, "new_text": "x"})),
        ] {
            let problem = agent.problem(tool, arguments)?;
            ensure!(problem["kind"] == kind, "{tool} {path}: {problem}");
        }
    }
    let text = "é\n".repeat(NOTE_BYTES_MAX / 3);
    agent.call("write", json!({"path": "long.md", "text": text}))?;
    let (mut seen, mut offset) = (String::new(), json!(0));
    while !offset.is_null() {
        let part = agent.call(
            "read",
            json!({"path": "long.md", "offset_bytes": offset, "limit_bytes": 1 << 20}),
        )?;
        let length = part["text"].as_str().map_or(0, str::len);
        ensure!(length > 0 && length <= 256 << 10, "a part of {length} bytes");
        seen.push_str(part["text"].as_str().unwrap_or_default());
        offset = part["next_offset_bytes"].clone();
    }
    ensure!(seen == text, "the parts are another text");
    let more = json!({"path": "long.md", "new_text": "and more"});
    ensure!(agent.problem("edit", more)?["kind"] == "too_large");
    let more = json!({"path": "more.md", "text": "x".repeat(NOTE_BYTES_MAX + 1)});
    ensure!(agent.problem("write", more)?["kind"] == "too_large" && !mount.path("more.md").exists());
    ensure!(agent.problem("search", json!({"query": "x ".repeat(10_000)}))?["kind"] == "too_large");
    ensure!(std::fs::read_to_string(mount.path("long.md"))? == text);
    agent.end()
}

#[test]
fn a_mount_that_goes_away_is_said_and_nothing_is_written_underneath() -> Result<()> {
    let mut mount = vault()?;
    let mut agent = Agent::start(&mount, &[])?;
    agent.call("read", json!({"path": "home.md"}))?;
    let calls = [
        ("read", json!({"path": "home.md"})),
        ("write", json!({"path": "new.md", "text": "x"})),
        ("list", json!({})),
        ("search", json!({"query": "home"})),
    ];
    let gone = |agent: &mut Agent| -> Result<()> {
        for (tool, arguments) in calls.clone() {
            let problem = agent.problem(tool, arguments)?;
            ensure!(
                problem["kind"] == "mount_gone" && problem["retryable"] == true,
                "{tool}: {problem}"
            );
        }
        Ok(())
    };
    mount.kill9();
    gone(&mut agent)?;
    mount.remount()?;
    ensure!(agent.call("read", json!({"path": "home.md"}))?["text"] == "# Home\n\nSee [[Plan]].\n");
    // An agent at rest keeps nobody from unmounting.
    mount.unmount()?;
    gone(&mut agent)?;
    ensure!(
        std::fs::read_dir(mount.dir())?.count() == 0,
        "something was written underneath"
    );
    mount.remount()?;
    agent.call("write", json!({"path": "new.md", "text": "x"}))?;
    ensure!(std::fs::read_to_string(mount.path("new.md"))? == "x");
    agent.end()
}

#[test]
fn an_agent_is_told_of_a_conflict_and_can_end_it() -> Result<()> {
    let store = Store::folder()?;
    let options = || MountOptions::args(&["--write-back", "1h"]);
    let (a, b) = (
        Mount::start_with(&store, options())?,
        Mount::start_with(&store, options())?,
    );
    std::fs::write(a.path("idea.md"), "an idea of a\n")?;
    std::fs::write(b.path("idea.md"), "an idea of b\n")?;
    a.drain()?;
    b.drain()?;
    let mut agent = Agent::start(&b, &[])?;
    let told = wait_until("a conflict", PATIENCE, || {
        let told = agent
            .call("conflicts", json!({}))
            .map_err(|error| format!("{error:#}"))?;
        if told["count"] == 1 {
            Ok(told)
        } else {
            Err(told.to_string())
        }
    })?;
    let conflict = &told["conflicts"][0];
    let copy = conflict["copy"].as_str().context("a copy")?;
    let ours = agent.call("read", json!({"path": copy}))?;
    let theirs = agent.call("read", json!({"path": conflict["path"]}))?;
    ensure!(
        theirs["text"] == "an idea of a\n" && ours["text"] == "an idea of b\n",
        "{theirs} {ours}"
    );
    let both = json!({"path": conflict["path"], "text": "an idea of a and b\n", "version": theirs["version"]});
    agent.call("write", both)?;
    agent.call("delete", json!({"path": copy, "version": ours["version"]}))?;
    ensure!(agent.call("conflicts", json!({}))?["count"] == 0);
    agent.end()
}

/// The published client for Python, which starts its servers with a small environment of its own.
const PYTHON: &str = r#"
import asyncio, json, os, sys
from mcp import Client, StdioServerParameters

async def main(program, folder, mode):
    server = StdioServerParameters(command=program, args=["mcp", folder], env={"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]})
    async with Client(server, mode=mode, read_timeout_seconds=60) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        async def call(name, **arguments):
            return await client.call_tool(name, arguments)
        note = f"from {mode}.md"
        made = await call("write", path=note, text="a quagga\n")
        twice = await call("write", path=note, text="another\n")
        found = await call("search", query="quagga")
        read = await call("read", path=note)
        edited = await call("edit", path=note, old_text="a quagga", new_text="no more", version=read.structured_content["version"])
        print(json.dumps({
            "tools": tools, "made": made.is_error, "twice": twice.structured_content,
            "found": found.structured_content, "edited": edited.is_error,
        }))

asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn the_published_client_for_python_works_with_it() -> Result<()> {
    let mount = vault()?;
    let program = notefs_tests::command::binary()?;
    for mode in ["auto", "legacy"] {
        let mut python = Command::new(tool("python")?);
        python.args(["-c", PYTHON]).arg(&program).arg(mount.dir()).arg(mode);
        python.env("XDG_RUNTIME_DIR", mount.notefs().home().join("run"));
        let said = process::run(python, PATIENCE)?.ok()?.stdout;
        let said: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        ensure!(said["tools"].as_array().map(Vec::len) == Some(11), "{mode}: {said}");
        ensure!(said["made"] == false && said["edited"] == false, "{mode}: {said}");
        ensure!(said["twice"]["error"]["kind"] == "exists", "{mode}: {said}");
        let note = format!("from {mode}.md");
        ensure!(paths(&said["found"]["hits"]) == [note.as_str()], "{mode}: {said}");
        ensure!(std::fs::read_to_string(mount.path(&note))? == "no more\n", "{mode}");
    }
    Ok(())
}
