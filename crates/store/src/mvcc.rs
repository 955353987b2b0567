//! The state in memory: every key with its history since the last compaction.
//!
//! Nothing here reads a clock, a file or the network: the same commands in the same order give the
//! same state on every member.

mod apply;
mod check;
mod dump;
mod history;
mod packed;
mod read;
mod room;
mod session;
mod slot;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub(crate) use check::validate;
pub(crate) use dump::{Dump, DumpHead, HistoryImage, Restore, SlotImage};
pub(crate) use history::Changes;
pub use room::ANSWER_MAX;
pub(crate) use session::SessionImage;

use crate::lease::Lease;
use crate::member::MemberId;
use packed::Key;
use room::Room;
use session::Sessions;
use slot::Slot;

static INSTANCES: AtomicU64 = AtomicU64::new(0);

/// The replicated state.
#[derive(Debug)]
pub(crate) struct State {
    keys: BTreeMap<Key, Slot>,
    /// Keys that exist now; `keys` also holds deleted ones until they are compacted.
    live: u64,
    /// Bytes of their newest versions.
    live_bytes: u64,
    revision: u64,
    compact_revision: u64,
    /// The changes of every revision from `compact_revision` on, without a gap; and of those before it that are still to be
    /// removed.
    history: VecDeque<Changes>,
    /// About how many bytes `history` keeps.
    history_bytes: u64,
    /// Versions that a later one replaced: at which revision, of which key; in order.
    superseded: VecDeque<(u64, Key)>,
    leases: BTreeMap<i64, LeaseState>,
    sessions: Sessions,
    /// The numbers of members that were removed: never given again. A few bytes for each change of managers.
    former_members: BTreeSet<MemberId>,
    /// Dumps being taken; nothing is removed meanwhile.
    pins: usize,
    /// Tells this state from one that replaced it; not part of the replicated state.
    instance: u64,
}

#[derive(Clone, Debug, Default)]
struct LeaseState {
    ttl: i64,
    keys: BTreeSet<Key>,
}

/// A lease that came or went while a command was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    Granted(Lease),
    Revoked(i64),
}

/// What applying commands brought about besides the answers.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// One for each new revision.
    pub(crate) changes: Vec<Changes>,
    pub(crate) leases: Vec<LeaseChange>,
    /// Left for answers.
    room: Room,
}

/// What was removed from the state: large, perhaps, so it is to be dropped where nobody waits for the state.
#[derive(Debug)]
pub(crate) struct Collected {
    /// There may be more to remove.
    pub(crate) more: bool,
    _history: Vec<Changes>,
}

impl Default for State {
    fn default() -> State {
        State {
            keys: BTreeMap::new(),
            live: 0,
            live_bytes: 0,
            revision: 1,
            compact_revision: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            superseded: VecDeque::new(),
            leases: BTreeMap::new(),
            sessions: Sessions::default(),
            former_members: BTreeSet::new(),
            pins: 0,
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl State {
    /// The newest revision; 1 before the first write.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that can be read; 0 is "all".
    pub(crate) fn compact_revision(&self) -> u64 {
        self.compact_revision
    }

    /// How many keys exist.
    pub(crate) fn live_keys(&self) -> u64 {
        self.live
    }

    /// About how many bytes the keys take that exist, without their history.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Takes down the numbers of members that were removed.
    pub(crate) fn retire(&mut self, members: impl IntoIterator<Item = MemberId>) {
        self.former_members.extend(members);
    }

    /// Whether a member of this number was removed once.
    pub(crate) fn is_former(&self, member: MemberId) -> bool {
        self.former_members.contains(&member)
    }

    /// The leases, by number.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.leases.iter().map(|(id, lease)| Lease { id: *id, ttl: lease.ttl }).collect()
    }

    /// A lease with its keys.
    pub(crate) fn lease(&self, id: i64) -> Option<(Lease, Vec<Bytes>)> {
        let lease = self.leases.get(&id)?;
        Some((
            Lease { id, ttl: lease.ttl },
            lease.keys.iter().map(|key| Bytes::copy_from_slice(key)).collect(),
        ))
    }

    /// The changes from `revision` on; `None` if some of them are compacted.
    pub(crate) fn history_from(&self, revision: u64) -> Option<impl Iterator<Item = &Changes>> {
        if revision < self.compact_revision {
            return None;
        }
        let first = self.history.front().map_or(self.revision + 1, |batch| batch.revision);
        let skip = usize::try_from(revision.saturating_sub(first)).unwrap_or(usize::MAX);
        Some(self.history.range(skip.min(self.history.len())..))
    }

    /// The oldest revision from which on the history has at most `bytes` bytes; 0 if all of it has.
    pub(crate) fn history_within(&self, bytes: u64) -> u64 {
        let mut over = self.history_bytes.saturating_sub(bytes);
        let mut batches = self.history.iter();
        let mut first = 0;
        while over > 0 {
            let Some(batch) = batches.next() else { break };
            over = over.saturating_sub(batch.weight() as u64);
            first = batch.revision + 1;
        }
        first.min(self.revision)
    }

    /// About how many bytes of history there are.
    pub(crate) fn history_bytes(&self) -> u64 {
        self.history_bytes
    }

    fn remember(&mut self, changes: Changes) {
        self.history_bytes += changes.weight() as u64;
        self.history.push_back(changes);
    }

    /// Holds back the removal of old versions until [`State::unpin`].
    pub(crate) fn pin(&mut self) {
        self.pins += 1;
    }

    /// Ends a [`State::pin`] of the state that was `instance`; it may have been replaced since.
    pub(crate) fn unpin(&mut self, instance: u64) {
        if instance != self.instance {
            return;
        }
        self.pins = self.pins.saturating_sub(1);
    }

    /// A number that no other state in this process has.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// Goes on as another life of the state: what was written last may be missing in it, so the
    /// revisions that those who saw it know must not come again for something else. `gap` revisions
    /// are left out, and the history before is forgotten.
    pub(crate) fn begin_anew(&mut self, gap: u64) {
        self.revision += gap;
        self.compact_revision = self.revision;
        self.history.clear();
        self.history_bytes = 0;
        self.superseded.clear();
        let revision = self.revision;
        self.keys.retain(|_, slot| !slot.forget_before(revision));
    }

    /// Removes up to `limit` revisions, and as many versions, that nobody can ask for any more. It changes no answer, so each
    /// member does it when it likes.
    pub(crate) fn collect(&mut self, limit: usize) -> Collected {
        let compacted = self.compact_revision;
        let (mut removed, mut history) = (0, Vec::new());
        for _ in 0..limit {
            let is_before = |changes: &mut Changes| changes.revision < compacted;
            let Some(changes) = self.history.pop_front_if(is_before) else { break };
            self.history_bytes = self.history_bytes.saturating_sub(changes.weight() as u64);
            history.push(changes);
            removed += 1;
        }
        let versions = if self.pins > 0 { 0 } else { limit };
        for _ in 0..versions {
            let is_due = |(revision, _): &mut (u64, Key)| *revision <= compacted;
            let Some((_, key)) = self.superseded.pop_front_if(is_due) else { break };
            removed += 1;
            let Some(slot) = self.keys.get_mut(&key) else { continue };
            if slot.forget_before(compacted) {
                self.keys.remove(&key);
            }
        }
        Collected { more: removed >= limit, _history: history }
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of the range from `key` to `end` (see [`crate::Range::end`]); `None` if it is empty.
fn bounds<'a>(key: &'a [u8], end: Option<&'a Bytes>) -> Option<Bounds<'a>> {
    match end.map(|end| &end[..]) {
        None => Some((Bound::Included(key), Bound::Included(key))),
        Some(b"\0") => Some((Bound::Included(key), Bound::Unbounded)),
        Some(end) if key < end => Some((Bound::Included(key), Bound::Excluded(end))),
        Some(_) => None,
    }
}
