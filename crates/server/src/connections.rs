//! How many connections are open at once.
//!
//! Each costs a file descriptor and the buffers of TLS and HTTP before anybody has said who is
//! calling; rates and places (`countersign_api::limits`) begin only with a request. So they have a
//! bound of their own. What comes beyond it is closed at once, before the handshake: a caller that
//! waits in a queue would hold what the bound is there to save, and a load balancer sees at once
//! that another node has to be asked.

use crate::ServerError;
use axum_server::accept::Accept;
use countersign_core::measure::{Counter, Gauge, Report, Sink};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A full house is told to the log at most this often.
const TELL: Duration = Duration::from_secs(10);

/// Open files beside the connections: database, workers, issuers, CAs, revocation lists, a collector.
const OTHER_FILES: u64 = 1024;

/// Sees to it that this process may open as many files as `connections` need: the default of most
/// systems, 1024, is meant to be raised by whoever needs more.
///
/// # Errors
/// [`ServerError::OpenFiles`] where the system does not allow as many.
pub fn room_for(connections: usize) -> Result<(), ServerError> {
    let needed = (connections as u64).saturating_add(OTHER_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(ServerError::OpenFiles {
            connections,
            needed,
            allowed: maximum.unwrap_or_default(),
        });
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|e| ServerError::Internal(format!("raising the limit of open files: {e}")))
}

/// The bound, and what is counted against it.
#[derive(Debug)]
pub struct Connections {
    places: Arc<Semaphore>,
    most: usize,
    open: Gauge,
    refused: Counter,
    since: Instant,
    /// Milliseconds after `since` from which a refusal may be told again.
    told: AtomicU64,
}

impl Connections {
    /// A bound of `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
            open: Gauge::default(),
            refused: Counter::default(),
            since: Instant::now(),
            told: AtomicU64::new(0),
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) -> io::Result<Counted> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.inc();
            self.tell();
            // Dropped here: the caller sees the end of the connection.
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        // Nagle would hold an answer's second segment until the first is acknowledged.
        stream.set_nodelay(true)?;
        self.open.add(1);
        Ok(Counted {
            stream,
            _place: place,
            connections: Arc::clone(self),
        })
    }

    fn tell(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = now.saturating_add(u64::try_from(TELL.as_millis()).unwrap_or(u64::MAX));
        let told = self.told.load(Ordering::Relaxed);
        let mine = now >= told
            && self
                .told
                .compare_exchange(told, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            let refused = self.refused.get();
            tracing::warn!(
                most = self.most,
                refused,
                "as many connections are open as may (`connections`); more are closed at once"
            );
        }
    }
}

impl Report for Connections {
    fn report(&self, to: &mut dyn Sink) {
        to.gauge(
            "countersign_connections",
            "Connections open at this moment.",
            &self.open,
        );
        to.counter(
            "countersign_connections_refused_total",
            "Connections closed at once because as many were open as may.",
            &self.refused,
        );
    }
}

/// Gives each connection its place, before TLS.
#[derive(Debug, Clone)]
pub struct Bounded(pub Arc<Connections>);

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Counted;
    type Service = S;
    type Future = Ready<io::Result<(Counted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.0.admit(stream).map(|stream| (stream, service)))
    }
}

/// A connection that has its place for as long as it is open.
#[derive(Debug)]
pub struct Counted {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    connections: Arc<Connections>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.open.add(-1);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Both ends of a connection.
    async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        let (caller, ours) = tokio::join!(caller, listener.accept());
        (caller.unwrap(), ours.unwrap().0)
    }

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_closed_one_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections = Arc::new(Connections::new(1));
        let bounded = Bounded(Arc::clone(&connections));
        let (mut first, ours) = pair(&listener).await;
        let (mut ours, ()) = bounded.accept(ours, ()).await.unwrap();
        assert_eq!(connections.open.get(), 1);
        ours.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        first.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");

        let (mut second, too_many) = pair(&listener).await;
        let refused = bounded.accept(too_many, ()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            second.read(&mut said).await.unwrap(),
            0,
            "the caller is told"
        );
        assert_eq!((connections.open.get(), connections.refused.get()), (1, 1));

        drop(ours);
        assert_eq!(connections.open.get(), 0);
        let (_third, ours) = pair(&listener).await;
        bounded.accept(ours, ()).await.unwrap();
        assert_eq!(connections.refused.get(), 1);
    }
}
