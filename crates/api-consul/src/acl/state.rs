//! Reading and changing what is kept of access control.
//!
//! Whatever is written is written together with one key, the mark: so one look at it tells whether anything has changed,
//! and a change that is decided from what was read is made only if nothing else has changed meanwhile.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{Compare, DeleteRange, KeyValue, Op, Put, Range, Read, ReadError, Store, Txn};
use uuid::Uuid;

use super::record::{Kept, Policy, Role, Token};
use crate::keyspace::{ACL_MARK, acl_expiration, acl_secret};
use crate::refusal::Refusal;

/// Attempts to change something while others do.
const ATTEMPTS: usize = 100;

/// All of access control as it was at one revision.
#[derive(Clone)]
pub(super) struct View {
    store: Store,
    revision: u64,
    /// The revision of the last change.
    pub(super) mark: u64,
}

impl View {
    pub(super) async fn read(store: &Store, read: Read) -> Result<View, ReadError> {
        let found = store.range(Range::key(ACL_MARK), read).await?;
        let mark = found.kvs.first().map_or(0, |kv| kv.mod_revision);
        Ok(View { store: store.clone(), revision: found.revision, mark })
    }

    async fn range(&self, range: Range) -> Result<Vec<Arc<KeyValue>>, Refusal> {
        match self.store.range(range.at(self.revision), Read::Local).await {
            Err(ReadError::Compacted { .. }) => {
                Err(Refusal::Busy("the store changed too much meanwhile; try again".to_owned()))
            }
            found => Ok(found?.kvs),
        }
    }

    /// What is under a key, if it is there.
    pub(super) async fn at(&self, key: impl Into<Bytes>) -> Result<Option<Arc<KeyValue>>, Refusal> {
        Ok(self.range(Range::key(key)).await?.into_iter().next())
    }

    pub(super) async fn get<T: Kept>(&self, id: Uuid) -> Result<Option<T>, Refusal> {
        self.at(T::key(id)).await?.map(|kv| T::decode(&kv)).transpose()
    }

    /// A token that still counts.
    pub(super) async fn token(&self, accessor: Uuid) -> Result<Option<Token>, Refusal> {
        Ok(self.get::<Token>(accessor).await?.filter(|token| !token.has_expired()))
    }

    pub(super) async fn all<T: Kept>(&self) -> Result<Vec<T>, Refusal> {
        self.range(Range::prefix(T::PREFIX)).await?.iter().map(|kv| T::decode(kv)).collect()
    }

    /// The token with this secret, if it still counts.
    pub(super) async fn by_secret(&self, secret: &str) -> Result<Option<Token>, Refusal> {
        let Some(kv) = self.at(acl_secret(secret)).await? else { return Ok(None) };
        let Ok(accessor) = Uuid::from_slice(&kv.value) else {
            return Err(Refusal::failed("what is stored of a token is damaged"));
        };
        Ok(self.token(accessor).await?.filter(|token| token.secret.reveal() == secret))
    }

    /// The names of all policies and roles.
    pub(super) async fn names(&self) -> Result<Names, Refusal> {
        let policies = self.all::<Policy>().await?.into_iter();
        let roles = self.all::<Role>().await?.into_iter();
        Ok(Names {
            policies: policies.map(|policy| (policy.id, policy.name)).collect(),
            roles: roles.map(|role| (role.id, role.name)).collect(),
        })
    }
}

/// Names by ids.
pub(super) struct Names {
    pub(super) policies: HashMap<Uuid, String>,
    pub(super) roles: HashMap<Uuid, String>,
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Change {
    ops: Vec<Op>,
}

impl Change {
    pub(super) fn op(&mut self, op: impl Into<Op>) {
        self.ops.push(op.into());
    }

    pub(super) fn put<T: Kept>(&mut self, kept: &T) -> Result<(), Refusal> {
        self.op(Put::new(T::key(kept.id()), kept.encode()?));
        Ok(())
    }

    pub(super) fn delete<T: Kept>(&mut self, id: Uuid) {
        self.op(DeleteRange::key(T::key(id)));
    }

    /// Keeps a new token, with what it is found by.
    pub(super) fn put_token(&mut self, token: &Token) -> Result<(), Refusal> {
        self.put(token)?;
        let accessor = Bytes::copy_from_slice(token.accessor.as_bytes());
        self.op(Put::new(acl_secret(token.secret.reveal()), accessor));
        if let Some(key) = expiration(token) {
            self.op(Put::new(key, Bytes::new()));
        }
        Ok(())
    }

    pub(super) fn delete_token(&mut self, token: &Token) {
        self.delete::<Token>(token.accessor);
        self.op(DeleteRange::key(acl_secret(token.secret.reveal())));
        if let Some(key) = expiration(token) {
            self.op(DeleteRange::key(key));
        }
    }
}

fn expiration(token: &Token) -> Option<Bytes> {
    let time_ms = token.expires?.as_millisecond();
    Some(acl_expiration(u64::try_from(time_ms).unwrap_or(0), token.accessor))
}

/// Makes up a change and does it, if nothing of access control has changed meanwhile; otherwise it is made up again.
/// The revision of the change comes with what it is about.
pub(super) async fn change<T, F>(
    store: &Store,
    decide: impl Fn(View) -> F,
) -> Result<(T, u64), Refusal>
where
    F: Future<Output = Result<(Change, T), Refusal>>,
{
    for _ in 0..ATTEMPTS {
        let view = View::read(store, Read::Linearizable).await?;
        let (mark, revision) = (view.mark, view.revision);
        let (change, about) = decide(view).await?;
        if change.ops.is_empty() {
            return Ok((about, revision));
        }
        let mut txn = Txn::new().when(Compare::unchanged(ACL_MARK, mark));
        txn = txn.then(Put::new(ACL_MARK, Bytes::new()));
        txn.success.extend(change.ops);
        let done = store.txn(txn).await?;
        if done.succeeded {
            // So that it counts on this server when it is answered. If this fails, it is done all the same.
            drop(store.range(Range::key(ACL_MARK), Read::Linearizable).await);
            return Ok((about, done.revision));
        }
    }
    Err(Refusal::Busy(
        "others change tokens, policies and roles all the time; try again".to_owned(),
    ))
}
