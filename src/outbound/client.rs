//! [`Outbound`]: one request out, one bounded answer back.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::Connector;
use super::error::{OutboundError, origin};

/// Connections kept open to one host between calls.
const IDLE_MAX: usize = 4;

/// How long they are kept; most APIs close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What calls may do.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Addresses that are not public may be called.
    pub allow_private: bool,
    /// From the first look-up to the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of an answer's body.
    pub max_answer: usize,
}

/// What came back, whatever its status; redirects too, since none is followed.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers, as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// The guarded client. A cheap handle: clones share connections.
#[derive(Clone, Debug)]
pub struct Outbound {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Policy,
    /// TLS roots cost memory, so that they wait for the first call.
    client: OnceLock<Client<HttpsConnector<Connector>, Full<Bytes>>>,
}

impl Outbound {
    /// A client under this policy. Nothing is set up until the first call.
    pub fn new(policy: Policy) -> Self {
        Self {
            shared: Arc::new(Shared {
                policy,
                client: OnceLock::new(),
            }),
        }
    }

    /// Sends the request and reads the whole answer. Cancel-safe: dropping it ends the call.
    ///
    /// # Errors
    /// When the address may not be called or no complete answer came within the limits.
    pub async fn call(&self, mut request: Request<Bytes>) -> Result<Answer, OutboundError> {
        let policy = &self.shared.policy;
        check(request.uri())?;
        let origin = origin(request.uri());
        let defaults: [(HeaderName, &'static str); 2] = [
            (USER_AGENT, concat!("mcpm/", env!("CARGO_PKG_VERSION"))),
            (ACCEPT_ENCODING, "identity"),
        ];
        for (name, value) in defaults {
            request
                .headers_mut()
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        let exchange = self.exchange(request, &origin);
        match tokio::time::timeout(policy.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(OutboundError::Timeout {
                origin,
                after: policy.timeout,
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        origin: &str,
    ) -> Result<Answer, OutboundError> {
        let sent = self.client().request(request.map(Full::new)).await;
        let (head, body) = sent.map_err(|error| explain(error, origin))?.into_parts();
        let body = read(body, self.shared.policy.max_answer, origin).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn client(&self) -> &Client<HttpsConnector<Connector>, Full<Bytes>> {
        self.shared.client.get_or_init(|| {
            let connector = Connector {
                allow_private: self.shared.policy.allow_private,
            };
            let https = HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
                .expect("ring offers the protocol versions that rustls defaults to")
                .https_or_http()
                .enable_http1()
                .wrap_connector(connector);
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_MAX)
                .build(https)
        })
    }
}

/// Scheme, host, and nothing before the host.
fn check(uri: &Uri) -> Result<(), OutboundError> {
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let Some(authority) = uri.authority().filter(|a| known && !a.host().is_empty()) else {
        return Err(OutboundError::Address);
    };
    if authority.as_str().contains('@') {
        return Err(OutboundError::UserInfo {
            origin: origin(uri),
        });
    }
    Ok(())
}

async fn read(mut body: Incoming, limit: usize, origin: &str) -> Result<Bytes, OutboundError> {
    let too_large = || OutboundError::TooLarge {
        origin: origin.to_owned(),
        limit,
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| OutboundError::Broken {
            origin: origin.to_owned(),
            source: Arc::new(error),
        })?;
        if let Ok(data) = frame.into_data() {
            if data.len() > limit - whole.len() {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// Finds our own connector's reason inside the client's error; else the error itself.
fn explain(error: hyper_util::client::legacy::Error, origin: &str) -> OutboundError {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<OutboundError>() {
            return ours.clone();
        }
        cause = inner.source();
    }
    OutboundError::Broken {
        origin: origin.to_owned(),
        source: Arc::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_called() {
        let good = [
            "https://a.example/x?y=1",
            "http://[::1]:80/",
            "http://127.0.0.1",
        ];
        for text in good {
            assert!(check(&text.parse().unwrap()).is_ok(), "{text}");
        }
        for text in ["ftp://a.example/", "/relative", "file:///etc/passwd"] {
            if let Ok(uri) = text.parse() {
                assert!(matches!(check(&uri), Err(OutboundError::Address)), "{text}");
            }
        }
        let uri = "https://user:hunter2@a.example/".parse().unwrap();
        let error = check(&uri).unwrap_err().to_string();
        assert!(
            error.contains("https://a.example") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
