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

use bytes::Bytes;
use uuid::Uuid;

pub(crate) const KV: &str = "/consul/kv/";
pub(crate) const SESSIONS: &str = "/consul/sessions/";
pub(crate) const SESSION_TTL: &str = "/consul/session-ttl/";
pub(crate) const EVENTS: &str = "/consul/events/";
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

pub(crate) fn event(time: u64) -> Bytes {
    Bytes::from(format!("{EVENTS}{time:016x}"))
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
        assert!(lock(id, b"\0\xff/..").starts_with(&locks(id)));
    }
}
