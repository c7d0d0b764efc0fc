//! The server under all bridges: streamable HTTP at `/mcp`, `ok` at `/health`, nothing else.
//!
//! * It listens on 127.0.0.1 only, and `/mcp` demands the router's secret: a local
//!   program cannot claim to be a user by writing `X-MCPM-User-Id`.
//! * It keeps no sessions. MCP lets a server of any revision go without `Mcp-Session-Id`: each POST
//!   is then served by itself, with the headers of that very request. So there is nothing that one
//!   instance could take over from another, nothing that a restart could lose, and nothing that
//!   grows with the number of clients. GET and DELETE are answered 405, which all clients take as
//!   "no push stream here". Answers are JSON; as soon as a tool reports progress the answer becomes
//!   an SSE stream, event by event.
//! * It is one thread. A bridge waits for APIs; hundreds of them share a machine.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::BridgeError;
use crate::ids::Port;
use crate::problem::{self, Problem};
use crate::secret::Secret;

/// Variable that the daemon sets for each service.
const SECRET_VAR: &str = "MCPM_ROUTER_SECRET";

/// Header in which the router repeats it.
const SECRET_HEADER: &str = "x-mcpm-router-secret";

/// Largest request body; the SDKs' own limit.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// Time for running calls after SIGTERM; below PM2's default `kill_timeout` of 1600 ms.
const DRAIN_MAX: Duration = Duration::from_millis(1200);

/// Wait after a failed accept: out of descriptors is not cured by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Threads for name look-ups. A bridge that calls nothing never starts one.
const BLOCKING_THREADS: usize = 4;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What the command line may say to any bridge.
#[derive(Clone, Debug, Default)]
pub struct BridgeOptions {
    /// `--port`; else the variable `PORT`, else the bridge's own configuration.
    pub port: Option<Port>,
    /// `--no-router-secret`: serve whoever can reach the port. For tries by hand.
    pub no_router_secret: bool,
    /// `--allow-private`, or `MCPM_ALLOW_PRIVATE=1`: the API may be at a private address.
    pub allow_private: bool,
}

/// Who may call `/mcp`.
pub(super) enum Guard {
    /// Whoever shows the router's secret.
    Secret(Secret<String>),
    /// Everyone on this machine.
    Anyone,
}

impl Guard {
    fn from_env(options: &BridgeOptions) -> Result<Self, BridgeError> {
        match std::env::var(SECRET_VAR)
            .ok()
            .filter(|secret| !secret.is_empty())
        {
            _ if options.no_router_secret => Ok(Self::Anyone),
            Some(secret) => Ok(Self::Secret(Secret::new(secret))),
            None => Err(BridgeError::NoRouterSecret),
        }
    }

    /// Takes the same time wherever two secrets differ. A header given twice is nobody's.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Self::Secret(secret) = self else {
            return true;
        };
        let mut given = headers.get_all(SECRET_HEADER).iter();
        match (given.next().map(HeaderValue::to_str), given.next()) {
            (Some(Ok(given)), None) => secret.equals(given),
            _ => false,
        }
    }
}

/// Runs a bridge until SIGTERM or SIGINT. Blocks; builds its own runtime.
pub(super) fn run<H: ServerHandler + Clone>(
    handler: H,
    options: &BridgeOptions,
    configured: Option<Port>,
) -> Result<(), BridgeError> {
    let guard = Guard::from_env(options)?;
    let port = choose_port(options.port, std::env::var("PORT").ok(), configured)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(BridgeError::Start)?;
    let served = runtime.block_on(async {
        let stop = stop_asked().map_err(BridgeError::Start)?;
        let listener = listen(port).await?;
        tracing::info!(port = port.get(), "bridge is listening");
        serve(listener, handler, guard, stop).await;
        tracing::info!(port = port.get(), "bridge has ended");
        Ok(())
    });
    // A name look-up that hangs in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    served
}

/// Flag, then environment, then configuration.
fn choose_port(
    flag: Option<Port>,
    env: Option<String>,
    configured: Option<Port>,
) -> Result<Port, BridgeError> {
    let env = match env.filter(|text| flag.is_none() && !text.is_empty()) {
        Some(text) => Some(text.parse().map_err(|_| BridgeError::BadPort(text))?),
        None => None,
    };
    flag.or(env).or(configured).ok_or(BridgeError::NoPort)
}

async fn listen(port: Port) -> Result<TcpListener, BridgeError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port.get())).await;
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BridgeError::PortTaken(port),
        _ => BridgeError::Listen { port, source },
    })
}

fn stop_asked() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Serves until `stop`, then lets running calls end for a moment.
pub(super) async fn serve<H: ServerHandler + Clone>(
    listener: TcpListener,
    handler: H,
    guard: Guard,
    stop: impl Future<Output = ()>,
) {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(BODY_MAX);
    let ending = config.cancellation_token.clone();
    let sessions = Arc::new(NeverSessionManager::default());
    let mcp = StreamableHttpService::new(move || Ok(handler.clone()), sessions, config);
    let guard = Arc::new(guard);
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Progress events are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        let (mcp, guard) = (mcp.clone(), Arc::clone(&guard));
        let service = service_fn(move |request| {
            let (mcp, guard) = (mcp.clone(), Arc::clone(&guard));
            async move { Ok::<_, Infallible>(answer(&mcp, &guard, request).await) }
        });
        // The router keeps idle connections and decides when to close them: no timeout here.
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_MAX, open.shutdown())
        .await
        .is_err()
    {
        tracing::info!("ended with calls still running");
    }
    ending.cancel();
}

async fn answer<H: ServerHandler>(
    mcp: &StreamableHttpService<H, NeverSessionManager>,
    guard: &Guard,
    mut request: Request<Incoming>,
) -> Answer {
    let id = request.headers().get("x-mcpm-request-id").cloned();
    let problem = |status, code, detail| {
        problem(
            status,
            code,
            detail,
            id.as_ref().and_then(|id| id.to_str().ok()),
        )
    };
    match (request.uri().path(), request.method()) {
        ("/health", &Method::GET | &Method::HEAD) => health(),
        ("/health", _) => {
            let mut answer = problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "only GET here",
            );
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        ("/mcp", _) if !guard.admits(request.headers()) => problem(
            StatusCode::FORBIDDEN,
            "router_only",
            "this service answers mcpm's router only; call it by an instance URL",
        ),
        ("/mcp", _) => {
            let sent_json = is_json(request.headers());
            guard_headers(request.headers_mut());
            let answer = mcp.handle(request).await;
            // rmcp says 415 to JSON that it cannot read; the body is at fault, not its type.
            match answer.status() {
                StatusCode::UNSUPPORTED_MEDIA_TYPE if sent_json => not_a_message(),
                _ => answer,
            }
        }
        _ => problem(
            StatusCode::NOT_FOUND,
            "not_found",
            "there are `/mcp` and `/health` here",
        ),
    }
}

/// From here on the headers travel with the message through rmcp, which may trace it: so the router's
/// secret stays behind, and no value prints.
fn guard_headers(headers: &mut HeaderMap) {
    headers.remove(SECRET_HEADER);
    headers
        .values_mut()
        .for_each(|value| value.set_sensitive(true));
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|text| text.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn health() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(b"ok\n")).boxed());
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// JSON-RPC 2.0 §5.1: what could not be read has no id to answer to.
fn not_a_message() -> Answer {
    let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the body is not one JSON-RPC message"}}"#;
    json(StatusCode::BAD_REQUEST, "application/json", body.to_owned())
}

/// Under the router's request id, or one of our own when it has sent none.
fn problem(status: StatusCode, code: &str, detail: &str, id: Option<&str>) -> Answer {
    let id = id.map_or_else(problem::request_id, str::to_owned);
    let problem = Problem::new(status, code, detail, &id);
    let body = serde_json::to_string(&problem).expect("a problem holds nothing that JSON can't");
    json(status, "application/problem+json", body)
}

fn json(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_environment_and_that_the_configuration() {
        let port = |number| Port::new(number);
        let env = |text: &str| Some(text.to_owned());
        let chosen = |flag, env, own| choose_port(flag, env, own).map(Port::get).ok();
        assert_eq!(chosen(port(1), env("2"), port(3)), Some(1));
        assert_eq!(chosen(port(1), env("nonsense"), port(3)), Some(1));
        assert_eq!(chosen(None, env("2"), port(3)), Some(2));
        assert_eq!(chosen(None, env(""), port(3)), Some(3));
        let bad = choose_port(None, env("70000"), port(3))
            .unwrap_err()
            .to_string();
        assert!(bad.contains("`70000`"), "{bad}");
        assert!(matches!(
            choose_port(None, None, None),
            Err(BridgeError::NoPort)
        ));
    }

    #[test]
    fn only_the_routers_secret_given_once_is_admitted() {
        let guard = Guard::Secret(Secret::new("s3cret".to_owned()));
        let admits = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SECRET_HEADER, HeaderValue::from_static(value));
            }
            guard.admits(&headers)
        };
        assert!(admits(&["s3cret"]));
        for wrong in [
            &[][..],
            &[""],
            &["s3cre"],
            &["s3cret "],
            &["s3cret", "s3cret"],
        ] {
            assert!(!admits(wrong), "{wrong:?}");
        }
        assert!(Guard::Anyone.admits(&HeaderMap::new()));
    }
}
