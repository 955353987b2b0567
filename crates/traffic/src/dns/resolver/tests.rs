//! The resolver in a server on loopback: both transports, the upstream servers, and packets that are none.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::{any, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::dns::{DnsServer, ZoneSource};

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A zone with a headless service `many.default` of `count` pods.
fn zone(count: u8) -> Arc<Zone> {
    let service = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "many", "namespace": "default"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}))
    .unwrap();
    let endpoints: Vec<_> =
        (0..count).map(|i| serde_json::json!({"addresses": [format!("10.244.0.{i}")]})).collect();
    let slice = serde_json::from_value(serde_json::json!({
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints}))
    .unwrap();
    Arc::new(Zone::build(&ZoneSource {
        domain: "cluster.local",
        ranges: &[],
        services: vec![&service],
        slices: vec![&slice],
        pods: vec![],
        nodes: vec![],
    }))
}

struct Running {
    address: SocketAddr,
    zone: watch::Sender<Arc<Zone>>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start(first: Arc<Zone>, upstream: Upstream) -> Running {
    let (zone, receiver) = watch::channel(first);
    let resolver = Arc::new(Resolver::new(receiver, upstream));
    let server = DnsServer::bind(&[loopback()], resolver).await.unwrap();
    let (address, stop) = (server.addresses()[0], CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    Running { address, zone, stop }
}

fn question(name: &str) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    question
}

async fn ask_udp(server: SocketAddr, name: &str) -> Message {
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let question = question(name);
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).await.unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(reply.metadata.id, question.metadata.id);
    reply
}

async fn ask_tcp(server: SocketAddr, name: &str) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = question(name).to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    Message::from_vec(&read_packet(&mut stream).await.unwrap()).unwrap()
}

async fn read_packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// A name server that has the address 192.0.2.1 for every name, and says "truncated" by UDP if told to.
async fn upstream(truncated: bool) -> SocketAddr {
    let udp = UdpSocket::bind(loopback()).await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let reply = |packet: &[u8], truncated: bool| {
        let mut reply = Message::from_vec(packet).unwrap().into_response();
        reply.metadata.truncation = truncated;
        if !truncated {
            let name = reply.queries[0].name().clone();
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        reply.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&reply(&buffer[..length], truncated), client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let packet = read_packet(&mut stream).await.unwrap();
            let reply = reply(&packet, false);
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_newest_zone_answers() {
    let server = start(zone(1), Upstream::default()).await;
    assert_eq!(ask_udp(server.address, "many.default.").await.answers.len(), 1);
    server.zone.send_replace(zone(3));
    assert_eq!(ask_udp(server.address, "many.default.").await.answers.len(), 3);
}

#[tokio::test]
async fn a_long_answer_is_cut_by_udp_and_whole_by_tcp() {
    let server = start(zone(200), Upstream::default()).await;
    let cut = ask_udp(server.address, "many.default.").await;
    assert!(cut.metadata.truncation && cut.answers.len() < 200);
    let whole = ask_tcp(server.address, "many.default.").await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[tokio::test]
async fn other_names_are_asked_upstream() {
    let upstream = Upstream::new(vec![upstream(false).await]);
    let server = start(zone(1), upstream).await;
    let reply = ask_udp(server.address, "example.org.").await;
    assert_eq!(reply.answers[0].data.to_string(), "192.0.2.1");
}

#[tokio::test]
async fn a_truncated_upstream_answer_is_fetched_by_tcp_for_a_tcp_client() {
    let upstream = Upstream::new(vec![upstream(true).await]);
    let server = start(zone(1), upstream).await;
    assert!(ask_udp(server.address, "example.org.").await.metadata.truncation);
    let reply = ask_tcp(server.address, "example.org.").await;
    assert_eq!(reply.answers[0].data.to_string(), "192.0.2.1");
}

#[tokio::test]
async fn without_upstream_the_failure_is_said_at_once() {
    let server = start(zone(1), Upstream::default()).await;
    let reply = ask_udp(server.address, "example.org.").await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let server = start(zone(1), Upstream::default()).await;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    for packet in [&[][..], &[0], &[0xff; 12], &[0; 4000], &[0, 1, 0, 0, 0xff, 0xff]] {
        socket.send_to(packet, server.address).await.unwrap();
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert_eq!(ask_udp(server.address, "many.default.").await.answers.len(), 1);
}

fn resolver() -> Arc<Resolver> {
    let (_, zone) = watch::channel(zone(1));
    Arc::new(Resolver::new(zone, Upstream::default()))
}

proptest! {
    #[test]
    fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(resolver().respond(&packet, Transport::Udp));
    }

    #[test]
    fn no_damaged_question_panics(at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..60) {
        let mut packet = question("many.default.svc.cluster.local.").to_vec().unwrap();
        let length = packet.len();
        packet[at % length] = byte;
        packet.truncate(cut.max(1));
        if let Response::Now(bytes) = resolver().respond(&packet, Transport::Udp) {
            assert!(bytes.len() <= usize::from(UNFRAGMENTED_BYTES));
        }
    }
}
