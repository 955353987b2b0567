//! From applied changes to watchers: who wants what, found by key and by prefix, not by asking all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::error::WatchError;
use crate::kv::{Event, prefix_end};
use crate::mvcc::State;
use crate::watch::{Batch, WatchRequest};

/// What a group of watchers watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    key: Bytes,
    end: Option<Bytes>,
    prev_kv: bool,
}

impl Target {
    fn contains(&self, key: &[u8]) -> bool {
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
}

/// Why a watcher was ended, told apart from its queue so that what is queued is still delivered.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    ended: Mutex<Option<WatchError>>,
}

impl Fate {
    fn set(&self, error: WatchError) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn take(&self) -> Option<WatchError> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    /// Changes before this revision are not for it.
    from: u64,
    queue: Sender<Batch>,
    /// Bytes in the queue.
    backlog: Arc<AtomicUsize>,
    fate: Arc<Fate>,
}

#[derive(Debug)]
struct Group {
    target: Target,
    /// Bytes that may be in a watcher's queue, unless it is one batch alone.
    slack: usize,
    watchers: Vec<Watcher>,
}

/// How far a watcher may be behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slack {
    pub(crate) batches: usize,
    pub(crate) bytes: usize,
}

/// All watchers of a store.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    published: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    groups: HashMap<u64, Group>,
    by_target: HashMap<Target, u64>,
    /// Groups that watch one key.
    by_key: HashMap<Bytes, Vec<u64>>,
    /// Groups that watch a prefix, and how many prefixes of each length there are.
    by_prefix: HashMap<Bytes, Vec<u64>>,
    prefix_lengths: BTreeMap<usize, usize>,
    /// Groups that watch some other range.
    others: Vec<u64>,
    next_id: u64,
}

/// A watcher's end: what it gets first, and then what comes.
pub(crate) struct Subscription {
    pub(crate) target: Target,
    pub(crate) group: u64,
    pub(crate) watcher: u64,
    /// Changes that were applied before it began; not filtered yet.
    pub(crate) replay: VecDeque<Batch>,
    pub(crate) queue: Receiver<Batch>,
    /// Bytes in `queue`.
    pub(crate) backlog: Arc<AtomicUsize>,
    pub(crate) fate: Arc<Fate>,
    /// Everything before this revision is done with.
    pub(crate) from: u64,
}

impl Hub {
    /// A hub for a state that is at `revision`.
    pub(crate) fn new(revision: u64) -> Hub {
        Hub { published: AtomicU64::new(revision), ..Hub::default() }
    }

    /// Everything up to this revision has been handed to the watchers' queues.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Adds a watcher. `read` is called with the hub held still, so nothing is missed or doubled.
    ///
    /// What was applied before is a part of the slack: if there is more, the watcher gets so much
    /// and is ended with `Lagged`, as one that is slow.
    pub(crate) fn subscribe<'s, S>(
        &self,
        request: WatchRequest,
        slack: Slack,
        read: impl FnOnce() -> S,
    ) -> Result<Subscription, WatchError>
    where
        S: std::ops::Deref<Target = State> + 's,
    {
        let mut inner = self.lock();
        let published = self.published();
        let (from, replay, rest) = {
            let state = read();
            // What was applied before "now" is not wanted, even if it is not published yet.
            let from = match request.start_revision {
                0 => state.revision() + 1,
                revision => revision,
            };
            let history = state
                .history_from(from)
                .ok_or(WatchError::Compacted { compact_revision: state.compact_revision() })?;
            let replay = history
                .take_while(|batch| batch.revision <= published)
                .filter(|batch| batch.revision >= from);
            let (replay, rest) = take(replay, slack);
            (from, replay, rest)
        };
        let target = Target { key: request.key, end: request.end, prev_kv: request.prev_kv };
        let (sender, queue) = mpsc::channel(slack.batches.max(1));
        let fate = Arc::new(Fate::default());
        let backlog = Arc::new(AtomicUsize::new(0));
        let watcher = inner.new_id();
        let group = match rest {
            Some(resume) => {
                fate.set(WatchError::Lagged { resume });
                None
            }
            None if self.closed.load(Ordering::Acquire) => None,
            None => Some(inner.group(&target)),
        };
        if let Some(group) = group.and_then(|id| inner.groups.get_mut(&id)) {
            group.slack = slack.bytes;
            let (fate, backlog) = (Arc::clone(&fate), Arc::clone(&backlog));
            group.watchers.push(Watcher { id: watcher, from, queue: sender, backlog, fate });
        }
        let group = group.unwrap_or(0);
        Ok(Subscription { target, group, watcher, replay, queue, backlog, fate, from })
    }

    /// Removes a watcher.
    pub(crate) fn unsubscribe(&self, group: u64, watcher: u64) {
        let mut inner = self.lock();
        let Some(entry) = inner.groups.get_mut(&group) else { return };
        entry.watchers.retain(|other| other.id != watcher);
        if entry.watchers.is_empty() {
            inner.forget(group);
        }
    }

    /// Hands changes to those who watch them. Called in the order of revisions.
    pub(crate) fn publish(&self, batches: &[Batch]) {
        let Some(last) = batches.last() else { return };
        let mut inner = self.lock();
        for batch in batches {
            inner.publish(batch);
        }
        self.published.store(last.revision, Ordering::Release);
    }

    /// The state was replaced by a newer one: tells watchers what lies between, or that it is gone.
    /// `read` is called with the hub held still, as everywhere: first the hub, then the state.
    pub(crate) fn replaced<'s, S>(&self, read: impl FnOnce() -> S)
    where
        S: std::ops::Deref<Target = State> + 's,
    {
        let mut inner = self.lock();
        let state = read();
        let next = self.published() + 1;
        let compact_revision = state.compact_revision();
        if next < compact_revision {
            inner.end_those_before(compact_revision);
        }
        if let Some(missed) = state.history_from(next.max(compact_revision)) {
            for batch in missed.filter(|batch| batch.revision >= next) {
                inner.publish(batch);
            }
        }
        self.published.fetch_max(state.revision(), Ordering::AcqRel);
    }

    /// Ends all watchers: the store stops.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The group of those who watch `target`, made if there is none.
    fn group(&mut self, target: &Target) -> u64 {
        if let Some(id) = self.by_target.get(target) {
            return *id;
        }
        let id = self.new_id();
        self.groups.insert(id, Group { target: target.clone(), slack: 0, watchers: Vec::new() });
        self.by_target.insert(target.clone(), id);
        match &target.end {
            None => self.by_key.entry(target.key.clone()).or_default().push(id),
            Some(_) if is_prefix(target) => {
                self.by_prefix.entry(target.key.clone()).or_default().push(id);
                *self.prefix_lengths.entry(target.key.len()).or_default() += 1;
            }
            Some(_) => self.others.push(id),
        }
        id
    }

    fn forget(&mut self, id: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        let target = group.target;
        self.by_target.remove(&target);
        if target.end.is_none() {
            remove_from(&mut self.by_key, &target.key, id);
        } else if is_prefix(&target) {
            remove_from(&mut self.by_prefix, &target.key, id);
            if let Some(count) = self.prefix_lengths.get_mut(&target.key.len()) {
                *count -= 1;
                if *count == 0 {
                    self.prefix_lengths.remove(&target.key.len());
                }
            }
        } else {
            self.others.retain(|other| *other != id);
        }
    }

    fn publish(&mut self, batch: &Batch) {
        if self.groups.is_empty() {
            return;
        }
        let mut interested = Vec::new();
        for event in batch.events.iter() {
            self.find(&event.kv.key, &mut interested);
        }
        interested.sort_unstable();
        interested.dedup();
        for id in interested {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.publish(batch);
            if group.watchers.is_empty() {
                self.forget(id);
            }
        }
    }

    fn find(&self, key: &[u8], into: &mut Vec<u64>) {
        into.extend(self.by_key.get(key).into_iter().flatten());
        for length in self.prefix_lengths.range(..=key.len()).map(|(length, _)| *length) {
            into.extend(self.by_prefix.get(&key[..length]).into_iter().flatten());
        }
        let hit = |id: &&u64| self.groups.get(id).is_some_and(|group| group.target.contains(key));
        into.extend(self.others.iter().filter(hit));
    }

    fn end_those_before(&mut self, compact_revision: u64) {
        for group in self.groups.values_mut() {
            group.watchers.retain(|watcher| {
                let keep = watcher.from >= compact_revision;
                if !keep {
                    watcher.fate.set(WatchError::Compacted { compact_revision });
                }
                keep
            });
        }
        let empty: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, group)| group.watchers.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in empty {
            self.forget(id);
        }
    }
}

impl Group {
    fn publish(&mut self, batch: &Batch) {
        let Some(selected) = self.target.select(batch) else { return };
        let (weight, slack) = (selected.weight(), self.slack);
        self.watchers.retain(|watcher| {
            if batch.revision < watcher.from {
                return true;
            }
            let before = watcher.backlog.fetch_add(weight, Ordering::Relaxed);
            let fits = before == 0 || before + weight <= slack;
            match fits.then(|| watcher.queue.try_send(selected.clone())) {
                Some(Ok(())) => return true,
                Some(Err(TrySendError::Closed(_))) => return false,
                Some(Err(TrySendError::Full(_))) | None => {}
            }
            watcher.fate.set(WatchError::Lagged { resume: batch.revision });
            false
        });
    }
}

/// The first batches, as many as the slack allows but at least one, and the revision of the next.
fn take<'b>(
    batches: impl Iterator<Item = &'b Batch>,
    slack: Slack,
) -> (VecDeque<Batch>, Option<u64>) {
    let mut taken = VecDeque::new();
    let mut bytes = 0_usize;
    for batch in batches {
        bytes = bytes.saturating_add(batch.weight());
        if !taken.is_empty() && (taken.len() >= slack.batches || bytes > slack.bytes) {
            return (taken, Some(batch.revision));
        }
        taken.push_back(batch.clone());
    }
    (taken, None)
}

/// True for a range that is exactly the keys with a common prefix.
fn is_prefix(target: &Target) -> bool {
    target.end.as_deref().is_some_and(|end| end != b"\0" && prefix_end(&target.key) == end)
}

fn remove_from(index: &mut HashMap<Bytes, Vec<u64>>, key: &Bytes, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
