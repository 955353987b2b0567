//! Writing: transactions of compares and operations, the only way state changes.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::kv::{KeyValue, prefix_end};
use crate::range::{Range, RangeResponse};

/// Transactions inside transactions inside transactions: more than this are refused.
pub(crate) const MAX_DEPTH: usize = 8;

thread_local! {
    /// How deep the transaction is that is being decoded: decoders have no place of their own to count.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// If every compare holds do `success`, else do `failure`; atomically, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold; none holds trivially.
    pub compare: Vec<Compare>,
    /// Done in order if they hold.
    pub success: Vec<Op>,
    /// Done in order if they do not.
    pub failure: Vec<Op>,
}

impl Txn {
    /// A transaction that does nothing yet.
    #[must_use]
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a compare.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Txn {
        self.compare.push(compare);
        self
    }

    /// Adds an operation for the case that all compares hold.
    #[must_use]
    pub fn then(mut self, op: impl Into<Op>) -> Txn {
        self.success.push(op.into());
        self
    }

    /// Adds an operation for the case that a compare fails.
    #[must_use]
    pub fn otherwise(mut self, op: impl Into<Op>) -> Txn {
        self.failure.push(op.into());
        self
    }

    /// True if neither branch can change anything.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(inner) => inner.is_read_only(),
        })
    }
}

/// A condition on one key, or on every key of a range; a missing key has revision, version and
/// lease 0, and fails every compare of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The first key.
    pub key: Bytes,
    /// As in [`Range::end`]; over a range every present key must satisfy the condition.
    pub end: Option<Bytes>,
    /// How the key's side relates to the operand.
    pub op: CompareOp,
    /// What is compared, with what.
    pub operand: Operand,
}

/// How a compare relates the key to its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// The key's side equals the operand.
    Equal,
    /// The key's side is greater.
    Greater,
    /// The key's side is less.
    Less,
    /// The key's side differs.
    NotEqual,
}

/// The part of a key that a compare looks at, with the value to compare it with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// The value, bytewise.
    Value(Bytes),
    /// The creation revision; 0 is "does not exist".
    Create(u64),
    /// The revision of the last write; 0 is "does not exist".
    Mod(u64),
    /// The version; 0 is "does not exist".
    Version(u64),
    /// The lease; 0 is none.
    Lease(i64),
}

impl Compare {
    /// A compare of one key.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, op: CompareOp, operand: Operand) -> Compare {
        Compare { key: key.into(), end: None, op, operand }
    }

    /// Holds if the key does not exist.
    #[must_use]
    pub fn absent(key: impl Into<Bytes>) -> Compare {
        Compare::new(key, CompareOp::Equal, Operand::Create(0))
    }

    /// Holds if the key exists.
    #[must_use]
    pub fn present(key: impl Into<Bytes>) -> Compare {
        Compare::new(key, CompareOp::NotEqual, Operand::Create(0))
    }

    /// Holds if the key was last written at `revision`.
    #[must_use]
    pub fn unchanged(key: impl Into<Bytes>, revision: u64) -> Compare {
        Compare::new(key, CompareOp::Equal, Operand::Mod(revision))
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Read keys; sees the writes of the same transaction that come before it.
    Range(Range),
    /// Write a key; a key may be written only once in a transaction.
    Put(Put),
    /// Delete keys.
    DeleteRange(DeleteRange),
    /// A transaction inside the transaction; its compares are decided before anything is done.
    Txn(#[serde(deserialize_with = "nested")] Box<Txn>),
}

/// The write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key; not empty.
    pub key: Bytes,
    /// The new value.
    pub value: Bytes,
    /// The lease to attach it to; 0 is none.
    pub lease: i64,
    /// Answer with the version before.
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    pub ignore_lease: bool,
}

impl Put {
    /// Writes `value` to `key`, without a lease.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put { key: key.into(), value: value.into(), ..Put::default() }
    }

    /// The same write, attached to `lease`.
    #[must_use]
    pub fn lease(self, lease: i64) -> Put {
        Put { lease, ..self }
    }

    /// The same write, answering with the version before.
    #[must_use]
    pub fn with_prev(self) -> Put {
        Put { prev_kv: true, ..self }
    }
}

/// The removal of one key or of a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// The first key.
    pub key: Bytes,
    /// As in [`Range::end`].
    pub end: Option<Bytes>,
    /// Answer with the versions that were deleted.
    pub prev_kv: bool,
}

impl DeleteRange {
    /// Deletes one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> DeleteRange {
        DeleteRange { key: key.into(), ..DeleteRange::default() }
    }

    /// Deletes every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> DeleteRange {
        let key: Bytes = prefix.into();
        let end = Some(prefix_end(&key));
        let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
        DeleteRange { key, end, prev_kv: false }
    }

    /// The same removal, answering with what was deleted.
    #[must_use]
    pub fn with_prev(self) -> DeleteRange {
        DeleteRange { prev_kv: true, ..self }
    }
}

impl From<Range> for Op {
    fn from(range: Range) -> Op {
        Op::Range(range)
    }
}

impl From<Put> for Op {
    fn from(put: Put) -> Op {
        Op::Put(put)
    }
}

impl From<DeleteRange> for Op {
    fn from(delete: DeleteRange) -> Op {
        Op::DeleteRange(delete)
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Op {
        Op::Txn(Box::new(txn))
    }
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResponse {
    /// The store's revision after the transaction; its own revision if it wrote anything.
    pub revision: u64,
    /// True if the compares held.
    pub succeeded: bool,
    /// One answer for each operation of the branch that was done.
    pub responses: Vec<OpResponse>,
}

/// The answer to an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResponse {
    /// To [`Op::Range`].
    Range(RangeResponse),
    /// To [`Op::Put`].
    Put {
        /// The version before, if asked for and present.
        prev: Option<Arc<KeyValue>>,
    },
    /// To [`Op::DeleteRange`].
    DeleteRange {
        /// How many keys were deleted.
        deleted: u64,
        /// What was deleted, if asked for.
        prev: Vec<Arc<KeyValue>>,
    },
    /// To [`Op::Txn`].
    Txn(#[serde(deserialize_with = "nested")] TxnResponse),
}

/// Decodes what is inside of something of its own kind, unless that is so deep that nobody validated it: bytes
/// must not decide how much stack is used.
fn nested<'de, D, T>(decoder: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let depth = DEPTH.get() + 1;
    if depth > MAX_DEPTH {
        return Err(D::Error::custom("transactions are nested too deeply"));
    }
    DEPTH.set(depth);
    let inner = T::deserialize(decoder);
    DEPTH.set(depth - 1);
    inner
}
