//! What a transaction may ask: checks that need no state, and those that do.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::State;
use crate::error::{ReadError, WriteError};
use crate::range::Range;
use crate::txn::{MAX_DEPTH, Op, Put, Txn};

/// Checks what can be checked before proposing: keys are not empty, none is written twice.
pub(crate) fn validate(txn: &Txn) -> Result<(), WriteError> {
    check_keys(txn, 0)?;
    branch(&txn.success)?;
    branch(&txn.failure)?;
    Ok(())
}

fn check_keys(txn: &Txn, depth: usize) -> Result<(), WriteError> {
    if depth > MAX_DEPTH {
        return Err(WriteError::TooDeep { limit: MAX_DEPTH });
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(WriteError::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) if range.key.is_empty() => return Err(WriteError::EmptyKey),
            Op::Put(put) if put.key.is_empty() => return Err(WriteError::EmptyKey),
            Op::DeleteRange(delete) if delete.key.is_empty() => return Err(WriteError::EmptyKey),
            Op::Txn(inner) => check_keys(inner, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// What a branch writes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Option<Bytes>)>,
}

impl Writes {
    fn deletes_key(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|(start, end)| match end.as_deref() {
            None => key == start,
            Some(b"\0") => key >= start,
            Some(end) => key >= start && &key[..] < end,
        })
    }

    fn put(&mut self, key: &Bytes) -> Result<(), WriteError> {
        if self.deletes_key(key) || !self.puts.insert(key.clone()) {
            return Err(WriteError::DuplicateKey { key: key.clone() });
        }
        Ok(())
    }
}

/// The rules of etcd's `checkIntervals`: in one branch a key is put at most once and not both put
/// and deleted; the two branches of an inner transaction may write the same keys.
fn branch(ops: &[Op]) -> Result<Writes, WriteError> {
    let mut writes = Writes::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op {
            writes.deletes.push((delete.key.clone(), delete.end.clone()));
        }
    }
    for op in ops {
        let Op::Txn(inner) = op else { continue };
        let success = branch(&inner.success)?;
        let failure = branch(&inner.failure)?;
        for key in success.puts.union(&failure.puts) {
            writes.put(key)?;
        }
        for (start, end) in success.deletes.into_iter().chain(failure.deletes) {
            writes.deletes.push((start, end));
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            writes.put(&put.key)?;
        }
    }
    Ok(writes)
}

impl State {
    /// Checks that a read's revision is there to be read.
    pub(super) fn check_range(&self, range: &Range) -> Result<(), ReadError> {
        if range.revision > self.revision {
            return Err(ReadError::Future { asked: range.revision, revision: self.revision });
        }
        if range.revision != 0 && range.revision < self.compact_revision {
            return Err(ReadError::Compacted { compact_revision: self.compact_revision });
        }
        Ok(())
    }

    /// Checks that a put finds what it needs.
    pub(super) fn check_put(&self, put: &Put) -> Result<(), WriteError> {
        let exists = || self.keys.get(&put.key[..]).is_some_and(|slot| slot.live().is_some());
        if (put.ignore_value || put.ignore_lease) && !exists() {
            return Err(WriteError::KeyNotFound { key: put.key.clone() });
        }
        if !put.ignore_lease && put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(WriteError::LeaseNotFound { id: put.lease });
        }
        Ok(())
    }
}
