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

use super::{
    Names, Proxies, Routable, Router, RouterConfig, RouterRooms, Run, ServiceEntry, ServiceTable,
    Services, Sessions,
};
use crate::access_log::AccessLog;
use crate::audit::Audit;
use crate::config::spec::{RateLimit, ServiceSpec};
use crate::ids::{InstancePrefix, ServiceType, UserId};
use crate::instances::Instances;
use crate::limits::Limits;
use crate::oauth::OAuth;
use crate::outbound::{Outbound, Policy};
use crate::secret::Secret;
use crate::store::{Memory, StoreHandle};
use crate::supervisor::Life;
use crate::supervisor::kill::Handle;
use crate::users::Users;
use crate::vault::{Credential, Fields, MasterKey, Vault};

mod access;
mod audited;
mod draining;
mod holding;
mod limits;
mod mcp;
mod proxies;
mod streams;

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
        Self::behind(spec, Proxies::default()).await
    }

    /// One that trusts these.
    async fn behind(spec: ServiceSpec, proxies: Proxies) -> Self {
        let store: StoreHandle = Arc::new(Memory::new());
        let vault = Vault::new(&MasterKey::from_bytes([7; 32]));
        let users = Users::new(store.clone(), vault.clone());
        let sessions = Sessions::new(store.clone(), vault.clone());
        let (instances, _) = Instances::open(store.clone(), vault).await.unwrap();
        let outbound = Outbound::new(Policy {
            allow_private: false,
            timeout: PATIENCE,
            max_answer: 1,
        });
        let (audit, writer, _) = Audit::new(store, outbound.clone());
        tokio::spawn(writer.run());
        let (oauth, worker) =
            OAuth::new(instances.clone(), audit.clone(), outbound.clone(), outbound);
        tokio::spawn(worker.run());
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
            proxies,
        };
        let rooms = RouterRooms {
            services: services.clone(),
            instances: instances.clone(),
            users: users.clone(),
            limits: Limits::new(users.groups().clone()),
            audit: audit.clone(),
            oauth,
            sessions,
            refused: Arc::default(),
            access_log: AccessLog::new("access.log".into()),
        };
        let router = Router::new(config, rooms, api);
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
        self.replace(name, &format!("key-of-{name}")).await
    }

    /// Gives a user an instance with this key, or theirs this key.
    async fn replace(&self, name: &str, key: &str) -> String {
        let fields = Credential::new([("api_key", key)].into_iter().collect::<Fields>());
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
