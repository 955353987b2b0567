//! How a node becomes a member: the questions a joining node asks, and the answers of a manager.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use http::Method;
use pontoon_model::names;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::assignment::dispatch::managers;
use crate::cluster::{Cluster, NodeRecord, Records, new_id};
use crate::config::{MANAGER_PORT, check_node_name};
use crate::gossip_keys::{GossipKey, GossipKeys};
use crate::identity::Role;
use crate::identity::authority::{Authority, Subject};
use crate::identity::certificate::{Credentials, Request as CertificateRequest, certificates};
use crate::identity::token::JoinToken;
use crate::membership::{ManagerAddress, Membership};
use crate::rpc::{Refusal, client};

/// What a joining node says, once it knows that it talks to the right cluster.
#[derive(Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub token: JoinToken,
    pub name: String,
    pub address: IpAddr,
    pub request_pem: String,
}

/// What a node that was let in is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct JoinAnswer {
    pub cluster: String,
    pub role: Role,
    pub member: u64,
    pub store: u64,
    pub certificate_pem: String,
    pub authority_pem: String,
    pub gossip_key: GossipKey,
    pub managers: Vec<ManagerAddress>,
    pub cluster_cidr: ipnet::Ipv4Net,
    pub service_cidr: ipnet::Ipv4Net,
}

/// A node that wants to join, as it describes itself.
pub(crate) struct Joiner<'a> {
    pub name: &'a str,
    pub address: Option<IpAddr>,
    pub token: &'a str,
    pub manager: SocketAddr,
    /// Where the request is kept until it is answered.
    pub attempt: &'a Path,
}

impl Joiner<'_> {
    /// Asks the manager to be let in. Only the request is kept on this node; the manager keeps the node's record
    /// from the moment it says yes.
    ///
    /// # Errors
    /// What is wrong and what to do about it.
    pub(crate) async fn join(&self) -> Result<Membership, Refusal> {
        check_name(self.name)?;
        let token: JoinToken =
            self.token.parse().map_err(|e| Refusal::bad_request(format!("join: {e}")))?;
        let authority_pem = self.authority(&token).await?;
        let address = match self.address {
            Some(address) => address,
            None => local_address_towards(self.manager)?,
        };
        let request = self.request()?;
        let body = JoinRequest {
            token,
            name: self.name.to_owned(),
            address,
            request_pem: request.request_pem.clone(),
        };
        let answer: JoinAnswer =
            self.ask(Some(&authority_pem), Method::POST, "/v1/join", &body).await?;
        Ok(Membership {
            cluster: answer.cluster,
            node: self.name.to_owned(),
            role: answer.role,
            member: answer.member,
            store: answer.store,
            advertise: address,
            credentials: Credentials {
                certificate_pem: answer.certificate_pem,
                key_pem: request.key_pem,
                authority_pem: answer.authority_pem,
            },
            gossip_key: answer.gossip_key,
            managers: answer.managers,
            cluster_cidr: answer.cluster_cidr,
            service_cidr: answer.service_cidr,
            leaving: false,
        })
    }

    /// The request for a certificate: the one of an earlier attempt that was cut off, or a new one. On the disk before
    /// anybody hears of it, so that a node that dies before it has the answer can ask the same again.
    fn request(&self) -> Result<CertificateRequest, Refusal> {
        if let Ok(bytes) = std::fs::read(self.attempt)
            && let Ok(request) = serde_json::from_slice(&bytes)
        {
            return Ok(request);
        }
        let request = CertificateRequest::create().map_err(|e| Refusal::internal(&e))?;
        let bytes = serde_json::to_vec(&request).expect("plain data becomes JSON");
        crate::membership::write_private(self.attempt, &bytes).map_err(|e| {
            Refusal::unavailable(format!("join: write {}: {e}", self.attempt.display()))
        })?;
        Ok(request)
    }

    /// The authority's certificate, checked against the token before anything secret is said.
    async fn authority(&self, token: &JoinToken) -> Result<String, Refusal> {
        let pem: String = self.ask(None, Method::GET, "/v1/ca", &()).await?;
        let chain = certificates(&pem).map_err(|e| Refusal::internal(&e))?;
        match chain.as_slice() {
            [der] if token.matches_authority(der) => Ok(pem),
            _ => Err(Refusal::forbidden(format!(
                "join: {} belongs to another cluster than this token (its CA certificate does not match); \
                 check the address, or print a token on a manager of the cluster you mean with `pontoon join-token worker`",
                self.manager
            ))),
        }
    }

    async fn ask<Q: Serialize, A: serde::de::DeserializeOwned>(
        &self,
        authority: Option<&str>,
        method: Method,
        path: &str,
        query: &Q,
    ) -> Result<A, Refusal> {
        let asked = client::ask_once(self.manager, authority, (method, path), query).await;
        asked.map_err(|refusal| match refusal.message.starts_with("join: ") {
            true => refusal,
            false => Refusal { message: format!("join: {}", refusal.message), ..refusal },
        })
    }
}

/// A node name is a DNS label.
///
/// # Errors
/// When it is not, with what a name may be.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    check_node_name(name).map_err(Refusal::bad_request)
}

/// The address of this machine from which the manager is reached.
fn local_address_towards(manager: SocketAddr) -> Result<IpAddr, Refusal> {
    let any: SocketAddr = if manager.is_ipv4() {
        SocketAddr::from(([0, 0, 0, 0], 0))
    } else {
        SocketAddr::from(([0u16; 8], 0))
    };
    let find = || {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(manager)?;
        socket.local_addr()
    };
    find().map(|address| address.ip()).map_err(|e| {
        Refusal::unavailable(format!(
            "join: find the own address towards {manager}: {e}; give it with --advertise-addr"
        ))
    })
}

/// A manager's answer to a join request. When it says yes the node's record is durable.
///
/// # Errors
/// When the token is not valid, the name taken, or the store refuses.
pub(crate) async fn admit(records: &Records, request: JoinRequest) -> Result<JoinAnswer, Refusal> {
    check_name(&request.name)?;
    if request.address.is_ipv6() {
        return Err(crate::member::only_v4(request.address));
    }
    let cluster = records.cluster().await?;
    let role = cluster.role_of(&request.token).ok_or_else(|| {
        Refusal::forbidden(
            "join: this token is not valid any more (it was rotated) or never was; \
             print the present one on a manager with `pontoon join-token worker`",
        )
    })?;
    let digest = Sha256::digest(&request.request_pem).iter().map(|b| format!("{b:02x}")).collect();
    let node = NodeRecord {
        name: request.name,
        member: new_id(),
        store: new_id(),
        role,
        learner: false,
        address: request.address,
        request: digest,
    };
    check_outside(node.address, &cluster)?;
    let nodes = records.nodes(pontoon_store::Read::Linearizable).await?;
    let known = nodes.iter().find(|known| is_same(known, &node)).cloned();
    let is_known = known.is_some();
    let node = known.unwrap_or(node);
    if !is_known {
        check_address(&node, &nodes)?;
    }
    let certificate = sign(&cluster, &node, &request.request_pem)?;
    if !is_known {
        records.add_node(&node).await?;
    }
    Ok(JoinAnswer {
        cluster: cluster.id,
        role,
        member: node.member,
        store: node.store,
        certificate_pem: certificate,
        authority_pem: cluster.authority.certificate_pem,
        gossip_key: cluster.gossip_keys.current,
        managers: managers(&records.nodes(pontoon_store::Read::Linearizable).await?),
        cluster_cidr: cluster.cluster_cidr,
        service_cidr: cluster.service_cidr,
    })
}

/// Whether a node that asks to join is one that was let in before and did not hear of it.
fn is_same(known: &NodeRecord, asking: &NodeRecord) -> bool {
    let NodeRecord { name, role, address, request, .. } = known;
    (name, role, address, request) == (&asking.name, &asking.role, &asking.address, &asking.request)
}

/// A node's address is none that pods or services may get.
fn check_outside(address: IpAddr, cluster: &Cluster) -> Result<(), Refusal> {
    let ranges = [("pods", cluster.cluster_cidr), ("services", cluster.service_cidr)];
    match ranges.iter().find(|(_, range)| ipnet::IpNet::V4(*range).contains(&address)) {
        None => Ok(()),
        Some((whose, range)) => Err(Refusal::bad_request(format!(
            "join: {address} is in {range}, the range of the cluster's {whose}; give another with --advertise-addr"
        ))),
    }
}

/// A node is reached at an address that is no other node's.
fn check_address(node: &NodeRecord, others: &[NodeRecord]) -> Result<(), Refusal> {
    let address = node.address;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(Refusal::bad_request(format!(
            "join: no other node could reach this one at {address}; give another with --advertise-addr"
        )));
    }
    // A name that is taken is told by the one who writes the record.
    match others.iter().find(|other| other.address == address && other.name != node.name) {
        None => Ok(()),
        Some(other) => Err(Refusal::conflict(format!(
            "join: {address} is the address of node {0}; give another with --advertise-addr, \
             or, if {0} is gone for good, remove it first with `pontoon node rm {0} --force`",
            other.name
        ))),
    }
}

/// Signs a node's certificate request.
///
/// # Errors
/// When the request is malformed.
pub(crate) fn sign(
    cluster: &Cluster,
    node: &NodeRecord,
    request_pem: &str,
) -> Result<String, Refusal> {
    let NodeRecord { name, member, role, address, .. } = node;
    let (member, role, address) = (*member, *role, *address);
    let service = names::api_address(cluster.service_cidr.network());
    let subject = Subject::Node { name, member, role, address, service, cluster: &cluster.id };
    cluster
        .authority
        .sign(request_pem, &subject)
        .map_err(|e| Refusal::bad_request(crate::rpc::chain(&e)))
}

/// A new cluster with this node as its first manager: the cluster's record, and the node's membership.
///
/// # Errors
/// When keys or certificates cannot be made.
pub(crate) fn found(
    name: &str,
    address: IpAddr,
    ranges: (ipnet::Ipv4Net, ipnet::Ipv4Net),
) -> Result<(Cluster, Membership), Refusal> {
    check_name(name)?;
    if address.is_ipv6() {
        return Err(crate::member::only_v4(address));
    }
    let mut rng = rand::rng();
    let id = format!("{:032x}", rng.random::<u128>());
    let authority = Authority::create(&id).map_err(|e| Refusal::internal(&e))?;
    let der = certificates(&authority.certificate_pem).map_err(|e| Refusal::internal(&e))?;
    let der = der.first().map_or(&[][..], |der| der.as_ref()).to_vec();
    let cluster = Cluster {
        id,
        authority,
        worker_token: JoinToken::new(&der, rng.random()),
        manager_token: JoinToken::new(&der, rng.random()),
        gossip_keys: GossipKeys::new(GossipKey::random()),
        cluster_cidr: ranges.0,
        service_cidr: ranges.1,
    };
    let (member, store) = (new_id(), new_id());
    let node = NodeRecord {
        name: name.to_owned(),
        member,
        store,
        role: Role::Manager,
        learner: false,
        address,
        request: String::new(),
    };
    let membership = first_membership(&cluster, &node)?;
    Ok((cluster, membership))
}

/// The membership of a node that is the only manager of its cluster.
///
/// # Errors
/// When its key or certificate cannot be made.
pub(crate) fn first_membership(
    cluster: &Cluster,
    node: &NodeRecord,
) -> Result<Membership, Refusal> {
    let request = CertificateRequest::create().map_err(|e| Refusal::internal(&e))?;
    let certificate_pem = sign(cluster, node, &request.request_pem)?;
    let me = ManagerAddress {
        name: node.name.clone(),
        member: node.member,
        address: SocketAddr::new(node.address, MANAGER_PORT),
    };
    Ok(Membership {
        cluster: cluster.id.clone(),
        node: node.name.clone(),
        role: Role::Manager,
        member: node.member,
        store: node.store,
        advertise: node.address,
        credentials: Credentials {
            certificate_pem,
            key_pem: request.key_pem,
            authority_pem: cluster.authority.certificate_pem.clone(),
        },
        gossip_key: cluster.gossip_keys.current.clone(),
        managers: vec![me],
        cluster_cidr: cluster.cluster_cidr,
        service_cidr: cluster.service_cidr,
        leaving: false,
    })
}
