//! The `oauth2` crate's HTTP, through the guard of `outbound`.

use std::pin::Pin;

use bytes::Bytes;
use http::StatusCode;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};

use crate::outbound::{Outbound, OutboundError, origin};

/// Why a provider has given no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It was not reached.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// It is busy or broken: whatever else it says is no word about a token.
    #[error("`{origin}` answered {status}")]
    Busy {
        /// Who.
        origin: String,
        /// With what.
        status: StatusCode,
    },
}

/// Calls of the crate.
pub(super) struct Guarded<'a>(pub(super) &'a Outbound);

impl<'c> AsyncHttpClient<'c> for Guarded<'_> {
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, CallError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let origin = origin(request.uri());
            let answer = self.0.call(request.map(Bytes::from)).await?;
            let status = answer.status;
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                return Err(CallError::Busy { origin, status });
            }
            let mut response = HttpResponse::new(answer.body.to_vec());
            *response.status_mut() = status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}
