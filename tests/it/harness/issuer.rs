//! An identity provider of the test's own: its metadata and its keys over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// How long its tokens last, in seconds.
const LIFE: i64 = 600;

/// Answers until the test ends.
pub(crate) struct Issuer {
    origin: String,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Vec<Value>,
    is_up: bool,
}

impl Issuer {
    /// Begins to answer, with these keys.
    pub(crate) fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State {
            keys: keys.to_vec(),
            is_up: true,
        }));
        let (own, answers) = (origin.clone(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that has gone away is none of ours.
                let _ = answer(stream, &own, &answers);
            }
        });
        Self { origin, state }
    }

    /// `iss` of its tokens.
    pub(crate) fn name(&self) -> &str {
        &self.origin
    }

    /// Answers from now on, or fails.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.state.lock().unwrap().is_up = is_up;
    }

    /// What a token for this user says, which is good for a while.
    pub(crate) fn claims(&self, user: &str) -> Value {
        claims(&self.origin, user)
    }
}

/// What a token of this issuer says.
pub(crate) fn claims(issuer: &str, user: &str) -> Value {
    let now = mcpm::ids::Timestamp::now().as_millis() / 1000;
    json!({"iss": issuer, "aud": "mcpm", "sub": user, "iat": now, "exp": now + LIFE})
}

fn answer(stream: TcpStream, origin: &str, state: &Mutex<State>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while lines.next()?.ok().is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1)?;
    let state = state.lock().unwrap();
    let (status, body) = match path {
        _ if !state.is_up => ("503 Service Unavailable", Value::Null),
        "/.well-known/openid-configuration" => {
            let keys = format!("{origin}/keys");
            ("200 OK", json!({"issuer": origin, "jwks_uri": keys}))
        }
        "/keys" => ("200 OK", json!({"keys": state.keys})),
        _ => ("404 Not Found", Value::Null),
    };
    drop(state);
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    writer.write_all(format!("{head}{body}").as_bytes()).ok()
}
