//! What is watched, and which part of a change that is.

use std::sync::Arc;

use bytes::Bytes;

use crate::kv::{Event, prefix_end};
use crate::mvcc::Changes;
use crate::watch::Batch;

/// What a group of watchers watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(super) key: Bytes,
    pub(super) end: Option<Bytes>,
    pub(super) prev_kv: bool,
}

impl Target {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self.end.as_deref() {
            None => key == self.key,
            Some(b"\0") => key >= &self.key[..],
            Some(end) => key >= &self.key[..] && key < end,
        }
    }

    /// The part of a batch that is watched, shared where it can be.
    pub(crate) fn select(&self, batch: &Batch) -> Option<Batch> {
        let hits = batch.events.iter().filter(|event| self.contains(&event.kv.key)).count();
        if hits == 0 {
            return None;
        }
        let strip = !self.prev_kv && batch.events.iter().any(|event| event.prev.is_some());
        if hits == batch.events.len() && !strip {
            return Some(batch.clone());
        }
        let wanted = batch.events.iter().filter(|event| self.contains(&event.kv.key));
        let events: Vec<Event> = wanted
            .map(|event| Event {
                prev: event.prev.clone().filter(|_| self.prev_kv),
                ..event.clone()
            })
            .collect();
        Some(Batch { revision: batch.revision, events: Arc::from(events) })
    }

    /// The same of what the history has.
    pub(crate) fn select_past(&self, changes: &Changes) -> Option<Batch> {
        let is_watched = changes.keys().any(|key| self.contains(key));
        is_watched.then(|| changes.batch()).and_then(|batch| self.select(&batch))
    }

    /// True for a range that is exactly the keys with a common prefix.
    pub(super) fn is_prefix(&self) -> bool {
        self.end.as_deref().is_some_and(|end| end != b"\0" && prefix_end(&self.key) == end)
    }
}
