//! What was changed since the last compaction, as the state remembers it.

use std::sync::Arc;

use bytes::Bytes;

use super::packed::{Key, Packed};
use super::slot::Version;
use crate::kv::{Event, EventKind, KeyValue};
use crate::watch::{Batch, EVENT};

/// The changes of one revision. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    pub(crate) revision: u64,
    list: Arc<[Change]>,
}

/// One change of one key.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) now: Version,
    /// The version before this revision.
    pub(super) before: Option<Packed>,
}

impl Changes {
    pub(super) fn new(revision: u64, list: Vec<Change>) -> Changes {
        Changes { revision, list: Arc::from(list) }
    }

    /// The keys that were changed, in the order of the transaction.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.list.iter().map(|change| &*change.key)
    }

    /// The changes as watchers are told of them.
    pub(crate) fn batch(&self) -> Batch {
        let events = self.list.iter().map(|change| change.event(self.revision));
        Batch { revision: self.revision, events: events.collect() }
    }

    /// As [`Batch::weight`].
    pub(crate) fn weight(&self) -> usize {
        self.list.iter().map(Change::weight).sum()
    }
}

impl Change {
    fn event(&self, revision: u64) -> Event {
        let prev = self.before.as_ref().map(|packed| packed.key_value(&self.key));
        match &self.now {
            Version::Live(packed) => {
                Event { kind: EventKind::Put, kv: packed.key_value(&self.key), prev }
            }
            Version::Gone(_) => {
                let kv = KeyValue {
                    key: Bytes::copy_from_slice(&self.key),
                    value: Bytes::new(),
                    create_revision: 0,
                    mod_revision: revision,
                    version: 0,
                    lease: 0,
                };
                Event { kind: EventKind::Delete, kv: Arc::new(kv), prev }
            }
        }
    }

    fn weight(&self) -> usize {
        let one = |version: Option<&Packed>| {
            self.key.len() + version.map_or(0, |version| version.value().len()) + EVENT
        };
        let before = self.before.as_ref().map_or(0, |version| one(Some(version)));
        one(self.now.live()) + before
    }
}
