//! A stream that counts what goes through it, and ends where the replies are over their limit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts what went through a stream. The redis crate wants its stream to be `Send`, so the counts are atomic.
#[derive(Debug, Default)]
pub struct Meter {
    written: AtomicU64,
    read: AtomicU64,
    limit: AtomicU64,
}

impl Meter {
    /// Begins to count anew. The replies may have this many bytes.
    pub fn begin(&self, limit: usize) {
        self.written.store(0, Relaxed);
        self.read.store(0, Relaxed);
        self.limit.store(limit as u64, Relaxed);
    }

    /// True if a byte was handed to the network, or to TLS, which may still keep it.
    pub fn is_sent(&self) -> bool {
        self.written.load(Relaxed) > 0
    }

    /// The number of bytes that were read.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// True if the replies are over their limit.
    pub fn is_over(&self) -> bool {
        self.read.load(Relaxed) > self.limit.load(Relaxed)
    }
}

/// A stream with its meter.
pub struct Metered<S> {
    pub stream: S,
    pub meter: Arc<Meter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    /// Reads one byte over the limit at most, so that whole replies before it still count.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_over() {
            return Poll::Ready(Err(io::Error::other("the replies are over their limit")));
        }
        let left = self.meter.limit.load(Relaxed) + 1 - self.meter.read();
        let room = buffer
            .remaining()
            .min(left.try_into().unwrap_or(usize::MAX));
        let mut limited = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut limited))?;
        let read = limited.filled().len();
        buffer.advance(read);
        self.meter.read.fetch_add(read as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The write may succeed in part and then fail, so it counts before it begins.
        self.meter.written.fetch_add(bytes.len() as u64, Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
