//! One question to a service, and what it said.
//!
//! A probe opens no MCP session and reads the head of an answer only: the answer may be an open
//! stream. Any status below 500 is alive unless `expect` says
//! more.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::spec::Probe;
use crate::ids::Port;
use crate::sockets;

/// What a service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It is alive.
    Alive {
        /// From the question to the answer.
        took: Duration,
        /// Where it answered; `None` when it was not asked.
        at: Option<IpAddr>,
    },
    /// It is not, or can't say so.
    Failed(ProbeFailure),
}

/// What was wrong, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFailure {
    /// Nobody accepts connections.
    Connect(io::ErrorKind),
    /// No answer in time.
    Timeout(Duration),
    /// A status that is not alive.
    Status(u16),
    /// Something that is not HTTP.
    NotHttp,
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(io::ErrorKind::ConnectionRefused) => {
                f.write_str("nobody listens on its port")
            }
            Self::Connect(kind) => write!(f, "cannot connect to its port: {kind}"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Status(status) => write!(f, "answered with status {status}"),
            Self::NotHttp => f.write_str("answered with something that is not HTTP"),
        }
    }
}

/// Asks once. [`Probe::None`] is always alive.
pub async fn probe(port: Port, probe: &Probe, expect: &[u16], timeout: Duration) -> ProbeOutcome {
    let began = Instant::now();
    let ask = async {
        match probe {
            Probe::None => Ok(None),
            Probe::Tcp => connect(port, timeout).await.map(|(_, at)| Some(at)),
            Probe::Http(path) => get(port, path, expect, timeout).await.map(Some),
        }
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(Ok(at)) => ProbeOutcome::Alive {
            took: began.elapsed(),
            at,
        },
        Ok(Err(failure)) => ProbeOutcome::Failed(failure),
        Err(_) => ProbeOutcome::Failed(ProbeFailure::Timeout(timeout)),
    }
}

/// A service on `localhost` may listen on either loopback address.
async fn connect(port: Port, timeout: Duration) -> Result<(TcpStream, IpAddr), ProbeFailure> {
    let port = port.get();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let error = match sockets::connect(v4, timeout).await {
        Ok(stream) => return Ok((stream, v4.ip())),
        Err(error) => error.kind(),
    };
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match sockets::connect(v6, timeout).await {
        Ok(stream) => Ok((stream, v6.ip())),
        Err(_) => Err(ProbeFailure::Connect(error)),
    }
}

async fn get(
    port: Port,
    path: &str,
    expect: &[u16],
    timeout: Duration,
) -> Result<IpAddr, ProbeFailure> {
    let (stream, at) = connect(port, timeout).await?;
    let request = http::Request::get(path)
        .header(HOST, format!("127.0.0.1:{port}"))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "mcpm-health")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeFailure::NotHttp)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| ProbeFailure::NotHttp)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut answer => response,
        // A short answer may end the connection in the moment it arrives: it is there all the same.
        _ = connection => answer.await,
    };
    let status = response
        .map_err(|_| ProbeFailure::NotHttp)?
        .status()
        .as_u16();
    let alive = if expect.is_empty() {
        status < 500
    } else {
        expect.contains(&status)
    };
    if alive {
        Ok(at)
    } else {
        Err(ProbeFailure::Status(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_millis(500);

    async fn answering(bytes: &'static str) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(bytes.as_bytes()).await;
                // Held open: a stream that does not end must not hold up a probe.
                tokio::spawn(async move { drop((tokio::time::sleep(TIMEOUT * 4).await, stream)) });
            }
        });
        port
    }

    async fn check(answer: &'static str, expect: &[u16], expected: Result<(), ProbeFailure>) {
        let port = answering(answer).await;
        let outcome = probe(port, &Probe::Http("/health".into()), expect, TIMEOUT).await;
        match (outcome, expected) {
            (ProbeOutcome::Alive { .. }, Ok(())) => {}
            (ProbeOutcome::Failed(failure), Err(expected)) => assert_eq!(failure, expected),
            (outcome, expected) => panic!("{outcome:?} instead of {expected:?} for {answer}"),
        }
    }

    #[tokio::test]
    async fn any_status_below_500_is_alive_unless_more_is_expected() {
        check("HTTP/1.1 200 OK\r\n\r\n", &[], Ok(())).await;
        check(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            &[],
            Ok(()),
        )
        .await;
        check(
            "HTTP/1.1 503 No\r\n\r\n",
            &[],
            Err(ProbeFailure::Status(503)),
        )
        .await;
        check(
            "HTTP/1.1 404 No\r\n\r\n",
            &[200],
            Err(ProbeFailure::Status(404)),
        )
        .await;
        check("HTTP/1.1 500 Yes\r\n\r\n", &[500], Ok(())).await;
    }

    #[tokio::test]
    async fn an_answer_that_ends_the_connection_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let outcome = probe(port, &Probe::Http("/health".into()), &[], TIMEOUT).await;
        assert!(matches!(outcome, ProbeOutcome::Alive { .. }), "{outcome:?}");
    }

    #[tokio::test]
    async fn silence_and_noise_are_failures() {
        check("", &[], Err(ProbeFailure::Timeout(TIMEOUT))).await;
        check("SSH-2.0-x\r\n", &[], Err(ProbeFailure::NotHttp)).await;
    }

    #[tokio::test]
    async fn an_endless_answer_is_alive_at_its_head() {
        let sse = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
        check(sse, &[], Ok(())).await;
    }

    #[tokio::test]
    async fn a_closed_port_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
        assert!(matches!(
            probe(port, &Probe::Tcp, &[], TIMEOUT).await,
            ProbeOutcome::Alive { .. }
        ));
        drop(listener);
        let outcome = probe(port, &Probe::Tcp, &[], TIMEOUT).await;
        let ProbeOutcome::Failed(failure) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failure.to_string(), "nobody listens on its port");
    }
}
