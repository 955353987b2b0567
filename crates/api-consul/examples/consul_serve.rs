//! Consul's API on a store of one member, without a node around it: `consul_serve ADDRESS DIR [DNS|- [allow|deny]]`, where
//! DNS is the address for that, with access control if its default is named. To compare it with the real Consul by
//! hand, and to measure it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_api_consul::cluster::{
    self, Check, MemberState, NODE_CHECK, Node, Own, OwnNode, Status,
};
use pontoon_api_consul::dns::{ConsulDns, DOMAIN};
use pontoon_api_consul::{AclSettings, Cluster, ConsulServer, DefaultPolicy, Settings};
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A cluster of one has nobody to connect to.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

struct One {
    address: SocketAddr,
    own: Arc<Own>,
    changes: watch::Sender<u64>,
}

impl One {
    fn new(address: SocketAddr) -> One {
        let node =
            Node { name: "one".to_owned(), address: address.ip().to_string(), ..Node::default() };
        let check = Check {
            id: NODE_CHECK.to_owned(),
            name: "Serf Health Status".to_owned(),
            status: Status::Passing,
            output: "Agent alive and reachable".to_owned(),
            ..Check::default()
        };
        let node = OwnNode { node, services: Vec::new(), checks: vec![check] };
        let own = Arc::new(Own { index: 1, nodes: vec![node] });
        One { address, own, changes: watch::channel(1).0 }
    }
}

#[async_trait]
impl Cluster for One {
    fn leader(&self) -> Option<String> {
        Some(self.address.to_string())
    }

    fn peers(&self) -> Vec<String> {
        vec![self.address.to_string()]
    }

    fn members(&self) -> Vec<cluster::Member> {
        vec![cluster::Member {
            name: "one".to_owned(),
            id: "00000000-0000-4000-8000-000000000001".to_owned(),
            address: self.address,
            is_server: true,
            server_port: self.address.port(),
            state: MemberState::Alive,
        }]
    }

    async fn own(&self, _: u64) -> Arc<Own> {
        Arc::clone(&self.own)
    }

    fn own_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn leave(&self) -> Result<(), String> {
        Err("there is no cluster to leave".to_owned())
    }

    async fn remove(&self, node: &str) -> Result<(), String> {
        Err(format!("{node} is not removed: there is no cluster"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(dir)) = (arguments.next(), arguments.next()) else {
        return Err("use: consul_serve ADDRESS DIR [DNS|- [allow|deny]]".into());
    };
    let dns = arguments.next().filter(|address| address != "-");
    let dns: Option<SocketAddr> = dns.map(|address| address.parse()).transpose()?;
    let acl = arguments.next().map(|word| {
        let default_policy = DefaultPolicy::parse(&word).ok_or("the default is allow or deny")?;
        Ok::<_, &str>(AclSettings { default_policy, initial_management: None })
    });
    let acl = acl.transpose()?;
    let address: SocketAddr = address.parse()?;
    let store = Store::open(StoreConfig::new(dir, 1), Arc::new(Nobody)).await?;
    if store.members().is_empty() {
        store.bootstrap(Member { id: 1, name: "one".to_owned(), address }).await?;
    }
    store.leadership().wait_for(|now| now.is_me).await?;
    let settings = Settings { datacenter: "dc1".to_owned(), node: "one".to_owned(), acl };
    let server = ConsulServer::new(store, Arc::new(One::new(address)), settings);
    tokio::spawn(server.clone().keep_tokens());
    tokio::spawn(server.clone().end_sessions());
    tokio::spawn(server.clone().watch_checks());
    tokio::spawn(server.clone().probe_services());
    if let Some(dns) = dns {
        let dns = ConsulDns::bind(&server, DOMAIN, &[dns]).await?;
        tokio::spawn(dns.run(CancellationToken::new()));
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(server.clone().serve(stream));
    }
}
