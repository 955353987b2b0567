//! Reading: which keys, at which revision, how fresh.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{KeyValue, prefix_end};

/// A read of one key or of a range of keys, in key order unless another is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first key.
    pub key: Bytes,
    /// The first key after the range; `None` reads only `key`; `\0` reads to the end.
    pub end: Option<Bytes>,
    /// The revision to read at; 0 is the newest.
    pub revision: u64,
    /// The most keys to return; 0 is no limit.
    pub limit: u64,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Leave keys out that were last written at other revisions; the limit is one of those left.
    pub modified: Revisions,
    /// Leave keys out that were created at other revisions.
    pub created: Revisions,
    /// The order to return them in, to which the limit is applied.
    pub order: Option<Order>,
}

/// Revisions from the least to the most, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisions {
    /// The first.
    pub least: u64,
    /// The last.
    pub most: u64,
}

impl Revisions {
    pub(crate) fn contains(self, revision: u64) -> bool {
        (self.least..=self.most).contains(&revision)
    }
}

/// All.
impl Default for Revisions {
    fn default() -> Revisions {
        Revisions { least: 0, most: u64::MAX }
    }
}

/// An order of keys; what ties stays in the order of its keys, in a descending order, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What decides.
    pub by: OrderBy,
    /// The largest comes first.
    pub descending: bool,
}

/// What an order goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderBy {
    /// The key, bytewise.
    Key,
    /// The version.
    Version,
    /// The revision of the creation.
    Create,
    /// The revision of the last write.
    Mod,
    /// The value, bytewise.
    Value,
}

impl Range {
    /// The read of one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Range {
        Range { key: key.into(), ..Range::default() }
    }

    /// The read of every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        let key: Bytes = prefix.into();
        let end = Some(prefix_end(&key));
        let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
        Range { key, end, ..Range::default() }
    }

    /// The same read at `revision`.
    #[must_use]
    pub fn at(self, revision: u64) -> Range {
        Range { revision, ..self }
    }

    /// The same read of at most `limit` keys.
    #[must_use]
    pub fn limit(self, limit: u64) -> Range {
        Range { limit, ..self }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Sees every write acknowledged before the read began, on any member.
    Linearizable,
    /// What this member has applied; may be behind, never goes back.
    Local,
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The keys found, in the order asked for, at most `limit`.
    pub kvs: Vec<Arc<KeyValue>>,
    /// How many keys the range holds, whatever the limit and the bounds of revisions.
    pub count: u64,
    /// True if the limit left keys out.
    pub more: bool,
    /// The store's revision when it answered (not the revision asked for).
    pub revision: u64,
}
