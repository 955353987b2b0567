//! Following changes: what to watch, and the end at which its events arrive.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::WatchError;
use crate::kv::{Event, prefix_end};

/// Which changes to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// The first key.
    pub key: Bytes,
    /// As in [`crate::Range::end`].
    pub end: Option<Bytes>,
    /// The first revision wanted; 0 is "from the next change"; may lie in the future.
    pub start_revision: u64,
    /// Have events carry the version before.
    pub prev_kv: bool,
}

impl WatchRequest {
    /// Follows one key from the next change.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> WatchRequest {
        WatchRequest { key: key.into(), ..WatchRequest::default() }
    }

    /// Follows every key that starts with `prefix` from the next change.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> WatchRequest {
        let key: Bytes = prefix.into();
        let end = Some(prefix_end(&key));
        let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
        WatchRequest { key, end, ..WatchRequest::default() }
    }

    /// The same, from `revision` on.
    #[must_use]
    pub fn from(self, revision: u64) -> WatchRequest {
        WatchRequest { start_revision: revision, ..self }
    }

    /// The same, with the version before in each event.
    #[must_use]
    pub fn with_prev(self) -> WatchRequest {
        WatchRequest { prev_kv: true, ..self }
    }
}

/// All watched changes of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision; batches of one watch have growing revisions.
    pub revision: u64,
    /// The changes, in the order of the transaction; shared by all watchers of the same range.
    pub events: Arc<[Event]>,
}

/// The receiving end of a watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    _private: (),
}

impl Watch {
    /// The next changes; an error once, then `None`, when the watch had to end; `None` also when the
    /// store stops. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        None
    }

    /// Everything up to this revision was delivered by [`Watch::next`], or had nothing to watch.
    #[must_use]
    pub fn progress(&self) -> u64 {
        0
    }
}
