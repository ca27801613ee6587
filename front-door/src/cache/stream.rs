//! A stream that counts what is read, and ends where the replies are over their limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TCP, or TLS over it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A stream, and what was read since the last beginning.
pub struct Metered<S> {
    stream: S,
    read: usize,
    limit: usize,
    is_over: bool,
}

impl<S> Metered<S> {
    pub fn new(stream: S) -> Self {
        Metered {
            stream,
            read: 0,
            limit: 0,
            is_over: false,
        }
    }

    /// Begins to count anew. The replies may have this many bytes.
    pub fn begin(&mut self, limit: usize) {
        (self.read, self.limit, self.is_over) = (0, limit, false);
    }

    /// The number of bytes that were read.
    pub fn read(&self) -> usize {
        self.read
    }

    /// True if more was wanted than the limit allows.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

impl<S: Stream> AsyncRead for Metered<S> {
    /// Reads up to the limit, so that whole replies before it still count.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.limit - self.read;
        if left == 0 {
            self.is_over = true;
            return Poll::Ready(Err(io::Error::other("the replies are over their limit")));
        }
        let room = buffer.remaining().min(left);
        let mut limited = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut limited))?;
        let read = limited.filled().len();
        buffer.advance(read);
        self.read += read;
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
