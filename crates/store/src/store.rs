//! The store: what the rest of the program uses.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::StoreConfig;
use crate::error::{MemberError, OpenError, ReadError, WatchError, WriteError};
use crate::lease::{Lease, LeaseStatus};
use crate::member::{Leadership, Member, MemberId, MemberStatus};
use crate::range::{Range, RangeResponse, Read};
use crate::transport::{BoxedStream, Transport};
use crate::txn::{DeleteRange, Put, Txn, TxnResponse};
use crate::watch::{Watch, WatchRequest};

/// The replicated key-value state as this member holds it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    leadership: watch::Receiver<Leadership>,
}

/// How a store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// This member.
    pub member: MemberId,
    /// Who leads.
    pub leadership: Leadership,
    /// The newest revision applied here.
    pub revision: u64,
    /// The oldest revision that can be read.
    pub compact_revision: u64,
    /// Last log entry stored.
    pub last_index: u64,
    /// Last log entry known to be committed and applied.
    pub applied_index: u64,
    /// Last log entry contained in the newest snapshot.
    pub snapshot_index: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Keys that exist.
    pub keys: u64,
    /// True while the disk is full and writes are refused.
    pub disk_full: bool,
    /// Why the store stopped, if it did.
    pub failed: Option<String>,
}

impl Store {
    /// Opens the store in `config.dir`, restores its state and starts to take part.
    ///
    /// An empty directory is fine: the store waits to be bootstrapped or added by another member.
    pub async fn open(
        config: StoreConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Store, OpenError> {
        let _ = (config, transport);
        let (_, leadership) = watch::channel(Leadership::default());
        Ok(Store { inner: Arc::new(Inner { leadership }) })
    }

    /// Makes a cluster of one out of this store. Durable when it returns; this member leads.
    pub async fn bootstrap(&self, me: Member) -> Result<(), MemberError> {
        let _ = me;
        Err(MemberError::Stopped)
    }

    /// Serves a connection that another member opened, until it ends or the store stops.
    pub async fn serve(&self, stream: BoxedStream) {
        drop(stream);
    }

    /// Adds a member: as a learner, then, when it has caught up, as a voter. May be asked of any
    /// member, and again if it failed half way.
    pub async fn add_member(&self, member: Member) -> Result<(), MemberError> {
        let _ = member;
        Err(MemberError::Stopped)
    }

    /// Removes a member; refused if those that remain would be no quorum of those that answer.
    pub async fn remove_member(&self, id: MemberId) -> Result<(), MemberError> {
        let _ = id;
        Err(MemberError::Stopped)
    }

    /// The members this store knows, by number.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        Vec::new()
    }

    /// Who leads, and when that changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Hands leadership to `to`, or to the member that is most up to date. Does nothing elsewhere
    /// than on the leader.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) -> Result<(), MemberError> {
        let _ = to;
        Err(MemberError::Stopped)
    }

    /// Does a transaction; on any member. When it answers, a quorum has the transaction on disk.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, WriteError> {
        let _ = txn;
        Err(WriteError::NotInCluster)
    }

    /// Writes a key; answers with the revision.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<u64, WriteError> {
        Ok(self.txn(Txn::new().then(Put::new(key, value))).await?.revision)
    }

    /// Deletes a key; answers with the number of keys deleted, 0 or 1.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<u64, WriteError> {
        self.txn(Txn::new().then(DeleteRange::key(key))).await?;
        Ok(0)
    }

    /// Reads keys.
    pub async fn range(&self, range: Range, read: Read) -> Result<RangeResponse, ReadError> {
        let _ = (range, read);
        Err(ReadError::NotInCluster)
    }

    /// Follows changes as this member applies them.
    pub fn watch(&self, request: WatchRequest) -> Result<Watch, WatchError> {
        let _ = request;
        Err(WatchError::Compacted { compact_revision: 0 })
    }

    /// Forgets history before `revision`; done automatically as well.
    pub async fn compact(&self, revision: u64) -> Result<(), WriteError> {
        let _ = revision;
        Err(WriteError::NotInCluster)
    }

    /// The newest revision this member has applied.
    #[must_use]
    pub fn revision(&self) -> u64 {
        0
    }

    /// The oldest revision that can be read.
    #[must_use]
    pub fn compact_revision(&self) -> u64 {
        0
    }

    /// Grants a lease of `ttl` seconds, under a given number or a new one.
    pub async fn lease_grant(&self, ttl: i64, id: Option<i64>) -> Result<Lease, WriteError> {
        let _ = (ttl, id);
        Err(WriteError::NotInCluster)
    }

    /// Gives a lease its full time again; answers with that time in seconds.
    pub async fn lease_keepalive(&self, id: i64) -> Result<i64, WriteError> {
        let _ = id;
        Err(WriteError::NotInCluster)
    }

    /// Ends a lease: its keys are deleted at one revision.
    pub async fn lease_revoke(&self, id: i64) -> Result<(), WriteError> {
        let _ = id;
        Err(WriteError::NotInCluster)
    }

    /// What is left of a lease, and its keys; asked of the leader.
    pub async fn lease_status(&self, id: i64) -> Result<LeaseStatus, WriteError> {
        let _ = id;
        Err(WriteError::NotInCluster)
    }

    /// The leases that this member knows.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        Vec::new()
    }

    /// Writes a snapshot now; returns when it is on disk.
    pub async fn snapshot(&self) -> Result<(), WriteError> {
        Err(WriteError::NotInCluster)
    }

    /// How this store is doing.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        StoreStatus {
            member: 0,
            leadership: Leadership::default(),
            revision: 0,
            compact_revision: 0,
            last_index: 0,
            applied_index: 0,
            snapshot_index: 0,
            log_bytes: 0,
            keys: 0,
            disk_full: false,
            failed: None,
        }
    }

    /// Hands leadership over if this member leads, stops, and closes the files.
    pub async fn shutdown(&self) {}
}
