//! What is known about a member.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How a member is seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It answers.
    Alive,
    /// It did not answer somebody, and may still refute that; it counts as alive.
    Suspect,
    /// It was declared dead, and is remembered for three days.
    Failed,
    /// It said good-bye, or was told to leave.
    Left,
}

impl Status {
    /// Lower-case text, as in `pontoon members`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// What a member says about itself; at most 512 bytes of text in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meta {
    /// `manager` or `worker`.
    pub role: String,
    /// The version of its binary.
    pub version: String,
    /// More, by name.
    pub tags: BTreeMap<String, String>,
}

impl Meta {
    /// The most bytes of keys and values together.
    pub const MAX_BYTES: usize = 512;

    /// Bytes of keys and values.
    pub fn len(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.role.len() + self.version.len() + tags
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A member as seen from here, this node included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name, unique in the cluster.
    pub name: String,
    /// Where it listens (UDP and TCP).
    pub address: SocketAddr,
    /// How it is seen.
    pub status: Status,
    /// What it says about itself.
    pub meta: Meta,
    /// Rises with every start, rejoin and change of the member; the higher one is the newer.
    pub incarnation: u64,
    /// When this status began as seen from here: milliseconds since the Unix epoch.
    pub since_ms: u64,
}
