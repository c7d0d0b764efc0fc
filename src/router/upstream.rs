//! Connections to one service: HTTP/1.1, on loopback, kept while they are fresh.
//!
//! No byte goes out once the run has ended that was found to own the port: between its end and the
//! next run somebody else may listen there.
//!
//! A request goes out once. Only one that was never written, because a kept connection had died
//! meanwhile, goes to another connection (RFC 9110 §9.2.2 forbids more for what is not idempotent,
//! and a `tools/call` never is).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::stream::RequestBody;
use super::tables::{Run, RunId};
use crate::ids::Port;
use crate::metrics::ServiceCounts;
use crate::sockets::{self, Last, Taken, Telling};
use crate::supervisor::Life;

/// Longest reuse of an idle connection: Node closes after about 6 s, uvicorn after 5 (measured).
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Idle connections that are kept per service: a burst's worth, and few against the limit of open
/// files.
const IDLE_CONNECTIONS_MAX: usize = 128;
/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest head of an answer, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// Where a service is, and the idle connections to this run of it.
pub(super) struct Upstream {
    address: SocketAddr,
    run: Run,
    id: RunId,
    idle: Mutex<Idle>,
    counts: Arc<ServiceCounts>,
}

/// The idle connections, the one used last at the end.
#[derive(Default)]
struct Idle {
    connections: Vec<Kept>,
    /// A task looks after them.
    swept: bool,
}

struct Kept {
    sender: SendRequest<RequestBody>,
    last: Last,
    since: Instant,
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Nobody takes connections. Nothing was written; the request is given back.
    Connect(std::io::Error, Box<Request<RequestBody>>),
    /// Something was written, or may have been.
    Exchange(hyper::Error, Taken),
}

enum ConnectError {
    Dial(std::io::Error),
    Handshake(hyper::Error),
}

/// A connection whose answer is still being read.
pub(super) struct Lease {
    sender: SendRequest<RequestBody>,
    last: Last,
    upstream: Arc<Upstream>,
}

impl Upstream {
    pub(super) fn new(port: Port, run: Run, counts: Arc<ServiceCounts>) -> Self {
        Self {
            address: SocketAddr::new(run.at, port.get()),
            id: run.id(),
            run,
            idle: Mutex::default(),
            counts,
        }
    }

    /// Which run that is.
    pub(super) fn run(&self) -> RunId {
        self.id
    }

    /// The run has ended, as the kernel knows it now.
    pub(super) fn has_ended(&self) -> bool {
        self.run.life.as_ref().is_some_and(Life::has_ended)
    }

    /// Is this about that run of the service?
    pub(super) fn is(&self, port: Port, run: &Run) -> bool {
        self.address.port() == port.get() && self.run == *run
    }

    /// Has the run ended, or does it within this time?
    pub(super) async fn ends_within(&self, time: Duration) -> bool {
        match &self.run.life {
            Some(life) => tokio::time::timeout(time, life.ended()).await.is_ok(),
            None => false,
        }
    }

    /// Sends a request and waits for the head of its answer, however long that takes.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        loop {
            let ((mut sender, last), reused) = match self.take_idle() {
                Some(kept) => {
                    self.counts.connections_reused.add();
                    (kept, true)
                }
                None => match self.connect().await {
                    Ok(fresh) => {
                        self.counts.connections_new.add();
                        (fresh, false)
                    }
                    Err(ConnectError::Dial(error)) => {
                        self.counts.refused_connections.add();
                        return Err(SendError::Connect(error, Box::new(request)));
                    }
                    Err(ConnectError::Handshake(error)) => {
                        self.counts.broken_exchanges.add();
                        return Err(SendError::Exchange(error, Taken::No));
                    }
                },
            };
            // It has just ended, and nobody has heard of it yet: the words would be lost, or a
            // stranger who has its port would read them.
            if self.has_ended() {
                let gone = std::io::ErrorKind::NotConnected.into();
                return Err(SendError::Connect(gone, Box::new(request)));
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok((
                        response,
                        Lease {
                            sender,
                            last,
                            upstream: Arc::clone(self),
                        },
                    ));
                }
                Err(mut failed) => match failed.take_message() {
                    // Not a byte of it was written.
                    Some(unsent) if reused => request = unsent,
                    _ => {
                        self.counts.broken_exchanges.add();
                        return Err(SendError::Exchange(failed.into_error(), last.taken()));
                    }
                },
            }
        }
    }

    /// To the one address that was found to be the service's own: on another one of the same port
    /// anybody may listen.
    async fn connect(&self) -> Result<(SendRequest<RequestBody>, Last), ConnectError> {
        let stream = sockets::connect(self.address, CONNECT_TIMEOUT).await;
        let stream = stream.map_err(ConnectError::Dial)?;
        let (telling, last) = Telling::new(stream);
        let handshake = http1::Builder::new()
            // No other number of headers than hyper's own 100: their table would be allocated for each answer.
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(telling))
            .await;
        let (sender, connection) = handshake.map_err(ConnectError::Handshake)?;
        // Ends with its socket, or when the sender is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a service ended early");
            }
        });
        Ok((sender, last))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        // Held for a push or a pop, never across an await.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last: the others may grow old.
    fn take_idle(&self) -> Option<(SendRequest<RequestBody>, Last)> {
        let mut idle = self.idle();
        while let Some(Kept {
            sender,
            last,
            since,
        }) = idle.connections.pop()
        {
            if since.elapsed() > IDLE_MAX {
                // All below it are older.
                idle.connections.clear();
                return None;
            }
            if sender.is_ready() {
                return Some((sender, last));
            }
        }
        None
    }

    fn keep(self: Arc<Self>, sender: SendRequest<RequestBody>, last: Last) {
        let mut idle = self.idle();
        if idle.connections.len() < IDLE_CONNECTIONS_MAX {
            idle.connections.push(Kept {
                sender,
                last,
                since: Instant::now(),
            });
        }
        if !idle.swept {
            idle.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self)));
        }
    }
}

/// Closes idle connections when they are too old; ends when there are none.
async fn sweep(upstream: Weak<Upstream>) {
    loop {
        tokio::time::sleep(IDLE_MAX).await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        let mut idle = upstream.idle();
        let fresh = |kept: &Kept| kept.since.elapsed() <= IDLE_MAX && !kept.sender.is_closed();
        idle.connections.retain(fresh);
        if idle.connections.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

impl Lease {
    /// The answer has been read to its end: the connection may serve another request.
    pub(super) fn give_back(self) {
        if !self.sender.is_closed() {
            self.upstream.keep(self.sender, self.last);
        }
    }
}
