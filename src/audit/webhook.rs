//! Tells isolation events to the operator's webhook: one POST each, tried twice.
//!
//! It is called through the guarded client, and private addresses are allowed: the operator alone
//! chooses this address, and mostly it is one of their own. What it does not take is in the log and in
//! the audit log all the same.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Uri};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::outbound::{Outbound, origin};
use crate::problem::chain;
use crate::store::AuditEntry;

/// Events that wait to be told; those beyond are told to nobody but the logs.
const QUEUE_MAX: usize = 64;
/// Between the two tries.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where events are told.
pub(super) struct Hook {
    url: ArcSwapOption<Uri>,
    queue: mpsc::Sender<Post>,
}

/// One event on its way.
struct Post {
    url: Arc<Uri>,
    body: Bytes,
}

/// An event as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: &'a str,
    at: Timestamp,
    actor: &'a str,
    user: Option<&'a UserId>,
    service: Option<&'a ServiceType>,
    instance: Option<&'a PublicId>,
    address: Option<&'a str>,
    request_id: Option<&'a str>,
    detail: Option<&'a str>,
}

impl Hook {
    /// One that tells nobody yet, and who will do the telling.
    pub(super) fn new(outbound: Outbound) -> (Self, Poster) {
        let (queue, posts) = mpsc::channel(QUEUE_MAX);
        let hook = Self {
            url: ArcSwapOption::empty(),
            queue,
        };
        (hook, Poster { posts, outbound })
    }

    /// Tells them there from now on, or nowhere.
    pub(super) fn set(&self, url: Option<Uri>) {
        self.url.store(url.map(Arc::new));
    }

    /// Tells this one, some time soon.
    pub(super) fn tell(&self, entry: &AuditEntry) {
        let Some(url) = self.url.load_full() else {
            return;
        };
        let body = Bytes::from(body(entry));
        if self.queue.try_send(Post { url, body }).is_err() {
            tracing::warn!("an isolation event is not told to the webhook, which is slow");
        }
    }
}

fn body(entry: &AuditEntry) -> Vec<u8> {
    let body = Body {
        event: &entry.action,
        at: entry.at,
        actor: &entry.actor,
        user: entry.user.as_ref(),
        service: entry.service.as_ref(),
        instance: entry.public.as_ref(),
        address: entry.address.as_deref(),
        request_id: entry.request_id.as_deref(),
        detail: entry.detail.as_deref(),
    };
    serde_json::to_vec(&body).expect("an entry holds nothing that JSON can't")
}

/// Does the telling.
pub struct Poster {
    posts: mpsc::Receiver<Post>,
    outbound: Outbound,
}

impl Poster {
    /// Tells one after the other, until all handles of the audit log are gone.
    pub async fn run(mut self) {
        while let Some(post) = self.posts.recv().await {
            if send(&self.outbound, &post).await.is_ok() {
                continue;
            }
            tokio::time::sleep(RETRY_AFTER).await;
            if let Err(why) = send(&self.outbound, &post).await {
                tracing::warn!("the webhook has not taken an isolation event: {why}");
            }
        }
    }
}

async fn send(outbound: &Outbound, post: &Post) -> Result<(), String> {
    let json = HeaderValue::from_static("application/json");
    let request = Request::post(Uri::clone(&post.url))
        .header(CONTENT_TYPE, json)
        .body(post.body.clone())
        .map_err(|error| error.to_string())?;
    match outbound.call(request).await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => {
            let (origin, status) = (origin(&post.url), answer.status.as_u16());
            Err(format!("`{origin}` has answered with status {status}"))
        }
        Err(error) => Err(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::by::{Actor, By};
    use super::*;

    #[test]
    fn an_event_is_json_with_the_names_of_the_api() {
        let alice = UserId::parse("alice").unwrap();
        let public = PublicId::parse("ins_aaaabbbbcccc").unwrap();
        let entry = By::caller(Actor::Operator, None, Some("q".to_owned()))
            .entry("isolation.foreign_token")
            .with_user(&alice)
            .with_instance(&public)
            .with_detail("why");
        let sent: serde_json::Value = serde_json::from_slice(&body(&entry)).unwrap();
        let expected = serde_json::json!({
            "event": "isolation.foreign_token", "at": entry.at, "actor": "admin",
            "user": "alice", "service": null, "instance": "ins_aaaabbbbcccc",
            "address": "socket", "requestId": "q", "detail": "why",
        });
        assert_eq!(sent, expected);
    }
}
