//! Reading keys, now or as they were.

use std::sync::Arc;

use bytes::Bytes;

use super::room::Room;
use super::{State, bounds};
use crate::error::ReadError;
use crate::kv::KeyValue;
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
        self.visit(range, |kv| {
            answer.count += 1;
            if range.count_only || answer.count > limit || !room.take(kv, range.keys_only) {
                return;
            }
            answer.kvs.push(if range.keys_only { without_value(kv) } else { Arc::clone(kv) });
        });
        answer.more = !range.count_only && answer.count > limit;
        answer
    }

    fn visit(&self, range: &Range, mut each: impl FnMut(&Arc<KeyValue>)) {
        // The newest revision is not always the newest state: a transaction that is being done is ahead of it.
        let newest = range.revision == 0;
        if range.end.is_none() {
            let slot = self.keys.get(&range.key);
            let kv = slot.and_then(|s| if newest { s.live() } else { s.at(range.revision) });
            kv.into_iter().for_each(each);
            return;
        }
        let Some(bounds) = bounds(&range.key, range.end.as_ref()) else { return };
        for (_, slot) in self.keys.range::<[u8], _>(bounds) {
            let kv = if newest { slot.live() } else { slot.at(range.revision) };
            if let Some(kv) = kv {
                each(kv);
            }
        }
    }
}

fn without_value(kv: &Arc<KeyValue>) -> Arc<KeyValue> {
    Arc::new(KeyValue { value: Bytes::new(), ..KeyValue::clone(kv) })
}
