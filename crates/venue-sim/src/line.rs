//! A client's connection, which can be made to fall silent or to break under whoever writes to it.
//!
//! A library answers pings by itself and ends a connection in good order. A venue on a bad day does neither.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

const IN_ORDER: u8 = 0;
const MUTE: u8 = 1;
const BROKEN: u8 = 2;

/// Where connections come in.
pub(crate) struct Lines(pub(crate) TcpListener);

impl Listener for Lines {
    type Io = Line<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line<TcpStream>, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Without it, what is sent in bulk waits for the client's system to acknowledge; with a socket that is gone already, it does not matter.
        stream.set_nodelay(true).ok();
        (Line { stream, hold: Hold::default() }, address)
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Where connections come in from the same process.
pub(crate) struct Pipes(pub(crate) UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = Line<DuplexStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Line<DuplexStream>, ()) {
        match self.0.recv().await {
            Some(stream) => (Line { stream, hold: Hold::default() }, ()),
            // Nobody is left who could come.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> Result<()> {
        Ok(())
    }
}

/// A connection.
pub(crate) struct Line<S> {
    stream: S,
    hold: Hold,
}

/// What a connection can be held by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<AtomicU8>);

impl Hold {
    /// From now on, what is written goes nowhere. It is still read from, so that the client's end is noticed.
    pub(crate) fn mute(&self) {
        self.0.store(MUTE, Ordering::Relaxed);
    }

    /// The next write fails, and with it the connection.
    pub(crate) fn cut(&self) {
        self.0.store(BROKEN, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Lines>> for Hold {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().hold.clone()
    }
}

impl Connected<IncomingStream<'_, Pipes>> for Hold {
    fn connect_info(stream: IncomingStream<'_, Pipes>) -> Self {
        stream.io().hold.clone()
    }
}

impl<S> Line<S> {
    /// What became of a write without the stream, if it is held.
    fn held(&self, bytes: usize) -> Option<Poll<Result<usize>>> {
        match self.hold.0.load(Ordering::Relaxed) {
            IN_ORDER => None,
            MUTE => Some(Poll::Ready(Ok(bytes))),
            _ => Some(Poll::Ready(Err(Error::new(ErrorKind::ConnectionReset, "a fault that was asked for")))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.held(bytes.len()).unwrap_or_else(|| Pin::new(&mut self.stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.held(bytes).unwrap_or_else(|| Pin::new(&mut self.stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
