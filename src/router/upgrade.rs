//! WebSocket: a request that turns its connection into a pipe (RFC 6455 §4, RFC 9110 §7.8).
//!
//! The same checks and the same injection as for any request; then bytes pass both ways until either
//! side ends, the instance does, or the router drains.

use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::counted::{Counted, Meter};
use super::drain::{Flight, Phase, reached};
use super::pass::Pass;
use super::stream::Place;

/// How long one half of a WebSocket may outlive the other.
const LINGER: Duration = Duration::from_secs(5);

/// What a client wants its connection to become: only a WebSocket, and only over HTTP/1.1 (over
/// HTTP/2 it needs RFC 8441, which is not offered).
pub(super) fn wanted(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    is_asked_for(request).then(|| hyper::upgrade::on(request))
}

/// Does a client want that?
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && is_websocket(request.headers())
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let lists = |name, word: &[u8]| {
        let values = headers.get_all(name).iter();
        values
            .flat_map(|value: &HeaderValue| value.as_bytes().split(|&b| b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
    };
    lists(UPGRADE, b"websocket") && lists(CONNECTION, b"upgrade")
}

/// Says the same to the service, or to the client.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Joins both connections, in a task of its own.
pub(super) fn join(
    client: OnUpgrade,
    answer: &mut Response<Incoming>,
    instance: Pass,
    meter: Meter,
    place: Place,
    flight: &Flight,
) {
    let service = hyper::upgrade::on(answer);
    let draining = reached(flight.phase(), Phase::Draining);
    tokio::spawn(async move {
        let _place = place;
        let pipe = async {
            let (client, service) = tokio::try_join!(client, service)?;
            let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
            let (from_service, to_service) = tokio::io::split(TokioIo::new(service));
            let from_client = Counted::new(from_client, meter.clone(), Meter::received);
            let from_service = Counted::new(from_service, meter, Meter::piped);
            let mut up = std::pin::pin!(pass(from_client, to_service));
            let mut down = std::pin::pin!(pass(from_service, to_client));
            // When one side has said all, the other has a moment for its last words.
            let ended = tokio::select! {
                ended = &mut up => ended.and(timeout(LINGER, down).await.unwrap_or(Ok(()))),
                ended = &mut down => ended.and(timeout(LINGER, up).await.unwrap_or(Ok(()))),
            };
            ended.map_err(Box::<dyn std::error::Error + Send + Sync>::from)
        };
        tokio::select! {
            ended = pipe => if let Err(error) = ended {
                tracing::debug!(%error, "a WebSocket ended early");
            },
            () = instance.revoked() => {}
            () = draining => {}
        }
    });
}

/// One direction, to its end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_asked_for_in_two_headers() {
        let check = |connection: &str, upgrade: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, connection.parse().unwrap());
            headers.insert(UPGRADE, upgrade.parse().unwrap());
            assert_eq!(is_websocket(&headers), expected, "{connection} {upgrade}");
        };
        check("Upgrade", "websocket", true);
        check("keep-alive, upgrade", "WebSocket", true);
        check("keep-alive", "websocket", false);
        check("upgrade", "h2c", false);
    }
}
