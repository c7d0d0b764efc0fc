//! The handler on top of the pure parts: list the tools; build a request, send it, shape the answer.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::answer;
use super::config::RestConfig;
use super::parameter::input_schema;
use super::request;
use super::tool::ToolSpec;
use crate::bridge::caller::Caller;
use crate::bridge::{BridgeError, BridgeOptions, serve};
use crate::outbound::{Outbound, OutboundError, Policy};

/// For one call of the API, from look-up to last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of one answer. More than this helps no model, and one process serves all users.
const ANSWER_MAX: usize = 2 * 1024 * 1024;

/// Bytes of a `config.json`; those of the catalogue are below 100 KiB.
const FILE_MAX: u64 = 4 << 20;

/// Says that the service may reach private addresses; the daemon sets it from `allow_private`.
const ALLOW_PRIVATE_VAR: &str = "MCPM_ALLOW_PRIVATE";

/// Serves a `config.json` until SIGTERM or SIGINT. Blocks; builds its own runtime.
///
/// # Errors
/// When it can't start: no such file, mistakes in it, no port, a taken one, or no router's secret.
pub fn run(file: &Path, options: &BridgeOptions) -> Result<(), BridgeError> {
    let read = |source| BridgeError::Read {
        file: file.to_owned(),
        source,
    };
    let text = read_text(file).map_err(read)?;
    let config = RestConfig::parse(&text).map_err(|mistakes| BridgeError::Config {
        file: file.to_owned(),
        mistakes,
    })?;
    let by_env = std::env::var(ALLOW_PRIVATE_VAR).is_ok_and(|it| matches!(&*it, "1" | "true"));
    let port = config.port;
    serve::run(
        Rest::new(config, options.allow_private || by_env),
        options,
        port,
    )
}

/// A regular file within the limit: a FIFO would never end, and a device go on for ever.
fn read_text(file: &Path) -> io::Result<String> {
    let facts = std::fs::metadata(file)?;
    if facts.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !facts.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(file)?
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        let what = format!("it is larger than {} MiB", FILE_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// A handler made from a file's text, for tests.
#[cfg(test)]
pub(in crate::bridge) fn handler_from_text(
    text: &str,
    allow_private: bool,
) -> impl ServerHandler + Clone {
    let config = RestConfig::parse(text).expect("the test's configuration is right");
    Rest::new(config, allow_private)
}

/// Everything is shared and fixed: the callers' credentials pass through calls and stay nowhere.
#[derive(Clone)]
struct Rest(Arc<Shared>);

struct Shared {
    config: RestConfig,
    info: ServerConfig,
    tools: Vec<Tool>,
    outbound: Outbound,
}

impl Rest {
    fn new(config: RestConfig, allow_private: bool) -> Self {
        let policy = Policy {
            allow_private,
            timeout: CALL_TIMEOUT,
            max_answer: ANSWER_MAX,
        };
        let outbound = Outbound::new(policy);
        let tools = config.tools.iter().map(tool).collect();
        let info = info(&config);
        Self(Arc::new(Shared {
            config,
            info,
            tools,
            outbound,
        }))
    }

    async fn ask(
        &self,
        tool: &ToolSpec,
        arguments: &Arguments,
        caller: &Caller<'_>,
    ) -> CallToolResult {
        let Shared {
            config, outbound, ..
        } = &*self.0;
        let request = match request::build(config, tool, arguments, caller) {
            Ok(request) => request,
            Err(error) => return answer::error(error.to_string()),
        };
        let called = outbound.call(request).await;
        match called {
            Ok(answer) => answer::result(&answer, &request::secrets(config, caller)),
            Err(error) => {
                log(&error, tool, caller);
                answer::error(explain(&error))
            }
        }
    }
}

type Arguments = rmcp::model::JsonObject;

impl ServerHandler for Rest {
    fn get_info(&self) -> ServerConfig {
        self.0.info.clone()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = self
            .0
            .config
            .tools
            .iter()
            .find(|tool| tool.name == *request.name)
        else {
            return Err(ErrorData::invalid_params(
                format!("unknown tool `{}`", request.name),
                None,
            ));
        };
        let Some(caller) = Caller::of(&context) else {
            return Err(ErrorData::internal_error(
                "this call did not come over HTTP",
                None,
            ));
        };
        let arguments = request.arguments.unwrap_or_default();
        let result = tokio::select! {
            result = self.ask(tool, &arguments, &caller) => result,
            () = context.ct.cancelled() => answer::error("cancelled"),
        };
        Ok(result.into())
    }
}

/// What the model reads: what was wrong, without what only the operator can mend.
fn explain(error: &OutboundError) -> String {
    match error {
        OutboundError::TooLarge { .. } => format!("{error}; ask for less, such as a smaller page"),
        OutboundError::Timeout { .. } => format!("{error}; it may work later"),
        _ => error.to_string(),
    }
}

fn log(error: &OutboundError, tool: &ToolSpec, caller: &Caller<'_>) {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(
        tool = %tool.name,
        instance = caller.instance(),
        request_id = caller.request_id(),
        cause,
        "{error}"
    );
}

fn info(config: &RestConfig) -> ServerConfig {
    let version = config
        .version
        .as_deref()
        .unwrap_or(env!("CARGO_PKG_VERSION"));
    let server = Implementation::new(&config.name, version).with_title(&config.display_name);
    let info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        .with_server_info(server);
    match &config.description {
        Some(description) => info.with_instructions(description),
        None => info,
    }
}

fn tool(spec: &ToolSpec) -> Tool {
    let reads = matches!(spec.method, Method::GET | Method::HEAD);
    let mut hints = ToolAnnotations::new().read_only(reads).open_world(true);
    if matches!(spec.method, Method::PUT | Method::DELETE) {
        hints = hints.idempotent(true);
    }
    let schema = Arc::new(input_schema(&spec.parameters));
    Tool::new(spec.name.clone(), spec.description.clone(), schema).annotate(hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_sane_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(read_text(&file).unwrap(), "{}");
        std::fs::write(&file, " ".repeat(FILE_MAX as usize + 1)).unwrap();
        let large = read_text(&file).unwrap_err().to_string();
        assert!(large.contains("4 MiB"), "{large}");
        for other in ["/dev/zero", "."] {
            assert!(read_text(Path::new(other)).is_err(), "{other}");
        }
    }
}
