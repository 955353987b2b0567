//! The records of the cluster itself in the replicated state: its authority, tokens and address
//! ranges, and one record a node. They decide who may be a member; API objects do not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::Ipv4Net;
use pontoon_store::{Compare, DeleteRange, Put, Range, Read, Store, Txn, WatchRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::identity::Role;
use crate::identity::authority::Authority;
use crate::identity::certificate::Peer;
use crate::identity::token::JoinToken;
use crate::rpc::Refusal;

const CLUSTER_KEY: &str = "/pontoon/cluster";
const NODES_PREFIX: &str = "/pontoon/nodes/";
const GONE_PREFIX: &str = "/pontoon/removed/";
/// Pause before a watch that broke off is begun again; it doubles up to the longest.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a manager makes sure that it is in contact with the leader, and how long that may take: longer
/// than an election, so that one that goes well is nothing to the nodes.
const CONTACT_EVERY: Duration = Duration::from_secs(2);
const CONTACT_PATIENCE: Duration = Duration::from_secs(5);

/// What the cluster is: one record, made by `init`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Cluster {
    pub id: String,
    pub authority: Authority,
    pub worker_token: JoinToken,
    pub manager_token: JoinToken,
    /// Base64 of the 32-byte key that gossip is sealed with.
    pub gossip_key: String,
    pub cluster_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
}

impl Cluster {
    /// The token that gives this role.
    #[must_use]
    pub fn token(&self, role: Role) -> &JoinToken {
        match role {
            Role::Manager => &self.manager_token,
            Role::Worker => &self.worker_token,
        }
    }

    /// The role that a token gives, if it is one of this cluster's present tokens.
    #[must_use]
    pub fn role_of(&self, token: &JoinToken) -> Option<Role> {
        [Role::Manager, Role::Worker].into_iter().find(|role| self.token(*role).same_as(token))
    }
}

/// A node that has joined; removed by `leave` and `node rm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: String,
    /// The node's number, which its certificate bears; never given to another node.
    pub member: u64,
    /// The node's id in the store, should it be a manager. Another one each time it becomes a manager: what
    /// the log says of who voted once must not be taken for this node, which has forgotten its votes.
    pub store: u64,
    /// The role it is to have. It differs from the role in its certificate while it is promoted or demoted.
    pub role: Role,
    pub address: IpAddr,
}

impl NodeRecord {
    /// Whether the certificate is this node's, and not that of another which had its name before.
    #[must_use]
    pub fn is_of(&self, peer: &Peer) -> bool {
        self.name == peer.name && Some(self.member) == peer.member
    }
}

/// The cluster's records in the store. Every write is durable on a quorum when it returns.
#[derive(Clone)]
pub struct Records {
    store: Store,
}

impl Records {
    /// The records in this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes the cluster's record when there is none yet.
    ///
    /// # Errors
    /// When the store refuses, or the cluster exists.
    pub async fn create_cluster(&self, cluster: &Cluster) -> Result<(), Refusal> {
        let key = Bytes::from_static(CLUSTER_KEY.as_bytes());
        let created = self.swap(key, 0, encode(cluster)).await?;
        created.then_some(()).ok_or_else(|| Refusal::conflict("the cluster exists already"))
    }

    /// The cluster's record.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn cluster(&self) -> Result<Cluster, Refusal> {
        let found = self.get(CLUSTER_KEY.into(), Read::Linearizable).await?;
        let (cluster, _) =
            found.ok_or_else(|| Refusal::unavailable("the cluster is being made"))?;
        Ok(cluster)
    }

    /// Replaces the token of a role by a new one, made from `secret`; the old one is worth nothing from then on.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn rotate_token(&self, role: Role, secret: [u8; 16]) -> Result<JoinToken, Refusal> {
        loop {
            let found = self.get::<Cluster>(CLUSTER_KEY.into(), Read::Linearizable).await?;
            let (mut cluster, revision) =
                found.ok_or_else(|| Refusal::unavailable("the cluster is being made"))?;
            let der =
                crate::identity::certificate::certificates(&cluster.authority.certificate_pem)
                    .map_err(|e| Refusal::internal(&e))?;
            let token = JoinToken::new(der.first().map_or(&[][..], |der| der.as_ref()), secret);
            match role {
                Role::Manager => cluster.manager_token = token.clone(),
                Role::Worker => cluster.worker_token = token.clone(),
            }
            if self.swap(CLUSTER_KEY.into(), revision, encode(&cluster)).await? {
                return Ok(token);
            }
        }
    }

    /// Writes the record of a new node.
    ///
    /// # Errors
    /// When the name is taken, or the store refuses.
    pub async fn add_node(&self, node: &NodeRecord) -> Result<(), Refusal> {
        let txn = Txn::new()
            .when(Compare::absent(node_key(&node.name)))
            .then(Put::new(node_key(&node.name), encode(node)))
            .then(DeleteRange::key(gone_key(&node.name)));
        if self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?.succeeded {
            return Ok(());
        }
        Err(Refusal::conflict(format!(
            "a node named {0} is in the cluster already; give this one another name (`pontoon daemon --node-name NAME`), \
             or, if {0} is gone for good, remove it first with `pontoon node rm {0} --force`",
            node.name
        )))
    }

    /// Gives a node a role. Answers its record as it is then.
    ///
    /// # Errors
    /// When there is no such node, or the store refuses.
    pub async fn set_role(&self, name: &str, role: Role) -> Result<NodeRecord, Refusal> {
        loop {
            let found = self.get::<NodeRecord>(node_key(name), Read::Linearizable).await?;
            let (mut node, revision) = found.ok_or_else(|| no_such_node(name))?;
            if role == Role::Manager && node.role != role {
                node.store = new_id();
            }
            node.role = role;
            if self.swap(node_key(name), revision, encode(&node)).await? {
                return Ok(node);
            }
        }
    }

    /// One node's record.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn node(&self, name: &str, read: Read) -> Result<Option<NodeRecord>, Refusal> {
        Ok(self.get(node_key(name), read).await?.map(|(node, _)| node))
    }

    /// Whether a node of this name was removed, as far as this manager knows.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn is_gone(&self, name: &str) -> Result<bool, Refusal> {
        let found = self.store.range(Range::key(gone_key(name)), Read::Local).await;
        Ok(!found.map_err(|e| Refusal::internal(&e))?.kvs.is_empty())
    }

    /// All nodes' records, in order of their names.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn nodes(&self, read: Read) -> Result<Vec<NodeRecord>, Refusal> {
        let found = self
            .store
            .range(Range::prefix(NODES_PREFIX), read)
            .await
            .map_err(|e| Refusal::internal(&e))?;
        found.kvs.iter().map(|kv| decode(&kv.value)).collect()
    }

    /// Removes a node's record; no error when it is gone already.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn remove_node(&self, name: &str) -> Result<(), Refusal> {
        let txn =
            Txn::new().then(DeleteRange::key(node_key(name))).then(Put::new(gone_key(name), ""));
        self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?;
        Ok(())
    }

    /// Keeps `records` the newest list of all nodes' records, until the token ends it.
    pub async fn follow(
        self,
        records: watch::Sender<Arc<Vec<NodeRecord>>>,
        stop: CancellationToken,
    ) {
        let mut pause = FOLLOW_PAUSE;
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                followed = self.follow_once(&records) => followed,
                () = stop.cancelled() => return,
            };
            if let Err(error) = followed {
                tracing::debug!(%error, "follow the nodes' records");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(FOLLOW_PAUSE_MAX),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Keeps `contact` true while the cluster's leader answers this manager, until the token ends it. What a
    /// follower believes of the leader does not tell: it goes on believing while it is cut off.
    pub async fn keep_contact(self, contact: watch::Sender<bool>, stop: CancellationToken) {
        let mut look = tokio::time::interval(CONTACT_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask = async {
                look.tick().await;
                let key = Range { count_only: true, ..Range::key(CLUSTER_KEY) };
                let asked = self.store.range(key, Read::Linearizable);
                matches!(tokio::time::timeout(CONTACT_PATIENCE, asked).await, Ok(Ok(_)))
            };
            let answered = tokio::select! {
                answered = ask => answered,
                () = stop.cancelled() => return,
            };
            let changed = contact.send_if_modified(|known| {
                let changed = *known != answered;
                *known = answered;
                changed
            });
            if changed {
                tracing::info!(answered, "contact with the cluster's leader");
            }
        }
    }

    async fn follow_once(
        &self,
        records: &watch::Sender<Arc<Vec<NodeRecord>>>,
    ) -> Result<(), Refusal> {
        // Watched before it is read: what changes in between is read again.
        let mut watch = self
            .store
            .watch(WatchRequest::prefix(NODES_PREFIX))
            .map_err(|e| Refusal::internal(&e))?;
        loop {
            let newest = Arc::new(self.nodes(Read::Local).await?);
            records.send_if_modified(|known| {
                let news = *known != newest;
                *known = newest;
                news
            });
            match watch.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Refusal::internal(&error)),
                None => return Ok(()),
            }
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: Bytes,
        read: Read,
    ) -> Result<Option<(T, u64)>, Refusal> {
        let found =
            self.store.range(Range::key(key), read).await.map_err(|e| Refusal::internal(&e))?;
        found.kvs.first().map(|kv| Ok((decode(&kv.value)?, kv.mod_revision))).transpose()
    }

    /// Puts the value if the key was last changed at `revision` (0: if there is no such key).
    async fn swap(&self, key: Bytes, revision: u64, value: Bytes) -> Result<bool, Refusal> {
        let txn =
            Txn::new().when(Compare::unchanged(key.clone(), revision)).then(Put::new(key, value));
        let done = self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?;
        Ok(done.succeeded)
    }
}

/// A number that no node has had before. Numbers go through JSON, where not everybody keeps all of 64 bits.
#[must_use]
pub(crate) fn new_id() -> u64 {
    rand::random_range(1..=u64::MAX >> 12)
}

/// The refusal for a name that no node has.
#[must_use]
pub(crate) fn no_such_node(name: &str) -> Refusal {
    Refusal::not_found(format!("no node is named {name}; `pontoon node ls` lists them"))
}

fn node_key(name: &str) -> Bytes {
    format!("{NODES_PREFIX}{name}").into()
}

/// Written when a node is removed: its certificate is good for some time still, and a manager that has not
/// heard of a node must tell one that is new from one that is gone.
fn gone_key(name: &str) -> Bytes {
    format!("{GONE_PREFIX}{name}").into()
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data becomes JSON").into()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|e| Refusal::internal(&e))
}
