//! `notefs mcp`: the notes of a mounted folder for agents, over the Model Context Protocol on standard input and output.
//!
//! A front end: it only translates. Notes are read and changed with ordinary file operations through the mount, and what they know is
//! asked of the mount's daemon as `notefs search` and its kin do. Owns the protocol's loop and its bounds; only this module names its
//! library. Does not own the tools (`mcp/tools.rs`).

mod arguments;
mod change;
mod knowledge;
mod listing;
mod notes;
mod problem;
mod tools;
mod vault;

use crate::failure::Failure;
use problem::{Kind, Problem};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{QuitReason, RequestContext};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tools::Entry;
use vault::Vault;

/// The longest message: a note of the largest size, each byte of it escaped. A longer one is dropped by the library.
const MESSAGE_BYTES_MAX: usize = 6 * notes::NOTE_BYTES_MAX + (1 << 20);

/// Calls that run at once; others wait.
const CALLS_MAX: usize = 8;

/// How long calls that still run may take once the client has gone.
const END_WAIT_MAX_SECONDS: u64 = 10;

/// What an agent reads first.
const INSTRUCTIONS: &str = "Notes in a folder that people, programs and other agents change at the same time. Paths are relative to the \
folder. Find notes with search, read one before you change it, and change it with edit: it only replaces text that is still there. If a \
call fails, its answer says what to do next and whether the same call may work later (retryable).";

/// What the library calls.
struct Server {
    vault: Arc<Vault>,
    entries: Arc<Vec<Entry>>,
    calls: Arc<Semaphore>,
}

/// Serves a mounted folder until standard input ends.
pub(crate) fn serve(mountpoint: &Path, read_only: bool) -> Result<(), Failure> {
    let server = Server {
        vault: Arc::new(Vault {
            mountpoint: mountpoint.to_owned(),
        }),
        entries: Arc::new(tools::tools(read_only)),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(CALLS_MAX + 2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("Could not start: {error}")))?;
    let served = runtime.block_on(run(server));
    // Nobody waits for a read of standard input that never ends.
    runtime.shutdown_timeout(Duration::from_secs(END_WAIT_MAX_SECONDS));
    served
}

async fn run(server: Server) -> Result<(), Failure> {
    let (input, output) = rmcp::transport::stdio();
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(MESSAGE_BYTES_MAX);
    let running = server.serve(transport).await.map_err(|error| {
        Failure::new(format!("The client did not begin as MCP asks: {error}"))
            .hint("Name this command in the configuration of an MCP client; it is not for a terminal")
    })?;
    match running.waiting().await {
        Ok(QuitReason::JoinError(error)) | Err(error) => Err(Failure::new(format!("The server broke off: {error}"))),
        Ok(_) => Ok(()),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("notefs", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.entries
            .iter()
            .find(|entry| entry.tool.name == name)
            .map(|entry| entry.tool.clone())
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.entries.iter().map(|entry| entry.tool.clone()).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let known = self.entries.iter().position(|entry| entry.tool.name == request.name);
        let Some(index) = known else {
            return Err(ErrorData::invalid_params(
                format!("There is no tool {:?}", request.name),
                None,
            ));
        };
        let (vault, entries) = (Arc::clone(&self.vault), Arc::clone(&self.entries));
        let closed = |_| ErrorData::internal_error("The server is ending", None);
        let permit = Arc::clone(&self.calls).acquire_owned().await.map_err(closed)?;
        let arguments = request.arguments.unwrap_or_default();
        // Files wait for the mount, and answers for its daemon: not on the thread that reads messages.
        let answered = tokio::task::spawn_blocking(move || {
            let answer = entries[index].run(&vault, arguments);
            drop(permit);
            answer
        });
        let answer = answered.await.unwrap_or_else(|error| {
            Err(Problem::new(
                Kind::Failed,
                &*request.name,
                error.to_string(),
                "Tell the user",
            ))
        });
        Ok(match answer {
            Ok(value) => CallToolResult::structured(value).into(),
            Err(problem) => CallToolResult::structured_error(serde_json::json!({ "error": problem })).into(),
        })
    }
}
