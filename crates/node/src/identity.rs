//! Who a node is: the cluster's certificate authority, a node's own certificate, and the tokens that
//! let a new node ask for one.

pub(crate) mod authority;
pub(crate) mod certificate;
pub(crate) mod token;

use std::fmt;

/// What a node may do in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds the replicated state, serves the APIs, and runs pods.
    Manager,
    /// Runs pods only.
    Worker,
}

impl Role {
    /// The organizational unit that a node certificate of this role carries.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Manager => "pontoon-manager",
            Self::Worker => "pontoon-worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        })
    }
}

/// The DNS name that every manager's certificate carries, so that a node may verify "a manager" by
/// the ordinary rules of TLS without knowing which.
pub(crate) const ANY_MANAGER: &str = "manager.pontoon.internal";

/// The DNS name that only this node's certificate carries.
#[must_use]
pub(crate) fn node_dns_name(node: &str) -> String {
    format!("{node}.node.pontoon.internal")
}
