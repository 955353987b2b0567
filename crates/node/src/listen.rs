//! The node's TLS ports: accept, handshake, and hand each connection on. Bounded in connections, in
//! handshake time, and ended by the token.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::identity::certificate::Peer;
use crate::tls::{Tls, notice_death};

/// Connections that one port serves at a time, unless fewer files may be open; more wait to be accepted.
const CONNECTIONS_MAX: usize = 20_000;
/// One port takes at most this part of the files that may be open: the ports together must leave some for
/// the log, whose end they would be.
const FILES_SHARE: usize = 5;
/// Connections without a certificate that one port serves at a time; more are closed. Whoever joins asks
/// twice; who is a member has a certificate.
const STRANGERS_MAX: usize = 128;
/// How long a connection without a certificate may last.
const STRANGER_TIME: Duration = Duration::from_secs(30);
/// Pause after an accept that failed (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A port that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {}", advice(source))]
pub(crate) struct ListenError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

fn advice(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        return "the port is taken by another program (`ss -lntup` names it); stop that, or run this node where the port is free".to_owned();
    }
    error.to_string()
}

/// Opens a port.
///
/// # Errors
/// When it is taken or may not be opened.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    };
    let open = |socket: tokio::net::TcpSocket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    socket.and_then(open).map_err(|source| ListenError { address, source })
}

/// Accepts TLS connections until the token ends it, each served by `serve`.
pub(crate) async fn tls<F, S>(
    listener: TcpListener,
    tls: Tls,
    protocols: &'static [&'static [u8]],
    stop: CancellationToken,
    serve: S,
) where
    S: Fn(TlsStream<TcpStream>, Option<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(connections_max()));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let tasks = TaskTracker::new();
    while let Some((stream, permit)) = next(&listener, &slots, &stop).await {
        let (tls, serve, stop) = (tls.clone(), serve.clone(), stop.clone());
        let strangers = strangers.clone();
        tasks.spawn(async move {
            let serving = async {
                match tls.accept(stream, protocols).await {
                    Ok((stream, None)) => stranger(&strangers, serve(stream, None)).await,
                    Ok((stream, peer)) => serve(stream, peer).await,
                    Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
                }
            };
            tokio::select! {
                () = serving => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// Accepts connections without TLS until the token ends it, each served by `serve`.
pub(crate) async fn plain<F, S>(listener: TcpListener, stop: CancellationToken, serve: S)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(connections_max()));
    let tasks = TaskTracker::new();
    while let Some((stream, permit)) = next(&listener, &slots, &stop).await {
        let (serving, stop) = (serve(stream), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// Serves somebody without a certificate, for a while and among few: they must not take the place of those
/// who have one.
async fn stranger(places: &Semaphore, serving: impl Future<Output = ()>) {
    let Ok(_place) = places.try_acquire() else {
        return tracing::debug!("too many connections without a certificate");
    };
    if tokio::time::timeout(STRANGER_TIME, serving).await.is_err() {
        tracing::debug!("a connection without a certificate lasted too long");
    }
}

fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    (files / FILES_SHARE).clamp(16, CONNECTIONS_MAX)
}

async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    loop {
        let permit = tokio::select! {
            permit = slots.clone().acquire_owned() => permit.ok()?,
            () = stop.cancelled() => return None,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((stream, _)) => {
                // Latency matters more than packets: requests are small.
                if let Err(error) = stream.set_nodelay(true).and_then(|()| notice_death(&stream)) {
                    tracing::debug!(%error, "set a connection's options");
                }
                return Some((stream, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = stop.cancelled() => return None,
                }
            }
        }
    }
}

/// Serves HTTP/1.1 or HTTP/2, whichever the client speaks, on one stream.
pub(crate) async fn http<T, B, F, H>(stream: T, handle: H)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = Response<B>> + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1024)
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_are_few_and_do_not_stay() {
        let places = Semaphore::new(1);
        let stays = stranger(&places, std::future::pending());
        tokio::pin!(stays);
        assert!(futures::poll!(&mut stays).is_pending());
        let mut served = false;
        stranger(&places, async { served = true }).await;
        assert!(!served, "there was no place");
        stays.await;
        stranger(&places, async { served = true }).await;
        assert!(served, "the one before has left");
    }
}
