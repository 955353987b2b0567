//! The links, addresses and routes of one network namespace, for callers that are async.

use crate::wires::Wires;
use crate::{
    Attached, Attachment, Bridge, HostAddress, Link, MachineLink, NetworkError, Peer, PeerChange,
    Result, Route, Vxlan,
};
use ipnet::Ipv4Net;
use std::sync::Arc;

/// The links of the network namespace in which it was made, whatever thread calls it. Cheap to clone. Every
/// link it makes carries its owner's name, so that [`Network::cleanup`] finds exactly those again.
///
/// The kernel answers while it is asked, yet waits for one lock of all namespaces: so each call runs on the
/// runtime's pool for blocking work.
#[derive(Debug, Clone)]
pub struct Network(Arc<Wires>);

impl Network {
    /// Opens the calling thread's namespace. `owner` (1 to 40 letters, digits, `-`) marks the links made:
    /// two owners in one namespace (a node, the local machines' switch) do not touch each other's.
    pub fn new(owner: &str) -> Result<Self> {
        Ok(Self(Arc::new(Wires::new(owner)?)))
    }

    /// Makes the bridge, or changes it into what is asked; up, with its address.
    pub async fn ensure_bridge(&self, bridge: Bridge) -> Result<()> {
        self.run("make a bridge", move |wires| wires.ensure_bridge(&bridge)).await
    }

    /// Makes the VXLAN device, or makes it anew where it differs (its peers are lost with it then).
    pub async fn ensure_vxlan(&self, vxlan: Vxlan) -> Result<()> {
        self.run("make a VXLAN device", move |wires| wires.ensure_vxlan(&vxlan)).await
    }

    /// Makes the overlay lead to exactly these peers (all other nodes, not this one). What is right already is
    /// not touched.
    pub async fn set_peers(&self, vxlan: &str, peers: Vec<Peer>) -> Result<PeerChange> {
        let vxlan = vxlan.to_owned();
        self.run("set the overlay's peers", move |wires| wires.set_peers(&vxlan, &peers)).await
    }

    /// Lets this namespace forward IPv4 packets, and keeps it from sending redirects to pods.
    pub async fn ensure_forwarding(&self) -> Result<()> {
        self.run("switch forwarding on", Wires::ensure_forwarding).await
    }

    /// A route without gateway through a link. The service range needs one by the bridge: no packet goes out by
    /// it, but without a route the kernel refuses to connect before any rule is asked.
    pub async fn ensure_route(&self, destination: Ipv4Net, link: &str) -> Result<()> {
        let link = link.to_owned();
        self.run("add a route", move |wires| wires.ensure_route(destination, &link)).await
    }

    /// Wires a pod's namespace: loopback up, its address and default route. A host end of that name that is left
    /// over is replaced; after an error nothing is left.
    pub async fn attach(&self, attachment: Attachment) -> Result<()> {
        self.run("attach a namespace", move |wires| wires.attach(&attachment)).await
    }

    /// Wires a local machine's namespace in the same way, with the real prefix.
    pub async fn attach_machine(&self, link: MachineLink) -> Result<()> {
        self.run("attach a machine", move |wires| wires.attach_machine(&link)).await
    }

    /// Removes a link, and with a veth its other end; false: there was none.
    pub async fn detach(&self, host_ifname: &str) -> Result<bool> {
        let name = host_ifname.to_owned();
        self.run("detach a namespace", move |wires| wires.detach(&name)).await
    }

    /// This owner's wires that are plugged in, by what is in the kernel.
    pub async fn attachments(&self) -> Result<Vec<Attached>> {
        self.run("list attachments", Wires::attachments).await
    }

    /// Cuts a link (down) or restores it: a machine whose cable is pulled.
    pub async fn set_up(&self, link: &str, up: bool) -> Result<()> {
        let link = link.to_owned();
        self.run("set a link up or down", move |wires| wires.set_up(&link, up)).await
    }

    /// All links of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>> {
        self.run("list links", Wires::links).await
    }

    /// All unicast IPv4 routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        self.run("list routes", Wires::routes).await
    }

    /// All IPv4 addresses of the namespace, loopback's too.
    pub async fn addresses(&self) -> Result<Vec<HostAddress>> {
        self.run("list addresses", Wires::addresses).await
    }

    /// The address that this machine is best known by: that of its default route, else of its first device.
    pub async fn default_address(&self) -> Result<Option<HostAddress>> {
        self.run("find the default address", Wires::default_address).await
    }

    /// Removes every link of this owner, and with them their addresses, routes and neighbours; answers how many.
    pub async fn cleanup(&self) -> Result<usize> {
        self.run("clean up", Wires::cleanup).await
    }

    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        f: impl FnOnce(&Wires) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let wires = Arc::clone(&self.0);
        blocking(what, move || f(&wires)).await
    }
}

/// Runs `f` on the runtime's pool for blocking work; a panic in it goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(NetworkError::Stopped(what)),
        },
    }
}
