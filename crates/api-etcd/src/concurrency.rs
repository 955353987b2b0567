//! The Lock and Election services, for clients that leave the waiting to the server.
//!
//! Whoever wants something has a key below its name, which is bound to a lease; the oldest of these keys has it, and the
//! others wait. These are the keys that clients write which do the waiting themselves, so both kinds respect each other.

mod election;
mod lock;
mod place;

use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{ANSWER_MAX, KeyValue, Range, Read, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::keyspace::Span;
use crate::server::{EtcdServer, Inner};
use crate::status::{Code, PERMISSION_DENIED, Status, TOO_MANY_REQUESTS};

/// The keys of all that want the same, by its name.
#[derive(Clone)]
struct Candidates {
    store: Store,
    /// Places for watchers.
    watchers: Arc<Semaphore>,
    /// What all their keys begin with.
    prefix: Bytes,
}

/// These services of etcd's are clients of its other ones, and pass on the words of what those refuse, without the code.
fn passed_on(status: Status) -> Status {
    match status.code {
        Code::InvalidArgument | Code::NotFound => Status { code: Code::Unknown, ..status },
        _ => status,
    }
}

/// The candidates at a revision.
struct Found {
    revision: u64,
    /// In the order of their keys, without values.
    keys: Vec<Arc<KeyValue>>,
}

impl Found {
    /// Who has it.
    fn oldest(&self) -> Option<&KeyValue> {
        self.keys.iter().map(|kv| &**kv).min_by_key(|kv| kv.create_revision)
    }

    /// The youngest that is older than `revision`.
    fn before(&self, revision: u64) -> Option<&KeyValue> {
        let older = self.keys.iter().map(|kv| &**kv).filter(|kv| kv.create_revision < revision);
        older.max_by_key(|kv| kv.create_revision)
    }

    /// True if this very key is among them.
    fn has(&self, key: &[u8], revision: u64) -> bool {
        self.keys.iter().any(|kv| kv.key == key && kv.create_revision == revision)
    }
}

impl Candidates {
    /// Those for `name`; refused if any of the cluster's own keys could be among them.
    fn of(server: &EtcdServer, name: &[u8]) -> Result<Candidates, Status> {
        let prefix = Bytes::from([name, b"/"].concat());
        let Range { key, end, .. } = Range::prefix(prefix.clone());
        if (Span { key, end }).touches_hidden() {
            return Err(PERMISSION_DENIED);
        }
        let Inner { store, watchers, .. } = &*server.inner;
        Ok(Candidates { store: store.clone(), watchers: Arc::clone(watchers), prefix })
    }

    /// A place for one who watches; refused where too many do.
    fn watcher(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| TOO_MANY_REQUESTS)
    }

    /// The key of the candidate with this lease.
    fn key(&self, lease: i64) -> Bytes {
        let lease = format!("{lease:x}");
        Bytes::from([&self.prefix[..], lease.as_bytes()].concat())
    }

    async fn find(&self) -> Result<Found, Status> {
        let range = Range { keys_only: true, ..Range::prefix(self.prefix.clone()) };
        let found = self.store.range_within(range, Read::Linearizable, ANSWER_MAX).await?;
        Ok(Found { revision: found.revision, keys: found.kvs })
    }
}
