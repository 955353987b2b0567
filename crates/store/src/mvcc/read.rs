//! Reading keys, now or as they were.

use super::packed::{Key, Packed};
use super::room::Room;
use super::{State, bounds};
use crate::error::ReadError;
use crate::range::{Range, RangeResponse};
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
        let mut answer = RangeResponse { revision: self.revision, ..RangeResponse::default() };
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        let limit = if range.limit == 0 { u64::MAX } else { range.limit };
        self.visit(range, |key, packed| {
            answer.count += 1;
            let wanted = !range.count_only && answer.count <= limit;
            if wanted && room.take(key, packed, range.keys_only) {
                let value = if range.keys_only { packed.value().len() } else { 0 };
                bytes += packed.weight(key) - value;
                kvs.push((Key::clone(key), packed.clone()));
            }
        });
        answer.more = !range.count_only && answer.count > limit;
        Found { answer, kvs, keys_only: range.keys_only, bytes }
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
