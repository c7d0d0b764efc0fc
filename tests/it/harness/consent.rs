//! An OAuth 2 provider of the test's own: asks for a code verifier, rotates refresh tokens, and takes a
//! consent back when an old one comes again.
//!
//! Access tokens are `access-GRANT-N`, refresh tokens `refresh-GRANT-N`; N counts the refreshes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Who we are there.
pub(crate) const CLIENT: &str = "the-client";
pub(crate) const CLIENT_SECRET: &str = "hunter2-of-the-client";

/// Answers until the test ends.
pub(crate) struct Provider {
    origin: String,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    is_up: bool,
    /// Answers of the token endpoint are held back.
    is_held: bool,
    /// How many are.
    waiting: usize,
    /// Seconds that access tokens live.
    life: u64,
    /// What it says instead of a code.
    denies: Option<&'static str>,
    /// What it says as `iss`.
    issuer: Option<String>,
    codes: HashMap<String, (String, String)>,
    /// The number of the newest refresh token of each grant; `None`: taken back.
    grants: Vec<Option<u64>>,
    refreshes: usize,
    /// Old refresh tokens that came again.
    reuses: usize,
    revoked: Vec<String>,
    /// Access tokens with a smaller number are of no use at its API.
    least: u64,
    /// How often it was asked there.
    asked: usize,
}

impl Provider {
    /// Begins to answer.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State {
            is_up: true,
            is_held: false,
            waiting: 0,
            life: 3600,
            denies: None,
            issuer: Some(origin.clone()),
            codes: HashMap::new(),
            grants: Vec::new(),
            refreshes: 0,
            reuses: 0,
            revoked: Vec::new(),
            least: 0,
            asked: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            news: Condvar::new(),
        });
        let answers = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                // A client that has gone away is none of ours.
                std::thread::spawn(move || answer(stream, &answers));
            }
        });
        Self { origin, shared }
    }

    /// The `oauth` block of a service, whose client's secret lies in this file.
    pub(crate) fn block(&self, secret_file: &str) -> Value {
        let origin = &self.origin;
        json!({
            "authorization_url": format!("{origin}/auth"),
            "token_url": format!("{origin}/token"),
            "revocation_url": format!("{origin}/revoke"),
            "client_id": CLIENT,
            "client_secret_file": secret_file,
            "scopes": ["read", "write"],
            "issuer": origin,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Answers from now on, or fails.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.state().is_up = is_up;
    }

    /// Holds answers of the token endpoint back, or lets them go.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
        self.shared.news.notify_all();
    }

    /// How many answers are held back.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// How long access tokens live from now on, in seconds.
    pub(crate) fn set_life(&self, seconds: u64) {
        self.state().life = seconds;
    }

    /// Says this instead of a code.
    pub(crate) fn deny(&self, error: Option<&'static str>) {
        self.state().denies = error;
    }

    /// Says this as `iss`.
    pub(crate) fn set_issuer(&self, issuer: Option<&str>) {
        self.state().issuer = issuer.map(str::to_owned);
    }

    /// Takes all consents back.
    pub(crate) fn take_back(&self) {
        self.state().grants.fill(None);
    }

    /// Its API takes access tokens from this number on.
    pub(crate) fn take_from(&self, least: u64) {
        self.state().least = least;
    }

    /// An address of its API, which says whether an access token is of use.
    pub(crate) fn me(&self) -> String {
        format!("{}/me", self.origin)
    }

    /// How often its API was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state().asked
    }

    /// How often a token was refreshed.
    pub(crate) fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    /// How often an old refresh token came again.
    pub(crate) fn reuses(&self) -> usize {
        self.state().reuses
    }

    /// What was revoked.
    pub(crate) fn revoked(&self) -> Vec<String> {
        self.state().revoked.clone()
    }
}

struct Asked {
    path: String,
    query: HashMap<String, String>,
    form: HashMap<String, String>,
    authorization: String,
}

fn answer(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let asked = read(&mut BufReader::new(stream))?;
    let (status, headers, body) = match asked.path.as_str() {
        "/auth" => authorize(&asked, &mut shared.state.lock().unwrap()),
        "/token" => {
            let told = token(&asked, &mut shared.state.lock().unwrap());
            // Done, and not yet told.
            let mut state = shared.state.lock().unwrap();
            state.waiting += 1;
            let mut state = shared.news.wait_while(state, |state| state.is_held).ok()?;
            state.waiting -= 1;
            told
        }
        "/revoke" => {
            let mut state = shared.state.lock().unwrap();
            state.revoked.extend(asked.form.get("token").cloned());
            json_answer(200, &json!({}))
        }
        "/me" => {
            let number = asked.authorization.rsplit('-').next()?.parse::<u64>().ok();
            let mut state = shared.state.lock().unwrap();
            state.asked += 1;
            let is_fit = number.is_some_and(|number| number >= state.least);
            json_answer(if is_fit { 200 } else { 401 }, &json!({}))
        }
        _ => json_answer(404, &Value::Null),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} told\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    writer.write_all(format!("{head}{body}").as_bytes()).ok()
}

type Told = (u16, String, String);

fn json_answer(status: u16, body: &Value) -> Told {
    let headers = "Content-Type: application/json\r\n".to_owned();
    (status, headers, body.to_string())
}

fn no(error: &str) -> Told {
    json_answer(400, &json!({ "error": error }))
}

fn authorize(asked: &Asked, state: &mut State) -> Told {
    let get = |name: &str| asked.query.get(name).cloned().unwrap_or_default();
    assert_eq!(get("response_type"), "code");
    assert_eq!(get("client_id"), CLIENT);
    assert_eq!(get("code_challenge_method"), "S256");
    assert_eq!(get("scope"), "read write");
    let redirect = get("redirect_uri");
    let mut location = format!("{redirect}?state={}", get("state"));
    match state.denies {
        Some(error) => location += &format!("&error={error}"),
        None => {
            let code = format!("code-{}-{}", state.codes.len(), state.grants.len());
            location += &format!("&code={code}");
            state.codes.insert(code, (get("code_challenge"), redirect));
        }
    }
    if let Some(issuer) = &state.issuer {
        location += &format!("&iss={issuer}");
    }
    (302, format!("Location: {location}\r\n"), String::new())
}

fn token(asked: &Asked, state: &mut State) -> Told {
    if !state.is_up {
        return (503, String::new(), "<html>down".to_owned());
    }
    let basic = BASE64.encode(format!("{CLIENT}:{CLIENT_SECRET}").as_bytes());
    if asked.authorization != format!("Basic {basic}") {
        return no("invalid_client");
    }
    let get = |name: &str| asked.form.get(name).cloned().unwrap_or_default();
    if get("grant_type") == "authorization_code" {
        let Some((challenge, redirect)) = state.codes.remove(&get("code")) else {
            return no("invalid_grant");
        };
        let shown = Sha256::digest(get("code_verifier").as_bytes());
        if BASE64URL_NOPAD.encode(&shown) != challenge || redirect != get("redirect_uri") {
            return no("invalid_grant");
        }
        state.grants.push(Some(0));
        return tokens(state.grants.len() - 1, 0, state.life);
    }
    state.refreshes += 1;
    let token = get("refresh_token");
    let numbers: Vec<usize> = token.split('-').filter_map(|n| n.parse().ok()).collect();
    let [grant, number] = numbers[..] else {
        return no("invalid_grant");
    };
    let number = number as u64;
    match state.grants[grant] {
        Some(newest) if newest == number => {
            state.grants[grant] = Some(number + 1);
            tokens(grant, number + 1, state.life)
        }
        Some(_) => {
            state.reuses += 1;
            state.grants[grant] = None;
            no("invalid_grant")
        }
        None => no("invalid_grant"),
    }
}

fn tokens(grant: usize, number: u64, life: u64) -> Told {
    json_answer(
        200,
        &json!({
            "access_token": format!("access-{grant}-{number}"), "token_type": "Bearer",
            "refresh_token": format!("refresh-{grant}-{number}"), "expires_in": life,
        }),
    )
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut text = String::new();
        reader.read_line(&mut text).ok()?;
        Some(text.trim_end().to_owned())
    };
    let first = line(reader)?;
    let target = first.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let header = line(reader)?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        path: path.to_owned(),
        query: form(query),
        form: form(std::str::from_utf8(&body).ok()?),
        authorization,
    })
}

/// `application/x-www-form-urlencoded`.
fn form(text: &str) -> HashMap<String, String> {
    let plain = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (plain(name), plain(value)))
        .collect()
}
