//! A name server's sockets: UDP and TCP on its addresses, bounded work. What is answered is the responder's matter.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// TCP clients at one time.
const MOST_CONNECTIONS: usize = 128;
/// As much of a question is read by UDP.
const BUFFER_BYTES: usize = 4096;
/// Numbers that are tried for a port that may have any.
const MOST_NUMBERS: usize = 20;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a failed accept or receive, so that a persistent error does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the server could not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address could not be bound.
    #[error("binding the DNS server to {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
}

/// How a question came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As one packet, which is as long as the client takes.
    Udp,
    /// On a connection, with up to 65,535 bytes.
    Tcp,
}

/// What is sent back.
pub enum Response {
    /// This.
    Now(Vec<u8>),
    /// What comes of asking somebody else, if anything does. How many wait at one time is the responder's to bound.
    Later(Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>),
    /// Nothing.
    Nothing,
}

/// Knows the answers of a server. It is asked inside the loop that reads packets, so it must not block.
pub trait Respond: Send + Sync + 'static {
    /// What is sent back for a packet, which may be anything.
    fn respond(self: &Arc<Self>, packet: &[u8], transport: Transport) -> Response;
}

/// A bound name server. `run` answers until told to stop.
pub struct DnsServer<R> {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<TcpListener>,
    responder: Arc<R>,
}

impl<R: Respond> DnsServer<R> {
    /// Binds UDP and TCP to every address.
    pub async fn bind(addresses: &[SocketAddr], responder: Arc<R>) -> Result<Self, ServeError> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for &address in addresses {
            let bound = bind_both(address).await;
            let (socket, listener) =
                bound.map_err(|source| ServeError::Bind { address, source })?;
            tcp.push(listener);
            udp.push(Arc::new(socket));
        }
        Ok(Self { udp, tcp, responder })
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Answers until `shutdown`; questions under way are then dropped.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut loops = JoinSet::new();
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        for socket in self.udp {
            loops.spawn(serve_udp(socket, self.responder.clone()));
        }
        for listener in self.tcp {
            loops.spawn(serve_tcp(listener, self.responder.clone(), connections.clone()));
        }
        shutdown.cancelled().await;
        loops.shutdown().await;
    }
}

/// UDP and TCP on one address. With port 0 both get the number that UDP was given, and another one is tried when some other
/// connection has that by TCP.
async fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if address.port() == 0 { MOST_NUMBERS } else { 1 };
    loop {
        let socket = UdpSocket::bind(address).await?;
        attempts -= 1;
        match TcpListener::bind(socket.local_addr()?).await {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) if attempts == 0 || error.kind() != io::ErrorKind::AddrInUse => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
}

async fn serve_udp<R: Respond>(socket: Arc<UdpSocket>, responder: Arc<R>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    // Dropped with the loop, so that nothing is left running after a shutdown.
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "receiving a DNS question");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match responder.respond(&buffer[..length], Transport::Udp) {
            Response::Now(bytes) => send(&socket, &bytes, client).await,
            Response::Later(asked) => {
                let socket = socket.clone();
                under_way.spawn(async move {
                    if let Some(bytes) = asked.await {
                        send(&socket, &bytes, client).await;
                    }
                });
            }
            Response::Nothing => {}
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        debug!(%error, %client, "sending a DNS answer");
    }
}

async fn serve_tcp<R: Respond>(
    listener: TcpListener,
    responder: Arc<R>,
    connections: Arc<Semaphore>,
) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                let responder = responder.clone();
                clients.spawn(async move {
                    if let Err(error) = serve_client(stream, &responder).await {
                        debug!(%error, %client, "DNS over TCP");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "accepting a DNS client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Questions of one TCP client, answered in their order, until it closes or is silent for too long.
async fn serve_client<R: Respond>(mut stream: TcpStream, responder: &Arc<R>) -> io::Result<()> {
    loop {
        let packet = match timeout(IDLE, read_packet(&mut stream)).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let bytes = match responder.respond(&packet, Transport::Tcp) {
            Response::Now(bytes) => Some(bytes),
            Response::Later(asked) => asked.await,
            Response::Nothing => None,
        };
        let Some(bytes) = bytes else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        match timeout(IDLE, stream.write_all(&framed)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

async fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
