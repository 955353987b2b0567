//! The kernel's wires: network namespaces, bridges, veth pairs, VXLAN, addresses, routes and nftables,
//! all by netlink from this process. It knows no pod and no service object: addresses in, wires out.
//!
//! A netlink socket belongs for life to the namespace of the thread that opened it. So [`Network`] and
//! [`Tables`] act on the namespace they were made in, whatever thread calls them later; what must happen
//! inside another namespace runs on a short-lived plain thread of its own ([`Netns::run`]).

mod attachment;
mod conntrack;
mod error;
mod mac;
mod netlink;
mod netns;
mod network;
mod nft;
mod rtnl;
mod sysctl;
mod types;
mod wires;

pub use attachment::{Attached, Attachment, MachineLink};
pub use error::NetworkError;
pub use netns::Netns;
pub use network::Network;
pub use nft::{
    Cuts, HostPort, Masquerade, OverlayGuard, Protocol, ServicePortKey, ServiceTable, Synced,
    Tables, VirtualService,
};
pub use types::{Bridge, HostAddress, Link, LinkKind, Peer, PeerChange, Route, Vxlan};

/// What every fallible call of this crate answers.
pub type Result<T, E = NetworkError> = std::result::Result<T, E>;

#[cfg(test)]
mod world;
#[cfg(test)]
mod world_tests;
