//! Apps to put into an ecosystem file.

use serde_json::{Value, json};

use super::ports::{self, Port};
use super::puppet;

/// One entry of `apps`, and the port that is kept for it.
#[derive(Debug)]
pub(crate) struct App {
    value: Value,
    port: Option<Port>,
}

impl App {
    fn plain(value: Value) -> Self {
        Self { value, port: None }
    }

    /// The entry.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Sets an attribute, at a JSON pointer such as `/mcp/health/interval`. What is missing on the
    /// way is made.
    pub(crate) fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.value;
        for step in pointer.trim_start_matches('/').split('/') {
            at = &mut at[step];
        }
        *at = value.into();
        self
    }

    /// Users hand over a key, which the service gets as a bearer token.
    pub(crate) fn with_api_key(self) -> Self {
        self.with(
            "/mcp/auth",
            json!({
                "type": "api_key",
                "fields": [{ "name": "api_key", "type": "password", "required": true }],
                "inject": { "headers": { "Authorization": "Bearer {api_key}" } },
            }),
        )
    }

    /// The fixed port of a service or server.
    pub(crate) fn port(&self) -> u16 {
        self.port.as_ref().expect("a service or server").number()
    }
}

/// A shell script that goes on, or ends, as it likes.
pub(crate) fn sh(name: &str, script: &str) -> App {
    App::plain(json!({
        "name": name, "script": "/bin/sh", "interpreter": "none", "args": ["-c", script],
    }))
}

/// A shell script that may end.
pub(crate) fn job(name: &str, script: &str) -> App {
    sh(name, script).with("/autorestart", false)
}

/// The MCP server that mcpm brings along, as a service that takes any key.
pub(crate) fn demo(name: &str) -> App {
    let port = ports::reserve();
    let value = json!({
        "name": name, "script": "mcpm", "args": "bridge demo",
        "mcp": { "service": name, "port": port.number(), "health": { "http": "/health" } },
    });
    App {
        value,
        port: Some(port),
    }
    .with_api_key()
}

/// The program of `puppet.rs` as a plain app: nothing but that it listens tells of its port.
pub(crate) fn server(name: &str) -> App {
    let port = ports::reserve();
    let this_program = std::env::current_exe().expect("the test program");
    let value = json!({
        "name": name, "script": this_program, "interpreter": "none", "args": puppet::ARGUMENTS,
        "env": { puppet::SWITCH: "on", "PORT": port.number() },
    });
    App {
        value,
        port: Some(port),
    }
}

/// The HTTP service of `puppet.rs`, which does as it is told.
pub(crate) fn service(name: &str) -> App {
    let port = ports::reserve();
    let this_program = std::env::current_exe().expect("the test program");
    let value = json!({
        "name": name, "script": this_program, "interpreter": "none", "args": puppet::ARGUMENTS,
        "env": { puppet::SWITCH: "on" },
        "mcp": { "service": name, "port": port.number(), "health": { "http": "/health" } },
    });
    App {
        value,
        port: Some(port),
    }
}

/// The same, as an MCP service whose sessions end with its process.
pub(crate) fn stateful(name: &str) -> App {
    service(name)
        .with("/mcp/mcp_path", "/sessions")
        .with_api_key()
}
