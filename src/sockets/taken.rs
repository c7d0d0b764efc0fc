//! Whether the other side of a connection that broke had read what was written.
//!
//! A process that is killed closes its sockets before anybody can know that it is dead, so a request may
//! be written to it all the same. What became of that the kernel knows, on loopback at once: bytes that
//! came when its socket was closed are never acknowledged (RFC 9293 §3.10.7), and a socket that is closed
//! while it holds bytes that nobody has read answers with a reset (RFC 1122 §4.2.2.13). Only what was
//! acknowledged, and met by an orderly end, may have been read to its end.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// `tcpi_bytes_acked` of `linux/tcp.h` (Linux 4.1): a `u64` at this place of `struct tcp_info`.
const ACKED_AT: usize = 120;
/// As much of it as is read.
const INFO_BYTES: usize = 128;

/// What became of the last bytes that were written, once the connection has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nobody knows, or they were read.
    Perhaps,
    /// The other side's socket was closed when they came.
    No,
    /// Its process has ended, or closed the socket, before it had read all of them.
    NotAll,
}

/// What a connection tells of its end.
#[derive(Clone, Debug, Default)]
pub struct Last(Arc<AtomicU8>);

impl Last {
    /// What it has told.
    pub fn taken(&self) -> Taken {
        match self.0.load(Ordering::Acquire) {
            1 => Taken::No,
            2 => Taken::NotAll,
            _ => Taken::Perhaps,
        }
    }
}

/// A connection that tells of its end.
pub struct Telling {
    stream: TcpStream,
    written: u64,
    last: Last,
}

impl Telling {
    /// A connection on which nothing was written yet.
    pub fn new(stream: TcpStream) -> (Self, Last) {
        let last = Last::default();
        let telling = Self {
            stream,
            written: 0,
            last: last.clone(),
        };
        (telling, last)
    }

    /// It has broken, or the other side has closed it.
    fn note(&self, error: Option<&io::Error>) {
        let is_reset = error.is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            )
        });
        let number = match acked(&self.stream) {
            // The first byte that counts is the connection's own (SYN).
            Some(acked) if acked < self.written + 1 => 1,
            Some(_) if is_reset => 2,
            _ => 0,
        };
        self.last.0.store(number, Ordering::Release);
    }

    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.note(Some(error));
        }
        polled
    }
}

/// Bytes that the other side's system has acknowledged, and one.
fn acked(stream: &TcpStream) -> Option<u64> {
    let mut info = [0u8; INFO_BYTES];
    let mut length = libc::socklen_t::try_from(INFO_BYTES).ok()?;
    // SAFETY: the descriptor is open as long as the stream, and the kernel writes at most `length` bytes
    // into `info`, which has as many.
    #[expect(unsafe_code, reason = "no library offers all of this option")]
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 || usize::try_from(length).ok()? < INFO_BYTES {
        return None;
    }
    let bytes = info.get(ACKED_AT..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

impl AsyncRead for Telling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = &polled
            && buffer.filled().len() == before
            && buffer.remaining() > 0
        {
            self.note(None);
        }
        self.noted(polled)
    }
}

impl AsyncWrite for Telling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += *count as u64;
        }
        self.noted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += *count as u64;
        }
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Telling, Last, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let (telling, last) = Telling::new(client.unwrap());
        (telling, last, server.unwrap().0)
    }

    /// Until it breaks or ends.
    async fn drain(telling: &mut Telling) {
        let mut rest = Vec::new();
        let _ = telling.read_to_end(&mut rest).await;
    }

    #[tokio::test]
    async fn what_was_read_to_its_end_may_have_been_done() {
        let (mut telling, last, mut server) = pair().await;
        telling.write_all(b"request").await.unwrap();
        let mut read = [0; 7];
        server.read_exact(&mut read).await.unwrap();
        server.write_all(b"half").await.unwrap();
        drop(server);
        drain(&mut telling).await;
        assert_eq!(last.taken(), Taken::Perhaps);
    }

    #[tokio::test]
    async fn what_nobody_has_read_was_not_taken() {
        let (mut telling, last, server) = pair().await;
        telling.write_all(b"request").await.unwrap();
        drop(server);
        drain(&mut telling).await;
        assert_eq!(last.taken(), Taken::NotAll);
    }

    #[tokio::test]
    async fn what_came_too_late_was_not_taken() {
        let (mut telling, last, mut server) = pair().await;
        telling.write_all(b"first").await.unwrap();
        let mut read = [0; 5];
        server.read_exact(&mut read).await.unwrap();
        drop(server);
        let _ = telling.write_all(b"request").await;
        drain(&mut telling).await;
        assert_eq!(last.taken(), Taken::No);
    }
}
