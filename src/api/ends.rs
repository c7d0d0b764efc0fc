//! Answers that go on, such as a log that is followed, end with the token they were asked for with.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::users::LiveToken;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The token that a call was let in by, once that is known; nothing over the socket.
#[derive(Clone, Default)]
pub(super) struct AskedWith(Arc<OnceLock<Arc<LiveToken>>>);

impl AskedWith {
    /// It was this one.
    pub(super) fn note(&self, token: &Arc<LiveToken>) {
        // A call that is asked twice who it is shows the same one.
        let _ = self.0.set(Arc::clone(token));
    }
}

/// Why an answer stops in the middle: a clean end would make it look complete.
#[derive(Debug, thiserror::Error)]
#[error("the token has ended")]
struct Over;

/// Lets a call know by which token it comes, and ends its answer with that.
pub(super) async fn with_token(mut request: Request, next: Next) -> Response {
    let asked = AskedWith::default();
    request.extensions_mut().insert(asked.clone());
    let response = next.run(request).await;
    let goes_on = response.body().size_hint().exact().is_none();
    match asked.0.get() {
        Some(token) if goes_on => {
            let token = Arc::clone(token);
            let over = Box::pin(async move { token.over().await });
            response.map(|inner| Body::new(Ending { inner, over }))
        }
        _ => response,
    }
}

/// An answer, as long as its token.
struct Ending {
    inner: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            // It is asked no more after that.
            return Poll::Ready(Some(Err(Over.into())));
        }
        Pin::new(&mut self.inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
