//! The name server of a node: UDP and TCP on the bridge's address, one zone, bounded work.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::answer::{MAX_UDP_BYTES, Outcome, Rotation, answer, encode, failure};
use super::upstream::Upstream;
use super::zone::Zone;

/// Questions on their way to the upstream servers at one time.
const MOST_FORWARDED: usize = 512;
/// TCP clients at one time.
const MOST_CONNECTIONS: usize = 128;
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

/// A bound name server. `run` answers until told to stop.
pub struct DnsServer {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<TcpListener>,
    shared: Arc<Shared>,
}

struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
    rotation: Rotation,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl DnsServer {
    /// Binds UDP and TCP to every address. The zone is read anew for each question.
    pub async fn bind(
        addresses: &[SocketAddr],
        zone: watch::Receiver<Arc<Zone>>,
        upstream: Upstream,
    ) -> Result<Self, ServeError> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for &address in addresses {
            let failed = |source| ServeError::Bind { address, source };
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            // With port 0 both transports get the number that UDP was given.
            let bound = socket.local_addr().map_err(failed)?;
            tcp.push(TcpListener::bind(bound).await.map_err(failed)?);
            udp.push(Arc::new(socket));
        }
        let shared = Arc::new(Shared {
            zone,
            upstream,
            rotation: Rotation::default(),
            forwarded: Arc::new(Semaphore::new(MOST_FORWARDED)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        });
        Ok(Self { udp, tcp, shared })
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Answers until `shutdown`; questions under way are then dropped.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut loops = JoinSet::new();
        for socket in self.udp {
            loops.spawn(serve_udp(socket, self.shared.clone()));
        }
        for listener in self.tcp {
            loops.spawn(serve_tcp(listener, self.shared.clone()));
        }
        shutdown.cancelled().await;
        loops.shutdown().await;
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 4096];
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
        let packet = &buffer[..length];
        match shared.consider(packet) {
            Step::Send(mut reply, limit) => {
                if let Some(bytes) = encode(&mut reply, limit) {
                    send(&socket, &bytes, client).await;
                }
            }
            Step::Ask(request, outcome) => match shared.forwarded.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (socket, shared) = (socket.clone(), shared.clone());
                    let packet = packet.to_vec();
                    under_way.spawn(async move {
                        let limit = udp_limit(&request);
                        let bytes = shared.ask(&packet, &request, outcome, Some(limit)).await;
                        if let Some(bytes) = bytes {
                            send(&socket, &bytes, client).await;
                        }
                        drop(permit);
                    });
                }
                Err(_) => {
                    if let Some(bytes) = encode(&mut failure(&request), udp_limit(&request)) {
                        send(&socket, &bytes, client).await;
                    }
                }
            },
            Step::Ignore => {}
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        debug!(%error, %client, "sending a DNS answer");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = shared.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                let shared = shared.clone();
                clients.spawn(async move {
                    if let Err(error) = serve_client(stream, &shared).await {
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
async fn serve_client(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let packet = match timeout(IDLE, read_packet(&mut stream)).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let whole = usize::from(u16::MAX);
        let bytes = match shared.consider(&packet) {
            Step::Send(mut reply, _) => encode(&mut reply, whole),
            Step::Ask(request, outcome) => match shared.forwarded.acquire().await {
                Ok(_permit) => shared.ask(&packet, &request, outcome, None).await,
                Err(_) => None,
            },
            Step::Ignore => None,
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

/// The next thing to do with a packet.
enum Step {
    Send(Box<Message>, usize),
    Ask(Box<Message>, Asked),
    Ignore,
}

/// What the upstream servers are asked for.
enum Asked {
    Whole,
    Target(Box<Message>, hickory_proto::rr::Name),
}

impl Shared {
    fn consider(&self, packet: &[u8]) -> Step {
        let Ok(request) = Message::from_vec(packet) else {
            return malformed(packet).map_or(Step::Ignore, |reply| Step::Send(reply, 512));
        };
        let zone = self.zone.borrow().clone();
        match answer(&zone, &request, &self.rotation) {
            Outcome::Reply(reply) => Step::Send(reply, udp_limit(&request)),
            Outcome::Forward => Step::Ask(Box::new(request), Asked::Whole),
            Outcome::Chase { reply, target } => {
                Step::Ask(Box::new(request), Asked::Target(reply, target))
            }
            Outcome::Ignore => Step::Ignore,
        }
    }

    /// The upstream servers' answer in bytes; `limit` is the client's when it came by UDP.
    async fn ask(
        &self,
        packet: &[u8],
        request: &Message,
        asked: Asked,
        limit: Option<usize>,
    ) -> Option<Vec<u8>> {
        let most = limit.unwrap_or(usize::from(u16::MAX));
        let answered = match asked {
            Asked::Whole => self.upstream.forward(packet, limit.is_none()).await,
            Asked::Target(mut reply, target) => {
                let kind = request.queries.first()?.query_type();
                self.upstream.records(&target, kind).await.map(|records| {
                    reply.add_answers(records);
                    encode(&mut reply, most).unwrap_or_default()
                })
            }
        };
        match answered {
            Ok(bytes) if !bytes.is_empty() && bytes.len() <= most => Some(bytes),
            Ok(bytes) => {
                // A server that ignored the client's limit.
                let mut answer = Message::from_vec(&bytes).ok()?;
                encode(&mut answer, most)
            }
            Err(error) => {
                debug!(%error, "forwarding a DNS question");
                encode(&mut failure(request), most)
            }
        }
    }
}

/// How much the client takes by UDP: 512 bytes, or what it says up to our own limit.
fn udp_limit(request: &Message) -> usize {
    let asked = request.edns.as_ref().map_or(512, hickory_proto::op::Edns::max_payload);
    usize::from(asked.clamp(512, MAX_UDP_BYTES))
}

/// A format error for a packet whose header at least can be read and is a question's.
fn malformed(packet: &[u8]) -> Option<Box<Message>> {
    let header = packet.first_chunk::<12>()?;
    let is_response = header[2] & 0x80 != 0;
    let id = u16::from_be_bytes([header[0], header[1]]);
    (!is_response).then(|| Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
}

#[cfg(test)]
mod tests;
