//! The KV service: reads, writes, transactions, compaction.

mod select;
mod txn;

use bytes::Bytes;
use pontoon_store::{
    DeleteRange, Op, OpResponse, Put, Range, RangeResponse, Read, ReadError, Store, Txn,
};

use crate::grpc::{REQUEST_MAX, fits};
use crate::keyspace::{Span, is_hidden};
use crate::proto::{self, Request};
use crate::server::{EtcdServer, revision, signed};
use crate::status::{
    COMPACTED, EMPTY_KEY, LEASE_PROVIDED, PERMISSION_DENIED, Status, TOO_LARGE, VALUE_PROVIDED,
};
use select::Selection;

/// How often a read of two parts is begun again because history was forgotten between them.
const READ_ATTEMPTS: usize = 4;

impl EtcdServer {
    pub(crate) async fn range(
        &self,
        request: proto::RangeRequest,
    ) -> Result<proto::RangeResponse, Status> {
        let selection = Selection::of(&request)?;
        let read = if request.serializable { Read::Local } else { Read::Linearizable };
        let range = selection.range(revision(request.revision));
        let (store, most) = (&self.inner.store, selection.read_max());
        let (first, second) = ranges(Span::asked(request.key, request.range_end), range);
        let found = match second {
            None => store.range_within(first, read, most).await,
            // Rare, and with a place of its own: other reads' would be as large.
            Some(second) => Box::pin(read_both(store, [first, second], read, most)).await,
        };
        let found = match found {
            Err(ReadError::TooLarge { bytes, .. }) => {
                return Err(fits(bytes).err().unwrap_or(TOO_LARGE));
            }
            found => found?,
        };
        let header = self.header(found.revision);
        selection.answer(header, found)
    }

    pub(crate) async fn put(
        &self,
        request: proto::PutRequest,
    ) -> Result<proto::PutResponse, Status> {
        let txn = Txn::new().then(put(request)?);
        let mut done = self.inner.store.txn(txn).await?;
        let header = self.header(done.revision);
        let prev = match done.responses.pop() {
            Some(OpResponse::Put { prev }) => prev,
            _ => None,
        };
        Ok(proto::PutResponse { header, prev_kv: prev.map(|kv| key_value(&kv, false)) })
    }

    pub(crate) async fn delete_range(
        &self,
        request: proto::DeleteRangeRequest,
    ) -> Result<proto::DeleteRangeResponse, Status> {
        if request.key.is_empty() {
            return Err(EMPTY_KEY);
        }
        let mut txn = Txn::new();
        txn.success.extend(deletes(request).into_iter().flatten());
        let done = self.inner.store.txn(txn).await?;
        let header = self.header(done.revision);
        Ok(txn::deleted(header, done.responses))
    }

    pub(crate) async fn txn(
        &self,
        request: proto::TxnRequest,
    ) -> Result<proto::TxnResponse, Status> {
        if prost::Message::encoded_len(&request) > REQUEST_MAX {
            return Err(TOO_LARGE);
        }
        let read = if txn::is_serializable(&request) { Read::Local } else { Read::Linearizable };
        let (txn, shape) = txn::translate(request)?;
        let done = self.inner.store.txn_with(txn, read).await?;
        shape.answer(self.header(done.revision), done)
    }

    /// Compaction takes nothing that has to be waited for, so `physical` needs no distinction.
    pub(crate) async fn compact(
        &self,
        request: proto::CompactionRequest,
    ) -> Result<proto::HeaderResponse, Status> {
        let revision = u64::try_from(request.revision).map_err(|_| COMPACTED)?;
        self.inner.store.compact(revision).await?;
        Ok(proto::HeaderResponse { header: self.header_now() })
    }
}

/// Operations of a transaction from which on it counts as large.
const LARGE: usize = 16;

/// Whether a range may take long: it may have many keys, even if only their number is answered.
pub(crate) fn is_large(request: &proto::RangeRequest) -> bool {
    !request.range_end.is_empty()
}

/// Whether a delete may be answered with much.
pub(crate) fn delete_is_large(request: &proto::DeleteRangeRequest) -> bool {
    request.prev_kv && !request.range_end.is_empty()
}

/// Whether a transaction may take long or be answered with much.
pub(crate) fn txn_is_large(request: &proto::TxnRequest) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    request.success.len() + request.failure.len() > LARGE
        || ops.filter_map(|op| op.request.as_ref()).any(|op| match op {
            Request::Range(range) => is_large(range),
            Request::DeleteRange(delete) => delete_is_large(delete),
            // Each may have as many operations.
            Request::Txn(_) => true,
            Request::Put(_) => false,
        })
}

/// What is read to read what a client may see of a span: one part, or two in their order.
fn ranges(span: Span, range: Range) -> (Range, Option<Range>) {
    let of = |Span { key, end }, range| Range { key, end, ..range };
    match span.visible() {
        [Some(first), Some(second)] => (of(first, range.clone()), Some(of(second, range))),
        [first, second] => (of(first.or(second).unwrap_or_else(Span::empty), range), None),
    }
}

/// Reads two parts of a span as of one revision.
async fn read_both(
    store: &Store,
    [first, second]: [Range; 2],
    read: Read,
    most: usize,
) -> Result<RangeResponse, ReadError> {
    for attempt in 1.. {
        let mut found = store.range_within(first.clone(), read, most).await?;
        // The rest as it was when the first part was read; this copy has been applied so far.
        let at = if first.revision == 0 { found.revision } else { first.revision };
        // In another order than that of the keys, any of the rest may come before what was found.
        let before = if first.order.is_some() { 0 } else { found.kvs.len() as u64 };
        let left = first.limit.saturating_sub(before);
        let full = first.limit > 0 && left == 0;
        let count_only = first.count_only || full;
        let rest = Range { limit: left, count_only, ..second.clone() }.at(at);
        match store.range_within(rest, Read::Local, most).await {
            Ok(more) => {
                found.count += more.count;
                found.kvs.extend(more.kvs);
                return Ok(found);
            }
            Err(ReadError::Compacted { .. }) if first.revision == 0 && attempt < READ_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last attempt returns")
}

/// A put as the store does it.
fn put(request: proto::PutRequest) -> Result<Put, Status> {
    if request.key.is_empty() {
        return Err(EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    if is_hidden(&request.key) {
        return Err(PERMISSION_DENIED);
    }
    if request.key.len() + request.value.len() > REQUEST_MAX {
        return Err(TOO_LARGE);
    }
    Ok(Put {
        key: own(&request.key),
        value: own(&request.value),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

/// The deletes of what a client may see of a span.
fn deletes(request: proto::DeleteRangeRequest) -> [Option<Op>; 2] {
    let prev_kv = request.prev_kv;
    let span = Span::asked(own(&request.key), own(&request.range_end));
    span.visible().map(|part| {
        part.map(|Span { key, end }| Op::DeleteRange(DeleteRange { key, end, prev_kv }))
    })
}

/// What the store keeps must not hold on to the buffer that it was received in.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A key as a client reads it.
pub(crate) fn key_value(kv: &pontoon_store::KeyValue, keys_only: bool) -> proto::KeyValue {
    proto::KeyValue {
        key: kv.key.clone(),
        value: if keys_only { Bytes::new() } else { kv.value.clone() },
        create_revision: signed(kv.create_revision),
        mod_revision: signed(kv.mod_revision),
        version: signed(kv.version),
        lease: kv.lease,
    }
}
