//! What Consul's API asks of the cluster: who leads, who the members are, which nodes and services it has by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

pub use crate::catalog::record::{
    Check, Node, Probe, Service, ServiceAddress, Source, Status, Steps, Texts, Weights,
};

/// The version of Consul whose API this is: some clients compare it.
pub const VERSION: &str = "1.8.7";

/// What the cluster knows by itself, without anybody's registration: its nodes, and what runs on them.
#[derive(Debug, Default)]
pub struct Own {
    /// The revision of the store that changed it last.
    pub index: u64,
    pub nodes: Vec<OwnNode>,
}

/// A node of the cluster with what the cluster runs there. A check with the id [`NODE_CHECK`] says whether it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNode {
    pub node: Node,
    pub services: Vec<Service>,
    pub checks: Vec<Check>,
}

/// The check that a node lives: Consul's clients know it by this name.
pub const NODE_CHECK: &str = "serfHealth";

/// A server or a worker, as `consul members` lists it.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// A UUID that stays the node's.
    pub id: String,
    /// Where it gossips.
    pub address: SocketAddr,
    pub is_server: bool,
    /// Where a server talks to others.
    pub server_port: u16,
    pub state: MemberState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    Alive,
    Left,
    Failed,
}

/// The cluster, as a Consul client reads it.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The address of the leader, as `host:port`; none while there is none.
    fn leader(&self) -> Option<String>;

    /// The addresses of all managers, as `host:port`.
    fn peers(&self) -> Vec<String>;

    fn members(&self) -> Vec<Member>;

    /// Its own nodes and services, as of this revision of the store or a later one. All of it must follow from what is
    /// in the store: a client that has seen the revision has seen this.
    async fn own(&self, revision: u64) -> Arc<Own>;

    /// Changes whenever they do.
    fn own_changes(&self) -> watch::Receiver<u64>;

    /// Has this node leave the cluster; or says why it does not.
    async fn leave(&self) -> Result<(), String>;

    /// Removes a node that has failed; or says why not.
    async fn remove(&self, node: &str) -> Result<(), String>;
}
