//! The node's wires: bridge and overlay once its range is known, its peers, and a wire to each pod.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use pontoon_network::{Attachment, Bridge, Network, OverlayGuard, Peer, Vxlan};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::assignments::Assignments;
use crate::config::AgentConfig;
use crate::ipam::Ipam;
use crate::wires::{WireError, Wires};

/// When nothing is known of the underlay.
const DEFAULT_MTU: u32 = 1500;

/// The node's wires.
pub(crate) struct NodeNetwork {
    network: Network,
    guard: OverlayGuard,
    config: AgentConfig,
    state: Mutex<State>,
    up: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Set once the bridge is there.
    ipam: Option<Ipam>,
    mtu: u32,
    /// Addresses of pods that were found before the range was known.
    found: BTreeMap<String, Ipv4Addr>,
}

impl NodeNetwork {
    pub(crate) fn new(network: Network, guard: OverlayGuard, config: AgentConfig) -> Self {
        Self { network, guard, config, state: Mutex::default(), up: watch::Sender::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the address of a pod that lives since before.
    pub(crate) fn adopt(&self, uid: &str, address: Ipv4Addr) {
        let mut state = self.lock();
        match &mut state.ipam {
            Some(ipam) => {
                if !ipam.adopt(uid, address) {
                    warn!(uid, %address, "a pod that was found has an address that is not its own");
                }
            }
            None => {
                state.found.insert(uid.to_owned(), address);
            }
        }
    }

    /// Makes bridge and overlay for the node's range; true if they are there.
    pub(crate) async fn ensure(&self, range: Ipv4Net) -> Result<(), WireError> {
        if self.lock().ipam.as_ref().is_some_and(|ipam| ipam.range() == range.trunc()) {
            return Ok(());
        }
        let mut ipam = Ipam::new(range)?;
        let mtu = self.underlay_mtu().await.saturating_sub(Vxlan::OVERHEAD);
        let (bridge, config) = (self.config.bridge.clone(), &self.config);
        let address = Ipv4Net::new(ipam.gateway(), range.prefix_len()).unwrap_or(range);
        self.network.ensure_forwarding().await?;
        self.network.ensure_bridge(Bridge { name: bridge.clone(), address, mtu }).await?;
        let vxlan = Vxlan {
            name: config.vxlan.clone(),
            vni: config.vxlan_id,
            local: config.node_address,
            port: config.vxlan_port,
            subnet: range.trunc(),
            mtu,
        };
        self.network.ensure_vxlan(vxlan).await?;
        self.network.ensure_route(config.service_cidr, &bridge).await?;
        let mut state = self.lock();
        for (uid, address) in std::mem::take(&mut state.found) {
            if !ipam.adopt(&uid, address) {
                warn!(uid, %address, %range, "a pod that was found has an address of another range");
            }
        }
        info!(%range, mtu, "the node's network is up");
        state.mtu = mtu;
        state.ipam = Some(ipam);
        drop(state);
        self.up.send_replace(true);
        Ok(())
    }

    /// The largest packet that the link with the node's address takes.
    async fn underlay_mtu(&self) -> u32 {
        let addresses = self.network.addresses().await.unwrap_or_default();
        let own = addresses.iter().find(|found| found.address.addr() == self.config.node_address);
        own.map_or(DEFAULT_MTU, |found| found.mtu)
    }

    /// Whether pods can be connected, and when that changes.
    pub(crate) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Lets the overlay's packets in from these nodes only; before the overlay is there, or leads to them.
    pub(crate) async fn admit(&self, peers: &[Peer]) -> Result<(), WireError> {
        let nodes = peers.iter().map(|peer| peer.underlay).collect();
        Ok(self.guard.admit(nodes).await?)
    }

    /// Makes the overlay lead to the other nodes.
    pub(crate) async fn set_peers(&self, peers: Vec<Peer>) -> Result<(), WireError> {
        let change = self.network.set_peers(&self.config.vxlan, peers).await?;
        if change != pontoon_network::PeerChange::default() {
            info!(added = change.added, removed = change.removed, "the overlay's peers changed");
        }
        Ok(())
    }

    /// Removes every link of this node.
    pub(crate) async fn remove(&self) -> Result<(), WireError> {
        self.network.cleanup().await?;
        self.guard.remove().await?;
        *self.lock() = State::default();
        Ok(())
    }
}

#[async_trait]
impl Wires for NodeNetwork {
    fn gateway(&self) -> Option<Ipv4Addr> {
        self.lock().ipam.as_ref().map(Ipam::gateway)
    }

    fn allocate(&self, uid: &str) -> Result<Ipv4Addr, WireError> {
        match &mut self.lock().ipam {
            Some(ipam) => Ok(ipam.allocate(uid)?),
            None => Err(WireError::NoRange),
        }
    }

    async fn attach(&self, netns: PathBuf, uid: &str, ip: Ipv4Addr) -> Result<(), WireError> {
        let (gateway, mtu) = {
            let state = self.lock();
            (state.ipam.as_ref().map(Ipam::gateway).ok_or(WireError::NoRange)?, state.mtu)
        };
        let attachment = Attachment {
            netns,
            host_ifname: interface_name(uid),
            ifname: "eth0".to_owned(),
            address: Ipv4Net::from(ip),
            gateway,
            mtu,
            bridge: self.config.bridge.clone(),
            tag: uid.to_owned(),
        };
        Ok(self.network.attach(attachment).await?)
    }

    async fn detach(&self, uid: &str) {
        // Its end in the pod's namespace is gone already; so is this one then.
        if let Err(error) = self.network.detach(&interface_name(uid)).await {
            debug!(uid, %error, "disconnecting a pod");
        }
        let mut state = self.lock();
        state.found.remove(uid);
        if let Some(ipam) = &mut state.ipam {
            ipam.release(uid);
        }
    }
}

/// The name of the node's end of a pod's wire: 15 bytes are allowed, a uid has 36.
fn interface_name(uid: &str) -> String {
    // FNV-1a; only the uids of pods on this node must differ.
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("pn{:012x}", hash & 0xffff_ffff_ffff)
}

/// The pod range of a node, if it has one.
pub(crate) fn pod_range(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()
}

/// The address by which a node is reached.
fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    addresses.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()
}

/// This node's own range.
pub(crate) fn own_range(assignments: &Assignments, name: &str) -> Option<Ipv4Net> {
    let node = assignments.node.as_ref().or_else(|| assignments.nodes.get(name))?;
    pod_range(node)
}

/// The other nodes that have a range and an address.
pub(crate) fn peers(assignments: &Assignments, name: &str) -> Vec<Peer> {
    let others = assignments.nodes.iter().filter(|(other, _)| other.as_str() != name);
    others
        .filter_map(|(_, node)| {
            Some(Peer { underlay: internal_address(node)?, subnet: pod_range(node)? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn node(range: Option<&str>, address: Option<&str>) -> Arc<Node> {
        let addresses = address.map(|a| json!([{"type": "InternalIP", "address": a}]));
        let node =
            json!({"metadata": {}, "spec": {"podCIDR": range}, "status": {"addresses": addresses}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn peers_are_the_other_nodes_that_can_be_reached() {
        let mut assignments = Assignments::default();
        for (name, range, address) in [
            ("n1", Some("10.244.1.0/24"), Some("192.168.0.1")),
            ("n2", Some("10.244.2.0/24"), Some("192.168.0.2")),
            ("n3", None, Some("192.168.0.3")),
            ("n4", Some("10.244.4.0/24"), None),
        ] {
            assignments.nodes.insert(name.to_owned(), node(range, address));
        }
        let expected = Peer {
            underlay: "192.168.0.2".parse().unwrap(),
            subnet: "10.244.2.0/24".parse().unwrap(),
        };
        assert_eq!(peers(&assignments, "n1"), [expected]);
        assert_eq!(own_range(&assignments, "n1"), "10.244.1.0/24".parse().ok());
        assert_eq!(own_range(&assignments, "n3"), None);
    }

    #[test]
    fn interface_names_fit_and_differ() {
        let names = ["a", "b", "0b5e7a4e-8f0e-4f0e-9f0e-0b5e7a4e8f0e"].map(interface_name);
        assert!(names.iter().all(|name| name.len() <= 15));
        assert!(names[0] != names[1] && names[1] != names[2]);
    }
}
