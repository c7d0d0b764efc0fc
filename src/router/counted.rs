//! Bytes of a WebSocket, counted while they pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::instances::Tally;

/// Where bytes of one direction count.
pub(super) type Count = fn(&Arc<Tally>, u64);

/// A side whose bytes count as they are read.
pub(super) struct Counted<R> {
    inner: R,
    tally: Arc<Tally>,
    count: Count,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R, tally: Arc<Tally>, count: Count) -> Self {
        Self {
            inner,
            tally,
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
            (this.count)(&this.tally, count);
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
        let mut side = Counted::new(&bytes[..], tally.clone(), Tally::sent);
        let mut read = [0; 300];
        while side.read(&mut read).await.unwrap() > 0 {}
        let mut found = 0;
        tallies.collect(|_, _, usage| found += usage.bytes_out);
        assert_eq!(found, 1000);
    }
}
