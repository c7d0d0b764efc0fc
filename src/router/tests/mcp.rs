//! The router between clients and services that speak MCP.

mod fake;
mod ids;
mod older;
mod restarts;
mod sessions;

use super::*;
use fake::Fake;

/// What a client sends first.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#;

/// A call of one of the tools of `fake.rs`, under this id.
fn call(id: &str, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","_meta":{{"progressToken":{id}}}}}}}"#
    )
}

/// A router with this service, and the path of alice's instance.
async fn world(fake: &Fake) -> (World, String) {
    let world = World::new(fake.spec()).await;
    let (path, _) = world.member("alice").await;
    (world, path)
}

impl World {
    /// Sends a message, outside of sessions or in one.
    async fn post(&self, path: &str, session: Option<&str>, body: &str) -> Reply {
        let session = session.map_or_else(String::new, |id| format!("\r\nmcp-session-id: {id}"));
        let head = format!(
            "POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}{session}",
            body.len()
        );
        self.exchange(&head, body).await
    }

    /// Begins a session; answers its id.
    async fn open(&self, path: &str) -> String {
        let reply = self.post(path, None, INITIALIZE).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["id"], 0);
        let id = reply.header("mcp-session-id").expect("a session id");
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(self.post(path, Some(&id), initialized).await.status, 202);
        id
    }

    /// Opens the stream on which the service speaks by itself, and reads its head.
    async fn listen(&self, path: &str, headers: &str) -> (TcpStream, String) {
        let mut stream = self.connect().await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream{headers}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = String::new();
        read_until(&mut stream, &mut read, "\r\n\r\n").await;
        (stream, read)
    }
}

impl Reply {
    fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_owned())
    }

    /// The body without the framing of chunks.
    fn text(&self) -> String {
        if self.header("transfer-encoding").is_none() {
            return self.body.clone();
        }
        let (mut rest, mut text) = (&*self.body, String::new());
        while let Some((length, behind)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).unwrap();
            text.push_str(&behind[..length]);
            rest = &behind[length + 2..];
        }
        text
    }

    /// The messages of a stream.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// Its error, when it is one of JSON-RPC: status, id and number.
    fn error(&self) -> (u16, Value, i64) {
        let body = self.json();
        let number = body["error"]["code"].as_i64().unwrap_or_default();
        (self.status, body["id"].clone(), number)
    }
}
