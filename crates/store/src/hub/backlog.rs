//! What waits for one watcher, and what all that waits keeps in memory.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use tokio::task::coop::cooperative;

use super::Slack;
use crate::error::WatchError;
use crate::mvcc::Changes;
use crate::watch::Batch;

/// Bytes that a place in a backlog takes, and each event there: its part of a slice that may be the watcher's own.
const PLACE: usize = 96;
const EVENT: usize = 24;
/// Entries of the ledger that may be of batches that nobody waits for any more.
const LEDGER_SLACK: usize = 1024;

/// Bytes that are counted until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Charge {
        all.fetch_add(bytes, Ordering::Relaxed);
        Charge { all: Arc::clone(all), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the backlogs of all watchers keep. Watchers share what they are told, so a batch counts once, however many it
/// waits for.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: Arc<AtomicUsize>,
    limit: usize,
    /// The batches that wait for somebody, by revision; also some that do not any more.
    ledger: BTreeMap<u64, Weak<Charge>>,
    /// Entries of the ledger at which it is looked through.
    look_at: usize,
}

impl Budget {
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that all backlogs keep.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what a revision changed, unless it is counted already.
    pub(super) fn charge(&mut self, revision: u64, weight: usize) -> Arc<Charge> {
        if let Some(charge) = self.ledger.get(&revision).and_then(Weak::upgrade) {
            return charge;
        }
        if self.ledger.len() >= self.look_at {
            self.ledger.retain(|_, charge| charge.strong_count() > 0);
            self.look_at = self.ledger.len() * 2 + LEDGER_SLACK;
        }
        // One that is larger than all that may be kept must still come through, beside others.
        let bytes = weight.min(self.limit / 2);
        let charge = Arc::new(Charge::new(&self.bytes, bytes));
        self.ledger.insert(revision, Arc::downgrade(&charge));
        charge
    }

    /// A batch in a place of its own in a backlog.
    pub(super) fn place(&self, batch: Batch, whole: Arc<Charge>) -> Placed<Batch> {
        let bytes = PLACE + EVENT * batch.events.len();
        Placed { what: batch, _whole: whole, _place: Charge::new(&self.bytes, bytes) }
    }

    /// A part of the history in a place of its own in a backlog.
    pub(super) fn place_past(&mut self, changes: Changes) -> Placed<Changes> {
        let whole = self.charge(changes.revision, changes.weight());
        Placed { what: changes, _whole: whole, _place: Charge::new(&self.bytes, PLACE) }
    }
}

/// What waits for a watcher.
#[derive(Debug)]
pub(super) struct Placed<T> {
    what: T,
    _whole: Arc<Charge>,
    _place: Charge,
}

/// What waits for one watcher: the hub adds, the watcher takes, and the hub takes all of it away when there is too much.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Changes that were applied before it began, as the history has them: not filtered yet, and no copies.
    replay: VecDeque<Placed<Changes>>,
    /// Changes that it is told of.
    told: VecDeque<Placed<Batch>>,
    replay_bytes: usize,
    told_bytes: usize,
    /// Nothing comes any more, and why, where there is more to say than that the store stops.
    ended: Option<Option<WatchError>>,
    /// Of the watcher, while it waits; kept when it no longer polls, for it may only have turned to something else.
    waker: Option<Waker>,
}

impl Inner {
    fn end(&mut self, why: Option<WatchError>) {
        self.ended.get_or_insert(why);
        self.wake();
    }

    fn take(&mut self) -> Option<Next> {
        if let Some(Placed { what: changes, .. }) = self.replay.pop_front() {
            self.replay_bytes -= changes.weight();
            if self.replay.is_empty() {
                self.replay = VecDeque::new();
            }
            return Some(Next::Replayed(changes));
        }
        if let Some(Placed { what: batch, .. }) = self.told.pop_front() {
            self.told_bytes -= batch.weight();
            // What a burst took is not kept for ever.
            if self.told.is_empty() && self.told.capacity() > 64 {
                self.told = VecDeque::new();
            }
            return Some(Next::Told(batch));
        }
        self.ended.clone().map(Next::Ended)
    }

    fn wake(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// What a watcher takes from its backlog.
#[derive(Debug)]
pub(crate) enum Next {
    /// A change from before it began, of which it may be told a part or nothing.
    Replayed(Changes),
    Told(Batch),
    Ended(Option<WatchError>),
}

impl Backlog {
    pub(super) fn new(replay: VecDeque<Placed<Changes>>) -> Backlog {
        let replay_bytes = replay.iter().map(|placed| placed.what.weight()).sum();
        let inner = Inner { replay, replay_bytes, ..Inner::default() };
        Backlog { inner: Mutex::new(inner) }
    }

    /// Adds a batch, or ends if there is no room for it; false if it has ended.
    pub(super) fn push(&self, placed: Placed<Batch>, slack: Slack) -> bool {
        let mut inner = self.lock();
        if inner.ended.is_some() {
            return false;
        }
        let weight = placed.what.weight();
        let fits = inner.told.is_empty() || inner.told_bytes + weight <= slack.bytes;
        if fits && inner.told.len() < slack.batches.max(1) {
            inner.told_bytes += weight;
            inner.told.push_back(placed);
            inner.wake();
        } else {
            inner.end(Some(WatchError::Lagged { resume: placed.what.revision }));
        }
        inner.ended.is_none()
    }

    /// Nothing comes any more; what waits can still be taken.
    pub(super) fn end(&self, why: Option<WatchError>) {
        self.lock().end(why);
    }

    /// Takes away all that waits; the watcher can have it from the history.
    pub(super) fn give_up(&self) {
        let mut inner = self.lock();
        let replayed = inner.replay.front().map(|placed| placed.what.revision);
        let told = inner.told.front().map(|placed| placed.what.revision);
        let Some(resume) = replayed.or(told) else { return };
        let waker = inner.waker.take();
        *inner =
            Inner { ended: Some(Some(WatchError::Lagged { resume })), waker, ..Inner::default() };
        inner.wake();
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.lock();
        inner.replay_bytes + inner.told_bytes
    }

    /// The next change, or the end. Cancel safe.
    pub(crate) async fn next(&self) -> Next {
        // A watcher that always finds something lets others have their turn, as with a channel.
        cooperative(poll_fn(|context| {
            let mut inner = self.lock();
            let next = inner.take();
            if next.is_none() {
                inner.waker = Some(context.waker().clone());
            }
            next.map_or(Poll::Pending, Poll::Ready)
        }))
        .await
    }

    /// True if nothing waits, and something may still come.
    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.lock();
        inner.replay.is_empty() && inner.told.is_empty() && inner.ended.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
