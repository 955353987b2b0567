//! A place in the queue of those that want the same.

use bytes::Bytes;
use pontoon_store::{
    Compare, CompareOp, DeleteRange, EventKind, OpResponse, Operand, Put, Range, Txn, WatchError,
    WatchRequest,
};

use super::Candidates;
use crate::grpc::REQUEST_MAX;
use crate::kv::own;
use crate::status::{Code, STOPPED, Status, TOO_LARGE};

/// Seconds that a candidate stays who names no lease; as in etcd.
const TTL: i64 = 60;

/// A candidate. If it is dropped before it is kept, nobody wants the place any more, and it is given up.
pub(super) struct Place {
    candidates: Candidates,
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// The revision that made the key.
    pub(super) since: u64,
    /// True if it is to be given up with this value.
    is_mine: bool,
}

impl Place {
    /// Takes a place, or the one that the lease has already; with this value, if the place is to have one. Goes on when it
    /// is not waited for any more: the place that it then has is given up.
    pub(super) async fn take(
        candidates: Candidates,
        lease: i64,
        value: Option<Bytes>,
    ) -> Result<Place, Status> {
        let bytes = candidates.prefix.len() + value.as_ref().map_or(0, Bytes::len);
        if bytes > REQUEST_MAX {
            return Err(TOO_LARGE);
        }
        let taken = tokio::spawn(Place::take_now(candidates, lease, value)).await;
        taken.unwrap_or_else(|error| Err(Status::new(Code::Internal, error.to_string())))
    }

    async fn take_now(
        candidates: Candidates,
        lease: i64,
        value: Option<Bytes>,
    ) -> Result<Place, Status> {
        let store = candidates.store.clone();
        let lease = match lease {
            0 => store.lease_grant(TTL, None).await?.id,
            lease => lease,
        };
        let key = candidates.key(lease);
        let put = Put::new(key.clone(), value.clone().unwrap_or_default()).lease(lease);
        let take = Txn::new().when(Compare::absent(key.clone())).then(put.clone());
        let taken = store.txn(take.otherwise(Range::key(key.clone()))).await?;
        let mut place = Place { candidates, key, lease, since: taken.revision, is_mine: true };
        let [OpResponse::Range(found)] = &taken.responses[..] else { return Ok(place) };
        place.is_mine = false;
        let Some(kv) = found.kvs.first() else { return Err(expired()) };
        place.since = kv.create_revision;
        if value.is_some_and(|value| value != kv.value) {
            let change = made_at(place.key.clone(), place.since);
            if !store.txn(Txn::new().when(change).then(put)).await?.succeeded {
                return Err(expired());
            }
        }
        Ok(place)
    }

    /// Waits until no candidate is older; answers with a revision at which that was so.
    pub(super) async fn be_first(&self) -> Result<u64, Status> {
        loop {
            let (before, revision) = {
                // Not kept while it waits: each of many that wait would have them all.
                let found = self.candidates.find().await?;
                if !found.has(&self.key, self.since) {
                    return Err(expired());
                }
                let Some(before) = found.before(self.since) else { return Ok(found.revision) };
                (own(&before.key), found.revision)
            };
            gone(&self.candidates, before, revision + 1).await?;
        }
    }

    /// Leaves the place taken.
    pub(super) fn keep(mut self) {
        self.is_mine = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mine {
            let give_up = leave(self.key.clone(), self.since);
            let store = self.candidates.store.clone();
            // If this fails, the place is free when its lease ends.
            tokio::spawn(async move { store.txn(give_up).await });
        }
    }
}

/// Deletes a candidate's key, if it is still the one that was made at `since`.
pub(super) fn leave(key: Bytes, since: u64) -> Txn {
    Txn::new().when(made_at(key.clone(), since)).then(DeleteRange::key(key))
}

/// That a key is still the one that was made at `since`.
pub(super) fn made_at(key: Bytes, since: u64) -> Compare {
    Compare::new(key, CompareOp::Equal, Operand::Create(since))
}

fn expired() -> Status {
    Status::new(Code::Unknown, "mutex: session is expired")
}

/// Waits until a key is deleted, from `revision` on; returns early where that cannot be told any more.
async fn gone(candidates: &Candidates, key: Bytes, revision: u64) -> Result<(), Status> {
    let _watcher = candidates.watcher()?;
    let store = &candidates.store;
    let mut from = revision;
    'again: loop {
        let Ok(mut watch) = store.watch(WatchRequest::key(key.clone()).from(from)) else {
            return Ok(());
        };
        loop {
            match watch.next().await {
                Some(Ok(batch)) => {
                    if batch.events.iter().any(|event| event.kind == EventKind::Delete) {
                        return Ok(());
                    }
                }
                Some(Err(WatchError::Lagged { resume })) => {
                    from = resume;
                    continue 'again;
                }
                Some(Err(WatchError::Compacted { .. })) => return Ok(()),
                None => return Err(STOPPED),
            }
        }
    }
}
