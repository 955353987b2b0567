//! One namespace plugged into a bridge by a veth pair: a pod's, or a local machine's.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A pod's wire to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's network namespace: `/proc/<pid>/ns/net` or a file that one is bound to.
    pub netns: PathBuf,
    /// Name of the host's end, 1 to 15 bytes and unique on the host.
    pub host_ifname: String,
    /// Name of the pod's end, `eth0`.
    pub ifname: String,
    /// The pod's address. It is set as a /32 whatever the prefix: all traffic, to a neighbour on the same
    /// bridge too, goes by the gateway, so that the node's address translation sees both directions.
    pub address: Ipv4Net,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The bridge that takes the host's end.
    pub bridge: String,
    /// Free text given back by [`crate::Network::attachments`], at most 200 bytes (a pod's uid).
    pub tag: String,
}

/// An attachment found on the host, for recovery after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub host_ifname: String,
    pub tag: String,
}

/// A local machine's wire to be: it looks like a network card on a switch, with the real prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineLink {
    /// The machine's network namespace: `/proc/<pid>/ns/net` or a file that one is bound to.
    pub netns: PathBuf,
    /// Name of the host's end, 1 to 15 bytes and unique on the host.
    pub host_ifname: String,
    /// Name of the machine's end, `eth0`.
    pub ifname: String,
    /// The machine's address with the prefix of the bridge's subnet.
    pub address: Ipv4Net,
    /// Its default route, if it shall have one.
    pub gateway: Option<Ipv4Addr>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The bridge that takes the host's end.
    pub bridge: String,
}
