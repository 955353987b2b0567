//! How a node gossips.

use std::net::SocketAddr;

use crate::member::Meta;

/// How fast failures are seen and how much delay is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// One network: a death is seen by all in about two seconds.
    #[default]
    Lan,
    /// Networks far apart: about fifteen seconds.
    Wan,
}

/// What a node needs to take part.
#[derive(Clone)]
pub struct GossipConfig {
    /// The node's name, unique in the cluster; 1 to 253 bytes.
    pub name: String,
    /// Where others reach it.
    pub advertise: SocketAddr,
    /// Where it listens, UDP and TCP; port 0 takes any one port for both and advertises it.
    pub bind: SocketAddr,
    /// The cluster's gossip key: who does not have it is not heard. It can be changed later.
    pub key: [u8; 32],
    /// What it says about itself.
    pub meta: Meta,
    /// How fast.
    pub profile: Profile,
}

impl std::fmt::Debug for GossipConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipConfig")
            .field("name", &self.name)
            .field("advertise", &self.advertise)
            .field("bind", &self.bind)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
