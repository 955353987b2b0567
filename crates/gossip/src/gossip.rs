//! The running member: a handle on the task that owns the protocol, the sockets and the clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::GossipConfig;
use crate::member::{Member, Meta};

/// Why gossip could not start or do as told.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen for gossip on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Name or metadata are empty or too long.
    #[error("invalid gossip configuration: {0}")]
    Config(&'static str),
    /// No such member, or it is this node.
    #[error("no other member is named `{0}`")]
    UnknownMember(String),
    /// Gossip has been stopped.
    #[error("gossip has stopped")]
    Stopped,
}

/// A handle on this node's gossip; clones share it. It runs until the token given at the start is cancelled.
#[derive(Clone)]
pub struct Gossip {
    members: watch::Receiver<Arc<Vec<Member>>>,
    local: SocketAddr,
}

impl Gossip {
    /// Binds UDP and TCP and begins; alone until `join` or until another joins.
    pub async fn start(
        config: GossipConfig,
        shutdown: CancellationToken,
    ) -> Result<Self, GossipError> {
        let _ = (config, shutdown);
        todo!()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Remembers these addresses as seeds and tries them with back-off for as long as this node is alone. Gives how many
    /// answered the first time.
    pub async fn join(&self, seeds: &[SocketAddr]) -> Result<usize, GossipError> {
        let _ = seeds;
        todo!()
    }

    /// All members known, this node included, by name; changes within seconds of the cluster.
    pub fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.members.clone()
    }

    /// Says good-bye: others see this node as left. To be followed by cancelling the token.
    pub async fn leave(&self) -> Result<(), GossipError> {
        todo!()
    }

    /// Changes what this node says about itself.
    pub async fn set_meta(&self, meta: Meta) -> Result<(), GossipError> {
        let _ = meta;
        todo!()
    }

    /// Makes a failed member count as left everywhere. One that is really alive comes back by itself.
    pub async fn force_leave(&self, name: &str) -> Result<(), GossipError> {
        let _ = name;
        todo!()
    }
}
