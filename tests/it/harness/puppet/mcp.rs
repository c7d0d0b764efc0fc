//! A small MCP server (2025-06-18) with sessions, as the SDKs' are: they live in its memory alone.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::Request;

/// Calls so far, by session.
static SESSIONS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// `None` when the connection is to end.
pub(super) fn answer(writer: &mut TcpStream, request: &Request) -> Option<()> {
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let id = &message["id"];
    if message["method"] == "initialize" {
        let result = json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "puppet", "version": "0" },
        });
        let session = begin();
        write(
            writer,
            200,
            &[("Mcp-Session-Id", &session)],
            &answered(id, &result),
        );
        return Some(());
    }
    let session = request
        .headers
        .get("mcp-session-id")
        .and_then(Value::as_str);
    let Some(calls) = session.and_then(|session| called(session, &message)) else {
        let none = json!({
            "jsonrpc": "2.0", "id": id, "error": { "code": -32001, "message": "Session not found" },
        });
        write(writer, 404, &[], &none.to_string());
        return Some(());
    };
    match request.method.as_str() {
        "GET" => {
            let said = json!({
                "jsonrpc": "2.0", "method": "notifications/message",
                "params": { "level": "info", "data": std::process::id() },
            });
            let event = format!("data: {said}\n\n");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(writer, "{head}{:x}\r\n{event}\r\n", event.len()).ok()?;
            // Until this process is killed.
            loop {
                std::thread::park();
            }
        }
        "DELETE" => {
            SESSIONS.lock().unwrap().as_mut()?.remove(session?);
            write(writer, 200, &[], "");
        }
        _ if id.is_null() => write(writer, 202, &[], ""),
        _ => {
            let text = format!("{} {calls}", std::process::id());
            let result = json!({ "content": [{ "type": "text", "text": text }] });
            write(writer, 200, &[], &answered(id, &result));
        }
    }
    Some(())
}

fn begin() -> String {
    let mut sessions = SESSIONS.lock().unwrap();
    let sessions = sessions.get_or_insert_default();
    let session = format!("{}-{}", std::process::id(), sessions.len());
    sessions.insert(session.clone(), 0);
    session
}

/// How often tools were called in this session, with this message; `None` when there is no such session.
fn called(session: &str, message: &Value) -> Option<u64> {
    let mut sessions = SESSIONS.lock().unwrap();
    let calls = sessions.as_mut()?.get_mut(session)?;
    *calls += u64::from(message["method"] == "tools/call");
    Some(*calls)
}

fn answered(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn write(writer: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &str) {
    let mut head = format!(
        "HTTP/1.1 {status} told\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    // A client that is gone has seen enough.
    let _ = writer.write_all(format!("{head}\r\n{body}").as_bytes());
}
