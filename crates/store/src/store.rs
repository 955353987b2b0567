//! The store: what the rest of the program uses.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;

use crate::check::MemberFiles;
use crate::command::{Command, Reply};
use crate::config::StoreConfig;
use crate::core::Core;
use crate::disk;
use crate::error::{MemberError, OpenError, ReadError, SnapshotError, WatchError, WriteError};
use crate::hash::{MemberHash, StateHash};
use crate::hub::Slack;
use crate::lease::{Lease, LeaseStatus};
use crate::log::Health;
use crate::member::{Leadership, Member, MemberChange, MemberId, MemberStatus};
use crate::raft::{Answer, Call, CallError, Calls, Server, Shortage, blocking};
use crate::range::{Range, RangeResponse, Read};
use crate::retry::Retry;
use crate::runtime::{self, watch};
use crate::snapshot_stream::SnapshotStream;
use crate::transport::{BoxedStream, Transport};
use crate::txn::{DeleteRange, OpResponse, Put, Txn, TxnResponse};
use crate::watch::{Watch, WatchRequest};

/// The replicated key-value state as this member holds it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
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
    /// About how many bytes they take, without their history.
    pub keys_bytes: u64,
    /// True while the disk is full and writes are refused.
    pub disk_full: bool,
    /// What a snapshot waits for that finds no room on the disk.
    pub snapshot_waits: Option<Shortage>,
    /// Why the store stopped, if it did.
    pub failed: Option<String>,
}

impl Store {
    /// Opens the store in `config.dir`, restores its state and starts to take part.
    ///
    /// An empty directory is fine: the store waits to be bootstrapped or added by another member.
    /// Its tasks run in the runtime that this is called in; a runtime of its own keeps heartbeats
    /// from waiting behind other work. They run until [`Store::shutdown`].
    pub async fn open(
        config: StoreConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Store, OpenError> {
        Ok(Store { core: crate::open::open(config, transport).await? })
    }

    /// Makes a cluster of one out of this store. Durable when it returns; this member leads.
    pub async fn bootstrap(&self, me: Member) -> Result<(), MemberError> {
        self.core.bootstrap(me).await
    }

    /// Serves a connection that another member opened, until it ends or the store stops.
    pub async fn serve(&self, stream: BoxedStream) {
        let server = Server {
            me: self.core.me(),
            engine: self.core.engine.clone(),
            snapshots: Arc::clone(&self.core.snapshots),
            votes_from: self.core.votes_from,
            calls: Arc::clone(&self.core) as Arc<dyn Calls>,
        };
        tokio::select! {
            biased;
            () = self.core.stop.cancelled() => {}
            ended = server.serve(stream) => if let Err(error) = ended {
                tracing::debug!(%error, "a connection from a member ended");
            },
        }
    }

    /// Adds a member: as a learner, then, when it has caught up, as a voter. May be asked of any
    /// member, and again if it failed half way. The number must be one that no member has had
    /// before ([`MemberError::Former`]).
    pub async fn add_member(&self, member: Member) -> Result<(), MemberError> {
        self.core.change(MemberChange::Add(member)).await
    }

    /// Adds a member as a learner: it receives the state and does not count. Nothing is done if it
    /// is a member already.
    pub async fn add_learner(&self, member: Member) -> Result<(), MemberError> {
        self.core.change(MemberChange::AddLearner(member)).await
    }

    /// Makes a learner a voter; refused with [`MemberError::Behind`] while it lags. Nothing is done
    /// if it is a voter already.
    pub async fn promote_member(&self, id: MemberId) -> Result<(), MemberError> {
        self.core.change(MemberChange::Promote(id)).await
    }

    /// Gives the member of a known number another name or address.
    pub async fn update_member(&self, member: Member) -> Result<(), MemberError> {
        self.core.change(MemberChange::Update(member)).await
    }

    /// Removes a member; refused if those that remain would be no quorum of those that answer.
    pub async fn remove_member(&self, id: MemberId) -> Result<(), MemberError> {
        self.core.change(MemberChange::Remove(id)).await
    }

    /// The members this store knows, by number.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        self.core.member_statuses()
    }

    /// Who leads, and when that changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }

    /// Hands leadership to `to`, or to the member that is most up to date. Does nothing elsewhere
    /// than on the leader.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) -> Result<(), MemberError> {
        self.core.transfer(to).await
    }

    /// Does a transaction; on any member. When it answers, a quorum has the transaction on disk.
    /// One that only reads is a linearizable read.
    pub fn txn(&self, txn: Txn) -> impl Future<Output = Result<TxnResponse, WriteError>> + Send {
        self.txn_with(txn, Read::Linearizable)
    }

    /// The same; one that only reads is as fresh as `read` says.
    pub async fn txn_with(&self, txn: Txn, read: Read) -> Result<TxnResponse, WriteError> {
        crate::mvcc::validate(&txn)?;
        if txn.is_read_only() {
            if read == Read::Linearizable {
                self.core.linearize().await.map_err(WriteError::from)?;
            }
            // Writes go on while the answer is made of what was found.
            let found = self.core.replica.state().find_txn(&txn)?;
            return Ok(found.answer());
        }
        match self.core.propose(Command::Txn(txn)).await? {
            Reply::Txn(response) => Ok(response),
            _ => Err(WriteError::Stopped),
        }
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
        let response = self.txn(Txn::new().then(DeleteRange::key(key))).await?;
        Ok(match response.responses.first() {
            Some(OpResponse::DeleteRange { deleted, .. }) => *deleted,
            _ => 0,
        })
    }

    /// Reads keys.
    pub async fn range(&self, range: Range, read: Read) -> Result<RangeResponse, ReadError> {
        self.range_within(range, read, usize::MAX).await
    }

    /// The same; refused with [`ReadError::TooLarge`], before anything is copied, if it would have more than `limit` bytes.
    pub async fn range_within(
        &self,
        range: Range,
        read: Read,
        limit: usize,
    ) -> Result<RangeResponse, ReadError> {
        if read == Read::Linearizable {
            self.core.linearize().await?;
        }
        // Writes go on while the answer is made of what was found.
        let found = self.core.replica.state().find(&range)?;
        let bytes = found.bytes();
        if bytes > limit {
            return Err(ReadError::TooLarge { bytes, limit });
        }
        Ok(found.answer())
    }

    /// Follows changes as this member applies them.
    pub fn watch(&self, request: WatchRequest) -> Result<Watch, WatchError> {
        let replica = &self.core.replica;
        let tuning = &self.core.config.tuning;
        let (batches, bytes) = (tuning.watch_queue, tuning.watch_queue_bytes);
        let slack = Slack { batches, bytes, together: tuning.watch_bytes };
        let subscription = replica.hub.subscribe(request, slack, || replica.state())?;
        let revision = replica.state().revision();
        Ok(Watch::new(subscription, Arc::clone(&replica.hub), revision))
    }

    /// Forgets history before `revision`; done automatically as well.
    pub async fn compact(&self, revision: u64) -> Result<(), WriteError> {
        self.core.propose(Command::Compact(revision)).await.map(|_| ())
    }

    /// The newest revision this member has applied; 1 before the first write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.core.replica.state().revision()
    }

    /// The oldest revision that can be read; 0 is "all".
    #[must_use]
    pub fn compact_revision(&self) -> u64 {
        self.core.replica.state().compact_revision()
    }

    /// Grants a lease of `ttl` seconds, under a given number or a new one.
    pub async fn lease_grant(&self, ttl: i64, id: Option<i64>) -> Result<Lease, WriteError> {
        let id = id.unwrap_or_else(any_lease_id);
        match self.core.propose(Command::LeaseGrant(Lease { id, ttl })).await? {
            Reply::Granted(lease) => Ok(lease),
            _ => Err(WriteError::Stopped),
        }
    }

    /// Gives a lease its full time again; answers with that time in seconds.
    pub async fn lease_keepalive(&self, id: i64) -> Result<i64, WriteError> {
        match self.ask(Call::KeepAlive(id)).await? {
            Answer::KeptAlive(result) => result,
            _ => Err(WriteError::Stopped),
        }
    }

    /// Ends a lease: its keys are deleted at one revision.
    pub async fn lease_revoke(&self, id: i64) -> Result<(), WriteError> {
        self.core.propose(Command::LeaseRevoke(id)).await.map(|_| ())
    }

    /// What is left of a lease, and its keys; asked of the leader.
    pub async fn lease_status(&self, id: i64) -> Result<LeaseStatus, WriteError> {
        match self.ask(Call::LeaseStatus(id)).await? {
            Answer::LeaseStatus(result) => result,
            _ => Err(WriteError::Stopped),
        }
    }

    /// The leases that this member knows.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.core.replica.state().leases()
    }

    /// Has a snapshot on disk that holds all that is applied now; returns when it is there.
    pub async fn snapshot(&self) -> Result<(), SnapshotError> {
        self.core.snapshot().await
    }

    /// A consistent copy of the state as the bytes of a snapshot file; writes go on meanwhile.
    pub async fn snapshot_stream(&self) -> Result<SnapshotStream, SnapshotError> {
        self.core.snapshot_stream().await
    }

    /// A check sum of this member's copy as of `revision` (0 is the newest); see [`StateHash`].
    pub async fn hash(&self, revision: u64) -> Result<StateHash, ReadError> {
        self.core.hash(revision).await
    }

    /// The check sums of all members' copies at one revision; those with the same
    /// `compact_revision` can be compared.
    pub async fn hashes(&self) -> Result<Vec<MemberHash>, ReadError> {
        self.core.hashes().await
    }

    /// Has all members read every byte of their files and check it.
    pub async fn files(&self) -> Vec<MemberFiles> {
        self.core.all_files().await
    }

    /// How this store is doing.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let core = &self.core;
        let (last_index, snapshot_index) = {
            let metrics = core.engine.metrics();
            let metrics = metrics.borrow_watched();
            let snapshot = metrics.snapshot.as_ref().map_or(0, |id| id.index());
            (metrics.last_log_index.unwrap_or(0), snapshot)
        };
        let health = core.health.borrow().clone();
        let failed = match health {
            Health::Failed(ref reason) => Some(reason.clone()),
            Health::Good | Health::Full => core.failure(),
        };
        let state = core.replica.state();
        StoreStatus {
            member: core.me(),
            leadership: core.leader(),
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            last_index,
            applied_index: core.replica.applied().borrow().saturating_sub(1),
            snapshot_index,
            log_bytes: core.log.size().bytes,
            keys: state.live_keys(),
            keys_bytes: state.live_bytes(),
            disk_full: health == Health::Full,
            snapshot_waits: core.replica.room.shortage(),
            failed,
        }
    }

    /// Bytes of all files of this store: the log, files kept for it, snapshots.
    pub async fn disk_bytes(&self) -> io::Result<u64> {
        let dirs = [self.core.log.dir().to_owned(), self.core.snapshots.dir().to_owned()];
        blocking(move || dirs.iter().map(|dir| disk::bytes_in(dir)).sum()).await
    }

    /// Hands leadership over if this member leads, stops, and closes the files.
    pub async fn shutdown(&self) {
        let core = &self.core;
        if let Err(error) = core.transfer(None).await {
            tracing::debug!(%error, "nobody took over");
        }
        core.stop.cancel();
        if let Err(error) = core.engine.shutdown().await {
            tracing::warn!(%error, "the consensus engine did not stop cleanly");
        }
        core.replica.hub.close();
        core.leadership.send_replace(Leadership::default());
        let log = Arc::clone(&core.log);
        if runtime::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("the log was not closed cleanly");
        }
    }

    #[cfg(test)]
    pub(crate) fn core_for_tests(&self) -> &Core {
        &self.core
    }

    /// Asks the leader, whoever it is, until it answers or time is up.
    async fn ask(&self, call: Call) -> Result<Answer, WriteError> {
        let core = &self.core;
        if !core.in_cluster() {
            return Err(WriteError::NotInCluster);
        }
        let timeout = core.config.tuning.request_timeout;
        let mut retry = Retry::new(timeout, core.leadership.subscribe());
        loop {
            if core.is_stopped() {
                return Err(WriteError::Stopped);
            }
            let again = match &call {
                Call::KeepAlive(id) => Call::KeepAlive(*id),
                Call::LeaseStatus(id) => Call::LeaseStatus(*id),
                _ => return Err(WriteError::Stopped),
            };
            let answer = if core.leader().is_me {
                core.answer(again).await.map_err(CallError::Refused)
            } else {
                core.ask_leader(again, retry.left()).await
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, "the leader does not answer"),
            }
            if !retry.pause().await {
                return Err(WriteError::NoLeader { waited_ms: retry.waited_ms() });
            }
        }
    }
}

/// A lease id that nobody has, as good as certainly.
fn any_lease_id() -> i64 {
    i64::try_from(runtime::number() >> 1).unwrap_or(1).max(1)
}
