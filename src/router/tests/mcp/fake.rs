//! A service that speaks MCP, does as its tools' names say, and remembers what it was sent.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use http::{HeaderMap, HeaderValue};

use super::*;

/// What a stream of the service does next.
pub(super) enum Word {
    Say(Vec<u8>),
    /// The connection is reset.
    Die,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Handle to one run of it.
#[derive(Clone)]
pub(super) struct Fake(Arc<Inner>);

struct Inner {
    port: u16,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<HashSet<String>>,
    count: AtomicUsize,
    words: mpsc::Sender<Word>,
    heard: tokio::sync::Mutex<mpsc::Receiver<Word>>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (words, heard) = mpsc::channel(64);
        let fake = Self(Arc::new(Inner {
            port: listener.local_addr().unwrap().port(),
            seen: Mutex::default(),
            sessions: Mutex::default(),
            count: AtomicUsize::new(0),
            words,
            heard: tokio::sync::Mutex::new(heard),
        }));
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                let answer = service_fn(move |request| fake.clone().answer(request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(connection);
            }
        });
        fake
    }

    pub(super) fn spec(&self) -> ServiceSpec {
        service_spec("demo", self.0.port)
    }

    /// Every request, the first one first.
    pub(super) fn seen(&self) -> Vec<Seen> {
        lock(&self.0.seen).clone()
    }

    /// The last request.
    pub(super) fn last(&self) -> Seen {
        self.seen().pop().expect("it was asked")
    }

    /// What was sent, by its method.
    pub(super) fn methods(&self) -> Vec<String> {
        let seen = self.seen();
        let posts = seen.iter().filter(|seen| seen.method == Method::POST);
        posts
            .map(|seen| seen.json()["method"].as_str().unwrap_or("-").to_owned())
            .collect()
    }

    /// How often a message of this method was sent.
    pub(super) fn count(&self, method: &str) -> usize {
        self.methods().iter().filter(|it| *it == method).count()
    }

    /// Says something on the stream that is open.
    pub(super) fn say(&self, text: &str) {
        let word = Word::Say(text.as_bytes().to_vec());
        self.0.words.try_send(word).unwrap();
    }

    /// Resets the stream that is open.
    pub(super) fn die(&self) {
        self.0.words.try_send(Word::Die).unwrap();
    }

    /// Knows none of its sessions any more.
    pub(super) fn forget(&self) {
        lock(&self.0.sessions).clear();
    }

    pub(super) fn sessions(&self) -> HashSet<String> {
        lock(&self.0.sessions).clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Answer, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?;
        let seen = Seen {
            method: parts.method,
            uri: parts.uri.to_string(),
            headers: parts.headers,
            body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        };
        lock(&self.0.seen).push(seen.clone());
        let named = seen.header("mcp-session-id").map(str::to_owned);
        if named.is_some_and(|id| !lock(&self.0.sessions).contains(&id)) {
            let none = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "Session not found"}});
            return Ok(json_answer(StatusCode::NOT_FOUND, &none));
        }
        match (seen.method.as_str(), seen.uri.split('?').next()) {
            ("GET", _) => Ok(self.stream()),
            ("DELETE", _) => {
                self.forget();
                Ok(text(String::new()))
            }
            (_, Some("/message")) => Ok(status(StatusCode::ACCEPTED)),
            _ => self.message(&seen.body),
        }
    }

    /// What the test says, as it says it: each word is a chunk of its own.
    fn stream(&self) -> Answer {
        let stream = futures_util::stream::unfold(self.clone(), |fake| async move {
            let word = fake.0.heard.lock().await.recv().await?;
            let frame = match word {
                Word::Say(bytes) => Ok(Frame::data(Bytes::from(bytes))),
                Word::Die => Err(std::io::Error::other("dies")),
            };
            Some((frame, fake))
        });
        let stream: Box<dyn Stream<Item = _> + Send + Sync> = Box::new(stream);
        event_stream(BodyExt::boxed(StreamBody::new(Pin::from(stream))))
    }

    fn message(&self, body: &str) -> Result<Answer, std::io::Error> {
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        let id = &message["id"];
        if id.is_null() || message["method"].is_null() {
            return Ok(status(StatusCode::ACCEPTED));
        }
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        if message["method"] == "initialize" {
            let number = self.0.count.fetch_add(1, Ordering::SeqCst);
            let session = format!("own-{}-{number}", self.0.port);
            let capabilities = json!({"tools": {"listChanged": true}, "logging": {}, "resources": {"subscribe": true}});
            let facts =
                result(json!({"protocolVersion": "2025-06-18", "capabilities": capabilities}));
            let mut answer = json_answer(StatusCode::OK, &facts);
            let value = HeaderValue::try_from(&session).unwrap();
            answer.headers_mut().insert("mcp-session-id", value);
            lock(&self.0.sessions).insert(session);
            return Ok(answer);
        }
        let token = &message["params"]["_meta"]["progressToken"];
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
        match message["params"]["name"].as_str() {
            Some("die") => Err(std::io::Error::other("dies")),
            // Its length is known, so that it is named.
            Some("stream") => {
                let asks = json!({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage"});
                let answer = result(json!({}));
                let body = format!(
                    "id: e0\ndata: \n\nid: e1\ndata: {progress}\n\ndata: {asks}\n\ndata: {answer}\n\n"
                );
                let mut stream = text(body);
                let kind = HeaderValue::from_static("text/event-stream");
                stream.headers_mut().insert("content-type", kind);
                Ok(stream)
            }
            Some("stream_and_die") => {
                let first = Frame::data(Bytes::from(format!("data: {progress}\n\ndata: {{")));
                // The first one is out before the end.
                let dies = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(std::io::Error::other("dies"))
                };
                let first = futures_util::stream::once(async { Ok(first) });
                let both = futures_util::StreamExt::chain(first, futures_util::stream::once(dies));
                let both: Box<dyn Stream<Item = _> + Send + Sync> = Box::new(both);
                Ok(event_stream(BodyExt::boxed(StreamBody::new(Pin::from(
                    both,
                )))))
            }
            Some("ask") => Ok(json_answer(
                StatusCode::OK,
                &result(json!({"resultType": "input_required", "requestState": "my state"})),
            )),
            _ => Ok(json_answer(
                StatusCode::OK,
                &result(json!({"by": self.0.port})),
            )),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn status(status: StatusCode) -> Answer {
    let mut answer = text(String::new());
    *answer.status_mut() = status;
    answer
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = text(value.to_string());
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert("content-type", kind);
    answer
}
