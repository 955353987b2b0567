//! `/v1/snapshot`: everything of Consul's in one archive, and back.
//!
//! The archive has the form of Consul's, so that its command saves, inspects and restores it; what is inside is ours. A
//! restore is one transaction of the store, which takes all of `/consul/` away and writes what the archive has: nobody
//! sees half of it, and it is done or not. So no more can be restored than one transaction holds, and what could not be
//! restored is not saved either: a backup that fails when it is needed is worse than none.

mod archive;
mod state;

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use pontoon_store::{DeleteRange, Put, Range, Read, ReadError, Store, Txn, WriteError};

use crate::answer::Answer;
use crate::call::Call;
use crate::draft::nothing_since;
use crate::keyspace;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// What an operation of a transaction takes beside its key and value.
const OP_BYTES: usize = 24;
/// Attempts to restore while others write.
const ATTEMPTS: usize = 100;
/// The largest state in an archive: it must fit into one transaction of the store, with the frame of each key.
const STATE_MAX: usize = 3 << 20;

pub(crate) async fn answer(call: Call) -> Result<Answer, Refusal> {
    // Who may have all of it, tokens included, may do everything.
    call.require(Wish::AclWrite)?;
    if call.method == Method::GET { save(&call).await } else { restore(&call).await }
}

async fn save(call: &Call) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let all = Range::prefix(keyspace::ALL);
    let store = call.store();
    let found = store.range_within(all, options.consistency.read(), STATE_MAX).await;
    let found = found.map_err(|error| match error {
        ReadError::TooLarge { bytes, .. } => too_large(bytes),
        error => error.into(),
    })?;
    // What they are in the transaction that restores them, which is more if they are many and small.
    let bytes = found.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + OP_BYTES).sum();
    if bytes > STATE_MAX {
        return Err(too_large(bytes));
    }
    let state = state::State::of(&found.kvs, &store.leases()).encode()?;
    let term = store.status().leadership.term;
    let archive = archive::write(term, found.revision, &state)?;
    let meta = call.meta(&options, Some(found.revision));
    Ok(Answer::archive(archive).with_meta(meta))
}

fn too_large(bytes: usize) -> Refusal {
    Refusal::TooLarge(format!(
        "the keys of Consul's clients are {bytes} bytes, and no more than {STATE_MAX} could be restored at once; \
         save the whole store with `pontoon store snapshot save`"
    ))
}

async fn restore(call: &Call) -> Result<Answer, Refusal> {
    let state = archive::read(&call.body).map_err(|error| Refusal::Failed(error.to_string()))?;
    let mut state = state::State::decode(&state)?;
    let store = call.store();
    let mut granted = Vec::new();
    let restored = async {
        // Times to live begin again.
        let mut leases = BTreeMap::new();
        for (id, ttl) in &state.leases {
            let lease = store.lease_grant(*ttl, None).await?.id;
            granted.push(lease);
            leases.insert(*id, lease);
        }
        state.replace_leases(&leases)?;
        replace(store, &state).await
    };
    if let Err(refusal) = restored.await {
        for lease in granted {
            // What is left of them ends by itself.
            drop(store.lease_revoke(lease).await);
        }
        return Err(refusal);
    }
    tracing::warn!("the keys of Consul's clients were replaced by those of a snapshot");
    Ok(Answer::text(StatusCode::OK, String::new()))
}

/// Makes the keys of Consul's those of a state, in one transaction. What is there beside them is deleted, one by one since
/// a transaction writes no key twice; what somebody writes meanwhile makes it begin again.
async fn replace(store: &Store, state: &state::State) -> Result<(), Refusal> {
    for _ in 0..ATTEMPTS {
        let range = Range { keys_only: true, ..Range::prefix(keyspace::ALL) };
        let found = store.range(range, Read::Linearizable).await?;
        let mut txn = Txn::new().when(nothing_since(keyspace::ALL.into(), found.revision));
        for kv in &found.kvs {
            if state.records.binary_search_by(|record| record.key.cmp(&kv.key)).is_err() {
                txn = txn.then(DeleteRange::key(kv.key.clone()));
            }
        }
        for record in &state.records {
            let put = Put::new(record.key.clone(), record.value.clone());
            txn = txn.then(if record.lease == 0 { put } else { put.lease(record.lease) });
        }
        match store.txn(txn).await {
            Ok(done) if done.succeeded => return Ok(()),
            Ok(_) => {}
            Err(WriteError::TooLarge { bytes, limit }) => {
                return Err(Refusal::TooLarge(format!(
                    "the restore takes {bytes} bytes of a transaction, and the store takes {limit}; nothing was changed"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::Busy("others write keys all the time; nothing was changed, try again".to_owned()))
}
