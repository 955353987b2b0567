//! What travels beside liveness: each node's record of itself, and nudges to rejoin. Both ride on the protocol's datagrams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::identity::Id;
use crate::member::Meta;

/// The most records kept; more nodes than this are not gossiped about.
pub(crate) const MAX_RECORDS: usize = 20_000;
pub(crate) const MAX_NAME: usize = 253;

/// What a node says about itself. Of two, the higher by (bump, left, version) is the newer: a good-bye in one life is final,
/// the next life starts afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) bump: u64,
    pub(crate) version: u64,
    pub(crate) left: bool,
    pub(crate) meta: Meta,
}

impl Record {
    fn rank(&self) -> (u64, bool, u64) {
        (self.bump, self.left, self.version)
    }

    fn is_valid(&self) -> bool {
        (1..=MAX_NAME).contains(&self.name.len()) && self.meta.len() <= Meta::MAX_BYTES
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Broadcast {
    Record(Record),
    /// Somebody counts this life of the node as over; it may only show that it is not by beginning a new one.
    Nudge {
        name: String,
        bump: u64,
    },
}

impl Broadcast {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }
}

/// What was heard about this node itself and must be answered by a new life.
#[derive(Debug, Default)]
pub(crate) struct Summons {
    /// The life it was about.
    pub(crate) bump: Option<u64>,
}

/// All records by name.
pub(crate) struct Records {
    me: String,
    by_name: BTreeMap<String, Record>,
    nudged: BTreeMap<String, u64>,
    summons: Summons,
    changes: u64,
}

impl Records {
    pub(crate) fn get(&self, name: &str) -> Option<&Record> {
        self.by_name.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> {
        self.by_name.values()
    }

    /// Rises with every change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether this life of the node ended with a good-bye.
    pub(crate) fn has_left(&self, id: &Id) -> bool {
        self.by_name.get(&*id.name).is_some_and(|record| record.left && record.bump >= id.bump)
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
        self.changes += 1;
        self.nudged.remove(name);
    }

    pub(crate) fn take_summons(&mut self) -> Option<u64> {
        self.summons.bump.take()
    }

    fn accept(&mut self, broadcast: Broadcast) -> bool {
        match broadcast {
            Broadcast::Record(record) => self.accept_record(record),
            Broadcast::Nudge { name, bump } => {
                let known = self.by_name.contains_key(&name);
                if !known || self.nudged.get(&name).is_some_and(|before| *before >= bump) {
                    return false;
                }
                if name == self.me {
                    self.summon(bump);
                }
                self.nudged.insert(name, bump);
                true
            }
        }
    }

    fn accept_record(&mut self, record: Record) -> bool {
        let known = self.by_name.get(&record.name);
        let newer = known.is_none_or(|known| record.rank() > known.rank());
        let room = known.is_some() || self.by_name.len() < MAX_RECORDS;
        if !newer || !room || !record.is_valid() {
            return false;
        }
        if record.name == self.me {
            self.summon(record.bump);
        }
        self.by_name.insert(record.name.clone(), record);
        self.changes += 1;
        true
    }

    fn summon(&mut self, bump: u64) {
        self.summons.bump = self.summons.bump.max(Some(bump));
    }
}

/// The records, shared between the protocol, which stores what it hears, and the core.
#[derive(Clone)]
pub(crate) struct SharedRecords(Arc<Mutex<Records>>);

impl SharedRecords {
    pub(crate) fn new(me: &str) -> Self {
        let (by_name, nudged, summons) = Default::default();
        let records = Records { me: me.to_owned(), by_name, nudged, summons, changes: 0 };
        Self(Arc::new(Mutex::new(records)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which broadcasts take whose place in the queue: a newer one of the same kind about the same node.
pub(crate) struct Key {
    name: String,
    nudge: bool,
}

impl foca::Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        self.nudge == other.nudge && self.name == other.name
    }
}

impl foca::BroadcastHandler<Id> for SharedRecords {
    type Key = Key;
    type Error = postcard::Error;

    fn receive_item(
        &mut self,
        data: &[u8],
        _: Option<&Id>,
    ) -> Result<Option<Key>, postcard::Error> {
        let broadcast: Broadcast = postcard::from_bytes(data)?;
        let key = match &broadcast {
            Broadcast::Record(record) => Key { name: record.name.clone(), nudge: false },
            Broadcast::Nudge { name, .. } => Key { name: name.clone(), nudge: true },
        };
        Ok(self.lock().accept(broadcast).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bump: u64, left: bool, version: u64) -> Broadcast {
        let meta = Meta::default();
        Broadcast::Record(Record { name: "a".into(), bump, version, left, meta })
    }

    #[test]
    fn the_newer_record_wins_in_whatever_order_they_come() {
        let shared = SharedRecords::new("me");
        let mut records = shared.lock();
        assert!(records.accept(record(1, false, 5)));
        assert!(!records.accept(record(1, false, 5)), "nothing new");
        assert!(!records.accept(record(1, false, 4)));
        assert!(records.accept(record(1, true, 0)), "a good-bye is final in this life");
        assert!(!records.accept(record(1, false, 9)));
        assert!(records.accept(record(2, false, 0)), "and the next life starts afresh");
        assert!(records.take_summons().is_none(), "it was about somebody else");
    }

    #[test]
    fn a_nudge_is_passed_on_once_and_summons_its_node() {
        let shared = SharedRecords::new("a");
        let mut records = shared.lock();
        let nudge = Broadcast::Nudge { name: "a".into(), bump: 7 };
        assert!(!records.accept(nudge.clone()), "about a node nobody knows");
        records.accept(record(7, false, 1));
        records.take_summons();
        assert!(records.accept(nudge.clone()));
        assert_eq!(records.take_summons(), Some(7));
        assert!(!records.accept(nudge));
    }

    #[test]
    fn oversized_records_are_not_kept() {
        let shared = SharedRecords::new("me");
        let meta = Meta { role: "x".repeat(Meta::MAX_BYTES + 1), ..Meta::default() };
        let huge = Record { name: "a".into(), bump: 1, version: 1, left: false, meta };
        assert!(!shared.lock().accept(Broadcast::Record(huge.clone())));
        let nameless = Record { name: String::new(), meta: Meta::default(), ..huge };
        assert!(!shared.lock().accept(Broadcast::Record(nameless)));
    }
}
