//! Bytes of bodies and of WebSockets, counted while they pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::access_log::Record;
use crate::instances::Tally;
use crate::limits::{Limits, Seat};

/// Where the bytes of one request count: in its user's books, and towards what limits it.
#[derive(Clone)]
pub(super) struct Meter {
    tally: Arc<Tally>,
    /// `None` where nothing limits it.
    seat: Option<(Limits, Arc<Seat>)>,
    /// `None` where nobody logs it.
    record: Option<Arc<Record>>,
}

impl Meter {
    pub(super) fn new(
        tally: Arc<Tally>,
        seat: Option<(Limits, Arc<Seat>)>,
        record: Option<Arc<Record>>,
    ) -> Self {
        Self {
            tally,
            seat,
            record,
        }
    }

    /// Where the request is told of.
    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// Bytes have come from the client.
    pub(super) fn received(&self, bytes: u64) {
        if let Some(record) = &self.record {
            record.received(bytes);
        }
        self.tally.received(bytes);
        self.pass(bytes);
    }

    /// Bytes went to the client through no body.
    pub(super) fn piped(&self, bytes: u64) {
        if let Some(record) = &self.record {
            record.sent(bytes);
        }
        self.sent(bytes);
    }

    /// Bytes of a service's answer went on; the client's body tells the record what it gets.
    pub(super) fn sent(&self, bytes: u64) {
        self.tally.sent(bytes);
        self.pass(bytes);
    }

    fn pass(&self, bytes: u64) {
        if let Some((limits, seat)) = &self.seat {
            limits.pass(seat, bytes);
        }
    }
}

/// Where bytes of one direction count.
pub(super) type Count = fn(&Meter, u64);

/// A side whose bytes count as they are read.
pub(super) struct Counted<R> {
    inner: R,
    meter: Meter,
    count: Count,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R, meter: Meter, count: Count) -> Self {
        Self {
            inner,
            meter,
            count,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buffer);
        let count = buffer.filled().len().saturating_sub(before) as u64;
        if count > 0 {
            (this.count)(&this.meter, count);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::ids::{ServiceType, UserId};
    use crate::instances::Tallies;

    #[tokio::test]
    async fn every_byte_counts_once() {
        let tallies = Arc::new(Tallies::default());
        let user = UserId::parse("alice").unwrap();
        let service = ServiceType::parse("demo").unwrap();
        let tally = tallies.tally(&user, &service);
        let bytes = [7u8; 1000];
        let mut side = Counted::new(&bytes[..], Meter::new(tally, None, None), Meter::sent);
        let mut read = [0; 300];
        while side.read(&mut read).await.unwrap() > 0 {}
        let mut found = 0;
        tallies.collect(|_, _, usage| found += usage.bytes_out);
        assert_eq!(found, 1000);
    }
}
