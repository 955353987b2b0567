//! The state in pieces: how a snapshot reads it while writes go on, and how it is built again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::history::{Change, Changes};
use super::packed::{Key, Numbers, Packed};
use super::session::{SessionImage, Sessions};
use super::slot::{Slot, Version};
use super::{LeaseState, State};
use crate::lease::Lease;
use crate::member::MemberId;

/// Bytes of keys and values after which a piece ends, so that a block of a snapshot stays far below what is read
/// back, and no write waits for the state for long.
const PIECE_BYTES: usize = 4 << 20;

/// A state held still: the small parts copied, the keys to be read in pieces.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) head: DumpHead,
    sessions: Sessions,
    history: Vec<Changes>,
    walk: Walk,
}

/// A way through all keys in pieces, each as it was at one revision, while writes go on.
#[derive(Debug)]
pub(crate) struct Walk {
    revision: u64,
    compact_revision: u64,
    next: Option<Key>,
    finished: bool,
    instance: u64,
}

/// The small parts of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DumpHead {
    pub(crate) revision: u64,
    pub(crate) compact_revision: u64,
    leases: Vec<Lease>,
    /// Without the clients, but in snapshots of before: those follow.
    sessions: Sessions,
    former_members: BTreeSet<MemberId>,
}

/// A key with its versions, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotImage {
    key: Bytes,
    versions: Vec<VersionImage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum VersionImage {
    Live { value: Bytes, create_revision: u64, mod_revision: u64, version: u64, lease: i64 },
    Gone(u64),
}

/// A revision with the keys it changed, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryImage {
    revision: u64,
    keys: Vec<Bytes>,
}

impl State {
    /// Begins a dump of the state as it is now. The caller pins the state meanwhile.
    pub(crate) fn dump(&self) -> Dump {
        Dump {
            head: DumpHead {
                revision: self.revision,
                compact_revision: self.compact_revision,
                leases: self.leases(),
                sessions: self.sessions.head(),
                former_members: self.former_members.clone(),
            },
            sessions: self.sessions.clone(),
            history: self
                .history_from(self.compact_revision)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            walk: self.walk(self.revision),
        }
    }

    /// Begins a walk through the keys as they are at `revision`, each with its versions since the
    /// last compaction. The caller pins the state meanwhile.
    pub(crate) fn walk(&self, revision: u64) -> Walk {
        Walk {
            revision,
            compact_revision: self.compact_revision,
            next: None,
            finished: false,
            instance: self.instance,
        }
    }
}

impl Dump {
    /// The keys as they are at the dump's revision.
    pub(crate) fn keys(&mut self) -> &mut Walk {
        &mut self.walk
    }

    /// True if `state` is the one that is dumped, and was not replaced.
    pub(crate) fn is_of(&self, state: &State) -> bool {
        self.walk.is_of(state)
    }

    /// The clients with what they were answered.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionImage> {
        self.sessions.images()
    }

    /// The history since the last compaction in pieces of at most `limit` revisions, fewer if they are large.
    pub(crate) fn history(&self, limit: usize) -> impl Iterator<Item = Vec<HistoryImage>> {
        let mut left = self.history.iter();
        std::iter::from_fn(move || {
            let (mut piece, mut bytes) = (Vec::new(), 0);
            while piece.len() < limit && bytes < PIECE_BYTES {
                let Some(changes) = left.next() else { break };
                let image = HistoryImage::of(changes);
                bytes += image.keys.iter().map(Bytes::len).sum::<usize>();
                piece.push(image);
            }
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl Walk {
    /// The next keys, at most `limit`, fewer if they are large; empty at the end. `state` may have moved on since;
    /// `None` if it is another state altogether.
    pub(crate) fn next(&mut self, state: &State, limit: usize) -> Option<Vec<SlotImage>> {
        if !self.is_of(state) {
            return None;
        }
        let (mut images, mut bytes) = (Vec::new(), 0);
        while images.is_empty() && !self.finished {
            let from = self.next.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut last = None;
            for (key, slot) in state.keys.range::<[u8], _>((from, Bound::Unbounded)).take(limit) {
                last = Some(Key::clone(key));
                let Some(image) = self.image(key, slot) else { continue };
                bytes += image.bytes();
                images.push(image);
                if bytes >= PIECE_BYTES {
                    break;
                }
            }
            self.finished = last.is_none();
            self.next = last;
        }
        Some(images)
    }

    /// Begins with the keys again.
    pub(crate) fn rewind(&mut self) {
        self.next = None;
        self.finished = false;
    }

    /// True if `state` is the one that is walked through, and was not replaced.
    fn is_of(&self, state: &State) -> bool {
        state.instance == self.instance
    }

    fn image(&self, key: &[u8], slot: &Slot) -> Option<SlotImage> {
        let (revision, compacted) = (self.revision, self.compact_revision);
        let mut versions: Vec<&Version> =
            slot.versions().filter(|version| version.revision() <= revision).collect();
        let first = versions.iter().rposition(|version| version.revision() <= compacted);
        let first = first.map_or(0, |at| if versions[at].live().is_some() { at } else { at + 1 });
        versions.drain(..first);
        if versions.is_empty() {
            return None;
        }
        let versions = versions.into_iter().map(VersionImage::of).collect();
        Some(SlotImage { key: Bytes::copy_from_slice(key), versions })
    }
}

impl SlotImage {
    /// Bytes of the key and of its values.
    fn bytes(&self) -> usize {
        let value = |version: &VersionImage| match version {
            VersionImage::Live { value, .. } => value.len(),
            VersionImage::Gone(_) => 0,
        };
        self.key.len() + self.versions.iter().map(value).sum::<usize>()
    }

    /// True if the key exists at the end.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.versions.last(), Some(VersionImage::Live { .. }))
    }

    /// Adds the key and its versions to a check sum, every length before what it counts.
    pub(crate) fn hash_into(&self, hash: &mut crc32fast::Hasher) {
        let mut bytes = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        bytes(&self.key);
        for version in &self.versions {
            let mut numbers = [0; 32];
            let parts = match version {
                VersionImage::Gone(revision) => {
                    bytes(&revision.to_le_bytes());
                    continue;
                }
                VersionImage::Live { value, create_revision, mod_revision, version, lease } => {
                    bytes(value);
                    [*create_revision, *mod_revision, *version, lease.cast_unsigned()]
                }
            };
            for (place, part) in numbers.chunks_exact_mut(8).zip(parts) {
                place.copy_from_slice(&part.to_le_bytes());
            }
            bytes(&numbers);
        }
    }
}

impl HistoryImage {
    fn of(changes: &Changes) -> HistoryImage {
        let keys = changes.keys().map(Bytes::copy_from_slice).collect();
        HistoryImage { revision: changes.revision, keys }
    }
}

impl VersionImage {
    fn of(version: &Version) -> VersionImage {
        let packed = match version {
            Version::Gone(revision) => return VersionImage::Gone(*revision),
            Version::Live(packed) => packed,
        };
        let Numbers { create_revision, mod_revision, version, lease } = packed.numbers();
        let value = packed.shared_value();
        VersionImage::Live { value, create_revision, mod_revision, version, lease }
    }

    fn into_version(self) -> Version {
        match self {
            VersionImage::Gone(revision) => Version::Gone(revision),
            VersionImage::Live { value, create_revision, mod_revision, version, lease } => {
                let numbers = Numbers { create_revision, mod_revision, version, lease };
                Version::Live(Packed::new(numbers, &value))
            }
        }
    }
}

/// Builds a state from the pieces of a dump.
#[derive(Debug)]
pub(crate) struct Restore {
    state: State,
}

impl Restore {
    pub(crate) fn new(head: DumpHead) -> Restore {
        let leases: BTreeMap<_, _> = head
            .leases
            .iter()
            .map(|lease| (lease.id, LeaseState { ttl: lease.ttl, ..LeaseState::default() }))
            .collect();
        Restore {
            state: State {
                revision: head.revision,
                compact_revision: head.compact_revision,
                leases,
                sessions: head.sessions,
                former_members: head.former_members,
                ..State::default()
            },
        }
    }

    pub(crate) fn add_session(&mut self, image: SessionImage) {
        self.state.sessions.add(image);
    }

    pub(crate) fn add_key(&mut self, image: SlotImage) {
        let key = Key::from(&image.key[..]);
        let mut versions = image.versions.into_iter().map(VersionImage::into_version);
        let Some(first) = versions.next() else { return };
        let mut slot = Slot::new(first);
        for version in versions {
            self.state.superseded.push_back((version.revision(), Key::clone(&key)));
            slot.push(version);
        }
        if let Some(packed) = slot.live() {
            self.state.live += 1;
            self.state.live_bytes += packed.weight(&key) as u64;
            if let Some(lease) = self.state.leases.get_mut(&packed.lease()) {
                lease.keys.insert(Key::clone(&key));
            }
        }
        self.state.keys.insert(key, slot);
    }

    /// Adds a revision's changes; its keys must have been added before. False if the keys do not
    /// hold what the history says.
    pub(crate) fn add_history(&mut self, image: HistoryImage) -> bool {
        // A transaction in a transaction may change a key again: each mention is of the next version.
        let mut mentions: HashMap<&[u8], usize> = HashMap::new();
        let mut nth = |key| {
            let count = mentions.entry(key).or_default();
            *count += 1;
            *count - 1
        };
        let changes: Option<Vec<Change>> =
            image.keys.iter().map(|key| self.change(key, image.revision, nth(key))).collect();
        let Some(changes) = changes else { return false };
        self.state.remember(Changes::new(image.revision, changes));
        true
    }

    /// What a revision did to a key when it changed it for the `nth` time, counted from 0.
    fn change(&self, key: &[u8], revision: u64, nth: usize) -> Option<Change> {
        let Some((key, slot)) = self.state.keys.get_key_value(key) else {
            // A delete at the compaction revision is history although its key is gone.
            return self.delete_of(Key::from(key), revision);
        };
        let mut of_revision =
            slot.versions().filter(|version| version.revision() == revision).skip(nth);
        let Some(now) = of_revision.next() else {
            return self.delete_of(Key::clone(key), revision);
        };
        let earlier = slot.versions().take_while(|version| version.revision() < revision).last();
        let before = earlier.and_then(Version::live);
        // As when it was done: after a delete in the same revision there is nothing before.
        let before = before.filter(|_| nth == 0 || now.live().is_none()).cloned();
        Some(Change { key: Key::clone(key), now: now.clone(), before })
    }

    /// The delete of a key of which nothing is left, which is as old as the compaction.
    fn delete_of(&self, key: Key, revision: u64) -> Option<Change> {
        let is_old = revision <= self.state.compact_revision;
        is_old.then_some(Change { key, now: Version::Gone(revision), before: None })
    }

    pub(crate) fn finish(mut self) -> State {
        let mut superseded: Vec<_> = self.state.superseded.drain(..).collect();
        superseded.sort_by_key(|(revision, _)| *revision);
        self.state.superseded = superseded.into();
        self.state
    }
}
