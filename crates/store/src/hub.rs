//! From applied changes to watchers: who wants what, found by key and by prefix, not by asking all.

mod backlog;
mod target;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub(crate) use backlog::{Backlog, Next};
use backlog::{Budget, Charge};
pub(crate) use target::Target;

use crate::error::WatchError;
use crate::mvcc::{Changes, State};
use crate::watch::{Batch, WatchRequest};

/// The part of the budget of all watchers that is free again after some were ended.
const SHED: usize = 4;

#[derive(Debug)]
struct Watcher {
    id: u64,
    /// Changes before this revision are not for it.
    from: u64,
    backlog: Arc<Backlog>,
}

#[derive(Debug)]
struct Group {
    target: Target,
    slack: Slack,
    watchers: Vec<Watcher>,
}

/// How far a watcher may be behind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slack {
    pub(crate) batches: usize,
    /// Unless it is one batch alone.
    pub(crate) bytes: usize,
    /// Bytes that all watchers together may keep.
    pub(crate) together: usize,
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
    /// Of all watchers, also those that have ended and still have something to take; in order, so that a simulated run
    /// repeats itself.
    backlogs: BTreeMap<u64, Arc<Backlog>>,
    budget: Budget,
}

/// A watcher's end.
pub(crate) struct Subscription {
    pub(crate) target: Target,
    pub(crate) group: u64,
    pub(crate) watcher: u64,
    pub(crate) backlog: Arc<Backlog>,
    /// Everything before this revision is done with.
    pub(crate) from: u64,
}

impl Hub {
    /// A hub for a state that is at `revision`.
    pub(crate) fn new(revision: u64) -> Hub {
        Hub { published: AtomicU64::new(revision), ..Hub::default() }
    }

    /// Everything up to this revision has been handed to the watchers' backlogs.
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
        inner.budget.set_limit(slack.together);
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
                .take_while(|changes| changes.revision <= published)
                .filter(|changes| changes.revision >= from);
            // Below the part of the budget that is free after others were ended.
            let bytes = slack.bytes.min(slack.together / SHED);
            let (replay, rest) = take(replay, Slack { bytes, ..slack });
            (from, replay, rest)
        };
        let backlog = inner.backlog(replay);
        let target = Target { key: request.key, end: request.end, prev_kv: request.prev_kv };
        let watcher = inner.new_id();
        inner.backlogs.insert(watcher, Arc::clone(&backlog));
        let mut group = 0;
        if let Some(resume) = rest {
            backlog.end(Some(WatchError::Lagged { resume }));
        } else if self.closed.load(Ordering::Acquire) {
            backlog.end(None);
        } else {
            group = inner.join(
                &target,
                slack,
                Watcher { id: watcher, from, backlog: Arc::clone(&backlog) },
            );
        }
        Ok(Subscription { target, group, watcher, backlog, from })
    }

    /// Removes a watcher.
    pub(crate) fn unsubscribe(&self, group: u64, watcher: u64) {
        let mut inner = self.lock();
        inner.backlogs.remove(&watcher);
        let Some(entry) = inner.groups.get_mut(&group) else { return };
        entry.watchers.retain(|other| other.id != watcher);
        if entry.watchers.is_empty() {
            inner.forget(group);
        }
    }

    /// Hands changes to those who watch them. Called in the order of revisions.
    pub(crate) fn publish(&self, changes: &[Changes]) {
        let Some(last) = changes.last() else { return };
        let mut inner = self.lock();
        for changes in changes {
            inner.publish(changes);
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
            for changes in missed.filter(|changes| changes.revision >= next) {
                inner.publish(changes);
            }
        }
        self.published.fetch_max(state.revision(), Ordering::AcqRel);
    }

    /// Ends all watchers: the store stops.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let inner = std::mem::take(&mut *self.lock());
        inner.backlogs.values().for_each(|backlog| backlog.end(None));
    }

    /// Bytes that the backlogs of all watchers keep.
    #[cfg(test)]
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.lock().budget.bytes()
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

    /// A backlog that begins with `replay`. Others are ended if there would be too much.
    fn backlog(&mut self, replay: VecDeque<Changes>) -> Arc<Backlog> {
        let placed = replay.into_iter().map(|changes| self.budget.place_past(changes)).collect();
        self.shed_if_due();
        Arc::new(Backlog::new(placed))
    }

    /// Puts a watcher into the group of those who watch `target`.
    fn join(&mut self, target: &Target, slack: Slack, watcher: Watcher) -> u64 {
        let id = self.group(target);
        if let Some(group) = self.groups.get_mut(&id) {
            group.slack = slack;
            group.watchers.push(watcher);
        }
        id
    }

    /// The group of those who watch `target`, made if there is none.
    fn group(&mut self, target: &Target) -> u64 {
        if let Some(id) = self.by_target.get(target) {
            return *id;
        }
        let id = self.new_id();
        let slack = Slack::default();
        self.groups.insert(id, Group { target: target.clone(), slack, watchers: Vec::new() });
        self.by_target.insert(target.clone(), id);
        match &target.end {
            None => self.by_key.entry(target.key.clone()).or_default().push(id),
            Some(_) if target.is_prefix() => {
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
        } else if target.is_prefix() {
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

    fn publish(&mut self, changes: &Changes) {
        if self.groups.is_empty() {
            return;
        }
        let mut interested = Vec::new();
        for key in changes.keys() {
            self.find(key, &mut interested);
        }
        interested.sort_unstable();
        interested.dedup();
        if interested.is_empty() {
            return;
        }
        let batch = changes.batch();
        let charge = self.budget.charge(batch.revision, batch.weight());
        for id in interested {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.publish(&batch, &charge, &self.budget);
            if group.watchers.is_empty() {
                self.forget(id);
            }
        }
        drop(charge);
        self.shed_if_due();
    }

    /// If all watchers together keep too much, takes their backlogs from those that keep most, until a part of the budget
    /// is free: not one watcher for each change from here on.
    fn shed_if_due(&self) {
        let limit = self.budget.limit();
        if self.budget.bytes() <= limit {
            return;
        }
        let mut backlogs: Vec<_> =
            self.backlogs.values().map(|backlog| (backlog.bytes(), backlog)).collect();
        backlogs.sort_by_key(|(bytes, _)| Reverse(*bytes));
        let mut ended = 0;
        for (_, backlog) in backlogs {
            if self.budget.bytes() <= limit - limit / SHED {
                break;
            }
            backlog.give_up();
            ended += 1;
        }
        tracing::debug!(ended, limit, "watchers that are behind keep too much together");
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
                    watcher.backlog.end(Some(WatchError::Compacted { compact_revision }));
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
    fn publish(&mut self, batch: &Batch, charge: &Arc<Charge>, budget: &Budget) {
        let Some(selected) = self.target.select(batch) else { return };
        self.watchers.retain(|watcher| {
            let placed = || budget.place(selected.clone(), Arc::clone(charge));
            batch.revision < watcher.from || watcher.backlog.push(placed(), self.slack)
        });
    }
}

/// The first batches, as many as the slack allows but at least one, and the revision of the next.
fn take<'b>(
    history: impl Iterator<Item = &'b Changes>,
    slack: Slack,
) -> (VecDeque<Changes>, Option<u64>) {
    let mut taken = VecDeque::new();
    let mut bytes = 0_usize;
    for changes in history {
        bytes = bytes.saturating_add(changes.weight());
        if !taken.is_empty() && (taken.len() >= slack.batches || bytes > slack.bytes) {
            return (taken, Some(changes.revision));
        }
        taken.push_back(changes.clone());
    }
    (taken, None)
}

fn remove_from(index: &mut HashMap<Bytes, Vec<u64>>, key: &Bytes, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
