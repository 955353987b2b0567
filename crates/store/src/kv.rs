//! What is kept and what is told: a key with its value, and the change that made it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One version of one key, as etcd counts: revisions are global and start at 2 for the first write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The value; empty in answers to `keys_only` ranges.
    pub value: Bytes,
    /// The revision at which the key last came into being.
    pub create_revision: u64,
    /// The revision of the write that made this version.
    pub mod_revision: u64,
    /// How many writes since creation, this one included; 1 after creation.
    pub version: u64,
    /// The lease the key is attached to; 0 is none.
    pub lease: i64,
}

impl KeyValue {
    /// About how many bytes it takes in memory, or in an answer.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.key.len() + self.value.len() + NUMBERS
    }
}

/// Bytes of a key besides itself and its value.
pub(crate) const NUMBERS: usize = 64;

/// Whether an [`Event`] is a write or a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted, by a client or because its lease ended.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The new version; for a delete only `key` and `mod_revision` (of the delete) are set.
    pub kv: Arc<KeyValue>,
    /// The version before, where there was one, it is not yet compacted and the watcher asked.
    pub prev: Option<Arc<KeyValue>>,
}

impl Event {
    /// True for a put that brought the key into being.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// The first key after every key that starts with `prefix`: the `end` of a prefix range.
///
/// An empty prefix, or one of only `0xff`, gives `\0`, which means "to the end of the keyspace".
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else {
        return Bytes::from_static(b"\0");
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Bytes::from(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_prefix() {
        assert_eq!(prefix_end(b"/a/"), Bytes::from_static(b"/a0"));
        assert_eq!(prefix_end(b"a\xff\xff"), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(b"\xff"), Bytes::from_static(b"\0"));
        assert_eq!(prefix_end(b""), Bytes::from_static(b"\0"));
    }
}
