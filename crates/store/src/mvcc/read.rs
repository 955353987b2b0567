//! Reading keys, now or as they were.

use super::packed::Packed;
use super::room::Room;
use super::{State, bounds};
use crate::error::ReadError;
use crate::range::{Range, RangeResponse};

impl State {
    /// Reads a range.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeResponse, ReadError> {
        self.check_range(range)?;
        Ok(self.read(range, &mut Room::unlimited()))
    }

    /// Reads a range whose revision is known to be readable, as far as there is room for it.
    pub(super) fn read(&self, range: &Range, room: &mut Room) -> RangeResponse {
        let mut answer = RangeResponse { revision: self.revision, ..RangeResponse::default() };
        let limit = if range.limit == 0 { u64::MAX } else { range.limit };
        self.visit(range, |key, packed| {
            answer.count += 1;
            if range.count_only || answer.count > limit || !room.take(key, packed, range.keys_only)
            {
                return;
            }
            let kv = if range.keys_only { packed.key_only(key) } else { packed.key_value(key) };
            answer.kvs.push(kv);
        });
        answer.more = !range.count_only && answer.count > limit;
        answer
    }

    fn visit(&self, range: &Range, mut each: impl FnMut(&[u8], &Packed)) {
        // The newest revision is not always the newest state: a transaction that is being done is ahead of it.
        let newest = range.revision == 0;
        if range.end.is_none() {
            let slot = self.keys.get(&range.key[..]);
            let found = slot.and_then(|s| if newest { s.live() } else { s.at(range.revision) });
            found.into_iter().for_each(|packed| each(&range.key, packed));
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
