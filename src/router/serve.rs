//! Accepts connections and speaks HTTP with clients; the handle to the router.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::drain::{Flight, Phase, Traffic};
use super::mcp::Sessions;
use super::origin::Names;
use super::proxies::Proxies;
use super::proxy_protocol::{self, BadHeader, Said};
use super::refused::Refused;
use super::service::Service;
use super::tables::Services;
use crate::access_log::AccessLog;
use crate::audit::Audit;
use crate::instances::Instances;
use crate::limits::Limits;
use crate::oauth::OAuth;
use crate::sockets::Reserve;
use crate::users::Users;

/// Connections of clients at once; a further one waits until one ends.
const CONNECTIONS_MAX: u64 = 16 * 1024;
/// And never so many that nothing is left for services, commands and the store: each connection may
/// need two descriptors, its own and one to a service.
const DESCRIPTORS_RESERVED: u64 = 1024;
const CONNECTIONS_MIN: u64 = 64;
/// Largest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// An HTTP/2 connection is asked after so much silence whether it lives, and has so long to say.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence after which a peer's system is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A client that has a connection open may send its next request at any moment; after so long it most
/// probably does not, and the connection is ended when another daemon has taken over.
const IDLE_GRACE: Duration = Duration::from_secs(5);
/// Wait after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the operator chose, and how patient the router is.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// Every instance wants a token of its owner.
    pub require_auth_all: bool,
    /// Longest wait of a request for a service that restarts.
    pub hold: Duration,
    /// How long a client may take to send its first request, and each head.
    pub head_timeout: Duration,
    /// The names we go by.
    pub names: Names,
    /// Origin of handed-out URLs, without a final slash.
    pub public_url: String,
    /// Whose word about clients counts.
    pub proxies: Proxies,
}

/// What the router reads, and whom it tells.
pub struct RouterRooms {
    /// Where services are.
    pub services: Arc<Services>,
    /// What their users have.
    pub instances: Instances,
    /// Whose a token is.
    pub users: Users,
    /// How much may be sent.
    pub limits: Limits,
    /// What was refused, and what was used first.
    pub audit: Audit,
    /// Keeps tokens of providers fresh.
    pub oauth: OAuth,
    /// Sessions of clients of MCP.
    pub sessions: Sessions,
    /// Counts refusals.
    pub refused: Arc<Refused>,
    /// Hears of each request.
    pub access_log: AccessLog,
}

/// Handle to the router. Cheap to clone.
#[derive(Clone)]
pub struct Router(pub(super) Arc<Service>);

impl Router {
    /// A router over these tables, with the API beside the instances.
    pub fn new(config: RouterConfig, rooms: RouterRooms, api: axum::Router) -> Self {
        let RouterRooms {
            services,
            instances,
            users,
            limits,
            audit,
            oauth,
            sessions,
            refused,
            access_log,
        } = rooms;
        Self(Arc::new(Service {
            config,
            services,
            instances,
            users,
            limits,
            audit,
            oauth,
            sessions,
            refused,
            access_log,
            api,
            flight: Flight::new(),
            complained: AtomicBool::new(false),
        }))
    }

    /// Takes connections until `shutdown`; then the listener is closed. Those that are open go on:
    /// [`Router::leave`] or [`Router::drain`] ends them.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let places = Arc::new(Semaphore::new(places()));
        let reserve = Reserve::take();
        let mut failing = false;
        let mut shutdown = pin!(shutdown);
        loop {
            reserve.refill();
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accept(&listener, &places, &reserve) => accepted,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    failing = false;
                    let ticket = self.0.flight.board();
                    let connection = connection(self.0.clone(), stream, peer);
                    let reserve = reserve.clone();
                    tokio::spawn(async move {
                        connection.await;
                        reserve.refill();
                        drop((place, ticket));
                    });
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "cannot accept connections; trying on");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Another daemon takes new connections: those that are open end with their next answer, or when
    /// they have been idle for a while. Returns when all have ended; streams go on until then.
    pub async fn leave(&self) {
        self.0.flight.leave().await;
    }

    /// Waits for the connections with requests under way, at most so long; cuts the rest and answers
    /// how many that were. Push streams, which never end by themselves, are ended at once.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.0.flight.drain(deadline).await
    }
}

/// How many connections there may be with the descriptors that this process may have.
fn places() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room = files
        .unwrap_or(u64::MAX)
        .saturating_sub(DESCRIPTORS_RESERVED)
        / 2;
    usize::try_from(room.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)).expect("it is small")
}

/// Cancel-safe: a connection that was accepted is handed out. When descriptors have run out the next one
/// gets the one that is kept back: its client is told so, instead of waiting.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    reserve: &Reserve,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = match listener.accept().await {
        Err(error) if reserve.yields_to(&error) => listener.accept().await?,
        accepted => accepted?,
    };
    Ok((stream, peer, place))
}

/// One connection, to its end.
async fn connection(service: Arc<Service>, mut stream: TcpStream, peer: SocketAddr) {
    // Events are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    // A peer that is gone without a word is noticed even where nothing is sent to it.
    let alive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&alive);
    let (mut phase, head_timeout) = (service.flight.phase(), service.config.head_timeout);
    let mut peer = peer.ip();
    if service.config.proxies.introduce(peer) {
        let introduced = tokio::select! {
            introduced = timeout(head_timeout, introduction(&mut stream)) => introduced,
            // One that has begun before another daemon took over is still served.
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
        };
        match introduced {
            Ok(Ok(client)) => peer = client.unwrap_or(peer),
            Ok(Err(why)) => return service.complain(peer, &why),
            Err(_) => return service.complain(peer, &"it sends no PROXY header"),
        }
    }
    // It may have gone on since this connection was accepted.
    phase.mark_changed();
    let traffic = Traffic::new();
    let counted = traffic.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let version = request.version();
        let busy = counted.begin(version);
        let service = service.clone();
        async move {
            let answer = service.answer(request, peer).await;
            let mut response = answer.map(|body| body.counted(busy));
            if version < Version::HTTP_2
                && service.flight.is_leaving()
                && !response.status().is_informational()
            {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        // No other number of headers than hyper's own 100: their table would be allocated for each request.
        .max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    if let Err(error) = until(phase, &traffic, head_timeout, serving).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Why a proxy has not said for whom it speaks.
#[derive(Debug, thiserror::Error)]
enum NotIntroduced {
    #[error("its connection ended before its PROXY header did")]
    Gone(#[from] std::io::Error),
    #[error(transparent)]
    Bad(#[from] BadHeader),
}

/// Reads a proxy's header and not one byte more; `None` when it speaks for itself.
async fn introduction(stream: &mut TcpStream) -> Result<Option<IpAddr>, NotIntroduced> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::read(&bytes)? {
            Said::Client(client) => return Ok(client),
            Said::More(more) => {
                let had = bytes.len();
                bytes.resize(had + more, 0);
                let read = stream.read(&mut bytes[had..]).await?;
                if read == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                bytes.truncate(had + read);
            }
        }
    }
}

impl Service {
    /// Tells of a proxy whose connection is closed; of the first one so that an operator sees it.
    fn complain(&self, proxy: IpAddr, why: &dyn fmt::Display) {
        if self.complained.swap(true, Ordering::Relaxed) {
            tracing::debug!(%proxy, "not served: {why}");
        } else {
            tracing::warn!(
                %proxy,
                "not served: {why}; with `proxy_protocol` each connection of `trusted_proxies` must \
                 begin with one. Further ones are not told of"
            );
        }
    }
}

/// Serves one connection; drops it when its first request does not come, asks it to end when
/// draining begins, and drops it when all ends. When another daemon has taken over, it is asked to
/// end at once where that loses no request, and else after a while.
async fn until<C>(
    mut phase: watch::Receiver<Phase>,
    traffic: &Traffic,
    head_timeout: Duration,
    serving: C,
) -> Result<(), C::Error>
where
    C: hyper_util::server::graceful::GracefulConnection,
{
    let mut serving = pin!(serving);
    let mut patience = pin!(tokio::time::sleep(head_timeout));
    let mut is_new = true;
    let mut idle = pin!(tokio::time::sleep(Duration::ZERO));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => return ended,
            () = patience.as_mut(), if is_new => {
                if traffic.is_new() {
                    return Ok(());
                }
                is_new = false;
            }
            () = idle.as_mut(), if is_leaving => {
                // An answer under way does not say that it is the last one.
                let until = traffic.rests_since().map(|since| since + IDLE_GRACE);
                match until.unwrap_or_else(|| Instant::now() + IDLE_GRACE) {
                    until if until > Instant::now() => idle.as_mut().reset(until),
                    _ => {
                        is_leaving = false;
                        serving.as_mut().graceful_shutdown();
                    }
                }
            }
            changed = phase.changed() => match changed.map(|()| *phase.borrow_and_update()) {
                Ok(Phase::Open) => {}
                Ok(Phase::Leaving) if !traffic.can_say_goodbye() => {
                    is_leaving = true;
                    idle.as_mut().reset(Instant::now() + IDLE_GRACE);
                }
                Ok(Phase::Leaving | Phase::Draining) => serving.as_mut().graceful_shutdown(),
                Ok(Phase::Ended) | Err(_) => return Ok(()),
            },
        }
    }
}
