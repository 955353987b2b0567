//! What of a range is answered, and in which order: limits, bounds on revisions, sorting.

use std::sync::Arc;

use pontoon_store::{ANSWER_MAX, KeyValue, Order, OrderBy, Range, RangeResponse, Revisions};

use super::key_value;
use crate::grpc::fits;
use crate::proto::{self, ResponseHeader, SortOrder, SortTarget};
use crate::server::signed;
use crate::status::{EMPTY_KEY, INVALID_SORT, Status};

/// The options of a range that decide what is answered of it.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// 0 is no limit.
    limit: u64,
    sort: Option<(SortTarget, SortOrder)>,
    /// The revisions of the last write and of the creation.
    modified: Revisions,
    created: Revisions,
    /// The limit is applied to what is sorted, not the other way round.
    whole: bool,
    keys_only: bool,
    count_only: bool,
}

impl Selection {
    /// The options of a request, which is checked.
    pub(super) fn of(request: &proto::RangeRequest) -> Result<Selection, Status> {
        if request.key.is_empty() {
            return Err(EMPTY_KEY);
        }
        let order = SortOrder::try_from(request.sort_order).map_err(|_| INVALID_SORT)?;
        let target = SortTarget::try_from(request.sort_target).map_err(|_| INVALID_SORT)?;
        let modified = (request.min_mod_revision, request.max_mod_revision);
        let created = (request.min_create_revision, request.max_create_revision);
        let bounded = modified != (0, 0) || created != (0, 0);
        let (modified, created) = (revisions(modified), revisions(created));
        Ok(Selection {
            limit: u64::try_from(request.limit).unwrap_or(0),
            sort: match (target, order) {
                (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => None,
                // As etcd does; it sorts what the limit left then.
                (target, SortOrder::None) => Some((target, SortOrder::Ascend)),
                sort => Some(sort),
            },
            modified,
            created,
            whole: bounded || order != SortOrder::None,
            keys_only: request.keys_only,
            count_only: request.count_only,
        })
    }

    /// What is to be read at `revision`, still without keys.
    pub(super) fn range(&self, revision: u64) -> Range {
        // One more than wanted shows that there is more.
        let limit = if self.limit == 0 { 0 } else { self.limit + 1 };
        Range {
            revision,
            limit,
            count_only: self.count_only,
            keys_only: self.keys_only && !self.is_by_value(),
            order: self.sort.filter(|_| self.whole).map(order),
            modified: self.modified,
            created: self.created,
            ..Range::default()
        }
    }

    /// Values are wanted to be sorted by, even if they are not answered.
    fn is_by_value(&self) -> bool {
        matches!(self.sort, Some((SortTarget::Value, _)))
    }

    /// Bytes beyond which nothing is read, because all that is read is answered.
    pub(super) fn read_max(&self) -> usize {
        if self.keys_only && self.is_by_value() { usize::MAX } else { ANSWER_MAX }
    }

    /// The answer, made of what was read; refused if it is too large.
    pub(super) fn answer(
        &self,
        header: Option<ResponseHeader>,
        found: RangeResponse,
    ) -> Result<proto::RangeResponse, Status> {
        let mut kvs = found.kvs;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if !self.whole && limit > 0 {
            // A range of two parts was read up to the limit in each.
            kvs.truncate(limit.saturating_add(1));
        }
        if let Some((target, order)) = self.sort {
            sort(&mut kvs, target, order);
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        let value = |kv: &KeyValue| if self.keys_only { kv.value.len() } else { 0 };
        fits(kvs.iter().map(|kv| kv.weight() - value(kv)).sum())?;
        let kvs = kvs.iter().map(|kv| key_value(kv, self.keys_only)).collect();
        Ok(proto::RangeResponse { header, kvs, more, count: signed(found.count) })
    }
}

/// Bounds, both inclusive, as etcd takes them: 0 is none, and less than 0 is one like any other.
fn revisions((least, most): (i64, i64)) -> Revisions {
    let bound = |revision| u64::try_from(revision).unwrap_or(0);
    Revisions { least: bound(least), most: if most == 0 { u64::MAX } else { bound(most) } }
}

/// The order in which the store answers.
fn order((target, order): (SortTarget, SortOrder)) -> Order {
    let by = match target {
        SortTarget::Key => OrderBy::Key,
        SortTarget::Version => OrderBy::Version,
        SortTarget::Create => OrderBy::Create,
        SortTarget::Mod => OrderBy::Mod,
        SortTarget::Value => OrderBy::Value,
    };
    Order { by, descending: order == SortOrder::Descend }
}

/// Sorts what was read in two parts, or in the order of its keys; what ties stays in the order of its keys, in a descending order, too.
fn sort(kvs: &mut [Arc<KeyValue>], target: SortTarget, order: SortOrder) {
    kvs.sort_by(|a, b| {
        let ascending = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if order == SortOrder::Descend { ascending.reverse() } else { ascending }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    #[test]
    fn what_is_too_large_is_refused_after_the_limit() {
        let kv = Arc::new(KeyValue {
            key: "key".into(),
            value: vec![1; 1 << 20].into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        });
        let answer = |request: proto::RangeRequest| {
            let found =
                RangeResponse { kvs: vec![Arc::clone(&kv); 300], ..RangeResponse::default() };
            let request = proto::RangeRequest { key: "key".into(), ..request };
            Selection::of(&request)?.answer(None, found)
        };
        let all = proto::RangeRequest::default();
        assert_eq!(answer(all.clone()).unwrap_err().code, Code::ResourceExhausted);
        let sorted = proto::RangeRequest { sort_order: 2, sort_target: 3, ..all.clone() };
        assert!(answer(sorted.clone()).is_err());
        let first = proto::RangeRequest { limit: 1, ..sorted };
        assert_eq!(answer(first).expect("one is little").kvs.len(), 1);
        let keys = proto::RangeRequest { keys_only: true, ..all };
        assert_eq!(answer(keys).expect("keys are little").kvs.len(), 300);
    }
}
