//! Reading keys, now or as they were.

use super::packed::{Key, Packed};
use super::room::Room;
use super::{State, bounds};
use crate::error::ReadError;
use crate::range::{Order, OrderBy, Range, RangeResponse};
use crate::txn::{OpResponse, TxnResponse};

/// What a range holds, still as the state keeps it.
pub(crate) struct Found {
    answer: RangeResponse,
    kvs: Vec<(Key, Packed)>,
    keys_only: bool,
    bytes: usize,
}

impl Found {
    /// About how many bytes the answer has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, key: &Key, packed: &Packed, room: &mut Room) {
        if room.take(key, packed, self.keys_only) {
            let value = if self.keys_only { packed.value().len() } else { 0 };
            self.bytes += packed.weight(key) - value;
            self.kvs.push((Key::clone(key), packed.clone()));
        }
    }

    /// The answer, for which the state is not needed any more.
    pub(crate) fn answer(self) -> RangeResponse {
        let tell = |(key, packed): (Key, Packed)| match self.keys_only {
            true => packed.key_only(&key),
            false => packed.key_value(&key),
        };
        RangeResponse { kvs: self.kvs.into_iter().map(tell).collect(), ..self.answer }
    }
}

/// What a transaction that only reads asked for.
pub(crate) struct FoundTxn {
    pub(super) revision: u64,
    pub(super) succeeded: bool,
    pub(super) steps: Vec<FoundStep>,
}

pub(super) enum FoundStep {
    Range(Found),
    Txn(FoundTxn),
}

impl FoundTxn {
    /// As [`Found::answer`].
    pub(crate) fn answer(self) -> TxnResponse {
        let FoundTxn { revision, succeeded, steps } = self;
        let answer = |step| match step {
            FoundStep::Range(found) => OpResponse::Range(found.answer()),
            FoundStep::Txn(found) => OpResponse::Txn(found.answer()),
        };
        TxnResponse { revision, succeeded, responses: steps.into_iter().map(answer).collect() }
    }
}

fn is_wanted(range: &Range, packed: &Packed) -> bool {
    let numbers = packed.numbers();
    range.modified.contains(numbers.mod_revision) && range.created.contains(numbers.create_revision)
}

fn sort(kvs: &mut [(Key, Packed)], order: Order) {
    kvs.sort_by(|(key, a), (other, b)| {
        let (one, two) = (a.numbers(), b.numbers());
        let ascending = match order.by {
            OrderBy::Key => key.cmp(other),
            OrderBy::Version => one.version.cmp(&two.version),
            OrderBy::Create => one.create_revision.cmp(&two.create_revision),
            OrderBy::Mod => one.mod_revision.cmp(&two.mod_revision),
            OrderBy::Value => a.value().cmp(b.value()),
        };
        if order.descending { ascending.reverse() } else { ascending }
    });
}

impl State {
    /// Reads a range.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeResponse, ReadError> {
        Ok(self.find(range)?.answer())
    }

    /// Finds what is in a range.
    pub(crate) fn find(&self, range: &Range) -> Result<Found, ReadError> {
        self.check_range(range)?;
        Ok(self.select(range, &mut Room::unlimited()))
    }

    /// Finds what is in a range whose revision is known to be readable, as far as there is room for it.
    pub(super) fn select(&self, range: &Range, room: &mut Room) -> Found {
        let answer = RangeResponse { revision: self.revision, ..RangeResponse::default() };
        let mut found = Found { answer, kvs: Vec::new(), keys_only: range.keys_only, bytes: 0 };
        let limit = if range.limit == 0 { u64::MAX } else { range.limit };
        let (mut count, mut wanted, mut unordered) = (0, 0, Vec::new());
        self.visit(range, |key, packed| {
            count += 1;
            if range.count_only || !is_wanted(range, packed) {
                return;
            }
            wanted += 1;
            if range.order.is_some() {
                unordered.push((Key::clone(key), packed.clone()));
            } else if wanted <= limit {
                found.take(key, packed, room);
            }
        });
        if let Some(order) = range.order {
            sort(&mut unordered, order);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let ordered = unordered.iter().take(limit);
            ordered.for_each(|(key, packed)| found.take(key, packed, room));
        }
        found.answer.count = count;
        found.answer.more = wanted > limit;
        found
    }

    fn visit(&self, range: &Range, mut each: impl FnMut(&Key, &Packed)) {
        // The newest revision is not always the newest state: a transaction that is being done is ahead of it.
        let newest = range.revision == 0;
        if range.end.is_none() {
            let Some((key, slot)) = self.keys.get_key_value(&range.key[..]) else { return };
            let found = if newest { slot.live() } else { slot.at(range.revision) };
            if let Some(packed) = found {
                each(key, packed);
            }
            return;
        }
        let Some(bounds) = bounds(&range.key, range.end.as_ref()) else { return };
        for (key, slot) in self.keys.range::<[u8], _>(bounds) {
            let found = if newest { slot.live() } else { slot.at(range.revision) };
            if let Some(packed) = found {
                each(key, packed);
            }
        }
    }
}
