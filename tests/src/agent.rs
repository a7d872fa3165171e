//! An agent: the real `notefs mcp`, or another server of the protocol, as a child, and JSON-RPC over its standard input and output.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::mount::Mount;
use crate::process::{self, Guarded};

/// The newest revision of the protocol that begins with a handshake.
const REVISION: &str = "2025-11-25";

/// A client of one server.
#[derive(Debug)]
pub struct Agent {
    server: Guarded,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    next_id: u64,
}

impl Agent {
    /// Starts a server on a mount and shakes hands with it.
    pub fn start(mount: &Mount, args: &[&str]) -> Result<Agent> {
        let mut command = mount.notefs().command(["mcp"])?;
        command.args(args).arg(mount.dir());
        let (agent, welcome) = Agent::of(command)?;
        ensure!(
            welcome["serverInfo"]["name"] == "notefs" && welcome["protocolVersion"] == REVISION,
            "the server said {welcome}"
        );
        Ok(agent)
    }

    /// Starts any server and shakes hands with it; the client, and how it was welcomed.
    pub fn of(mut command: Command) -> Result<(Agent, Value)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = process::spawn(command)?;
        let (input, output) = server.take_pipes()?;
        // A thread reads, so that waiting for an answer can end.
        let (sender, lines) = sync_channel(16);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut agent = Agent {
            server,
            input: Some(input),
            lines,
            next_id: 1,
        };
        let client = json!({"name": "notefs-tests", "version": "0"});
        let hello = json!({"protocolVersion": REVISION, "capabilities": {}, "clientInfo": client});
        let welcome = agent.request("initialize", hello)?;
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok((agent, welcome))
    }

    /// Sends one message.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        let input = self.input.as_mut().context("the input is closed")?;
        Ok(writeln!(input, "{message}")?)
    }

    /// Sends a request and waits for its result.
    pub fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        let reply = self.reply(method, params)?;
        match reply.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("{method} was answered by {reply}"),
        }
    }

    /// Sends a request and waits for its whole reply.
    pub fn reply(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .with_context(|| format!("no reply to {method}"))?;
            let reply: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
            if reply["id"] == id {
                return Ok(reply);
            }
        }
    }

    /// Calls a tool that must succeed; its structured answer.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let result = self.request("tools/call", json!({"name": tool, "arguments": arguments}))?;
        ensure!(
            result["isError"] != true,
            "{tool} {arguments}: {}",
            result["structuredContent"]
        );
        let text = result["content"][0]["text"]
            .as_str()
            .context("an answer without text")?;
        let same: Value = serde_json::from_str(text)?;
        ensure!(
            same == result["structuredContent"],
            "text and structure differ: {result}"
        );
        Ok(same)
    }

    /// Calls a tool that must fail; the problem, which must say all that an agent needs.
    pub fn problem(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let result = self.request("tools/call", json!({"name": tool, "arguments": arguments}))?;
        ensure!(result["isError"] == true, "{tool} {arguments} succeeded: {result}");
        let problem = result["structuredContent"]["error"].clone();
        for field in ["kind", "what", "where", "what_to_do"] {
            ensure!(problem[field].is_string(), "no {field} in {problem}");
        }
        ensure!(problem["retryable"].is_boolean(), "retryable or not? {problem}");
        Ok(problem)
    }

    /// Closes the server's input; it must end by itself, with 0.
    pub fn end(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.server.wait(PATIENCE)?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
