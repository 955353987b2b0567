//! Following changes: what to watch, and the end at which its events arrive.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::WatchError;
use crate::hub::{Hub, Next, Subscription};
use crate::kv::{Event, KeyValue, prefix_end};

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

impl Batch {
    /// About how many bytes it keeps in memory.
    pub(crate) fn weight(&self) -> usize {
        let kv = |kv: &KeyValue| kv.key.len() + kv.value.len() + EVENT;
        let event = |event: &Event| kv(&event.kv) + event.prev.as_deref().map_or(0, kv);
        self.events.iter().map(event).sum()
    }
}

/// Bytes of an event besides key and value.
pub(crate) const EVENT: usize = 128;

/// The receiving end of a watch. Dropping it ends the watch.
pub struct Watch {
    subscription: Subscription,
    hub: Arc<Hub>,
    /// The last revision delivered, or passed over in the replay.
    delivered: u64,
    ended: bool,
}

impl Watch {
    /// A watch that began when the state was at `revision` or before.
    pub(crate) fn new(subscription: Subscription, hub: Arc<Hub>, revision: u64) -> Watch {
        // One that begins in the future is as far as the state is: later revisions do not exist yet.
        let delivered = subscription.from.saturating_sub(1).min(revision);
        Watch { subscription, hub, delivered, ended: false }
    }

    /// The next changes; an error once, then `None`, when the watch had to end; `None` also when the
    /// store stops. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        while !self.ended {
            match self.subscription.backlog.next().await {
                Next::Replayed(changes) => {
                    self.delivered = changes.revision;
                    if let Some(selected) = self.subscription.target.select_past(&changes) {
                        return Some(Ok(selected));
                    }
                }
                Next::Told(batch) => {
                    self.delivered = batch.revision;
                    return Some(Ok(batch));
                }
                Next::Ended(why) => {
                    self.ended = true;
                    return why.map(Err);
                }
            }
        }
        None
    }

    /// Every watched change up to this revision was delivered by [`Watch::next`].
    #[must_use]
    pub fn progress(&self) -> u64 {
        // Read before the backlog: what is published later does not count.
        let published = self.hub.published();
        if self.subscription.backlog.is_idle() {
            return self.delivered.max(published);
        }
        self.delivered
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.subscription.group, self.subscription.watcher);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}
