//! What a watcher must see: every committed change once, in order, with nothing left out but what it was
//! told to be compacted.

use std::collections::{BTreeMap, BTreeSet};

use crate::op::{Call, Effect, History, Op};

/// One change that a watcher was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// Its revision.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// The value that was written; `None` for a delete.
    pub value: Option<u64>,
}

/// All that one watcher saw, over all its connections.
#[derive(Clone, Debug, Default)]
pub struct WatchLog {
    /// What the keys begin with that it watches.
    pub prefix: String,
    /// Others write keys that it does not watch, so that revisions may be missing.
    pub among_others: bool,
    /// The first revision it asked for.
    pub from: u64,
    /// What it was told, in the order in which it was told.
    pub events: Vec<WatchEvent>,
    /// Revisions that it was told to be gone: after the first number, before the second.
    pub compacted: Vec<(u64, u64)>,
    /// It was told everything up to this revision.
    pub upto: u64,
}

/// Checks what a watcher saw.
///
/// # Errors
/// The first anomaly, in words.
pub fn check_watch(history: &History, watch: &WatchLog) -> Result<(), String> {
    let mut by_revision: BTreeMap<u64, Vec<&WatchEvent>> = BTreeMap::new();
    let mut last = watch.from.saturating_sub(1);
    for event in &watch.events {
        if event.revision < last || event.revision < watch.from {
            return Err(format!("a watcher saw revision {last} and then {event:?}"));
        }
        let same = by_revision.entry(event.revision).or_default();
        if same.iter().any(|other| other.key == event.key) {
            return Err(format!("a watcher saw this twice: {event:?}"));
        }
        same.push(event);
        last = event.revision;
    }
    let excused = |revision: u64| {
        watch.compacted.iter().any(|(after, before)| revision > *after && revision < *before)
    };
    for revision in watch.from.max(2)..=watch.upto.min(last) {
        if !watch.among_others && !by_revision.contains_key(&revision) && !excused(revision) {
            return Err(format!("a watcher was not told of revision {revision}"));
        }
    }
    nothing_is_invented(history, watch)?;
    for operation in &history.operations {
        let Some(revision) = operation.wrote_at() else { continue };
        if revision < watch.from || revision > watch.upto || excused(revision) {
            continue;
        }
        let told = by_revision.get(&revision).map_or(&[][..], Vec::as_slice);
        let mut wanted = 0;
        for (op, effect) in operation.effects() {
            let (key, value) = match (op, effect) {
                (Op::Put(key, value, _), _) => (key, Some(*value)),
                (Op::Delete(key), Effect::Deleted(1)) => (key, None),
                _ => continue,
            };
            if !key.starts_with(&watch.prefix) {
                continue;
            }
            wanted += 1;
            if !told.iter().any(|event| event.key == *key && event.value == value) {
                return Err(format!("a watcher was told {told:?} of {operation:?}"));
            }
        }
        if told.len() != wanted {
            return Err(format!("a watcher was told too much, {told:?}, of {operation:?}"));
        }
    }
    Ok(())
}

/// Each value that was told was asked to be written, to this key; it was told once, for it was written once; and
/// it has the revision that readers and its writer know.
fn nothing_is_invented(history: &History, watch: &WatchLog) -> Result<(), String> {
    let mut asked: BTreeSet<(&str, u64)> = BTreeSet::new();
    for operation in &history.operations {
        let Call::Txn(_, then, otherwise) = &operation.call else { continue };
        asked.extend(then.iter().chain(otherwise).filter_map(|op| match op {
            Op::Put(key, value, _) => Some((key.as_str(), *value)),
            _ => None,
        }));
    }
    let written = history.written();
    let mut told = BTreeSet::new();
    for event in &watch.events {
        let Some(value) = event.value else { continue };
        if !asked.contains(&(event.key.as_str(), value)) {
            return Err(format!("a watcher was told what nobody wrote: {event:?}"));
        }
        if !told.insert(value) {
            return Err(format!("a watcher was told twice of one write: {event:?}"));
        }
        if let Some(revision) = written.get(&value)
            && *revision != event.revision
        {
            return Err(format!("a watcher was told {event:?}, which was written at {revision}"));
        }
    }
    Ok(())
}

/// Checks that watchers were told the same of the revisions and keys that two of them cover.
///
/// # Errors
/// The first revision on which two differ.
pub fn check_agreement(watches: &[WatchLog]) -> Result<(), String> {
    for (number, one) in watches.iter().enumerate() {
        for other in &watches[number + 1..] {
            let [mine, theirs] = [one.shared(other), other.shared(one)];
            if let Some((this, that)) = mine.iter().zip(&theirs).find(|(this, that)| this != that) {
                return Err(format!("one watcher was told {this:?}, another {that:?}"));
            }
            if mine.len() != theirs.len() {
                let longer = if mine.len() > theirs.len() { &mine } else { &theirs };
                let missing = longer[mine.len().min(theirs.len())];
                return Err(format!("one watcher was told {missing:?}, another not"));
            }
        }
    }
    Ok(())
}

impl WatchLog {
    /// Its events, in order, that the other must have been told, too.
    fn shared<'w>(&'w self, other: &WatchLog) -> Vec<&'w WatchEvent> {
        let covers = |event: &&WatchEvent| {
            let spared =
                |(after, before): &(u64, u64)| event.revision > *after && event.revision < *before;
            event.revision >= other.from
                && event.revision <= other.upto
                && event.revision <= self.upto
                && event.key.starts_with(&other.prefix)
                && !self.compacted.iter().chain(&other.compacted).any(spared)
        };
        let mut shared: Vec<&WatchEvent> = self.events.iter().filter(covers).collect();
        // Changes of one revision have no order among themselves.
        shared.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
        shared
    }
}
