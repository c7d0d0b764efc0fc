//! The router between real sockets: clients that write bytes, a service that does as the path
//! says, and tables made by hand.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::{Names, Routable, Router, RouterConfig, Run, ServiceEntry, ServiceTable, Services};
use crate::audit::Audit;
use crate::config::spec::{RateLimit, ServiceSpec};
use crate::ids::{InstancePrefix, ServiceType, UserId};
use crate::instances::Instances;
use crate::limits::Limits;
use crate::outbound::{Outbound, Policy};
use crate::secret::Secret;
use crate::store::{Memory, StoreHandle};
use crate::supervisor::Life;
use crate::supervisor::kill::Handle;
use crate::users::Users;
use crate::vault::{Credential, Fields, MasterKey, Vault};

mod audited;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client may say nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the answer of `/big`: more than the system's buffers hold.
const BIG: usize = 8 * 1024 * 1024;
/// How long a request waits for its service here.
const HOLD: Duration = Duration::from_secs(3);

/// A service that wants an API key and gets it as `X-Key`.
pub(super) fn service_spec(service: &str, port: u16) -> ServiceSpec {
    let probe = json!({"http": "/health"});
    serde_json::from_value(json!({
        "service": service, "displayName": service, "description": null, "category": null,
        "iconUrl": null, "port": port, "mcpPath": "/mcp", "protocol": "mcp",
        "upstreamPath": "/{rest}", "prefix": "dem",
        "health": {
            "readiness": probe, "liveness": probe, "interval": 30000, "timeout": 2000,
            "unhealthyAfter": 3, "expect": []
        },
        "startTimeout": 60000,
        "auth": {
            "kind": "api_key", "fields": [],
            "inject": {"headers": [["X-Key", "{api_key}"]], "query": [], "basic": null},
            "validate": null, "oauth": null
        },
        "requireAuth": false, "rateLimit": null, "allowPrivate": false
    }))
    .expect("this is a service")
}

/// What the service was asked, and its doors.
struct Upstream {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Hears when an answer of `/endless` is dropped.
    dropped: mpsc::Receiver<()>,
    /// Sends an event to whoever reads `/events`.
    events: mpsc::Sender<&'static str>,
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

fn text(text: String) -> Answer {
    Response::new(
        http_body_util::Full::new(text.into())
            .map_err(|never| match never {})
            .boxed(),
    )
}

fn event_stream(body: BoxBody<Bytes, std::io::Error>) -> Answer {
    let mut answer = Response::new(body);
    let kind = http::HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert("content-type", kind);
    answer
}

struct TellsWhenDropped(mpsc::Sender<()>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

type Events = Arc<tokio::sync::Mutex<mpsc::Receiver<&'static str>>>;

async fn service_answer(
    mut request: Request<Incoming>,
    events: Events,
    dropped: mpsc::Sender<()>,
) -> Result<Answer, std::io::Error> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/events" => {
            let stream = futures_util::stream::unfold(
                (events, TellsWhenDropped(dropped)),
                |(events, tells)| async move {
                    let event = events.lock().await.recv().await?;
                    let frame = match event {
                        "die" => Err(std::io::Error::other("dies")),
                        event => Ok(Frame::data(Bytes::from(format!("data: {event}\n\n")))),
                    };
                    Some((frame, (events, tells)))
                },
            );
            let stream: Box<dyn Stream<Item = _> + Send + Sync> = Box::new(stream);
            Ok(event_stream(BodyExt::boxed(StreamBody::new(Pin::from(
                stream,
            )))))
        }
        // A push stream on which nothing happens.
        "/quiet" => {
            let stream = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
            Ok(event_stream(BodyExt::boxed(StreamBody::new(stream))))
        }
        "/big" => Ok(text("x".repeat(BIG))),
        "/die" => Err(std::io::Error::other("dies before it answers")),
        "/never" => std::future::pending().await,
        "/ws" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut pipe = TokioIo::new(upgraded.await.unwrap());
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = pipe.read(&mut bytes).await {
                    pipe.write_all(&bytes[..count]).await.unwrap();
                }
            });
            let mut answer = text(String::new());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
                answer
                    .headers_mut()
                    .insert(name, http::HeaderValue::from_static(value));
            }
            Ok(answer)
        }
        _ => {
            let headers: serde_json::Map<String, Value> = request
                .headers()
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into(),
                    )
                })
                .collect();
            let seen = json!({
                "method": request.method().as_str(),
                "uri": request.uri().to_string(),
                "headers": headers,
            });
            let body = request
                .into_body()
                .collect()
                .await
                .map_err(std::io::Error::other)?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            let mut seen = seen;
            seen["body"] = body.into();
            Ok(text(seen.to_string()))
        }
    }
}

async fn upstream() -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (events, heard) = mpsc::channel(16);
    let (tells, dropped) = mpsc::channel(16);
    let heard: Events = Arc::new(tokio::sync::Mutex::new(heard));
    let counts = (connections.clone(), requests.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counts.0.fetch_add(1, Ordering::SeqCst);
            let (heard, tells, requests) = (heard.clone(), tells.clone(), counts.1.clone());
            let answer = service_fn(move |request| {
                requests.fetch_add(1, Ordering::SeqCst);
                service_answer(request, heard.clone(), tells.clone())
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    Upstream {
        port,
        connections,
        requests,
        dropped,
        events,
    }
}

/// A router with one service `demo` and two users.
struct World {
    router: Router,
    address: SocketAddr,
    users: Users,
    instances: Instances,
    audit: Audit,
    services: Arc<Services>,
    stop: Option<oneshot::Sender<()>>,
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn demo() -> ServiceType {
    ServiceType::parse("demo").unwrap()
}

impl World {
    async fn new(spec: ServiceSpec) -> Self {
        let store: StoreHandle = Arc::new(Memory::new());
        let vault = Vault::new(&MasterKey::from_bytes([7; 32]));
        let users = Users::new(store.clone(), vault.clone());
        let (instances, _) = Instances::open(store.clone(), vault).await.unwrap();
        let outbound = Outbound::new(Policy {
            allow_private: false,
            timeout: PATIENCE,
            max_answer: 1,
        });
        let (audit, writer, _) = Audit::new(store, outbound);
        tokio::spawn(writer.run());
        let services = Arc::new(Services::default());
        let api = axum::Router::new().fallback(async |headers: http::HeaderMap| {
            format!("api {}", headers["x-mcpm-request-id"].len())
        });
        let config = RouterConfig {
            max_body: 1000,
            require_auth_all: false,
            hold: HOLD,
            head_timeout: HEAD_TIMEOUT,
            names: Names::new(true, Some("https://mcp.example.com")),
            public_url: "https://mcp.example.com".to_owned(),
        };
        let router = Router::new(
            config,
            services.clone(),
            instances.clone(),
            users.clone(),
            Limits::new(users.groups().clone()),
            audit.clone(),
            api,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = router.clone();
        tokio::spawn(async move { serving.serve(listener, async { drop(stopped.await) }).await });
        let world = Self {
            router,
            address,
            users,
            instances,
            audit,
            services,
            stop: Some(stop),
        };
        world.publish(spec, Routable::Ready);
        world
    }

    /// The first run of the service.
    fn publish(&self, spec: ServiceSpec, state: Routable) {
        self.publish_run(spec, state, 1);
    }

    fn publish_run(&self, spec: ServiceSpec, state: Routable, generation: u64) {
        self.publish_life(spec, state, generation, None);
    }

    fn publish_life(
        &self,
        spec: ServiceSpec,
        state: Routable,
        generation: u64,
        life: Option<Life>,
    ) {
        let secret = Secret::new("router-secret".to_owned());
        let table = self.services.load();
        let previous = table.get(&spec.service).map(|entry| &**entry);
        let at = std::net::Ipv4Addr::LOCALHOST.into();
        let run = Run {
            generation,
            life,
            at,
        };
        let entry = Arc::new(ServiceEntry::new(spec, state, &secret, run, previous));
        self.services
            .publish(ServiceTable::new([entry].into_iter()));
    }

    /// How many requests wait for the service.
    fn held(&self) -> usize {
        let table = self.services.load();
        table
            .get(&demo())
            .map_or(0, |entry| entry.held.load(Ordering::SeqCst))
    }

    /// Adds a user with an instance; answers its path and the user's token.
    async fn member(&self, name: &str) -> (String, String) {
        let token = self.users.add(&user(name)).await.unwrap();
        (self.grant(name).await, token.expose().clone())
    }

    async fn grant(&self, name: &str) -> String {
        let key = format!("key-of-{name}");
        let fields = Credential::new([("api_key", key.as_str())].into_iter().collect::<Fields>());
        let prefix = InstancePrefix::parse("dem").unwrap();
        let granted = self
            .instances
            .grant(&user(name), &demo(), &prefix, fields)
            .await
            .unwrap();
        format!("/{}/demo", granted.id.expose())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a head (without its last empty line) and a body, and reads until the end.
    async fn exchange(&self, head: &str, body: &str) -> Reply {
        let mut stream = self.connect().await;
        let bytes = format!("{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
        // A server that answers before it has read all may reset behind its answer.
        let _ = ended.expect("an answer in time");
        Reply::parse(&read)
    }

    async fn get(&self, path: &str) -> Reply {
        self.exchange(&format!("GET {path} HTTP/1.1"), "").await
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let all = String::from_utf8_lossy(bytes);
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {all:?}"));
        Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Without what differs between two equal refusals.
    fn without_id(&self) -> (u16, String, Value) {
        let mut body = self.json();
        body["requestId"] = Value::Null;
        let lines = self
            .head
            .lines()
            .filter(|line| !line.starts_with("x-mcpm-request-id") && !line.starts_with("date:"));
        (self.status, lines.collect::<Vec<_>>().join("\n"), body)
    }
}

/// Reads what comes until the connection ends, in order or not.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _ = ended.expect("it ends in time");
    String::from_utf8_lossy(&rest).into_owned()
}

/// Reads until the text has arrived.
async fn read_until(stream: &mut TcpStream, read: &mut String, wanted: &str) {
    let reading = async {
        let mut bytes = [0; 1024];
        while !read.contains(wanted) {
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "ended without {wanted:?}: {read:?}");
            read.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it arrives in time");
}

#[tokio::test]
async fn each_user_is_announced_with_their_own_credential() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    for name in ["alice", "bob"] {
        let (path, _) = world.member(name).await;
        let head = format!(
            "POST {path}/a/b?q=1 HTTP/1.1\r\nx-key: stolen\r\nx_mcpm_user_id: eve\r\n\
             cookie: a=b\r\ncontent-length: 4"
        );
        let reply = world.exchange(&head, "body").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(
            reply.head.contains("referrer-policy: no-referrer"),
            "{reply:?}"
        );
        let seen = reply.json();
        assert_eq!(
            (&seen["uri"], &seen["body"]),
            (&json!("/a/b?q=1"), &json!("body"))
        );
        let headers = &seen["headers"];
        assert_eq!(headers["x-key"], format!("key-of-{name}"));
        assert_eq!(headers["x-mcpm-user-id"], name);
        assert_eq!(headers["x-mcpm-router-secret"], "router-secret");
        assert_eq!(headers["host"], format!("127.0.0.1:{}", upstream.port));
        assert!(headers.get("cookie").is_none() && headers.get("x_mcpm_user_id").is_none());
    }
    let (path, _) = world.member("carol").await;
    assert_eq!(world.get(&path).await.json()["uri"], "/mcp");
}

#[tokio::test]
async fn strangers_all_hear_the_same() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (alices, _) = world.member("alice").await;
    let (_, bobs_token) = world.member("bob").await;
    spec.require_auth = true;
    world.publish(spec, Routable::Ready);

    let unknown = world
        .get("/dem_0123456789ab_aaaaaaaaaaaaaaaaaaaaaaaaaa/demo")
        .await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "unknown_instance")
    );
    let with_token =
        |path: &str| format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {bobs_token}");
    for head in [
        "GET /x HTTP/1.1".to_owned(),
        "GET /x/ HTTP/1.1".to_owned(),
        "GET /../demo HTTP/1.1".to_owned(),
        format!("GET {alices}x HTTP/1.1"),
        format!("GET {} HTTP/1.1", alices.trim_end_matches("/demo")),
        format!("GET {} HTTP/1.1", alices.to_uppercase()),
        with_token(&alices),
    ] {
        let reply = world.exchange(&head, "").await;
        assert_eq!(reply.without_id(), unknown.without_id(), "{head}");
    }
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn where_a_token_is_needed_its_owner_passes() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    spec.require_auth = true;
    let world = World::new(spec).await;
    let (path, token) = world.member("alice").await;
    let none = world.get(&path).await;
    assert_eq!((none.status, none.code().as_str()), (401, "unauthorized"));
    assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");
    let wrong = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer mcpm_u_wrong");
    assert_eq!(world.exchange(&wrong, "").await.status, 401);
    let right = format!("GET {path} HTTP/1.1\r\nauthorization: bearer {token}");
    let reply = world.exchange(&right, "").await;
    assert_eq!(reply.status, 200);
    assert!(
        !reply.body.contains(&token),
        "the router's own token stays with it"
    );
}

#[tokio::test]
async fn an_empty_bucket_says_when_to_come_again() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    spec.rate_limit = Some(RateLimit {
        per_minute: 1,
        burst: 2,
    });
    let world = World::new(spec).await;
    let (alices, _) = world.member("alice").await;
    let (bobs, _) = world.member("bob").await;
    assert_eq!(world.get(&alices).await.status, 200);
    // Another key is no new bucket.
    world.grant("alice").await;
    assert_eq!(world.get(&alices).await.status, 200);
    let refused = world.get(&alices).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "rate_limited")
    );
    assert!(refused.head.contains("retry-after: 60"), "{refused:?}");
    assert_eq!(world.get(&bobs).await.status, 200, "each has their own");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whatever_it_declares() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let declared = format!("POST {path} HTTP/1.1\r\ncontent-length: 1001");
    let reply = world.exchange(&declared, "").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "body_too_large")
    );
    let chunked = format!("POST {path} HTTP/1.1\r\ntransfer-encoding: chunked");
    let body = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    assert_eq!(world.exchange(&chunked, &body(1000)).await.status, 200);
    let reply = world.exchange(&chunked, &body(1001)).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "body_too_large")
    );
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_unavailable() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = service_spec("demo", closed.local_addr().unwrap().port());
    drop(closed);
    for (spec, state) in [
        (spec.clone(), Routable::Down),
        (spec.clone(), Routable::PortTaken),
        // These wait first, and not for ever.
        (spec, Routable::Starting),
        (nobody, Routable::Ready),
    ] {
        world.publish(spec, state);
        let reply = world.get(&path).await;
        let said = (reply.status, reply.code());
        assert_eq!(said, (503, "service_unavailable".to_owned()), "{state:?}");
        assert!(reply.head.contains("retry-after: 1"), "{reply:?}");
    }
    assert_eq!(
        upstream.requests.load(Ordering::SeqCst),
        0,
        "no credential went out"
    );
    assert_eq!(world.held(), 0);
}

#[tokio::test]
async fn requests_wait_while_their_service_restarts() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let head = format!("POST {path}/x HTTP/1.1\r\ncontent-length: 2");

    world.publish_run(spec.clone(), Routable::Starting, 2);
    let back = async {
        while world.held() == 0 {
            tokio::task::yield_now().await;
        }
        world.publish_run(spec.clone(), Routable::Ready, 2);
    };
    let (reply, ()) = tokio::join!(world.exchange(&head, "hi"), back);
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));

    // The table still says that it is ready, but nobody takes connections any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = service_spec("demo", gone.local_addr().unwrap().port());
    drop(gone);
    world.publish_run(dead, Routable::Ready, 3);
    let back = async {
        while world.held() == 0 {
            tokio::task::yield_now().await;
        }
        world.publish_run(spec.clone(), Routable::Ready, 4);
    };
    let (reply, ()) = tokio::join!(world.exchange(&head, "hi"), back);
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));
    assert_eq!(
        (world.held(), upstream.requests.load(Ordering::SeqCst)),
        (0, 2)
    );
}

#[tokio::test]
async fn a_stranger_on_the_port_of_a_run_that_has_ended_gets_nothing() {
    let stranger = upstream().await;
    let spec = service_spec("demo", stranger.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "read line"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let life = Handle::open(child.id(), None).unwrap().life();
    world.publish_life(spec.clone(), Routable::Ready, 2, Some(life));
    // A kept connection is no exception.
    assert_eq!(world.get(&path).await.status, 200);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(world.get(&path).await.status, 503);
    assert_eq!(stranger.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_users_waiting_requests_leave_room_for_others() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (alices, _) = world.member("alice").await;
    let (bobs, _) = world.member("bob").await;
    world.publish(spec.clone(), Routable::Starting);
    let many = futures_util::future::join_all((0..40).map(|_| world.get(&alices)));
    let rest = async {
        while world.held() < 32 {
            tokio::task::yield_now().await;
        }
        let bobs = world.get(&bobs);
        let back = async {
            while world.held() < 33 {
                tokio::task::yield_now().await;
            }
            world.publish(spec.clone(), Routable::Ready);
        };
        tokio::join!(bobs, back).0
    };
    let (many, bobs) = tokio::join!(many, rest);
    assert_eq!(bobs.status, 200);
    let served = many.iter().filter(|reply| reply.status == 200).count();
    let refused = many.iter().filter(|reply| reply.status == 503).count();
    assert_eq!(
        (served + refused, refused > 0),
        (40, true),
        "{served} served"
    );
}

#[tokio::test]
async fn what_was_written_is_never_sent_twice() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    assert_eq!(world.get(&format!("{path}/warm")).await.status, 200);
    for method in ["GET", "POST"] {
        let before = upstream.requests.load(Ordering::SeqCst);
        let reply = world
            .exchange(&format!("{method} {path}/die HTTP/1.1"), "")
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (502, "upstream_failed")
        );
        assert_eq!(
            upstream.requests.load(Ordering::SeqCst),
            before + 1,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_connection_to_a_service_is_used_again() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    for number in 0..50 {
        let reply = world.get(&format!("{path}/{number}")).await;
        assert_eq!(reply.json()["uri"], format!("/{number}"));
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    // One task looks after idle connections, however many requests there were.
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(tasks < 30, "{tasks} tasks");
}

#[tokio::test]
async fn the_first_event_arrives_before_the_last_is_sent() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head =
        format!("POST {path}/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    let head = read.to_ascii_lowercase();
    assert!(head.contains("x-accel-buffering: no"), "{head}");
    for event in ["one", "two"] {
        upstream.events.send(event).await.unwrap();
        read_until(&mut stream, &mut read, event).await;
    }
}

#[tokio::test]
async fn a_service_that_dies_in_an_answer_resets_it() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    upstream.events.send("one").await.unwrap();
    read_until(&mut stream, &mut read, "one").await;
    upstream.events.send("die").await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(!rest.contains("0\r\n\r\n"), "no clean end: {rest:?}");
}

#[tokio::test]
async fn streams_end_with_their_instance_and_with_their_client() {
    let mut upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let head = format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    for rotate in [true, false] {
        let head = if rotate {
            head.clone()
        } else {
            head.replace(&path, &world.grant("bob").await)
        };
        let mut stream = world.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = String::new();
        upstream.events.send("one").await.unwrap();
        read_until(&mut stream, &mut read, "one").await;
        if rotate {
            world.users.add(&user("bob")).await.unwrap();
            let prefix = InstancePrefix::parse("dem").unwrap();
            world
                .instances
                .rotate(&user("alice"), &demo(), &prefix)
                .await
                .unwrap();
            read_to_end(&mut stream).await;
        } else {
            drop(stream);
        }
        let told = tokio::time::timeout(PATIENCE, upstream.dropped.recv()).await;
        told.expect("the service hears of it").unwrap();
    }
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!(
        "GET {path}/ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    assert!(read.starts_with("HTTP/1.1 101"), "{read}");
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, &mut read, "hello").await;
    world
        .instances
        .remove(&user("alice"), &demo())
        .await
        .unwrap();
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn a_host_that_is_not_ours_reaches_nothing() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    for path in [path.as_str(), "/api/v1/services", "/health"] {
        let mut stream = world.connect().await;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        let reply = Reply::parse(&read);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (421, "unknown_host"),
            "{path}"
        );
    }
    let foreign = format!("GET {path} HTTP/1.1\r\norigin: https://evil.example");
    assert_eq!(world.exchange(&foreign, "").await.code(), "foreign_origin");
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_api_and_discovery_have_paths_of_their_own() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let head = "GET /api/v1/services HTTP/1.1\r\nx-mcpm-request-id: mine";
    assert_eq!(world.exchange(head, "").await.body, "api 26");
    for probe in [
        "/.well-known/oauth-authorization-server",
        "/register",
        &format!("/.well-known/oauth-protected-resource{path}"),
        &format!("{path}/.well-known/openid-configuration"),
    ] {
        let reply = world.get(probe).await;
        assert_eq!(reply.status, 404, "{probe}");
        assert!(
            reply.head.contains("content-type: application/json"),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn draining_finishes_requests_and_ends_push_streams() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut streams = Vec::new();
    for start in [
        format!("GET {path}/quiet HTTP/1.1"),
        format!("POST {path}/events HTTP/1.1\r\ncontent-length: 0"),
    ] {
        let mut stream = world.connect().await;
        let head = format!("{start}\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        streams.push(stream);
    }
    drop(world.stop.take());
    let router = world.router.clone();
    let drained = tokio::spawn(async move { router.drain(PATIENCE).await });
    let mut push = String::new();
    read_until(&mut streams[0], &mut push, "0\r\n\r\n").await;
    assert!(!drained.is_finished(), "the answer is still under way");
    assert!(
        TcpStream::connect(world.address).await.is_err(),
        "nobody is let in"
    );
    upstream.events.send("two").await.unwrap();
    let mut read = String::new();
    read_until(&mut streams[1], &mut read, "two").await;
    drop(streams);
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_router_that_leaves_answers_what_still_comes_and_says_that_it_was_the_last() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let mut stream = world.connect().await;
    let ask = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut first = String::new();
    read_until(&mut stream, &mut first, "api ").await;
    assert!(!first.contains("connection: close"), "{first}");
    drop(world.stop.take());
    let router = world.router.clone();
    let left = tokio::spawn(async move { router.leave().await });
    while !world.router.0.flight.is_leaving() {
        tokio::task::yield_now().await;
    }
    stream.write_all(ask).await.unwrap();
    let second = read_to_end(&mut stream).await;
    assert!(
        second.contains("200 OK") && second.contains("api "),
        "{second}"
    );
    assert!(second.contains("connection: close"), "{second}");
    left.await.unwrap();
}

#[tokio::test]
async fn what_has_not_ended_in_time_is_cut_and_counted() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/never HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    while upstream.requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(world.stop.take());
    assert_eq!(world.router.drain(Duration::from_millis(10)).await, 1);
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn an_answer_that_a_client_reads_slowly_is_not_cut_by_draining() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/big HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    drop(world.stop.take());
    let router = world.router.clone();
    let drained = tokio::spawn(async move { router.drain(PATIENCE).await });
    while world.router.0.flight.takes_requests() {
        tokio::task::yield_now().await;
    }
    let rest = read_to_end(&mut stream).await;
    let (_, begun) = read.split_once("\r\n\r\n").unwrap();
    assert_eq!(begun.len() + rest.len(), BIG);
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_under_way_ends_with_its_instance() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let path = format!("{path}/never");
    let removed = async {
        while upstream.requests.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        world
            .instances
            .remove(&user("alice"), &demo())
            .await
            .unwrap();
    };
    let (reply, ()) = tokio::join!(world.get(&path), removed);
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "unknown_instance")
    );
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    for begun in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HT"] {
        let mut stream = world.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
}

#[tokio::test]
async fn what_is_no_proper_request_is_the_clients_mistake() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let chunked = format!("POST {path}/x HTTP/1.1\r\ntransfer-encoding: chunked");
    let gzip = format!("POST {path}/x HTTP/1.1\r\ntransfer-encoding: gzip, chunked");
    for (head, body, status, code) in [
        (
            format!("TRACE {path}/x HTTP/1.1"),
            "",
            405,
            "method_not_allowed",
        ),
        (chunked, "zz\r\nhi\r\n", 400, "bad_body"),
        (gzip, "0\r\n\r\n", 501, "bad_transfer_coding"),
    ] {
        let reply = world.exchange(&head, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{head}"
        );
    }
    // Unusual, and fine.
    let get = format!("GET {path}/x HTTP/1.1\r\ntransfer-encoding: chunked");
    let reply = world.exchange(&get, "2\r\nhi\r\n0\r\n\r\n").await;
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));
}

#[tokio::test]
async fn http_2_works_as_well() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let io = TokioIo::new(world.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}/x"))
        .body(http_body_util::Full::new(Bytes::from_static(b"hi")))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&seen["body"], &seen["headers"]["x-key"]),
        (&json!("hi"), &json!("key-of-alice"))
    );

    // hyper's server sends trailers only to those that ask for them; others send them to all.
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    world.publish(service_spec("demo", port), Routable::Ready);
    tokio::spawn(async move {
        let (mut stream, _) = service.accept().await.unwrap();
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\
                      x-mcpm-router-secret: s\r\nset-cookie: a=b\r\nx-checksum: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let request = Request::get(format!("http://localhost{path}/x"))
        .body(http_body_util::Full::new(Bytes::new()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    let trailers = collected.trailers().expect("they pass");
    let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"], "without what is not for clients");
}
