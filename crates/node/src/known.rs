//! Which nodes this node deals with: those that the managers told it of. A certificate outlives its node's membership by
//! months; being told does not.

use serde::{Deserialize, Serialize};

use crate::identity::certificate::Peer;
use crate::membership::ManagerAddress;

/// A node of the cluster as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNode {
    pub name: String,
    /// The node's number, which its certificate bears: another had the name before, perhaps.
    pub member: u64,
}

impl KnownNode {
    /// Whether the certificate is this node's.
    #[must_use]
    pub fn is_of(&self, peer: &Peer) -> bool {
        peer.role.is_some() && self.name == peer.name && Some(self.member) == peer.member
    }
}

/// The nodes of the cluster, as last told. Before that only the managers are known, from the disk.
#[derive(Clone, Debug, Default)]
pub struct Known {
    managers: Vec<KnownNode>,
    nodes: Vec<KnownNode>,
}

impl Known {
    /// Takes over who the managers are.
    pub(crate) fn set_managers(&mut self, managers: &[ManagerAddress]) {
        let known = |m: &ManagerAddress| KnownNode { name: m.name.clone(), member: m.member };
        self.managers = managers.iter().map(known).collect();
    }

    /// Takes over who the nodes are.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<KnownNode>) {
        self.nodes = nodes;
    }

    /// The node of this name, and whether it is a manager.
    pub(crate) fn named(&self, name: &str) -> Option<(&KnownNode, bool)> {
        let find = |list: &'_ [KnownNode]| list.iter().position(|node| node.name == name);
        let manager = find(&self.managers).map(|i| (&self.managers[i], true));
        manager.or_else(|| find(&self.nodes).map(|i| (&self.nodes[i], false)))
    }

    /// Whether the certificate is that of a node of the cluster.
    #[must_use]
    pub fn has(&self, peer: &Peer) -> bool {
        self.managers.iter().chain(&self.nodes).any(|node| node.is_of(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    fn peer(name: &str, member: u64) -> Peer {
        let (role, groups) = (Some(Role::Worker), Vec::new());
        Peer { name: name.to_owned(), groups, role, member: Some(member) }
    }

    #[test]
    fn a_certificate_is_good_as_long_as_its_node_is_told() {
        let mut known = Known::default();
        let address = "192.0.2.1:2377".parse().unwrap();
        known.set_managers(&[ManagerAddress { name: "m".to_owned(), member: 1, address }]);
        assert!(known.has(&peer("m", 1)) && !known.has(&peer("w", 2)));
        known.set_nodes(vec![KnownNode { name: "w".to_owned(), member: 2 }]);
        assert!(known.has(&peer("w", 2)));
        assert!(!known.has(&peer("w", 3)), "another had the name before");
        let user = Peer { role: None, ..peer("w", 2) };
        assert!(!known.has(&user), "no node's certificate");
        assert_eq!(known.named("m").map(|(_, manager)| manager), Some(true));
        assert_eq!(known.named("w").map(|(_, manager)| manager), Some(false));
        known.set_nodes(Vec::new());
        assert!(!known.has(&peer("w", 2)), "it was removed");
    }
}
