//! An HTTP service that does as it is told: this test program, run again with [`SWITCH`] set.
//!
//! | path | does |
//! | --- | --- |
//! | `/health` | answers with the status that was set last, 200 at first |
//! | `/health/STATUS` | sets it; 0 means no answer at all |
//! | `/crash` | answers, and ends the process with code 3 |
//! | `/status/STATUS` | answers with that status |
//! | `/echo` | answers with the body it got |
//! | `/events` | an SSE stream: `first` at once, `second` after the next `/release`, then the end |
//! | `/release` | lets the streams go on |
//! | `/sessions` | speaks MCP: sessions that only this process knows, a tool that says which process that is and how often it was called in the session, and a stream on GET |
//! | anything else | answers with what it got: `{pid, method, path, headers, body}` |

mod mcp;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex};

use serde_json::{Map, Value, json};

/// Makes this program the service.
pub(crate) const SWITCH: &str = "MCPM_TEST_SERVICE";
/// Has the test runner do nothing but that.
pub(crate) const ARGUMENTS: [&str; 4] = [
    "harness::puppet::this_program_is_the_test_service",
    "--exact",
    "--nocapture",
    "--quiet",
];

static HEALTH: AtomicU16 = AtomicU16::new(200);
static RELEASED: Mutex<u64> = Mutex::new(0);
static NEWS: Condvar = Condvar::new();

#[test]
fn this_program_is_the_test_service() {
    if std::env::var_os(SWITCH).is_none() {
        return;
    }
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    println!("listening on {port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}

struct Request {
    method: String,
    path: String,
    headers: Map<String, Value>,
    body: Vec<u8>,
}

/// Answers requests until the client has had enough.
fn serve(stream: TcpStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read(&mut reader)?;
        let bare = request.path.split('?').next().unwrap_or_default();
        match bare {
            "/health" => match HEALTH.load(Ordering::SeqCst) {
                0 => drop(reader.read(&mut [0])),
                status => answer(&mut writer, status, "text/plain", b"as told"),
            },
            "/crash" => {
                answer(&mut writer, 202, "text/plain", b"as told");
                crash();
            }
            "/echo" => answer(&mut writer, 200, "application/octet-stream", &request.body),
            "/events" => {
                events(&mut writer)?;
                return None;
            }
            "/release" => {
                *RELEASED.lock().unwrap() += 1;
                NEWS.notify_all();
                answer(&mut writer, 204, "text/plain", b"");
            }
            "/sessions" => mcp::answer(&mut writer, &request)?,
            path if path.starts_with("/status/") => {
                let status = path.strip_prefix("/status/")?.parse().ok()?;
                answer(&mut writer, status, "text/plain", b"as told");
            }
            path => {
                if let Some(status) = path.strip_prefix("/health/") {
                    HEALTH.store(status.parse().ok()?, Ordering::SeqCst);
                }
                answer(
                    &mut writer,
                    200,
                    "application/json",
                    mirror(&request).as_bytes(),
                );
            }
        }
    }
}

fn mirror(request: &Request) -> String {
    let Request {
        method,
        path,
        headers,
        body,
    } = request;
    let body = String::from_utf8_lossy(body);
    json!({
        "pid": std::process::id(), "method": method, "path": path, "headers": headers, "body": body,
    })
    .to_string()
}

#[expect(clippy::exit, reason = "a service that crashes")]
fn crash() {
    std::process::exit(3);
}

fn events(writer: &mut TcpStream) -> Option<()> {
    let before = *RELEASED.lock().unwrap();
    // In chunks, as real servers do: a client sees whether it has got the whole stream.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    write!(writer, "{head}{}", chunk("data: first\n\n")).ok()?;
    let released = NEWS.wait_while(RELEASED.lock().unwrap(), |count| *count == before);
    drop(released);
    write!(writer, "{}{}", chunk("data: second\n\n"), chunk("")).ok()
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut text = String::new();
        let count = reader.read_line(&mut text).ok()?;
        (count > 0).then(|| text.trim_end().to_owned())
    };
    let first = line(reader)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Map::new();
    loop {
        let text = line(reader)?;
        let Some((name, value)) = text.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), json!(value.trim()));
    }
    let mut body = Vec::new();
    if headers.contains_key("transfer-encoding") {
        loop {
            let size = u64::from_str_radix(&line(reader)?, 16).ok()?;
            reader.by_ref().take(size).read_to_end(&mut body).ok()?;
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(Value::String(length)) = headers.get("content-length") {
        reader
            .by_ref()
            .take(length.parse().ok()?)
            .read_to_end(&mut body)
            .ok()?;
    }
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn answer(writer: &mut TcpStream, status: u16, kind: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} told\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // A client that is gone has seen enough.
    let _ = writer.write_all(&[head.as_bytes(), body].concat());
}
