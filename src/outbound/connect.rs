//! The guarded connector: name → checked address → connection to that very address.
//!
//! The name is resolved here and nowhere else, so that no second resolution can put another address
//! between the check and the connection (DNS rebinding). Sockets come from `crate::sockets`, which
//! keeps them off service ports.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::address::is_public;
use super::error::OutboundError;

/// Addresses of one host that are tried before giving up: one of each family and a spare of each.
const ATTEMPTS_MAX: usize = 4;

/// For one attempt; a name with a dead first address is still reached within the total timeout.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens connections to allowed addresses only.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) allow_private: bool,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(open(uri, self.allow_private))
    }
}

async fn open(uri: Uri, allow_private: bool) -> Result<TokioIo<TcpStream>, OutboundError> {
    let host = uri.host().ok_or(OutboundError::Address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    });
    let found = resolve(host, port).await?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in choose(host, found, allow_private)? {
        match crate::sockets::connect(address, ATTEMPT_TIMEOUT).await {
            Ok(stream) => {
                // Requests are written whole; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                return Ok(TokioIo::new(stream));
            }
            Err(error) => last = error,
        }
    }
    let source = Arc::new(last);
    Err(OutboundError::Connect {
        host: host.to_owned(),
        source,
    })
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, OutboundError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    found
        .map(Iterator::collect)
        .map_err(|error| OutboundError::Resolve {
            host: host.to_owned(),
            source: Arc::new(error),
        })
}

/// The addresses to try, in order. A name with both kinds of addresses (DNS64 adds NAT64 forms to
/// public ones) is called at its public ones; one without any is refused.
fn choose(
    host: &str,
    found: Vec<SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, OutboundError> {
    let allowed = |address: &&SocketAddr| allow_private || is_public(address.ip());
    let (v4, v6): (Vec<_>, Vec<_>) = found
        .iter()
        .filter(allowed)
        .copied()
        .partition(SocketAddr::is_ipv4);
    if v4.is_empty() && v6.is_empty() {
        return Err(match found.first() {
            Some(address) => OutboundError::Private {
                host: host.to_owned(),
                address: address.ip(),
            },
            None => OutboundError::Resolve {
                host: host.to_owned(),
                source: Arc::new(io::ErrorKind::NotFound.into()),
            },
        });
    }
    // The resolver's first choice leads, then the families take turns: where one does not work
    // at all, the other is reached on the second attempt.
    let v6_first = found.iter().find(allowed).is_some_and(SocketAddr::is_ipv6);
    let (lead, other) = if v6_first { (v6, v4) } else { (v4, v6) };
    let mut order = Vec::with_capacity(ATTEMPTS_MAX);
    for turn in 0..ATTEMPTS_MAX {
        order.extend(lead.get(turn));
        order.extend(other.get(turn));
    }
    order.truncate(ATTEMPTS_MAX);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| SocketAddr::new(text.parse().unwrap(), 443))
            .collect()
    }

    #[test]
    fn private_addresses_are_left_out_and_families_take_turns() {
        let found = addresses(&[
            "64:ff9b::1",
            "1.1.1.1",
            "10.0.0.1",
            "1.0.0.1",
            "2606:4700::1",
        ]);
        let chosen = choose("h", found, false).unwrap();
        assert_eq!(chosen, addresses(&["1.1.1.1", "2606:4700::1", "1.0.0.1"]));
    }

    #[test]
    fn a_host_with_private_addresses_only_is_refused_by_name() {
        let error = choose("db.internal", addresses(&["10.1.2.3"]), false).unwrap_err();
        assert!(
            error.to_string().contains("`db.internal` is at `10.1.2.3`"),
            "{error}"
        );
        assert_eq!(
            choose("h", addresses(&["10.1.2.3"]), true).unwrap().len(),
            1
        );
        assert!(matches!(
            choose("h", vec![], true),
            Err(OutboundError::Resolve { .. })
        ));
    }
}
