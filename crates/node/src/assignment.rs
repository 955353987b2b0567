//! What a manager tells a node to be: one line for each object that concerns it, a stream that never ends.

pub(crate) mod dispatch;
pub(crate) mod follow;
mod references;
pub(crate) mod remembered;

use pontoon_model::resource::{self, Resource};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gossip_keys::GossipKey;
use crate::identity::Role;
use crate::known::KnownNode;
use crate::membership::ManagerAddress;

/// One line of the stream.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Everything follows from here; what was told before is void once [`Line::Complete`] comes.
    Begin,
    /// An object, new or changed.
    Put { kind: Kind, object: Box<RawValue> },
    /// An object that concerns the node no more.
    Gone { kind: Kind, namespace: Option<String>, name: String },
    /// All objects have been told.
    Complete,
    /// The managers that a node may ask.
    Managers { managers: Vec<ManagerAddress> },
    /// All nodes of the cluster.
    Nodes { nodes: Vec<KnownNode> },
    /// The role that the node is to have.
    Role { role: Role },
    /// The keys that gossip is opened with; the first is the one to seal with.
    Gossip { keys: Vec<GossipKey> },
    /// The stream is alive.
    Ping,
}

/// The resources that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Pod,
    ConfigMap,
    Secret,
    Service,
    Slice,
    Node,
}

impl Kind {
    /// The kind of a resource, if nodes are told of it.
    #[must_use]
    pub fn of(resource: &Resource) -> Option<Self> {
        let table = [
            (resource::PODS, Self::Pod),
            (resource::CONFIG_MAPS, Self::ConfigMap),
            (resource::SECRETS, Self::Secret),
            (resource::SERVICES, Self::Service),
            (resource::ENDPOINT_SLICES, Self::Slice),
            (resource::NODES, Self::Node),
        ];
        let found =
            table.iter().find(|(r, _)| r.plural == resource.plural && r.group == resource.group);
        found.map(|(_, kind)| *kind)
    }
}
