//! The links, addresses and routes of one network namespace, for callers that are async.

use crate::{
    Attached, Attachment, Bridge, HostAddress, Link, MachineLink, Netns, NetworkError, Peer,
    PeerChange, Result, Route, Vxlan,
};
use ipnet::Ipv4Net;
use std::sync::Arc;

/// The links of the network namespace in which it was made, whatever thread calls it. Cheap to clone. Every
/// link it makes carries its owner's name, so that [`Network::cleanup`] finds exactly those again.
#[derive(Debug, Clone)]
pub struct Network(Arc<Netns>);

fn pending<T>() -> Result<T> {
    Err(NetworkError::Stopped("interim"))
}

impl Network {
    /// Opens the calling thread's namespace. `owner` (1 to 40 letters, digits, `-`) marks the links made:
    /// two owners in one namespace (a node, the local machines' switch) do not touch each other's.
    pub fn new(owner: &str) -> Result<Self> {
        let _ = owner;
        Ok(Self(Arc::new(Netns::current()?)))
    }
    /// Makes the bridge, or changes it into what is asked; up, with its address.
    pub async fn ensure_bridge(&self, _bridge: Bridge) -> Result<()> {
        pending()
    }
    /// Makes the VXLAN device, or makes it anew where it differs.
    pub async fn ensure_vxlan(&self, _vxlan: Vxlan) -> Result<()> {
        pending()
    }
    /// Makes the overlay lead to exactly these peers.
    pub async fn set_peers(&self, _vxlan: &str, _peers: Vec<Peer>) -> Result<PeerChange> {
        pending()
    }
    /// Lets this namespace forward IPv4 packets.
    pub async fn ensure_forwarding(&self) -> Result<()> {
        pending()
    }
    /// A route without gateway through a link (the service range by the bridge).
    pub async fn ensure_route(&self, _destination: Ipv4Net, _link: &str) -> Result<()> {
        pending()
    }
    /// Wires a pod's namespace. A host end of that name that is left over is replaced.
    pub async fn attach(&self, _attachment: Attachment) -> Result<()> {
        pending()
    }
    /// Wires a local machine's namespace.
    pub async fn attach_machine(&self, _link: MachineLink) -> Result<()> {
        pending()
    }
    /// Removes a link of ours, and with a veth its other end; false: there was none.
    pub async fn detach(&self, _host_ifname: &str) -> Result<bool> {
        pending()
    }
    /// The pods' wires that are plugged in, found by what is in the kernel.
    pub async fn attachments(&self) -> Result<Vec<Attached>> {
        pending()
    }
    /// Cuts a link (down), or restores it: a machine whose cable is pulled.
    pub async fn set_up(&self, _link: &str, _up: bool) -> Result<()> {
        pending()
    }
    /// All links of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>> {
        pending()
    }
    /// All unicast IPv4 routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        pending()
    }
    /// All IPv4 addresses of the namespace, loopback's too.
    pub async fn addresses(&self) -> Result<Vec<HostAddress>> {
        pending()
    }
    /// The address that this machine is best known by: that of its default route, else of its first device.
    pub async fn default_address(&self) -> Result<Option<HostAddress>> {
        pending()
    }
    /// Removes every link of this owner, and with them their addresses, routes and neighbours; answers how many.
    pub async fn cleanup(&self) -> Result<usize> {
        pending()
    }
}
