//! etcd's API on a manager: its port, who may use it, and what `member` calls mean here: the members are the
//! managers, which are nodes of the cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use pontoon_api_etcd::{Access, EtcdServer, MemberInfo, Members, MembersError, Settings};
use pontoon_store::{MemberError, Read, Role as StoreRole, Store};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{NodeRecord, Records};
use crate::config::{EtcdListen, MANAGER_PORT};
use crate::identity::Role;
use crate::identity::certificate::Peer;
use crate::listen::{self, ListenError};
use crate::membership::Membership;
use crate::quorum::is_alive;
use crate::roles;
use crate::tls::{ALPN_H2, ALPN_HTTP1, Tls};

/// The group of those who may do everything.
const ADMINS: &str = "system:masters";
/// By this name gossip tells where a manager serves etcd clients.
pub(crate) const TAG: &str = "etcd";
/// How often a watcher that wants to know hears how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How long a node may take to become a member of the store, or to leave it, by itself: etcd's clients wait 5 seconds for
/// an answer, and it is to be out within that time.
const CHANGE_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All nodes, as gossip sees them.
type Gossip = watch::Receiver<Arc<Vec<pontoon_gossip::Member>>>;

/// Where a manager's etcd clients reach it.
#[must_use]
pub(crate) fn client_url(listen: &EtcdListen, membership: &Membership) -> String {
    let scheme = if listen.insecure { "http" } else { "https" };
    let ip = listen.address.ip();
    let ip = if ip.is_unspecified() { membership.advertise } else { ip };
    format!("{scheme}://{}", SocketAddr::new(ip, listen.address.port()))
}

/// Where the clients of all managers that serve them reach these: the node named first, then the others.
pub(crate) fn client_urls(members: &[pontoon_gossip::Member], first: &str) -> Vec<String> {
    let mut serving: Vec<_> = members.iter().filter(|member| is_alive(member)).collect();
    serving.sort_by_key(|member| (member.name != first, &member.name));
    serving.into_iter().filter_map(|member| member.meta.tags.get(TAG).cloned()).collect()
}

/// A port that is open and not served yet.
pub(crate) struct Port {
    listener: TcpListener,
    listen: EtcdListen,
}

impl Port {
    /// Opens the port that is asked for, if one is.
    ///
    /// # Errors
    /// When it is taken or may not be opened.
    pub(crate) async fn open(listen: Option<EtcdListen>) -> Result<Option<Port>, ListenError> {
        let Some(listen) = listen else { return Ok(None) };
        Ok(Some(Port { listener: listen::bind(listen.address).await?, listen }))
    }

    /// Serves this manager's store until the token ends it.
    pub(crate) fn run(
        self,
        store: &Store,
        membership: &Membership,
        gossip: Gossip,
        tls: &Tls,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let server = server(store, membership, gossip);
        let url = client_url(&self.listen, membership);
        let (tls, stop) = (tls.clone(), stop.clone());
        async move {
            if self.listen.insecure {
                tracing::info!(
                    url,
                    "etcd's API, without TLS: `ETCDCTL_API=3 etcdctl --endpoints URL`"
                );
                let serve = move |stream| server.clone().serve(stream, Access::Anyone);
                return listen::plain(self.listener, stop, serve).await;
            }
            tracing::info!(url, "etcd's API: `eval \"$(pontoon etcd-env)\"` makes etcdctl use it");
            listen::tls(self.listener, tls, &[ALPN_H2, ALPN_HTTP1], stop, move |stream, peer| {
                server.clone().serve(stream, access(peer.as_ref()))
            })
            .await;
        }
    }
}

fn server(store: &Store, membership: &Membership, gossip: Gossip) -> EtcdServer {
    let members = Managers { store: store.clone(), records: Records::new(store.clone()), gossip };
    let cluster_id = number(&membership.cluster);
    let settings = Settings { cluster_id, progress_interval: PROGRESS_INTERVAL };
    EtcdServer::new(store.clone(), Arc::new(members), settings)
}

/// Only administrators: whoever writes the objects below the APIs is above all their rules.
fn access(peer: Option<&Peer>) -> Access {
    let is_admin = |peer: &Peer| peer.role.is_none() && peer.groups.iter().any(|g| g == ADMINS);
    if peer.is_some_and(is_admin) { Access::Admin } else { Access::Nobody }
}

/// The cluster's name as the number by which etcd's clients tell clusters apart.
fn number(cluster: &str) -> u64 {
    let digest = Sha256::digest(cluster);
    let head = digest.first_chunk::<8>().expect("the digest has 32 bytes");
    u64::from_be_bytes(*head).max(1)
}

/// The managers, as etcd's members.
struct Managers {
    store: Store,
    records: Records,
    gossip: Gossip,
}

impl Managers {
    fn describe(&self, id: u64, name: &str, address: SocketAddr) -> MemberInfo {
        let gossip = self.gossip.borrow();
        let urls = gossip.iter().filter(|member| member.name == name);
        MemberInfo {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("https://{address}")],
            client_urls: urls.filter_map(|member| member.meta.tags.get(TAG).cloned()).collect(),
            is_learner: false,
        }
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, MembersError> {
        self.records.nodes(Read::Linearizable).await.map_err(|e| MembersError::Refused(e.message))
    }

    fn is_member(&self, id: u64) -> bool {
        self.store.members().iter().any(|status| status.member.id == id)
    }

    /// Whether gossip finds the node there.
    fn answers(&self, node: &NodeRecord) -> bool {
        self.gossip.borrow().iter().any(|member| member.name == node.name && is_alive(member))
    }

    /// Writes that the node is a worker, which it carries out when it reads it. The record goes before the
    /// membership: a node that is no member of the store any more is not told what became of its record.
    async fn demote(&self, node: &NodeRecord) -> Result<(), MembersError> {
        let demoted = self.records.demote(&node.name, |manager| self.answers(manager)).await;
        demoted.map(drop).map_err(|refusal| match refusal.status == StatusCode::CONFLICT.as_u16() {
            true => {
                tracing::info!(node = node.name, reason = refusal.message, "a manager stays");
                MembersError::NoQuorum
            }
            false => MembersError::Refused(refusal.message),
        })
    }

    /// Writes into the record of a node that its vote is counted from now on: after it is, so that a learner that is too
    /// far behind stays one.
    async fn note_vote(&self, id: u64) -> Result<(), MembersError> {
        let nodes = self.nodes().await?;
        let node = nodes.iter().find(|node| node.store == id && node.learner);
        let Some(node) = node else { return Ok(()) };
        let noted = self.records.promote(&node.name, false).await;
        noted.map(drop).map_err(|refusal| MembersError::Refused(refusal.message))
    }

    /// Waits for a node to become one of the store's members, or to be none any more, but not for long. It does so by
    /// itself.
    async fn wait_until(&self, id: u64, is_member: bool) {
        let changed = async {
            while self.is_member(id) != is_member {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(CHANGE_PATIENCE, changed).await.is_err() {
            let member = id;
            tracing::warn!(member, is_member, "the store's members do not change as they should");
        }
    }
}

#[async_trait]
impl Members for Managers {
    async fn list(&self) -> Result<Vec<MemberInfo>, MembersError> {
        let members = self.store.members().into_iter();
        let describe = |status: pontoon_store::MemberStatus| {
            let member = &status.member;
            let info = self.describe(member.id, &member.name, member.address);
            MemberInfo { is_learner: status.role == StoreRole::Learner, ..info }
        };
        Ok(members.map(describe).collect())
    }

    async fn add(&self, peer_urls: &[String], learner: bool) -> Result<MemberInfo, MembersError> {
        let hosts = hosts(peer_urls)?;
        let nodes = self.nodes().await?;
        let node = nodes.iter().find(|node| hosts.iter().any(|host| host.is(node)));
        let Some(node) = node else { return Err(unknown(peer_urls)) };
        if node.role == Role::Manager {
            return Err(MembersError::Exists);
        }
        let changed = roles::promote(&self.records, &self.store, &node.name, learner).await;
        let node = changed.map_err(|refusal| MembersError::Refused(refusal.message))?;
        self.wait_until(node.store, true).await;
        let address = SocketAddr::new(node.address, MANAGER_PORT);
        Ok(MemberInfo { is_learner: learner, ..self.describe(node.store, &node.name, address) })
    }

    async fn promote(&self, id: u64) -> Result<(), MembersError> {
        let found = self.store.members().into_iter().find(|status| status.member.id == id);
        match found.ok_or(MembersError::NotFound)?.role {
            StoreRole::Voter => {
                // Whoever promoted it may not have come to write so.
                self.note_vote(id).await?;
                Err(MembersError::NotLearner)
            }
            StoreRole::Learner => {
                self.store.promote_member(id).await.map_err(of_store)?;
                self.note_vote(id).await
            }
        }
    }

    async fn update(&self, id: u64, peer_urls: &[String]) -> Result<(), MembersError> {
        let found = self.store.members().into_iter().find(|status| status.member.id == id);
        let member = found.ok_or(MembersError::NotFound)?.member;
        let same = |host: &Host| matches!(host, Host::Ip(ip) if *ip == member.address.ip());
        if hosts(peer_urls)?.iter().all(same) {
            return Ok(());
        }
        Err(MembersError::Refused(format!(
            "a node's address is not changed from here: take {0} out with `pontoon leave` on {0} and let it join again with \
             --advertise-addr",
            member.name
        )))
    }

    async fn remove(&self, id: u64) -> Result<(), MembersError> {
        if !self.is_member(id) {
            return Err(MembersError::NotFound);
        }
        let nodes = self.nodes().await?;
        if let Some(node) = nodes.iter().find(|node| node.store == id) {
            self.demote(node).await?;
            if id == self.store.status().member {
                // This very node: it leaves as soon as it reads its record, and this connection ends with that.
                return Ok(());
            }
            if self.answers(node) {
                self.wait_until(id, false).await;
            }
        }
        match self.store.remove_member(id).await {
            // It has left by itself.
            Ok(()) | Err(MemberError::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }
}

/// A host of a URL.
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    fn is(&self, node: &NodeRecord) -> bool {
        match self {
            Host::Ip(ip) => *ip == node.address,
            Host::Name(name) => *name == node.name,
        }
    }
}

/// The hosts of URLs, of which there must be one at least.
fn hosts(urls: &[String]) -> Result<Vec<Host>, MembersError> {
    let host = |url: &String| {
        let uri: http::Uri = url.parse().map_err(|_| MembersError::BadUrls)?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().filter(|_| known).ok_or(MembersError::BadUrls)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(bare.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip))
    };
    let hosts: Vec<Host> = urls.iter().map(host).collect::<Result<_, _>>()?;
    if hosts.is_empty() { Err(MembersError::BadUrls) } else { Ok(hosts) }
}

fn unknown(peer_urls: &[String]) -> MembersError {
    MembersError::Refused(format!(
        "no node of the cluster is at {}; a new server joins by itself: `pontoon join-token manager` prints how",
        peer_urls.join(", ")
    ))
}

fn of_store(error: MemberError) -> MembersError {
    match error {
        MemberError::QuorumLost { .. } | MemberError::LastVoter { .. } => MembersError::NoQuorum,
        MemberError::NotFound { .. } => MembersError::NotFound,
        MemberError::Taken { .. } => MembersError::Exists,
        MemberError::NotCaughtUp { .. } | MemberError::Behind { .. } => MembersError::NotReady,
        MemberError::NoLeader { .. } | MemberError::NotInCluster => MembersError::NoLeader,
        error => MembersError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_hosts() {
        let of = |url: &str| hosts(&[url.to_owned()]);
        assert!(matches!(&of("https://192.0.2.1:2380").unwrap()[..], [Host::Ip(_)]));
        assert!(matches!(&of("http://[2001:db8::1]:2380").unwrap()[..], [Host::Ip(_)]));
        assert!(matches!(&of("https://b:2380").unwrap()[..], [Host::Name(name)] if name == "b"));
        for bad in ["", "b", "ftp://b", "https://", "unix://x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(hosts(&[]).is_err());
    }

    #[test]
    fn only_the_administrators_certificate_opens_the_port() {
        let peer = |groups: &[&str], role| Peer {
            name: "x".to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            role,
            member: None,
        };
        assert_eq!(access(Some(&peer(&[ADMINS], None))), Access::Admin);
        assert_eq!(access(Some(&peer(&["system:nodes"], None))), Access::Nobody);
        assert_eq!(access(Some(&peer(&[ADMINS], Some(Role::Manager)))), Access::Nobody);
        assert_eq!(access(None), Access::Nobody);
    }
}
