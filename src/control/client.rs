//! The client's end of the socket: requests in, typed answers or a [`ClientError`] out.
//!
//! One connection per request, since connecting to a Unix socket costs less than keeping track of
//! whether a kept connection still lives; only the connection made by [`Client::connect`] is used
//! for the first request. Prints nothing: a version that differs goes to the caller's callback.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::Problem;
use crate::api::daemon::{DaemonInfo, StopRequest};
use crate::control::presence;
use crate::control::version::{self, Skew};
use crate::supervisor::proc;

/// How long a question that changes nothing may take. A daemon answers these from memory.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a daemon that does not answer is stopped.
const STOPPED_EVERY: Duration = Duration::from_secs(1);
/// How long after the end of its last connection a daemon may take to be gone.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket there, or nobody behind it.
    #[error("no mcpm daemon runs in `{}`", home(socket).display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is there and cannot be used.
    #[error("cannot connect to the daemon at `{}`", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection ended first.
    #[error(
        "the daemon ended the connection before it answered; see `{}`",
        home(socket).join("mcpm.log").display()
    )]
    Interrupted {
        /// The socket.
        socket: PathBuf,
        /// What the protocol engine said.
        source: hyper::Error,
    },
    /// The connection ended before the daemon had read the request: nothing was done.
    #[error(
        "the daemon ended the connection before it read the request; see `{}`",
        home(socket).join("mcpm.log").display()
    )]
    Unread {
        /// The socket.
        socket: PathBuf,
        /// What the protocol engine said.
        source: hyper::Error,
    },
    /// An answer that goes on was cut: the daemon is gone.
    #[error("the daemon has ended; see `{}`", home(socket).join("mcpm.log").display())]
    Left {
        /// The socket.
        socket: PathBuf,
    },
    /// It takes too long.
    #[error(
        "the daemon has not answered for {} s; see `{}`",
        QUESTION_TIMEOUT.as_secs(),
        home(socket).join("mcpm.log").display()
    )]
    Timeout {
        /// The socket.
        socket: PathBuf,
    },
    /// Somebody has stopped its process.
    #[error(
        "the daemon (pid {pid}) is stopped (SIGSTOP, or Ctrl+Z in its terminal) and cannot answer; `kill -CONT {pid}` \
         lets it go on"
    )]
    Stopped {
        /// Its process.
        pid: u32,
    },
    /// The daemon said no, and why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// An answer that is none of ours.
    #[error("the daemon answered with status {} what this mcpm cannot read", status.as_u16())]
    Unreadable {
        /// Its status.
        status: StatusCode,
        /// What is wrong with its body.
        source: serde_json::Error,
    },
    /// Our own request cannot be put into words.
    #[error("cannot write the request to the daemon")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ClientError {
    /// The daemon refused with this stable code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == code)
    }

    /// Another daemon may be there by now, and nothing was done.
    fn is_worth_another_try(&self) -> bool {
        matches!(self, Self::Unread { .. }) || self.is("handed_over")
    }
}

fn home(socket: &Path) -> &Path {
    socket.parent().unwrap_or(socket)
}

/// Called at most once, when the daemon is of another version.
pub type OnSkew = Box<dyn FnOnce(&Skew) + Send>;

/// Called at most once, when an order waits for a daemon that is stopped.
pub type OnStopped = Box<dyn FnOnce(&ClientError) + Send>;

/// Asks one daemon.
pub struct Client {
    socket: PathBuf,
    first: Option<UnixStream>,
    on_skew: Option<OnSkew>,
    on_stopped: Option<OnStopped>,
}

impl Client {
    /// Connects to the daemon that listens on this socket.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] when nobody listens.
    pub async fn connect(socket: &Path, on_skew: OnSkew) -> Result<Self, ClientError> {
        Ok(Self {
            first: Some(open(socket).await?),
            socket: socket.to_owned(),
            on_skew: Some(on_skew),
            on_stopped: None,
        })
    }

    /// Has this called when an order waits for a daemon that is stopped. The order goes on waiting: it
    /// may have been read, and a second one would be one too many.
    #[must_use]
    pub fn telling_of_stops(self, on_stopped: OnStopped) -> Self {
        Self {
            on_stopped: Some(on_stopped),
            ..self
        }
    }

    /// Asks a question that changes nothing.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let socket = self.socket.clone();
        let asked = self.ask(Method::GET, path, Bytes::new());
        let asked = timeout(QUESTION_TIMEOUT, asked);
        tokio::select! {
            answer = asked => answer.unwrap_or(Err(ClientError::Timeout { socket })),
            pid = stopped(&socket) => Err(ClientError::Stopped { pid }),
        }
    }

    /// Orders something, and waits until it is done.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.order(Method::POST, path, encode(body)?).await
    }

    /// Changes what is named of something, and waits until it is done.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn patch<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.order(Method::PATCH, path, encode(body)?).await
    }

    /// Removes something.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn delete(&mut self, path: &str) -> Result<(), ClientError> {
        let serde::de::IgnoredAny = self.delete_for(path).await?;
        Ok(())
    }

    /// Removes something, and reads what that was.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn delete_for<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.order(Method::DELETE, path, Bytes::new()).await
    }

    /// Opens an answer that goes on: one JSON value per line.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn stream<T: DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<Lines<T>, ClientError> {
        let exchange = self.exchange(Method::GET, path, Bytes::new()).await?;
        Ok(Lines {
            socket: self.socket.clone(),
            exchange,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            of: std::marker::PhantomData,
        })
    }

    /// Ends the daemon; returns when its process is gone.
    ///
    /// # Errors
    /// As [`ClientError`] lists them.
    pub async fn stop(&mut self, request: &StopRequest) -> Result<(), ClientError> {
        match self.stop_this(request).await {
            Err(error) if error.is_worth_another_try() => self.stop_this(request).await,
            stopped => stopped,
        }
    }

    /// Ends the daemon that answers now.
    async fn stop_this(&mut self, request: &StopRequest) -> Result<(), ClientError> {
        let daemon: DaemonInfo = self.get("/api/v1/admin/daemon").await?;
        // Opened before the order is given, so that the number cannot come to mean another.
        let process = i32::try_from(daemon.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let process = process.and_then(|pid| {
            let flags = rustix::process::PidfdFlags::NONBLOCK;
            rustix::process::pidfd_open(pid, flags).ok()
        });
        let path = "/api/v1/admin/daemon/stop";
        let exchange = self.accepted(Method::POST, path, encode(request)?).await?;
        let Exchange {
            body,
            sender,
            connection,
            ..
        } = exchange;
        collect(body, &self.socket).await?;
        // The daemon ends the connection with its own end; dropping the sender would end it first.
        let _ = connection.await;
        drop(sender);
        if let Some(process) = process {
            let _ = timeout(EXIT_TIMEOUT, ended(process)).await;
        }
        Ok(())
    }

    /// Asks for as long as it takes, and says when nobody is there to answer.
    async fn order<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let (socket, mut on_stopped) = (self.socket.clone(), self.on_stopped.take());
        let answer = {
            let mut answer = std::pin::pin!(self.ask(method, path, body));
            tokio::select! {
                answer = &mut answer => answer,
                pid = stopped(&socket), if on_stopped.is_some() => {
                    if let Some(on_stopped) = on_stopped.take() {
                        on_stopped(&ClientError::Stopped { pid });
                    }
                    answer.await
                }
            }
        };
        self.on_stopped = on_stopped;
        answer
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = self.exchange(method, path, body).await?;
        let status = exchange.status;
        let body = exchange.collect(&self.socket).await?;
        // An empty answer (204) reads as `null`.
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|source| ClientError::Unreadable { status, source })
    }

    /// Asks, and once more when a daemon that hands over has not heard it or says so: it has done
    /// nothing, and the next one listens on the same socket.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Exchange, ClientError> {
        match self.accepted(method.clone(), path, body.clone()).await {
            Err(error) if error.is_worth_another_try() => self.accepted(method, path, body).await,
            answer => answer,
        }
    }

    /// The answer's beginning, when it is no refusal.
    async fn accepted(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Exchange, ClientError> {
        let exchange = self.send(method, path, body).await?;
        let status = exchange.status;
        if status.is_success() {
            return Ok(exchange);
        }
        let body = exchange.collect(&self.socket).await?;
        Err(refusal(status, &body))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Exchange, ClientError> {
        let interrupted = |source| ClientError::Interrupted {
            socket: self.socket.clone(),
            source,
        };
        let stream = match self.first.take() {
            Some(stream) => stream,
            None => open(&self.socket).await?,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(interrupted)?;
        let connection = tokio::spawn(async move {
            // Its failure is that of the request, which tells it.
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "mcpm")
            .header(version::CLIENT_HEADER, version::OURS);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| ClientError::Request(source.into()))?;
        let answer = sender.send_request(request).await.map_err(|source| {
            if is_unread(&source) {
                let socket = self.socket.clone();
                ClientError::Unread { socket, source }
            } else {
                interrupted(source)
            }
        })?;
        let (head, body) = answer.into_parts();
        let daemon = head
            .headers
            .get(version::DAEMON_HEADER)
            .and_then(|v| v.to_str().ok());
        self.compare(daemon);
        Ok(Exchange {
            status: head.status,
            body,
            sender,
            connection,
        })
    }

    fn compare(&mut self, daemon: Option<&str>) {
        let skew = daemon.and_then(|daemon| Skew::between(version::OURS, daemon));
        if let Some(skew) = skew
            && let Some(on_skew) = self.on_skew.take()
        {
            on_skew(&skew);
        }
    }
}

/// An answer whose body has not been read yet, and the connection it comes by.
struct Exchange {
    status: StatusCode,
    body: Incoming,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Exchange {
    async fn collect(self, socket: &Path) -> Result<Bytes, ClientError> {
        collect(self.body, socket).await
    }
}

/// An answer that goes on.
pub struct Lines<T> {
    socket: PathBuf,
    exchange: Exchange,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given out.
    taken: usize,
    /// Bytes of `buffer` without a line end.
    searched: usize,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next value; `None` at the end. Cancel-safe: what has arrived is kept.
    ///
    /// # Errors
    /// When the connection breaks, or a line is none of ours.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(Some(value));
            }
            match self.exchange.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // Always the daemon's end, whatever the protocol engine calls it.
                Some(Err(_)) => return Err(self.left()),
                None => return Ok(None),
            }
        }
    }

    /// What an answer's end means that was to go on for ever.
    pub fn left(&self) -> ClientError {
        ClientError::Left {
            socket: self.socket.clone(),
        }
    }

    /// The next value, when it has arrived already.
    ///
    /// # Errors
    /// When the line is none of ours.
    pub fn buffered(&mut self) -> Result<Option<T>, ClientError> {
        let Some(end) = self.buffer[self.searched..]
            .iter()
            .position(|&b| b == b'\n')
        else {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = &self.buffer[self.taken..self.searched + end];
        let value = serde_json::from_slice(line).map_err(|source| ClientError::Unreadable {
            status: self.exchange.status,
            source,
        });
        self.searched += end + 1;
        self.taken = self.searched;
        value.map(Some)
    }
}

/// Returns when the daemon's process is stopped, and has been for a while: a stop that is over in a
/// moment is waited for.
async fn stopped(socket: &Path) -> u32 {
    let mut was_stopped = false;
    loop {
        tokio::time::sleep(STOPPED_EVERY).await;
        let pid = std::fs::read_to_string(home(socket).join("mcpm.pid"));
        let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
        let pid = pid.filter(|&pid| proc::stat(pid).is_some_and(|stat| stat.state == b'T'));
        if let Some(pid) = pid.filter(|_| was_stopped) {
            return pid;
        }
        was_stopped = pid.is_some();
    }
}

/// Returns when the process behind a pidfd has ended.
async fn ended(process: OwnedFd) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "tokio's registration cannot know who owns a descriptor"
    )]
    // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` that owns it drops it.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    let _ended = process.map_err(io::Error::from)?.readable().await?;
    Ok(())
}

async fn open(socket: &Path) -> Result<UnixStream, ClientError> {
    let nobody = || ClientError::NoDaemon {
        socket: socket.to_owned(),
    };
    match UnixStream::connect(socket).await {
        Ok(stream) if presence::is_of_the_killed(stream.as_fd()) => Err(nobody()),
        Ok(stream) => Ok(stream),
        Err(source) => Err(match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => nobody(),
            _ => ClientError::Connect {
                socket: socket.to_owned(),
                source,
            },
        }),
    }
}

async fn collect(body: Incoming, socket: &Path) -> Result<Bytes, ClientError> {
    let collected = body
        .collect()
        .await
        .map_err(|source| ClientError::Interrupted {
            socket: socket.to_owned(),
            source,
        })?;
    Ok(collected.to_bytes())
}

/// The daemon cannot have read a request that met this to its end: it was never written, or its
/// socket was closed with a part of it unread, which the kernel tells.
fn is_unread(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_closed = |cause: &io::Error| {
        matches!(
            cause.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        )
    };
    error.is_canceled() || cause.is_some_and(is_closed)
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(source) => ClientError::Unreadable { status, source },
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, ClientError> {
    let bytes = serde_json::to_vec(body);
    bytes
        .map(Bytes::from)
        .map_err(|source| ClientError::Request(source.into()))
}

/// A text as one segment of a path or one value of a query.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
