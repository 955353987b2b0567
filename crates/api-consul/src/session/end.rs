//! The end of a session: it goes, and what it holds is released or deleted, in one transaction.
//!
//! If what it holds is too much for one transaction, most of it goes before, while the session is still there: whoever
//! ends it again after a crash finds the rest.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{
    Compare, DeleteRange, KeyValue, Put, Range, Read, ReadError, Store, Txn, WriteError,
};
use uuid::Uuid;

use super::record::{Behavior, Record};
use crate::draft::nothing_since;
use crate::entry::Entry;
use crate::keyspace;
use crate::refusal::Refusal;

/// Bytes of entries that are released in one transaction.
const STEP_BYTES: usize = 2 << 20;
/// Keys that are released in one transaction.
const STEP_KEYS: usize = 2000;
/// Transactions that one end may take, those included that failed because a key was written meanwhile.
const STEPS_MAX: usize = 10_000;

/// Ends a session, if it is there.
pub(crate) async fn end(store: &Store, id: Uuid) -> Result<(), Refusal> {
    let mut delay = None;
    for _ in 0..STEPS_MAX {
        let Some(step) = Step::read(store, id).await? else { return Ok(()) };
        if delay.is_none() && !step.held.is_empty() {
            delay = lock_delay(store, &step.record).await?;
        }
        if store.txn(step.transaction(delay)).await?.succeeded && step.is_last {
            end_lease(store, &step.record).await;
            return Ok(());
        }
    }
    Err(Refusal::Busy(format!("what session {id} holds changes all the time; try again")))
}

/// As much of a session's end as is done in one transaction.
struct Step {
    record: Record,
    /// Keys that it holds, with their entries.
    held: Vec<(Bytes, Arc<KeyValue>, Entry)>,
    /// Nothing else is held: the session itself goes.
    is_last: bool,
    /// When all this was so.
    at: u64,
}

impl Step {
    /// What is to be done next; none if the session is not there.
    async fn read(store: &Store, id: Uuid) -> Result<Option<Step>, Refusal> {
        let found = store.range(Range::key(keyspace::session(id)), Read::Linearizable).await?;
        let Some(kv) = found.kvs.first() else { return Ok(None) };
        let (record, at) = (Record::decode(kv)?, found.revision);
        let prefix = keyspace::locks(id);
        let locks = read_at(store, Range::prefix(prefix.clone()), at).await?;
        let mut step = Step { record, held: Vec::new(), is_last: true, at };
        let mut bytes = 0;
        for lock in locks {
            if step.held.len() >= STEP_KEYS || bytes >= STEP_BYTES {
                step.is_last = false;
                break;
            }
            let key = lock.key.slice(prefix.len()..);
            let entry = read_at(store, Range::key(keyspace::kv(&key)), at).await?;
            let Some(kv) = entry.into_iter().next() else { continue };
            let entry = Entry::decode(&kv).map_err(|error| Refusal::Failed(error.to_string()))?;
            if entry.session == Some(id) {
                bytes += kv.value.len();
                step.held.push((key, kv, entry));
            }
        }
        Ok(Some(step))
    }

    fn transaction(&self, delay: Option<i64>) -> Txn {
        let id = self.record.id;
        let mut txn = Txn::new()
            .when(Compare::unchanged(keyspace::session(id), self.record.modify_index))
            .when(nothing_since(keyspace::locks(id), self.at));
        for (key, kv, entry) in &self.held {
            txn = txn.when(Compare::unchanged(kv.key.clone(), kv.mod_revision));
            txn = match self.record.behavior {
                Behavior::Delete => txn.then(DeleteRange::key(kv.key.clone())),
                Behavior::Release => {
                    let free = Entry { session: None, ..entry.clone() };
                    txn.then(Put::new(kv.key.clone(), free.encode()))
                }
            };
            if let Some(lease) = delay {
                txn = txn.then(Put::new(keyspace::lock_delay(key), Bytes::new()).lease(lease));
            }
            if !self.is_last {
                txn = txn.then(DeleteRange::key(keyspace::lock(id, key)));
            }
        }
        if self.is_last {
            txn = txn
                .then(DeleteRange::prefix(keyspace::locks(id)))
                .then(DeleteRange::key(keyspace::session(id)))
                .then(DeleteRange::key(keyspace::session_ttl(id)));
        }
        txn
    }
}

async fn read_at(store: &Store, range: Range, at: u64) -> Result<Vec<Arc<KeyValue>>, Refusal> {
    match store.range(range.at(at), Read::Local).await {
        Err(ReadError::Compacted { .. }) => {
            Err(Refusal::Busy("the store changed too much meanwhile; try again".to_owned()))
        }
        found => Ok(found?.kvs),
    }
}

/// The lease that keeps keys from being acquired. It counts whole seconds, and a new leader begins it again: a delay may
/// be longer than was asked for, not shorter.
async fn lock_delay(store: &Store, record: &Record) -> Result<Option<i64>, Refusal> {
    let delay = record.lock_delay();
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    if seconds == 0 {
        return Ok(None);
    }
    let ttl = i64::try_from(seconds).unwrap_or(i64::MAX);
    Ok(Some(store.lease_grant(ttl, None).await?.id))
}

/// The lease has nothing left to end; if this fails it ends by itself.
async fn end_lease(store: &Store, record: &Record) {
    let Some(lease) = record.lease else { return };
    match store.lease_revoke(lease).await {
        Ok(()) | Err(WriteError::LeaseNotFound { .. }) => {}
        Err(error) => tracing::debug!(%error, session = %record.id, "end a session's lease"),
    }
}
