//! Names that Consul's clients know nodes and services by.

use sha2::{Digest, Sha256};

/// The service that the managers themselves are.
pub(super) const SERVERS: &str = "consul";

/// The id of a node: the same on all managers for as long as the node is a member, and never another node's.
pub(super) fn node_id(cluster: &str, member: u64) -> String {
    uuid(&format!("{cluster}/{member}"))
}

/// The id of a node that is known by gossip alone: it has left.
pub(super) fn former_id(cluster: &str, name: &str) -> String {
    uuid(&format!("{cluster}/former/{name}"))
}

fn uuid(of: &str) -> String {
    let digest = Sha256::digest(of);
    let head = digest.first_chunk::<16>().expect("the digest has 32 bytes");
    uuid::Builder::from_custom_bytes(*head).into_uuid().to_string()
}

/// The name of a Service; `None` if it has none there, for it would be taken for the managers.
pub(super) fn service(namespace: &str, name: &str) -> Option<String> {
    let whole =
        if namespace == "default" { name.to_owned() } else { format!("{name}-{namespace}") };
    (whole != SERVERS).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_part_of_the_name() {
        assert_eq!(service("default", "web").as_deref(), Some("web"));
        assert_eq!(service("shop", "web").as_deref(), Some("web-shop"));
        assert_eq!(service("default", "consul"), None);
    }

    #[test]
    fn ids_are_uuids_of_their_own() {
        let all = [node_id("a", 1), node_id("a", 2), node_id("b", 1), former_id("a", "1")];
        for (i, id) in all.iter().enumerate() {
            assert!(uuid::Uuid::parse_str(id).is_ok());
            assert!(!all[..i].contains(id));
        }
        assert_eq!(node_id("a", 1), all[0]);
    }
}
