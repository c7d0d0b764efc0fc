//! Why a call outside did not happen or did not end well.
//!
//! Invariant: no variant holds a path, a query or a header. The origin is all that is shown of an
//! address, because templates put credentials into the other parts.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

/// Why a call outside did not happen or did not end well. Clonable, since it also travels inside
/// the errors of the HTTP client.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutboundError {
    /// Neither `http` nor `https`, or without a host.
    #[error("this address cannot be called; write `https://` or `http://` and a host")]
    Address,
    /// `user:password@` before the host.
    #[error("`{origin}`: an address with a user or password in it is not called; use a header")]
    UserInfo {
        /// Scheme, host and port.
        origin: String,
    },
    /// The name has no address.
    #[error("cannot find the address of `{host}`")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The guard's refusal.
    #[error(
        "`{host}` is at `{address}`, which is not a public address; set `allow_private` on the \
         service, or on the identity provider, if it may be called"
    )]
    Private {
        /// The name.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// No address of the host took the connection.
    #[error("cannot connect to `{host}`")]
    Connect {
        /// The name.
        host: String,
        /// What the last attempt said.
        source: Arc<io::Error>,
    },
    /// The whole call took too long.
    #[error("`{origin}` did not answer within {} ms", after.as_millis())]
    Timeout {
        /// Scheme, host and port.
        origin: String,
        /// The limit.
        after: Duration,
    },
    /// The answer was cut off at the limit.
    #[error("the answer of `{origin}` is larger than {limit} bytes")]
    TooLarge {
        /// Scheme, host and port.
        origin: String,
        /// The limit.
        limit: usize,
    },
    /// TLS, HTTP or the connection broke.
    #[error("the call to `{origin}` broke off")]
    Broken {
        /// Scheme, host and port.
        origin: String,
        /// What the client said.
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// Scheme, host and port of an address: all of it that may be shown.
pub fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("?");
    let host = uri.host().unwrap_or("?");
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}
