//! The wanted state of a node's services: plain data, the same on every call until something changes.

use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// A transport protocol that services speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The name of one port of one service; it names chains, so all three together are under 200 bytes of
/// letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortKey {
    pub namespace: String,
    pub name: String,
    /// The port's name, or its number where it has none.
    pub port: String,
}

impl fmt::Display for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.port)
    }
}

/// One port of a service: a virtual address whose connections go round the backends in strict turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    pub ip: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
    /// The port that every address of the node (but loopback) answers on.
    pub node_port: Option<u16>,
    /// All backends in the order of their turns. None at all: connections are refused.
    pub backends: Vec<SocketAddrV4>,
    /// Those of them that are on this node; read only with `external_local`, and only as far as they are backends.
    pub local_backends: Vec<SocketAddrV4>,
    /// `externalTrafficPolicy: Local`: clients outside the cluster reach, by the node port, only backends on
    /// this node, which see the client's own address; with none here such packets are dropped.
    pub external_local: bool,
    /// `sessionAffinity: ClientIP`: a client address keeps its backend until it was idle for this long (1 s
    /// to 86,400 s).
    pub affinity: Option<Duration>,
}

/// A port of the node that leads to one pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Only this address of the node; none: all of them but loopback.
    pub host_ip: Option<Ipv4Addr>,
    pub protocol: Protocol,
    pub port: u16,
    pub target: SocketAddrV4,
}

/// Everything that a node's tables shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTable {
    /// All pods' addresses. What leaves it is masqueraded; what comes from outside of it to a service too.
    pub cluster_cidr: Ipv4Net,
    /// All services' addresses: what is in it and belongs to no service is refused at once.
    pub service_cidr: Option<Ipv4Net>,
    pub services: BTreeMap<ServicePortKey, VirtualService>,
    pub host_ports: BTreeSet<HostPort>,
}

/// What a [`crate::Tables::sync`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Synced {
    /// Chains and map elements written or removed; 0: nothing had changed.
    pub changes: usize,
    /// Entries that are not served, and why: another one (the first in order) has the same address or port, a host
    /// port asks for a loopback address, a name or time is none that the kernel takes.
    pub not_served: Vec<String>,
    /// Connection-tracking entries of removed backends that were deleted.
    pub connections_forgotten: usize,
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Protocol, ServicePortKey, ServiceTable, VirtualService};
    use std::collections::BTreeSet;
    use std::net::SocketAddrV4;

    pub(in crate::nft) fn key(name: &str) -> ServicePortKey {
        ServicePortKey {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            port: "80".to_owned(),
        }
    }

    pub(in crate::nft) fn service(front: &str, backends: &[&str]) -> VirtualService {
        let front: SocketAddrV4 = front.parse().unwrap();
        VirtualService {
            ip: *front.ip(),
            protocol: Protocol::Tcp,
            port: front.port(),
            node_port: None,
            backends: backends.iter().map(|b| b.parse().unwrap()).collect(),
            local_backends: Vec::new(),
            external_local: false,
            affinity: None,
        }
    }

    pub(in crate::nft) fn table<const N: usize>(
        services: [(&str, VirtualService); N],
    ) -> ServiceTable {
        ServiceTable {
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: Some("10.96.0.0/16".parse().unwrap()),
            services: services.into_iter().map(|(name, service)| (key(name), service)).collect(),
            host_ports: BTreeSet::new(),
        }
    }
}
