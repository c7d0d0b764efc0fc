//! `mcpm bridge demo`: an MCP server to try everything with. It needs no network.
//!
//! `whoami` shows what a service sees of its caller, `count` sends progress one by one. The
//! credential is shown masked, never whole.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use super::caller::{Caller, mask};
use super::{BridgeError, BridgeOptions, serve};

/// Bounds of `count`: a call must end, and its events must fit a person's patience.
const COUNT_MAX: u64 = 1000;
const DELAY_MAX_MS: u64 = 10_000;
const TOTAL_MAX_MS: u64 = 300_000;
const DELAY_DEFAULT_MS: u64 = 200;

/// Runs the demo server until SIGTERM or SIGINT. Blocks; builds its own runtime.
///
/// # Errors
/// When it can't start: no port, a taken port, or no router's secret.
pub fn run(options: &BridgeOptions) -> Result<(), BridgeError> {
    serve::run(Demo, options, None)
}

/// The handler; it has no state, since nothing of a caller is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demo;

static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    vec![
        Tool::new(
            "echo",
            "Says back what it was told.",
            schema(json!({
                "type": "object",
                "properties": { "message": { "type": "string", "description": "What to say back" } },
                "required": ["message"],
            })),
        ),
        Tool::new(
            "whoami",
            "Shows the caller as the service sees it: user, instance, and the credential, masked.",
            schema(json!({ "type": "object", "properties": {} })),
        ),
        Tool::new(
            "count",
            "Counts up to a number and reports each step as progress.",
            schema(json!({
                "type": "object",
                "properties": {
                    "to": {
                        "type": "integer", "minimum": 1, "maximum": COUNT_MAX,
                        "description": "Where to end",
                    },
                    "delay_ms": {
                        "type": "integer", "minimum": 0, "maximum": DELAY_MAX_MS,
                        "default": DELAY_DEFAULT_MS,
                        "description": "Milliseconds between two steps; five minutes in all at most",
                    },
                },
                "required": ["to"],
            })),
        ),
    ]
});

fn schema(value: Value) -> Arc<JsonObject> {
    let Value::Object(object) = value else {
        return Arc::default();
    };
    Arc::new(object)
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("mcpm-demo", env!("CARGO_PKG_VERSION")).with_title("mcpm demo"),
            )
            .with_instructions("A service to try mcpm with: `echo`, `whoami` and `count`.")
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        TOOLS.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let result = match &*request.name {
            "echo" => echo(&arguments),
            "whoami" => whoami(&context),
            "count" => match plan(&arguments) {
                Ok((to, delay)) => count(to, delay, &context).await,
                Err(why) => Err(why),
            },
            other => {
                let message = format!("unknown tool `{other}`");
                return Err(ErrorData::invalid_params(message, None));
            }
        };
        let result = result.unwrap_or_else(|why| CallToolResult::error(text(why)));
        Ok(result.into())
    }
}

fn text(text: impl Into<String>) -> Vec<ContentBlock> {
    vec![ContentBlock::text(text.into())]
}

fn echo(arguments: &JsonObject) -> Result<CallToolResult, String> {
    let message = arguments.get("message").and_then(Value::as_str);
    let message = message.ok_or("argument `message` must be a string")?;
    Ok(CallToolResult::success(text(message)))
}

fn whoami(context: &RequestContext<RoleServer>) -> Result<CallToolResult, String> {
    let caller = Caller::of(context).ok_or("this call did not come over HTTP")?;
    let credential = caller
        .injected("authorization")
        .map(|value| match value.to_str() {
            Ok(value) => mask(value),
            Err(_) => "…".to_owned(),
        });
    let seen = json!({
        "user": caller.user(),
        "instance": caller.instance(),
        "service": caller.service(),
        "requestId": caller.request_id(),
        "credential": credential,
    });
    let mut result = CallToolResult::success(text(format!("{seen:#}")));
    result.structured_content = Some(seen);
    Ok(result)
}

/// How far to count and how long to wait between two steps.
fn plan(arguments: &JsonObject) -> Result<(u64, Duration), String> {
    let to = match arguments.get("to").and_then(Value::as_u64) {
        Some(to @ 1..=COUNT_MAX) => to,
        _ => {
            return Err(format!(
                "argument `to` must be an integer from 1 to {COUNT_MAX}"
            ));
        }
    };
    let delay = match arguments.get("delay_ms") {
        None | Some(Value::Null) => DELAY_DEFAULT_MS,
        Some(value) => value
            .as_u64()
            .filter(|&ms| ms <= DELAY_MAX_MS)
            .ok_or_else(|| {
                format!("argument `delay_ms` must be an integer from 0 to {DELAY_MAX_MS}")
            })?,
    };
    if to * delay > TOTAL_MAX_MS {
        return Err(format!(
            "`to` times `delay_ms` may be {TOTAL_MAX_MS} ms at most"
        ));
    }
    Ok((to, Duration::from_millis(delay)))
}

async fn count(
    to: u64,
    delay: Duration,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, String> {
    let token = context.meta.get_progress_token();
    for step in 1..=to {
        tokio::select! {
            () = context.ct.cancelled() => return Err(format!("cancelled before {step}")),
            () = tokio::time::sleep(delay) => {}
        }
        if let Some(token) = &token {
            let progress = ProgressNotificationParam::new(token.clone(), step as f64)
                .with_total(to as f64)
                .with_message(format!("{step} of {to}"));
            // Nobody listens any more: nobody needs the rest.
            if context.peer.notify_progress(progress).await.is_err() {
                return Err(format!("the caller left at {step}"));
            }
        }
    }
    Ok(CallToolResult::success(text(format!("counted to {to}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_is_bounded() {
        let plan = |value: Value| plan(value.as_object().unwrap());
        assert_eq!(plan(json!({"to": 3})), Ok((3, Duration::from_millis(200))));
        assert_eq!(
            plan(json!({"to": 1000, "delay_ms": 0})),
            Ok((1000, Duration::ZERO))
        );
        for (bad, named) in [
            (json!({}), "`to`"),
            (json!({"to": 0}), "`to`"),
            (json!({"to": 1001}), "`to`"),
            (json!({"to": "3"}), "`to`"),
            (json!({"to": -1}), "`to`"),
            (json!({"to": 1, "delay_ms": 10_001}), "`delay_ms`"),
            (json!({"to": 1, "delay_ms": -1}), "`delay_ms`"),
            (json!({"to": 1000, "delay_ms": 10_000}), "at most"),
        ] {
            let why = plan(bad.clone()).unwrap_err();
            assert!(why.contains(named), "{bad}: {why}");
        }
    }
}
