//! What the SWIM protocol tells members apart by.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One life of a node: its name is what stays, the bump rises with every start and every rejoin. Starts take the time of day
/// in milliseconds, so a restarted node outranks what is remembered of it without having to remember anything itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Id {
    /// Shared, for the protocol asks for it at every comparison.
    pub(crate) name: Arc<str>,
    pub(crate) bump: u64,
    pub(crate) address: SocketAddr,
}

impl Id {
    /// The same node in a life after `bump` and after this one.
    pub(crate) fn after(&self, bump: u64) -> Self {
        Self { bump: self.bump.max(bump).saturating_add(1), ..self.clone() }
    }
}

impl foca::Identity for Id {
    type Addr = Arc<str>;

    fn renew(&self) -> Option<Self> {
        Some(self.after(0))
    }

    fn addr(&self) -> Arc<str> {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.bump, self.address) > (adversary.bump, adversary.address)
    }
}
