//! What a store is made of, and who leads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::StoreConfig;
use crate::disk::Lock;
use crate::linearize::Reads;
use crate::log::{Health, Log};
use crate::member::{Leadership, Member, MemberId};
use crate::propose::Proposer;
use crate::raft::{Answer, Call, CallError, Engine, Network, Refusal, Replica};
use crate::runtime::{Instant, watch};
use crate::snapshot::SnapshotFiles;

/// The parts of a store, shared by its handles and its tasks.
pub(crate) struct Core {
    pub(crate) config: StoreConfig,
    pub(crate) engine: Engine,
    pub(crate) replica: Arc<Replica>,
    pub(crate) log: Arc<Log>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) snapshots: Arc<SnapshotFiles>,
    pub(crate) network: Network,
    pub(crate) proposer: Proposer,
    pub(crate) reads: Reads,
    pub(crate) leadership: watch::Sender<Leadership>,
    /// Held while this member, as the leader, changes members.
    pub(crate) changing: Mutex<()>,
    /// Held while the copy is hashed or the files are read, which takes a while.
    pub(crate) checking: Mutex<()>,
    /// Snapshots that may still be opened to be read.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
    /// No vote is given before.
    pub(crate) votes_from: Instant,
    /// Held while the store is open, so that no other process opens it.
    pub(crate) _lock: Lock,
}

impl Core {
    /// This member's number.
    pub(crate) fn me(&self) -> MemberId {
        self.config.member
    }

    /// Who leads, as far as is known.
    pub(crate) fn leader(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// The members of the newest configuration.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.engine.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(_, member)| member.clone()).collect()
    }

    /// Those whose copies count, in any half of a change that is being made.
    pub(crate) fn voters(&self) -> BTreeSet<MemberId> {
        let metrics = self.engine.server_metrics();
        metrics.borrow_watched().membership_config.voter_ids().collect()
    }

    /// True once the store was bootstrapped or added somewhere.
    pub(crate) fn in_cluster(&self) -> bool {
        let metrics = self.engine.server_metrics();
        metrics.borrow_watched().membership_config.nodes().next().is_some()
    }

    /// True if the engine stopped.
    pub(crate) fn failure(&self) -> Option<String> {
        let metrics = self.engine.metrics();
        metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string)
    }

    /// True if the store was closed or its engine stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() || self.failure().is_some()
    }

    /// Asks the leader, which is another member, for as long as it leads.
    pub(crate) async fn ask_leader(
        &self,
        call: Call,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let mut leadership = self.leadership.subscribe();
        let leader = leadership.borrow_and_update().leader.filter(|leader| *leader != self.me());
        let member = leader.and_then(|id| self.members().into_iter().find(|m| m.id == id));
        let Some(member) = member else { return Err(CallError::Refused(Refusal::NotLeader)) };
        let peer = self.network.peer(&member);
        tokio::select! {
            biased;
            answer = peer.call(call, timeout) => answer,
            _ = leadership.wait_for(|now| now.leader != leader) => {
                Err(CallError::Lost("it does not lead any more"))
            }
        }
    }
}
