//! One request while it lasts. Its line is written when the last who holds it lets go: the body of its
//! answer, and for a WebSocket the pipe.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::line::{self, Line};
use super::writer::AccessLog;
use crate::ids::{PublicId, ServiceType, Timestamp};
use crate::metrics::Count;

/// What is known of a request so far.
#[derive(Debug)]
pub struct Record {
    log: AccessLog,
    at: Timestamp,
    begun: Instant,
    request_id: HeaderValue,
    client: IpAddr,
    method: Method,
    whose: OnceLock<(PublicId, ServiceType)>,
    path: OnceLock<Box<str>>,
    /// 0 as long as there is none.
    status: AtomicU16,
    code: OnceLock<&'static str>,
    mcp: OnceLock<Box<str>>,
    received: Count,
    sent: Count,
}

impl Record {
    pub(super) fn new(
        log: AccessLog,
        request_id: HeaderValue,
        client: IpAddr,
        method: Method,
    ) -> Self {
        Self {
            log,
            at: Timestamp::now(),
            begun: Instant::now(),
            request_id,
            client,
            method,
            whose: OnceLock::new(),
            path: OnceLock::new(),
            status: AtomicU16::new(0),
            code: OnceLock::new(),
            mcp: OnceLock::new(),
            received: Count::default(),
            sent: Count::default(),
        }
    }

    /// It is this instance's. `id` is the one in its URL, which is shown nowhere.
    pub fn found(&self, public: &PublicId, service: &ServiceType, rest: &str, id: &str) {
        // What was said first holds.
        let _ = self.whose.set((public.clone(), service.clone()));
        let _ = self.path.set(line::rest(rest, id));
    }

    /// It is a call of the API.
    pub fn is_own(&self, path: &str) {
        let _ = self.path.set(line::own(path));
    }

    /// It calls this method of MCP.
    pub fn calls(&self, method: &str) {
        let _ = self.mcp.set(line::word(method));
    }

    /// The router refuses it.
    pub fn refused(&self, code: &'static str) {
        let _ = self.code.set(code);
    }

    /// Its answer begins.
    pub fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Bytes have come from the client.
    pub fn received(&self, bytes: u64) {
        self.received.add_many(bytes);
    }

    /// Bytes went to the client.
    pub fn sent(&self, bytes: u64) {
        self.sent.add_many(bytes);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (instance, service) = self.whose.take().unzip();
        let status = *self.status.get_mut();
        self.log.write(Line {
            at: self.at,
            request_id: self.request_id.clone(),
            client: self.client,
            instance,
            service,
            method: self.method.clone(),
            path: self.path.take(),
            status: (status > 0).then_some(status),
            code: self.code.take(),
            bytes_in: self.received.get(),
            bytes_out: self.sent.get(),
            took: self.begun.elapsed(),
            mcp: self.mcp.take(),
        });
    }
}
