//! DNS: asked over UDP and TCP on loopback, on a catalog that is registered as clients do.

mod beside;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use pontoon_store::{Put, Txn};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Bed, BelowApp, bed};
use crate::cluster::Status;
use crate::dns::{ConsulDns, DOMAIN, DnsError};
use crate::keyspace::ACL;
use crate::permit::{AllowAll, Permit, PermitError, Permits};
use crate::{Cluster, ConsulServer};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// DNS that is served until this is dropped.
struct Served {
    address: SocketAddr,
    _stop: DropGuard,
}

async fn serve(server: &ConsulServer) -> Served {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let dns = ConsulDns::bind(server, DOMAIN, &[any]).await.unwrap();
    let (address, stop) = (dns.addresses()[0], CancellationToken::new());
    tokio::spawn(dns.run(stop.clone()));
    let served = Served { address, _stop: stop.drop_guard() };
    served.until("one.node.consul.", RecordType::A, |reply| !reply.answers.is_empty()).await;
    served
}

fn question(name: &str, kind: RecordType, edns: Option<u16>) -> Message {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(bytes) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(bytes);
        question.set_edns(edns);
    }
    question
}

impl Served {
    async fn udp(&self, question: &Message) -> Message {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(&question.to_vec().unwrap(), self.address).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("an answer comes").unwrap();
        let most = question.edns.as_ref().map_or(512, Edns::max_payload);
        assert!(length <= usize::from(most), "{length} bytes for a client that takes {most}");
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn tcp(&self, question: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let bytes = question.to_vec().unwrap();
        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.udp(&question(name, kind, Some(1232))).await
    }

    /// The data of the answers, sorted.
    async fn answers(&self, name: &str, kind: RecordType) -> Vec<String> {
        let reply = self.ask(name, kind).await;
        let data = reply.answers.iter().map(|record| record.data.to_string());
        let mut answers: Vec<_> = data.collect();
        answers.sort();
        answers
    }

    /// Asks until the answer is like this.
    async fn until(&self, name: &str, kind: RecordType, is_so: impl Fn(&Message) -> bool) {
        let asking = async { while !is_so(&self.ask(name, kind).await) {} };
        tokio::time::timeout(PATIENCE, asking).await.expect("the answer changes");
    }

    /// Returns when everything that was registered before this is answered.
    async fn settle(&self, bed: &Bed) {
        let mark = json!({"Node": "settled", "Address": "10.255.255.255"}).to_string();
        assert!(bed.put("/v1/catalog/register", mark).await);
        self.until("settled.node.consul.", RecordType::A, |reply| !reply.answers.is_empty()).await;
        let gone = json!({"Node": "settled"}).to_string();
        assert!(bed.put("/v1/catalog/deregister", gone).await);
    }
}

async fn register(bed: &Bed, node: &str, address: &str, status: &str) {
    let body = json!({
        "Node": node, "Address": address,
        "Service": {"Service": "web", "Port": 80, "Tags": ["V1"], "Weights": {"Passing": 5, "Warning": 2}},
        "Check": {"CheckID": "c", "Name": "c", "Status": status, "ServiceID": "web"},
    });
    assert!(bed.put("/v1/catalog/register", body.to_string()).await);
}

#[tokio::test]
async fn answers_follow_the_catalog() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    let name = "web.service.consul.";
    let nothing = served.ask(name, RecordType::A).await;
    assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(nothing.authorities[0].record_type(), RecordType::SOA);
    register(&bed, "a", "10.1.0.1", "passing").await;
    register(&bed, "b", "10.1.0.2", "warning").await;
    register(&bed, "c", "10.1.0.3", "critical").await;
    served.settle(&bed).await;
    assert_eq!(served.answers(name, RecordType::A).await, ["10.1.0.1", "10.1.0.2"]);
    let ports = ["1 2 80 b.node.dc1.consul.", "1 5 80 a.node.dc1.consul."];
    assert_eq!(served.answers("_Web._v1.Service.Consul.", RecordType::SRV).await, ports);
    register(&bed, "c", "10.1.0.3", "passing").await;
    served.until(name, RecordType::A, |reply| reply.answers.len() == 3).await;
    assert!(bed.put("/v1/catalog/deregister", json!({"Node": "a"}).to_string()).await);
    served.until(name, RecordType::A, |reply| reply.answers.len() == 2).await;
}

#[tokio::test]
async fn what_is_on_a_dead_node_is_not_told() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    let body =
        json!({"Node": "two", "SkipNodeUpdate": true, "Service": {"Service": "web", "Port": 1}});
    assert!(bed.put("/v1/catalog/register", body.to_string()).await);
    let name = "web.service.consul.";
    served.until(name, RecordType::A, |reply| reply.answers.len() == 1).await;
    bed.cluster.set(Status::Critical, bed.store.revision());
    served.until(name, RecordType::A, |reply| reply.answers.is_empty()).await;
    assert_eq!(served.answers("two.node.consul.", RecordType::A).await, ["10.0.0.2"]);
    bed.cluster.set(Status::Passing, bed.store.revision());
    served.until(name, RecordType::A, |reply| reply.answers.len() == 1).await;
}

#[tokio::test]
async fn queries_are_run_by_name_and_id() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    register(&bed, "a", "10.1.0.1", "passing").await;
    register(&bed, "b", "10.1.0.2", "warning").await;
    let near =
        json!({"Name": "Near", "Service": {"Service": "web", "Near": "b"}, "DNS": {"TTL": "7s"}});
    let said = bed.ask("POST", "/v1/query", near.to_string()).await.json();
    let one = json!({"Name": "p.q", "Service": {"Service": "web", "OnlyPassing": true}});
    assert_eq!(bed.ask("POST", "/v1/query", one.to_string()).await.status, 200);
    served.settle(&bed).await;
    for name in ["near", said["ID"].as_str().unwrap()] {
        let reply = served.ask(&format!("{name}.query.dc1.consul."), RecordType::A).await;
        let told: Vec<_> = reply.answers.iter().map(|a| (a.ttl, a.data.to_string())).collect();
        assert_eq!(told, [(7, "10.1.0.2".to_owned()), (7, "10.1.0.1".to_owned())]);
    }
    assert_eq!(served.answers("p.q.query.consul.", RecordType::A).await, ["10.1.0.1"]);
}

/// The anonymous token may do what is set here.
struct Anonymous(Mutex<Arc<dyn Permit>>);

#[async_trait]
impl Permits for Anonymous {
    async fn of(&self, token: &str) -> Result<Arc<dyn Permit>, PermitError> {
        assert_eq!(token, "");
        Ok(Arc::clone(&self.0.lock().unwrap()))
    }
}

#[tokio::test]
async fn it_tells_what_the_anonymous_token_may_see() {
    let bed = bed().await;
    let anonymous = Arc::new(Anonymous(Mutex::new(Arc::new(BelowApp))));
    let seam = Arc::clone(&bed.cluster) as Arc<dyn Cluster>;
    let permits = Arc::clone(&anonymous) as Arc<dyn Permits>;
    let settings = bed.server.inner.settings.clone();
    let server = ConsulServer::with_permits(bed.store.clone(), seam, permits, settings);
    let served = serve(&server).await;
    for name in ["app", "web"] {
        let body =
            json!({"Node": "one", "SkipNodeUpdate": true, "Service": {"Service": name, "Port": 1}});
        assert!(bed.put("/v1/catalog/register", body.to_string()).await);
        let query = json!({"Name": format!("q-{name}"), "Service": {"Service": name}}).to_string();
        assert_eq!(bed.ask("POST", "/v1/query", query).await.status, 200);
    }
    served.until("q-app.query.consul.", RecordType::A, |reply| reply.answers.len() == 1).await;
    assert_eq!(served.answers("app.service.consul.", RecordType::A).await, ["10.0.0.1"]);
    let hidden = ["web.service.consul.", "q-web.query.consul.", "two.node.consul."];
    for name in hidden {
        let denied = served.ask(name, RecordType::A).await;
        assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    let reverse = served.ask("2.0.0.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(reverse.metadata.response_code, ResponseCode::Refused);
    // When access control changes, so does the answer.
    *anonymous.0.lock().unwrap() = Arc::new(AllowAll);
    bed.store.txn(Txn::new().then(Put::new(format!("{ACL}mark"), ""))).await.unwrap();
    for name in hidden {
        served.until(name, RecordType::A, |reply| reply.answers.len() == 1).await;
    }
}

#[tokio::test]
async fn an_answer_is_as_long_as_the_client_takes() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    for i in 1..=60 {
        register(&bed, &format!("n{i}"), &format!("10.1.0.{i}"), "passing").await;
    }
    let text = "x".repeat(300);
    let big = json!({"Node": "big", "Address": "10.2.0.1", "NodeMeta": {"a": text, "b": text}});
    assert!(bed.put("/v1/catalog/register", big.to_string()).await);
    served.settle(&bed).await;
    let web = |kind, edns| question("web.service.consul.", kind, edns);
    for kind in [RecordType::A, RecordType::SRV] {
        let few = served.udp(&web(kind, None)).await;
        assert_eq!((few.answers.len(), few.metadata.truncation), (3, false), "{kind}");
        let more = served.udp(&web(kind, Some(700))).await;
        assert!((4..60).contains(&more.answers.len()) && !more.metadata.truncation, "{kind}");
        let all = served.tcp(&web(kind, None)).await;
        assert_eq!((all.answers.len(), all.metadata.truncation), (60, false), "{kind}");
    }
    let srv = served.udp(&web(RecordType::SRV, Some(700))).await;
    assert_eq!(srv.answers.len(), srv.additionals.len(), "each with its address");
    // What is no choice of instances is marked when it is cut.
    let texts = question("big.node.consul.", RecordType::TXT, None);
    let cut = served.udp(&texts).await;
    assert_eq!((cut.answers.len(), cut.metadata.truncation), (1, true));
    let whole = served.tcp(&texts).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (2, false));
    let address = served.udp(&question("big.node.consul.", RecordType::A, None)).await;
    assert_eq!((address.answers.len(), address.additionals.len()), (1, 0));
}

#[tokio::test]
async fn instances_come_in_another_order_each_time() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    for i in 1..=3 {
        register(&bed, &format!("n{i}"), &format!("10.1.0.{i}"), "passing").await;
    }
    served.settle(&bed).await;
    for first in ["10.1.0.1", "10.1.0.2", "10.1.0.3"] {
        let is_first = |reply: &Message| reply.answers[0].data.to_string() == first;
        served.until("web.service.consul.", RecordType::A, is_first).await;
    }
}

#[tokio::test]
async fn the_domain_is_a_setting_and_must_be_a_name() {
    let bed = bed().await;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let refused = ConsulDns::bind(&bed.server, "a..b", &[any]).await;
    assert!(matches!(refused, Err(DnsError::Domain { .. })));
    let dns = ConsulDns::bind(&bed.server, "c.test", &[any]).await.unwrap();
    let stop = CancellationToken::new();
    let address = dns.addresses()[0];
    let running = tokio::spawn(dns.run(stop.clone()));
    let served = Served { address, _stop: stop.clone().drop_guard() };
    served.until("one.node.c.test.", RecordType::A, |reply| !reply.answers.is_empty()).await;
    let other = served.ask("one.node.consul.", RecordType::A).await;
    assert_eq!(other.metadata.response_code, ResponseCode::Refused);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn no_packet_stops_it() {
    let bed = bed().await;
    let served = serve(&bed.server).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let good = question("one.node.consul.", RecordType::ANY, Some(1232)).to_vec().unwrap();
    for at in 0..good.len() {
        for byte in [0, 1, 0x3f, 0x80, 0xc0, 0xff] {
            let mut packet = good.clone();
            packet[at] = byte;
            socket.send_to(&packet, served.address).await.unwrap();
            socket.send_to(&packet[..at], served.address).await.unwrap();
        }
        // One at a time: what the socket cannot take is not tested.
        assert_eq!(served.answers("one.node.consul.", RecordType::A).await, ["10.0.0.1"]);
    }
}
