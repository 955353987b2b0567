//! What a watcher must see: every committed change once, in order, with nothing left out but what it was
//! told to be compacted.

use std::collections::BTreeMap;

use crate::op::{Effect, History, Op};

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

/// All that one watcher of all keys saw, over all its connections.
#[derive(Clone, Debug, Default)]
pub struct WatchLog {
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
        if !by_revision.contains_key(&revision) && !excused(revision) {
            return Err(format!("a watcher was not told of revision {revision}"));
        }
    }
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
