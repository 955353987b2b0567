//! The records of the cluster itself in the replicated state: its authority, tokens and address
//! ranges, and one record a node. They decide who may be a member; API objects do not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use pontoon_store::{Compare, DeleteRange, Put, Range, Read, Store, Txn, WatchRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gossip_keys::{GossipKey, GossipKeys};
use crate::identity::Role;
use crate::identity::authority::{Authority, NODE_CERTIFICATE_DAYS};
use crate::identity::certificate::Peer;
use crate::identity::token::JoinToken;
use crate::revival::REVIVAL_DAYS;
use crate::rpc::Refusal;

/// All records of the cluster itself.
const PREFIX: &str = "/pontoon/";
pub(crate) const CLUSTER_KEY: &str = "/pontoon/cluster";
pub(crate) const NODES_PREFIX: &str = "/pontoon/nodes/";
const ADDRESSES_PREFIX: &str = "/pontoon/addresses/";
const GONE_PREFIX: &str = "/pontoon/removed/";
/// Pause before a watch that broke off is begun again; it doubles up to the longest.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(5);

/// For so many seconds it is remembered that a node was removed: as long as its certificate could be renewed.
const GONE_KEPT: i64 = (NODE_CERTIFICATE_DAYS + REVIVAL_DAYS) * 24 * 3600;
/// So many that are too old are forgotten with each removal.
const GONE_AT_ONCE: usize = 64;

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
    pub gossip_keys: GossipKeys,
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
    /// A manager whose copy of the state is kept up and does not count, until it is promoted once more.
    #[serde(default)]
    pub learner: bool,
    pub address: IpAddr,
    /// Digest of the request with which it joined: the node that made it may ask again, should it not have heard the
    /// answer.
    #[serde(default)]
    pub request: String,
}

impl NodeRecord {
    /// Whether the certificate is this node's, and not that of another which had its name before.
    #[must_use]
    pub fn is_of(&self, peer: &Peer) -> bool {
        self.name == peer.name && Some(self.member) == peer.member
    }

    /// Whether it is a manager whose vote is counted.
    #[must_use]
    pub fn has_vote(&self) -> bool {
        self.role == Role::Manager && !self.learner
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

    /// The cluster's record as this manager's own copy of the state has it.
    ///
    /// # Errors
    /// When it has none yet.
    pub async fn cluster_here(&self) -> Result<Cluster, Refusal> {
        let found = self.get(CLUSTER_KEY.into(), Read::Local).await?;
        found.map(|(cluster, _)| cluster).ok_or_else(|| {
            Refusal::unavailable("this manager has no copy of the cluster's record yet")
        })
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
    /// When the name or the address is taken, or the store refuses.
    pub async fn add_node(&self, node: &NodeRecord) -> Result<(), Refusal> {
        let txn = Txn::new()
            .when(Compare::absent(node_key(&node.name)))
            .when(Compare::absent(address_key(node.address)))
            .then(Put::new(node_key(&node.name), encode(node)))
            .then(Put::new(address_key(node.address), node.name.clone()));
        if self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?.succeeded {
            return Ok(());
        }
        if self.node(&node.name, Read::Linearizable).await?.is_none() {
            return Err(address_taken(node.address, "another node that joins just now"));
        }
        Err(Refusal::conflict(format!(
            "a node named {0} is in the cluster already; give this one another name (`pontoon daemon --node-name NAME`), \
             or, if {0} is gone for good, remove it first with `pontoon node rm {0} --force`",
            node.name
        )))
    }

    /// Makes a manager a worker, if the managers that stay go on without it: in one write that is conditional on what
    /// all managers are, so that two at once do not leave none. Answers its record as it is then.
    ///
    /// # Errors
    /// When there is no such node, those that stay would be no quorum of those that answer, or the store refuses.
    pub async fn demote(
        &self,
        name: &str,
        answers: impl Fn(&NodeRecord) -> bool,
    ) -> Result<NodeRecord, Refusal> {
        loop {
            let nodes = self.nodes_with_revisions(Read::Linearizable).await?;
            let found = nodes.iter().find(|(node, _)| node.name == name);
            let mut demoted =
                found.map(|(node, _)| node.clone()).ok_or_else(|| no_such_node(name))?;
            if demoted.role == Role::Worker {
                return Ok(demoted);
            }
            let managers: Vec<_> =
                nodes.iter().filter(|(node, _)| node.role == Role::Manager).collect();
            if demoted.has_vote() {
                let voters = managers.iter().map(|(node, _)| node).filter(|node| node.has_vote());
                check_staying(name, voters, &answers)?;
            }
            demoted.role = Role::Worker;
            demoted.learner = false;
            let unchanged = |(node, revision): &&(NodeRecord, u64)| {
                Compare::unchanged(node_key(&node.name), *revision)
            };
            let txn = managers.iter().map(unchanged).fold(Txn::new(), Txn::when);
            let txn = txn.then(Put::new(node_key(name), encode(&demoted)));
            if self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?.succeeded {
                return Ok(demoted);
            }
        }
    }

    /// Makes a node a manager, and a worker a learner first where that is asked for: a learner that is promoted
    /// again has a vote. Answers its record as it is then.
    ///
    /// # Errors
    /// When there is no such node, or the store refuses.
    pub async fn promote(&self, name: &str, learner: bool) -> Result<NodeRecord, Refusal> {
        loop {
            let found = self.get::<NodeRecord>(node_key(name), Read::Linearizable).await?;
            let (mut node, revision) = found.ok_or_else(|| no_such_node(name))?;
            if node.role != Role::Manager {
                node.store = new_id();
            }
            node.role = Role::Manager;
            node.learner = learner;
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

    /// The record of the node that a verified certificate names. A certificate outlives its node's removal; the
    /// record does not.
    ///
    /// # Errors
    /// When there is no such record; [`Refusal::is_removed`] where the others agree that there was one.
    pub async fn admitted(&self, peer: &Peer) -> Result<NodeRecord, Refusal> {
        let own = |record: &NodeRecord| record.is_of(peer);
        if let Some(record) = self.node(&peer.name, Read::Local).await?.filter(own) {
            return Ok(record);
        }
        // This manager may not have heard yet of a node that joined a moment ago.
        if let Some(record) = self.node(&peer.name, Read::Linearizable).await?.filter(own) {
            return Ok(record);
        }
        let name = &peer.name;
        if self.is_gone(peer.member.unwrap_or_default()).await? {
            return Err(Refusal::removed(format!("node {name} was removed from the cluster")));
        }
        Err(Refusal::forbidden(format!(
            "the cluster knows of no such node {name}; run `pontoon leave --force` on it, then join again"
        )))
    }

    /// Whether the node of this number was removed, as far as this manager knows.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn is_gone(&self, member: u64) -> Result<bool, Refusal> {
        Ok(self.get::<Gone>(gone_key(member), Read::Local).await?.is_some())
    }

    /// All nodes' records, in order of their names.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn nodes(&self, read: Read) -> Result<Vec<NodeRecord>, Refusal> {
        let nodes = self.nodes_with_revisions(read).await?;
        Ok(nodes.into_iter().map(|(node, _)| node).collect())
    }

    async fn nodes_with_revisions(&self, read: Read) -> Result<Vec<(NodeRecord, u64)>, Refusal> {
        let found = self
            .store
            .range(Range::prefix(NODES_PREFIX), read)
            .await
            .map_err(|e| Refusal::internal(&e))?;
        found.kvs.iter().map(|kv| Ok((decode(&kv.value)?, kv.mod_revision))).collect()
    }

    /// Removes a node's record and has gossip's key changed, which the node knows; no error when it is gone
    /// already. A node that has taken its name since stays.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn remove_node(&self, node: &NodeRecord) -> Result<(), Refusal> {
        loop {
            let found = self.get::<NodeRecord>(node_key(&node.name), Read::Linearizable).await?;
            let Some((record, revision)) = found.filter(|(found, _)| found.member == node.member)
            else {
                return Ok(());
            };
            let found = self.get::<Cluster>(CLUSTER_KEY.into(), Read::Linearizable).await?;
            let (mut cluster, cluster_revision) =
                found.ok_or_else(|| Refusal::unavailable("the cluster is being made"))?;
            cluster.gossip_keys.rotate(GossipKey::random());
            let now = Timestamp::now().as_second();
            // Whoever sees the new key sees that the node is gone.
            let mut txn = Txn::new()
                .when(Compare::unchanged(node_key(&node.name), revision))
                .when(Compare::unchanged(CLUSTER_KEY, cluster_revision))
                .then(DeleteRange::key(node_key(&node.name)))
                .then(DeleteRange::key(address_key(record.address)))
                .then(remember_gone(node, now))
                .then(Put::new(CLUSTER_KEY, encode(&cluster)));
            for old in self.gone_before(now - GONE_KEPT).await? {
                txn = txn.then(DeleteRange::key(old));
            }
            if self.store.txn(txn).await.map_err(|e| Refusal::internal(&e))?.succeeded {
                return Ok(());
            }
        }
    }

    /// Some of the keys that tell of nodes removed before this second.
    async fn gone_before(&self, second: i64) -> Result<Vec<Bytes>, Refusal> {
        let found = self.store.range(Range::prefix(GONE_PREFIX), Read::Local).await;
        let kvs = found.map_err(|e| Refusal::internal(&e))?.kvs;
        let is_old = |value: &[u8]| decode::<Gone>(value).is_ok_and(|gone| gone.at < second);
        let old = kvs.iter().filter(|kv| is_old(&kv.value)).map(|kv| kv.key.clone());
        Ok(old.take(GONE_AT_ONCE).collect())
    }

    /// Takes the next step in the change of gossip's key, unless somebody has taken it.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn advance_gossip_keys(&self, seen: &GossipKeys) -> Result<(), Refusal> {
        let found = self.get::<Cluster>(CLUSTER_KEY.into(), Read::Linearizable).await?;
        let Some((mut cluster, revision)) = found else { return Ok(()) };
        if cluster.gossip_keys.same_step(seen) {
            cluster.gossip_keys.advance(GossipKey::random());
            // Should another write come first the step is looked at again.
            self.swap(CLUSTER_KEY.into(), revision, encode(&cluster)).await?;
        }
        Ok(())
    }

    /// Keeps `records` the newest list of all nodes' records and `keys` the newest of gossip's keys, until the
    /// token ends it. Keys are never newer than the records.
    pub async fn follow(
        self,
        records: watch::Sender<Arc<Vec<NodeRecord>>>,
        keys: watch::Sender<Option<Arc<GossipKeys>>>,
        stop: CancellationToken,
    ) {
        let mut pause = FOLLOW_PAUSE;
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                followed = self.follow_once(&records, &keys) => followed,
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
        keys: &watch::Sender<Option<Arc<GossipKeys>>>,
    ) -> Result<(), Refusal> {
        // Watched before it is read: what changes in between is read again.
        let mut watch =
            self.store.watch(WatchRequest::prefix(PREFIX)).map_err(|e| Refusal::internal(&e))?;
        loop {
            let cluster = self.get::<Cluster>(CLUSTER_KEY.into(), Read::Local).await?;
            let newest_keys = cluster.map(|(cluster, _)| Arc::new(cluster.gossip_keys));
            // After the keys: so these are at least as new.
            let newest = Arc::new(self.nodes(Read::Local).await?);
            records.send_if_modified(|known| {
                let news = *known != newest;
                *known = newest;
                news
            });
            keys.send_if_modified(|known| {
                let news = *known != newest_keys;
                *known = newest_keys;
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
    Refusal::not_found(format!("node {name:?} not found; see `pontoon node ls`"))
}

/// The key of a node's record.
pub(crate) fn node_key(name: &str) -> Bytes {
    format!("{NODES_PREFIX}{name}").into()
}

/// Names the node that has the address: two that join at once with the same one meet here.
pub(crate) fn address_key(address: IpAddr) -> Bytes {
    format!("{ADDRESSES_PREFIX}{address}").into()
}

/// The refusal of an address that is `whose` already.
pub(crate) fn address_taken(address: IpAddr, whose: &str) -> Refusal {
    Refusal::conflict(format!(
        "join: {address} is the address of {whose}; give another with --advertise-addr"
    ))
}

/// Refuses to take a manager away when those that stay and answer are no quorum.
fn check_staying<'a>(
    name: &str,
    managers: impl Iterator<Item = &'a NodeRecord>,
    answers: impl Fn(&NodeRecord) -> bool,
) -> Result<(), Refusal> {
    let staying: Vec<_> = managers.filter(|manager| manager.name != name).collect();
    if staying.is_empty() {
        return Err(Refusal::conflict(format!(
            "{name} is the only manager; promote another node first: `pontoon node promote NAME`"
        )));
    }
    let alive = staying.iter().filter(|manager| answers(manager)).count();
    if alive * 2 > staying.len() {
        return Ok(());
    }
    let silent = staying.iter().filter(|manager| !answers(manager));
    let silent: Vec<&str> = silent.map(|manager| manager.name.as_str()).collect();
    Err(Refusal::conflict(format!(
        "without {name} there would be {} managers of which {alive} answer: that is no quorum; \
         bring back {}, or promote another node first",
        staying.len(),
        silent.join(", ")
    )))
}

/// Written when a node is removed: its certificate is good for some time still, and a manager that has not
/// heard of a node must tell one that is new from one that is gone.
pub(crate) fn gone_key(member: u64) -> Bytes {
    format!("{GONE_PREFIX}{member:x}").into()
}

/// What is remembered of a node that is removed at this second.
pub(crate) fn remember_gone(node: &NodeRecord, second: i64) -> Put {
    let gone = Gone { name: node.name.clone(), at: second };
    Put::new(gone_key(node.member), encode(&gone))
}

/// A node that was removed.
#[derive(Serialize, Deserialize)]
struct Gone {
    name: String,
    /// Seconds since the epoch.
    at: i64,
}

/// A value as it is kept.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data becomes JSON").into()
}

/// A value that was kept.
///
/// # Errors
/// When it is not what it should be.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|e| Refusal::internal(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(managers: &[&str], alive: &[&str], demoted: &str) -> Result<(), String> {
        let record = |name: &&str| NodeRecord {
            name: (*name).to_owned(),
            member: 1,
            store: 1,
            role: Role::Manager,
            learner: false,
            address: IpAddr::from([192, 0, 2, 1]),
            request: String::new(),
        };
        let managers: Vec<NodeRecord> = managers.iter().map(record).collect();
        let answers = |node: &NodeRecord| alive.contains(&node.name.as_str());
        check_staying(demoted, managers.iter(), answers).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_manager_is_spared_only_when_the_others_are_a_quorum() {
        assert!(check(&["a"], &["a"], "a").unwrap_err().contains("only manager"));
        assert_eq!(check(&["a", "b"], &["a", "b"], "b"), Ok(()));
        assert_eq!(check(&["a", "b", "c"], &["a", "b", "c"], "a"), Ok(()));
        let refused = check(&["a", "b", "c"], &["a", "b"], "b").unwrap_err();
        assert!(
            refused.contains("of which 1 answer") && refused.contains("bring back c"),
            "{refused}"
        );
        assert_eq!(check(&["a", "b", "c"], &["a", "b"], "c"), Ok(()), "the one that is lost");
    }
}
