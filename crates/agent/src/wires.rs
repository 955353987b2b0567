//! What a pod needs of the node's network, as a trait, so that a pod's life can be tested without one.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use async_trait::async_trait;
use pontoon_network::NetworkError;
use thiserror::Error;

use crate::ipam::IpamError;

/// Why a pod is not connected.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("the node has no pod range yet")]
    NoRange,
    #[error(transparent)]
    Address(#[from] IpamError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Gives pods addresses and connects them.
#[async_trait]
pub(crate) trait Wires: Send + Sync + 'static {
    /// The bridge's address, where the node's name server is; `None` until the node has a range.
    fn gateway(&self) -> Option<Ipv4Addr>;
    /// The pod's address: the one it has, or a free one.
    fn allocate(&self, uid: &str) -> Result<Ipv4Addr, WireError>;
    /// Connects the pod.
    async fn attach(&self, netns: PathBuf, uid: &str, ip: Ipv4Addr) -> Result<(), WireError>;
    /// Disconnects the pod and takes back its address.
    async fn detach(&self, uid: &str);
}
