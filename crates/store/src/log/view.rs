//! What can be read: where every entry is, and the bytes of the newest ones.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Position;
use super::record::{HEADER, Header, Kind, Record};
use crate::disk::File;

/// Payload bytes kept in memory for members that are only a little behind.
const CACHE_BYTES: usize = 16 << 20;

/// Where an entry is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) file: Arc<File>,
    /// The number of the file.
    pub(super) seq: u64,
    pub(super) offset: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    term: u64,
    kind: Kind,
    len: usize,
    /// `None` until it is durable.
    place: Option<Place>,
    /// `None` once it is durable and no longer among the newest.
    payload: Option<Bytes>,
}

/// The entries of the log, in memory.
#[derive(Debug, Default)]
pub(super) struct View {
    purged: Option<Position>,
    slots: VecDeque<Slot>,
    /// How many slots from the front hold no payload.
    evicted: usize,
    cached: usize,
    /// The vote is read with the entries, so it lives with them.
    pub(super) vote: Option<Bytes>,
}

/// An entry that was looked up.
pub(crate) enum Stored {
    Here(Record),
    OnDisk { index: u64, term: u64, kind: Kind, len: usize, place: Place },
}

impl View {
    /// An empty log that begins after `purged`.
    pub(super) fn after(purged: Option<Position>) -> View {
        View { purged, ..View::default() }
    }

    pub(super) fn purged(&self) -> Option<Position> {
        self.purged
    }

    pub(super) fn last(&self) -> Option<Position> {
        match self.slots.back() {
            Some(slot) => Some(Position { term: slot.term, index: self.next() - 1 }),
            None => self.purged,
        }
    }

    /// The index of the first entry there can be.
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// The index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first() + self.slots.len() as u64
    }

    /// Adds entries that are not durable yet.
    pub(super) fn extend(&mut self, records: &[Record]) {
        for record in records {
            debug_assert_eq!(record.index, self.next(), "entries follow each other");
            self.cached += record.payload.len();
            self.slots.push_back(Slot {
                term: record.term,
                kind: record.kind,
                len: record.payload.len(),
                place: None,
                payload: Some(record.payload.clone()),
            });
        }
    }

    /// Adds an entry found on disk.
    pub(super) fn found(&mut self, header: &Header, place: Place) {
        self.slots.push_back(Slot {
            term: header.term,
            kind: header.kind,
            len: header.len as usize,
            place: Some(place),
            payload: None,
        });
        self.evicted = self.slots.len();
    }

    /// Notes that an entry is durable.
    pub(super) fn placed(&mut self, index: u64, place: Place) {
        if let Some(slot) = self.slot_mut(index) {
            slot.place = Some(place);
        }
    }

    /// Bytes of payloads in memory.
    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.cached
    }

    /// Drops payloads from memory until few enough are left.
    pub(super) fn evict(&mut self) {
        while self.cached > CACHE_BYTES {
            let Some(slot) = self.slots.get_mut(self.evicted) else { return };
            if slot.place.is_none() {
                return;
            }
            slot.payload = None;
            self.cached -= slot.len;
            self.evicted += 1;
        }
    }

    /// Where the entry is, if it is there and durable.
    pub(super) fn place(&self, index: u64) -> Option<&Place> {
        let at = usize::try_from(index.checked_sub(self.first())?).ok()?;
        self.slots.get(at)?.place.as_ref()
    }

    /// The position of an entry, or of what came before the first.
    pub(super) fn position(&self, index: u64) -> Option<Position> {
        if let Some(purged) = self.purged
            && purged.index == index
        {
            return Some(purged);
        }
        let at = usize::try_from(index.checked_sub(self.first())?).ok()?;
        self.slots.get(at).map(|slot| Position { term: slot.term, index })
    }

    /// Removes the entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.next() > next {
            let Some(slot) = self.slots.pop_back() else { return };
            if slot.payload.is_some() {
                self.cached -= slot.len;
            }
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    /// Forgets the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: Position) {
        while self.first() <= upto.index {
            let Some(slot) = self.slots.pop_front() else { break };
            if slot.payload.is_some() {
                self.cached -= slot.len;
            }
            self.evicted = self.evicted.saturating_sub(1);
            let index = self.first();
            self.purged = Some(Position { term: slot.term, index });
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Finds the entries from `start` to before `end`, up to about `max_bytes` but at least one.
    pub(super) fn look_up(&self, start: u64, end: u64, max_bytes: usize) -> Vec<Stored> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in start.max(self.first())..end.min(self.next()) {
            let at = usize::try_from(index - self.first()).expect("slots fit into memory");
            let slot = &self.slots[at];
            bytes += slot.len;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            let Slot { term, kind, len, .. } = *slot;
            found.push(match (&slot.payload, &slot.place) {
                (Some(payload), _) => {
                    Stored::Here(Record { index, term, kind, payload: payload.clone() })
                }
                (None, Some(place)) => {
                    Stored::OnDisk { index, term, kind, len, place: place.clone() }
                }
                (None, None) => unreachable!("only durable entries leave memory"),
            });
        }
        found
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let at = usize::try_from(index.checked_sub(self.first())?).ok()?;
        self.slots.get_mut(at)
    }
}

impl Stored {
    /// The entry's index.
    pub(crate) fn index(&self) -> u64 {
        match self {
            Stored::Here(record) => record.index,
            Stored::OnDisk { index, .. } => *index,
        }
    }

    /// True if `other` is the same entry in the same place of the disk.
    pub(crate) fn is_same(&self, other: &Stored) -> bool {
        match (self, other) {
            (
                Stored::OnDisk { term, place, .. },
                Stored::OnDisk { term: other_term, place: other, .. },
            ) => term == other_term && place.seq == other.seq && place.offset == other.offset,
            _ => false,
        }
    }

    /// True if it is in memory.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Stored::Here(_))
    }

    /// Reads the entry from disk if it must, and checks it again.
    pub(crate) fn load(&self) -> io::Result<Record> {
        let (index, term, kind, len, place) = match self {
            Stored::Here(record) => return Ok(record.clone()),
            Stored::OnDisk { index, term, kind, len, place } => (*index, *term, *kind, *len, place),
        };
        let mut bytes = vec![0; HEADER + len];
        place.file.read_exact_at(&mut bytes, place.offset)?;
        let bytes = Bytes::from(bytes);
        let payload = bytes.slice(HEADER..);
        let good = Header::decode(&bytes, place.seq).is_some_and(|header| {
            (header.index, header.term, header.kind, header.len as usize)
                == (index, term, kind, len)
                && header.crc == crc32fast::hash(&payload)
        });
        if !good {
            let reason = format!(
                "entry {index} in log file {:016x} at byte {} is damaged",
                place.seq, place.offset
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(Record { index, term, kind, payload })
    }
}
