//! Where in the store everything of Consul's is.
//!
//! | key | holds |
//! |---|---|
//! | `/consul/kv/KEY` | an entry; `KEY` as raw bytes |
//! | `/consul/sessions/ID` | a session |
//! | `/consul/session-ttl/ID` | nothing; it lives as long as the session's lease |
//! | `/consul/locks/ID/KEY` | nothing; the session holds the key |
//! | `/consul/events/TIME` | an event; `TIME` counts events, in 16 hexadecimal digits |
//! | `/consul/lock-delay/KEY` | nothing; while it is there the key cannot be acquired |
//! | `/consul/queries/ID` | a prepared query |
//! | `/consul/catalog/nodes/NODE` | a node that somebody registered; names and ids are in lower case |
//! | `/consul/catalog/services/NODE` NUL `ID` | a service |
//! | `/consul/catalog/checks/NODE` NUL `ID` | a check |
//! | `/consul/catalog/coordinates/NODE` | where a node is in the network |
//! | `/consul/check-times/ttl/NODE` NUL `ID` | nothing; it lives as long as nobody must tell how the check is |
//! | `/consul/check-times/critical/NODE` NUL `ID` | nothing; the check's service lives as long, while it is critical |
//! | `/consul/acl/mark` | nothing; it is written whenever something of access control is |
//! | `/consul/acl/bootstrap` | nothing; the first token was given out |
//! | `/consul/acl/tokens/ID`, `policies/ID`, `roles/ID` | a token, by its accessor; a policy; a role |
//! | `/consul/acl/secrets/HASH` | the accessor of the token whose secret has this hash |
//! | `/consul/acl/expirations/TIME/ID` | nothing; when a token ends, in milliseconds, in 16 hexadecimal digits |

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The prefix of everything.
pub(crate) const ALL: &str = "/consul/";
pub(crate) const KV: &str = "/consul/kv/";
pub(crate) const SESSIONS: &str = "/consul/sessions/";
pub(crate) const SESSION_TTL: &str = "/consul/session-ttl/";
/// The prefix of the whole catalog.
pub(crate) const CATALOG: &str = "/consul/catalog/";
/// The prefix of all that ends with a check's time.
pub(crate) const CHECK_TIMES: &str = "/consul/check-times/";
pub(crate) const QUERIES: &str = "/consul/queries/";
/// The prefix of what access control is decided by.
pub(crate) const ACL: &str = "/consul/acl/";
pub(crate) const EVENTS: &str = "/consul/events/";
/// Changes whenever anything of access control does.
pub(crate) const ACL_MARK: &str = "/consul/acl/mark";
pub(crate) const ACL_BOOTSTRAP: &str = "/consul/acl/bootstrap";
pub(crate) const ACL_TOKENS: &str = "/consul/acl/tokens/";
pub(crate) const ACL_POLICIES: &str = "/consul/acl/policies/";
pub(crate) const ACL_ROLES: &str = "/consul/acl/roles/";
pub(crate) const ACL_EXPIRATIONS: &str = "/consul/acl/expirations/";
const ACL_SECRETS: &str = "/consul/acl/secrets/";
const LOCKS: &str = "/consul/locks/";
const LOCK_DELAY: &str = "/consul/lock-delay/";

pub(crate) fn kv(key: &[u8]) -> Bytes {
    join(KV, key)
}

pub(crate) fn session(id: Uuid) -> Bytes {
    Bytes::from(format!("{SESSIONS}{id}"))
}

pub(crate) fn session_ttl(id: Uuid) -> Bytes {
    Bytes::from(format!("{SESSION_TTL}{id}"))
}

/// The prefix of all that a session holds.
pub(crate) fn locks(id: Uuid) -> Bytes {
    Bytes::from(format!("{LOCKS}{id}/"))
}

pub(crate) fn lock(id: Uuid, key: &[u8]) -> Bytes {
    let mut path = locks(id).to_vec();
    path.extend_from_slice(key);
    Bytes::from(path)
}

pub(crate) fn lock_delay(key: &[u8]) -> Bytes {
    join(LOCK_DELAY, key)
}

pub(crate) fn query(id: Uuid) -> Bytes {
    Bytes::from(format!("{QUERIES}{id}"))
}

pub(crate) fn event(time: u64) -> Bytes {
    Bytes::from(format!("{EVENTS}{time:016x}"))
}

/// Where the accessor of a secret is. The secret itself is in no key: keys are shown where values are not.
pub(crate) fn acl_secret(secret: &str) -> Bytes {
    let hash = Sha256::digest(secret.as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Bytes::from(format!("{ACL_SECRETS}{digits}"))
}

/// Where it stands that a token ends then.
pub(crate) fn acl_expiration(time_ms: u64, accessor: Uuid) -> Bytes {
    Bytes::from(format!("{ACL_EXPIRATIONS}{time_ms:016x}/{accessor}"))
}

/// The time and the token of such a key.
pub(crate) fn parse_acl_expiration(key: &[u8]) -> Option<(u64, Uuid)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ACL_EXPIRATIONS)?;
    let (time, accessor) = rest.split_once('/')?;
    Some((u64::from_str_radix(time, 16).ok()?, Uuid::try_parse(accessor).ok()?))
}

/// What a key of the catalog names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogKey {
    Node(String),
    /// Node and id.
    Service(String, String),
    Check(String, String),
    Coordinate(String),
}

impl CatalogKey {
    /// Reads what follows [`CATALOG`]; none if it is not one of ours.
    pub(crate) fn parse(rest: &[u8]) -> Option<CatalogKey> {
        let (kind, name) = std::str::from_utf8(rest).ok()?.split_once('/')?;
        let pair = || name.split_once('\0').map(|(node, id)| (node.to_owned(), id.to_owned()));
        match kind {
            "nodes" => Some(CatalogKey::Node(name.to_owned())),
            "services" => pair().map(|(node, id)| CatalogKey::Service(node, id)),
            "checks" => pair().map(|(node, id)| CatalogKey::Check(node, id)),
            "coordinates" => Some(CatalogKey::Coordinate(name.to_owned())),
            _ => None,
        }
    }
}

pub(crate) fn catalog_node(node: &str) -> Bytes {
    Bytes::from(format!("{CATALOG}nodes/{}", node.to_lowercase()))
}

pub(crate) fn coordinate(node: &str) -> Bytes {
    Bytes::from(format!("{CATALOG}coordinates/{}", node.to_lowercase()))
}

pub(crate) fn catalog_service(node: &str, id: &str) -> Bytes {
    on_node(CATALOG, "services", node, id)
}

pub(crate) fn catalog_check(node: &str, id: &str) -> Bytes {
    on_node(CATALOG, "checks", node, id)
}

/// The prefixes of a node's services and of its checks.
pub(crate) fn of_node(node: &str) -> [Bytes; 2] {
    [catalog_service(node, ""), catalog_check(node, "")]
}

pub(crate) fn check_ttl(node: &str, id: &str) -> Bytes {
    on_node(CHECK_TIMES, "ttl", node, id)
}

pub(crate) fn check_critical(node: &str, id: &str) -> Bytes {
    on_node(CHECK_TIMES, "critical", node, id)
}

fn on_node(prefix: &str, kind: &str, node: &str, id: &str) -> Bytes {
    Bytes::from(format!("{prefix}{kind}/{}\0{}", node.to_lowercase(), id.to_lowercase()))
}

/// A session's id as Consul reads it, which is in the usual form alone; or what Consul says of another.
pub(crate) fn parse_session_id(text: &str) -> Result<Uuid, String> {
    let bad = |why: &str| format!("failed session lookup: index error: {why}");
    if text.len() != 36 {
        return Err(bad("UUID must be 36 characters"));
    }
    Uuid::try_parse(text).map_err(|error| bad(&format!("Invalid UUID: {error}")))
}

/// The id that ends the key of a session or of its lease.
pub(crate) fn session_id(key: &[u8]) -> Option<Uuid> {
    let at = key.iter().rposition(|byte| *byte == b'/')?;
    Uuid::try_parse_ascii(&key[at + 1..]).ok()
}

fn join(prefix: &str, key: &[u8]) -> Bytes {
    let mut path = Vec::with_capacity(prefix.len() + key.len());
    path.extend_from_slice(prefix.as_bytes());
    path.extend_from_slice(key);
    Bytes::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        let id = Uuid::from_u128(7);
        assert_eq!(session_id(&session(id)), Some(id));
        assert_eq!(session_id(&session_ttl(id)), Some(id));
        assert_eq!(session_id(b"/consul/sessions/x"), None);
        assert_eq!(parse_session_id(&id.to_string()), Ok(id));
        for bad in [id.simple().to_string(), id.braced().to_string(), "x".repeat(36)] {
            assert!(parse_session_id(&bad).is_err(), "{bad}");
        }
        let service = catalog_service("One", "Web/1");
        let parsed = CatalogKey::parse(&service[CATALOG.len()..]);
        assert_eq!(parsed, Some(CatalogKey::Service("one".to_owned(), "web/1".to_owned())));
        assert_eq!(CatalogKey::parse(b"others/x"), None);
        assert_eq!(parse_acl_expiration(&acl_expiration(77, id)), Some((77, id)));
        assert_eq!(parse_acl_expiration(b"/consul/acl/expirations/x"), None);
        assert!(lock(id, b"\0\xff/..").starts_with(&locks(id)));
    }
}
