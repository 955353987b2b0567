//! The whole API on a real store, asked through its handler and over HTTP.

mod acl;
mod agent;
mod beside;
mod blocking;
mod catalog;
mod dns;
mod event;
mod http;
mod kv;
mod model;
mod operator;
mod prepared;
mod probe;
mod session;
mod snapshot;
mod txn;
mod txn_catalog;

use std::io;
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Request, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::{self, Check, MemberState, NODE_CHECK, Node, Own, OwnNode, Service, Status};
use crate::permit::{AllowAll, Permit, PermitError, Permits, Wish};
use crate::{AclSettings, Cluster, ConsulServer, Settings};

/// A cluster of one has nobody to connect to.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

/// Knows two nodes, of which the second may die.
struct Two {
    own: Mutex<Arc<Own>>,
    changes: watch::Sender<u64>,
    members: Vec<cluster::Member>,
}

impl Two {
    fn new() -> Two {
        let (changes, _) = watch::channel(0);
        let members = vec![
            member("one", "10.0.0.1:8301", MemberState::Alive),
            member("two", "10.0.0.2:8301", MemberState::Failed),
        ];
        Two { own: Mutex::new(Arc::new(two(Status::Passing, 0))), changes, members }
    }

    /// Knows one node alone, as a Consul of one server does.
    fn alone(server_port: u16) -> Two {
        let mut me = member("one", "127.0.0.1:8301", MemberState::Alive);
        me.id = uuid::Uuid::new_v4().to_string();
        let mut own = two(Status::Passing, 1);
        own.nodes.truncate(1);
        let node = &mut own.nodes[0];
        let address = || "127.0.0.1".to_owned();
        (node.node.id, node.node.address, node.node.create_index) = (me.id.clone(), address(), 1);
        let kinds = ["lan", "lan_ipv4", "wan", "wan_ipv4"];
        node.node.tagged_addresses =
            kinds.iter().map(|kind| ((*kind).to_owned(), address())).collect();
        let segment = ("consul-network-segment".to_owned(), String::new());
        node.node.meta = [segment].into_iter().collect();
        "Agent alive and reachable".clone_into(&mut node.checks[0].output);
        node.checks[0].create_index = 1;
        node.services.push(Service {
            id: "consul".to_owned(),
            name: "consul".to_owned(),
            port: server_port,
            meta: [
                ("non_voter", "false"),
                ("raft_version", "3"),
                ("serf_protocol_current", "2"),
                ("serf_protocol_max", "5"),
                ("serf_protocol_min", "1"),
                ("version", "1.8.7"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            create_index: 1,
            modify_index: 1,
            ..Service::default()
        });
        let (changes, _) = watch::channel(1);
        Two { own: Mutex::new(Arc::new(own)), changes, members: vec![me] }
    }

    /// Says how the second node is, as of a revision of the store.
    fn set(&self, status: Status, revision: u64) {
        *self.own.lock().unwrap() = Arc::new(two(status, revision));
        self.changes.send_replace(revision);
    }
}

fn two(second: Status, index: u64) -> Own {
    let node = |name: &str, address: &str, status: Status| OwnNode {
        node: Node {
            id: format!("id-of-{name}"),
            name: name.to_owned(),
            address: address.to_owned(),
            modify_index: index,
            ..Node::default()
        },
        services: Vec::new(),
        checks: vec![Check {
            id: NODE_CHECK.to_owned(),
            name: "Serf Health Status".to_owned(),
            status,
            modify_index: index,
            ..Check::default()
        }],
    };
    let nodes = vec![node("one", "10.0.0.1", Status::Passing), node("two", "10.0.0.2", second)];
    Own { index, nodes }
}

fn member(name: &str, address: &str, state: MemberState) -> cluster::Member {
    cluster::Member {
        name: name.to_owned(),
        id: format!("id-of-{name}"),
        address: address.parse().unwrap(),
        is_server: name == "one",
        server_port: 8300,
        state,
    }
}

#[async_trait]
impl Cluster for Two {
    fn leader(&self) -> Option<String> {
        Some("127.0.0.1:8300".to_owned())
    }

    fn peers(&self) -> Vec<String> {
        vec!["127.0.0.1:8300".to_owned()]
    }

    fn members(&self) -> Vec<cluster::Member> {
        self.members.clone()
    }

    async fn own(&self, _: u64) -> Arc<Own> {
        Arc::clone(&self.own.lock().unwrap())
    }

    fn own_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn leave(&self) -> Result<(), String> {
        Err("this one stays".to_owned())
    }

    async fn remove(&self, node: &str) -> Result<(), String> {
        Err(format!("{node} is not removed"))
    }
}

/// Knows the empty token, which may do everything, and `app`, which may read and write below `app/` alone.
struct Tokens;

struct BelowApp;

impl Permit for BelowApp {
    fn allows(&self, wish: Wish<'_>) -> bool {
        match wish {
            Wish::KeyRead(key) | Wish::KeyWrite(key) | Wish::KeyWriteTree(key) => {
                key.starts_with(b"app/")
            }
            Wish::KeyList(_) => true,
            Wish::EventRead(name) | Wish::EventWrite(name) => name == "app",
            Wish::SessionRead(node) | Wish::SessionWrite(node) => node == "two",
            Wish::QueryRead(name) | Wish::QueryWrite(name) => name == "app",
            Wish::NodeRead(node) => node == "one",
            Wish::ServiceRead(service) | Wish::ServiceWrite(service) => service == "app",
            Wish::NodeWrite(_)
            | Wish::AgentRead(_)
            | Wish::AgentWrite(_)
            | Wish::OperatorRead
            | Wish::OperatorWrite
            | Wish::AclRead
            | Wish::AclWrite => false,
        }
    }
}

#[async_trait]
impl Permits for Tokens {
    async fn of(&self, token: &str) -> Result<Arc<dyn Permit>, PermitError> {
        match token {
            "" => Ok(Arc::new(AllowAll)),
            "app" => Ok(Arc::new(BelowApp)),
            _ => Err(PermitError::UnknownToken),
        }
    }
}

/// A server on a store of one member.
struct Bed {
    store: Store,
    server: ConsulServer,
    cluster: Arc<Two>,
    ending: JoinHandle<()>,
    others: [JoinHandle<()>; 2],
    _dir: TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.ending.abort();
        for task in &self.others {
            task.abort();
        }
    }
}

/// A server with the tokens of [`Tokens`].
async fn bed() -> Bed {
    bed_of(Two::new(), None).await
}

/// A server with the tokens that it keeps itself, if access control is on.
async fn bed_with(acl: Option<AclSettings>) -> Bed {
    bed_of(Two::new(), acl).await
}

async fn bed_of(cluster: Two, acl: Option<AclSettings>) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::new(dir.path(), 1), Arc::new(Nobody)).await.unwrap();
    let member =
        Member { id: 1, name: "one".to_owned(), address: "127.0.0.1:2377".parse().unwrap() };
    store.bootstrap(member).await.unwrap();
    store.leadership().wait_for(|now| now.is_me).await.unwrap();
    let is_on = acl.is_some();
    let settings = Settings { datacenter: "dc1".to_owned(), node: "one".to_owned(), acl };
    let cluster = Arc::new(cluster);
    let seam = Arc::clone(&cluster) as Arc<dyn Cluster>;
    let server = match is_on {
        true => ConsulServer::new(store.clone(), seam, settings),
        false => ConsulServer::with_permits(store.clone(), seam, Arc::new(Tokens), settings),
    };
    let ending = tokio::spawn(server.clone().end_sessions());
    let others =
        [tokio::spawn(server.clone().watch_checks()), tokio::spawn(server.clone().keep_tokens())];
    Bed { store, server, cluster, ending, others, _dir: dir }
}

/// What was answered.
#[derive(Debug)]
struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Said {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn index(&self) -> u64 {
        self.header("x-consul-index").parse().unwrap()
    }
}

impl Bed {
    async fn ask(&self, method: &str, uri: &str, body: impl Into<Bytes>) -> Said {
        let request = Request::builder().method(method).uri(uri);
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Said {
        let (head, body) = self.server.clone().answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Said { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, uri: &str) -> Said {
        self.ask("GET", uri, "").await
    }

    /// A write that must be answered, with whether it was done.
    async fn put(&self, uri: &str, body: impl Into<Bytes>) -> bool {
        let said = self.ask("PUT", uri, body).await;
        assert_eq!(said.status, StatusCode::OK, "PUT {uri}: {}", said.text());
        said.text() == "true"
    }

    async fn delete(&self, uri: &str) -> bool {
        let said = self.ask("DELETE", uri, "").await;
        assert_eq!(said.status, StatusCode::OK, "DELETE {uri}: {}", said.text());
        said.text() == "true"
    }

    /// The only entry under a key.
    async fn entry(&self, key: &str) -> Value {
        let said = self.get(&format!("/v1/kv/{key}")).await;
        assert_eq!(said.status, StatusCode::OK, "{key}");
        said.json()[0].clone()
    }

    /// A new session's id.
    async fn session(&self, body: &str) -> String {
        let said = self.ask("PUT", "/v1/session/create", body.to_owned()).await;
        assert_eq!(said.status, StatusCode::OK, "{}", said.text());
        said.json()["ID"].as_str().unwrap().to_owned()
    }

    /// Has all leases end, as if their time were up.
    async fn time_passes(&self) {
        for lease in self.store.leases() {
            self.store.lease_revoke(lease.id).await.unwrap();
        }
    }

    /// Returns when a session has gone.
    async fn gone(&self, id: &str) {
        let mut index = 0;
        loop {
            let said = self.get(&format!("/v1/session/info/{id}?index={index}")).await;
            if said.text() == "[]" {
                return;
            }
            index = said.index();
        }
    }
}
