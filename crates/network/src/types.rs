//! The links and addresses of a node, as asked for and as found.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// A bridge to be: pods' veths are plugged into it, and its address is their gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Interface name, 1 to 15 bytes.
    pub name: String,
    /// The node's own address on it, with the prefix of the subnet behind it (`10.244.1.1/24`).
    pub address: Ipv4Net,
    /// Largest packet in bytes; pods' veths should get the same.
    pub mtu: u32,
}

/// The VXLAN device of a node: the other end of every remote node's route to this one's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Interface name, 1 to 15 bytes.
    pub name: String,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// This node's underlay address.
    pub local: Ipv4Addr,
    /// UDP port, the same on all nodes (4789).
    pub port: u16,
    /// This node's pod subnet: the device's address is its network address, its MAC follows from it.
    pub subnet: Ipv4Net,
    /// Largest inner packet in bytes: the underlay's less [`Vxlan::OVERHEAD`].
    pub mtu: u32,
}

impl Vxlan {
    /// Bytes that VXLAN over IPv4 adds to a packet.
    pub const OVERHEAD: u32 = 50;
}

/// Another node of the cluster, as the overlay sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// Its underlay address, where its VXLAN packets go.
    pub underlay: Ipv4Addr,
    /// Its pod subnet.
    pub subnet: Ipv4Net,
}

/// What [`crate::Network::set_peers`] had to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerChange {
    /// Peers that are new, or whose underlay address changed.
    pub added: usize,
    /// Peers that are gone.
    pub removed: usize,
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    Veth,
    Vxlan,
    /// A device without a software kind: hardware or virtio, and loopback.
    Device,
    /// Any other software kind, by the kernel's name for it.
    Other(String),
}

/// An interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub mtu: u32,
    /// Set up by its administrator (says nothing of the carrier).
    pub up: bool,
    pub loopback: bool,
    /// Index of the bridge it is plugged into.
    pub master: Option<u32>,
    pub mac: Option<[u8; 6]>,
    /// Free text; ours begins with the owner given to [`crate::Network::new`].
    pub alias: Option<String>,
}

/// A unicast IPv4 route of the main table as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    /// Index of the outgoing interface.
    pub link: u32,
    pub metric: u32,
    /// The source address that the kernel prefers on it.
    pub source: Option<Ipv4Addr>,
}

/// An address of this machine and the interface that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    pub address: Ipv4Net,
    pub link: String,
    /// Largest packet of that interface in bytes.
    pub mtu: u32,
}
