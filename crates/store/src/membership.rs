//! Changing who holds the state, one member at a time, without ever losing the quorum by mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::metrics::WaitError;
use openraft::{ChangeMembers, RaftMetrics};

use crate::core::Core;
use crate::error::{MemberError, ReadError};
use crate::member::{Member, MemberChange, MemberId, MemberStatus, Role};
use crate::raft::{Answer, Call, CallError, Refusal, Types};
use crate::retry::Retry;
use crate::runtime::{self, Instant};

/// How long a change may take, the catching up of a new member included.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// A new member becomes a voter when it is behind by no more entries than this.
const CAUGHT_UP: u64 = 64;

/// A change that was not made: refused for good, or not by the leader.
enum Failed {
    Error(MemberError),
    Refused(Refusal),
}

impl From<MemberError> for Failed {
    fn from(error: MemberError) -> Failed {
        Failed::Error(error)
    }
}

type EngineError = RaftError<Types, ClientWriteError<Types>>;

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Failed {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                Failed::Refused(Refusal::NotLeader)
            }
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                Failed::Refused(Refusal::Deposed)
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::LearnerNotFound(missing),
            )) => Failed::Error(MemberError::NotFound { id: missing.node_id }),
            // The change before this one, or the first entry of a new leader, is not committed yet.
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            )) => Failed::Refused(Refusal::TooEarly),
            RaftError::APIError(error) => {
                tracing::debug!(%error, "members were not changed");
                Failed::Error(MemberError::Busy)
            }
            RaftError::Fatal(_) => Failed::Refused(Refusal::Stopped),
        }
    }
}

/// Closes the connections to members that were removed, until the store stops.
pub(crate) async fn forget_removed(core: Arc<Core>) {
    let mut metrics = core.engine.server_metrics();
    loop {
        let members: BTreeSet<MemberId> = {
            let metrics = metrics.borrow_and_update();
            metrics.membership_config.nodes().map(|(id, _)| *id).collect()
        };
        core.network.keep(&members);
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

impl Core {
    /// Makes a cluster of this member alone.
    pub(crate) async fn bootstrap(&self, me: Member) -> Result<(), MemberError> {
        let id = me.id;
        if id != self.me() {
            return Err(MemberError::NotFound { id });
        }
        match self.engine.initialize(BTreeMap::from([(id, me)])).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                return Err(MemberError::InCluster);
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                return Err(MemberError::NotFound { id });
            }
            Err(RaftError::Fatal(_)) => return Err(MemberError::Stopped),
        }
        let mut leadership = self.leadership.subscribe();
        let elected = leadership.wait_for(|leadership| leadership.is_me);
        match runtime::timeout(CHANGE_TIMEOUT, elected).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(MemberError::Stopped),
        }
    }

    /// Changes members, through whoever leads.
    pub(crate) async fn change(&self, change: MemberChange) -> Result<(), MemberError> {
        if !self.in_cluster() {
            return Err(MemberError::NotInCluster);
        }
        let mut retry = Retry::new(CHANGE_TIMEOUT, self.leadership.subscribe());
        loop {
            if self.is_stopped() {
                return Err(MemberError::Stopped);
            }
            let refusal = if self.leader().is_me {
                match self.change_here(&change).await {
                    Ok(result) => return result,
                    Err(refusal) => refusal,
                }
            } else {
                match self.forward_change(change.clone(), retry.left()).await {
                    Ok(result) => return result,
                    Err(refusal) => refusal,
                }
            };
            tracing::debug!(%refusal, "a change of members is tried again");
            if !retry.pause().await {
                return Err(MemberError::NoLeader { waited_ms: retry.waited_ms() });
            }
        }
    }

    async fn forward_change(
        &self,
        change: MemberChange,
        timeout: Duration,
    ) -> Result<Result<(), MemberError>, Refusal> {
        match self.ask_leader(Call::Members(change), timeout).await {
            Ok(Answer::Members(result)) => Ok(result),
            Ok(_) | Err(CallError::Unreachable(_)) => Err(Refusal::NotLeader),
            // Every change can be repeated: what is done already is no error.
            Err(CallError::Lost(_)) => Err(Refusal::Deposed),
            Err(CallError::Refused(refusal)) => Err(refusal),
        }
    }

    /// Changes members as the leader.
    pub(crate) async fn change_here(
        &self,
        change: &MemberChange,
    ) -> Result<Result<(), MemberError>, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        // One that was removed leads until the others have heard of it. The engine then still takes a change, which
        // could never be committed; with debug assertions it stops instead.
        if !self.voters().contains(&self.me()) {
            return Err(Refusal::NotLeader);
        }
        let changed = match change {
            MemberChange::Add(member) => self.add_here(member).await,
            MemberChange::AddLearner(member) => self.add_learner_here(member).await,
            MemberChange::Promote(id) => self.promote_here(*id).await,
            MemberChange::Update(member) => self.update_here(member).await,
            MemberChange::Remove(id) => self.remove_here(*id).await,
        };
        match changed {
            Ok(()) => Ok(Ok(())),
            Err(Failed::Error(error)) => Ok(Err(error)),
            Err(Failed::Refused(refusal)) => Err(refusal),
        }
    }

    async fn add_here(&self, member: &Member) -> Result<(), Failed> {
        self.add_learner_here(member).await?;
        if self.voters().contains(&member.id) {
            return Ok(());
        }
        self.wait_until_caught_up(member.id).await?;
        self.make_voter(member.id).await
    }

    async fn add_learner_here(&self, member: &Member) -> Result<(), Failed> {
        if !self.check_new(member)? {
            self.check_unused(member.id).await?;
            self.engine.add_learner(member.id, member.clone(), false).await?;
            tracing::info!(member = %member.name, address = %member.address, "a member was added");
        }
        Ok(())
    }

    /// Never waits: whoever promotes decides when to try again.
    async fn promote_here(&self, id: MemberId) -> Result<(), Failed> {
        let statuses = self.member_statuses();
        let Some(status) = statuses.iter().find(|status| status.member.id == id) else {
            return Err(MemberError::NotFound { id }.into());
        };
        if status.role == Role::Voter {
            return Ok(());
        }
        let last = self.log.ends().1.map_or(0, |last| last.index);
        let entries = last.saturating_sub(status.matched.unwrap_or(0));
        // One that does not answer would be wanted for the quorum of its own promotion.
        if status.matched.is_none() || entries > CAUGHT_UP || !self.answers(status) {
            return Err(MemberError::Behind { id, entries }.into());
        }
        self.make_voter(id).await
    }

    async fn make_voter(&self, id: MemberId) -> Result<(), Failed> {
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.engine.change_membership(voters, true).await?;
        tracing::info!(member = id, "a member became a voter");
        Ok(())
    }

    async fn update_here(&self, member: &Member) -> Result<(), Failed> {
        let id = member.id;
        let before = self.members().into_iter().find(|other| other.id == id);
        let before = before.ok_or(MemberError::NotFound { id })?;
        if before == *member {
            return Ok(());
        }
        self.check_free(member)?;
        // The member is wanted for the quorum of this very change, so it is called at the new
        // address from now on. Whoever else answers there is not it and says so (see `wire::Hello`).
        self.network.moved(member);
        let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member.clone())]));
        if let Err(error) = self.engine.change_membership(change, true).await {
            self.network.moved(&before);
            return Err(error.into());
        }
        tracing::info!(member = %member.name, address = %member.address, "a member was updated");
        Ok(())
    }

    /// True if the member is known; an error if its number, name or address is another's.
    fn check_new(&self, member: &Member) -> Result<bool, MemberError> {
        match self.members().iter().find(|other| other.id == member.id) {
            Some(other) if other == member => Ok(true),
            Some(_) => {
                let what = format!("number {:x}", member.id);
                Err(MemberError::Taken { what, id: member.id })
            }
            None => self.check_free(member).map(|()| false),
        }
    }

    /// Refuses a name or an address that another member has.
    fn check_free(&self, member: &Member) -> Result<(), MemberError> {
        let taken = |what, other: &Member| Err(MemberError::Taken { what, id: other.id });
        for other in self.members().iter().filter(|other| other.id != member.id) {
            if other.name == member.name {
                return taken(format!("name {}", member.name), other);
            } else if other.address == member.address {
                return taken(format!("address {}", member.address), other);
            }
        }
        Ok(())
    }

    /// An error if a member of that number was removed once.
    async fn check_unused(&self, id: MemberId) -> Result<(), Failed> {
        // A leader that is new may not have applied yet what the one before it removed.
        self.linearize().await.map_err(|error| match error {
            ReadError::Stopped => Failed::Refused(Refusal::Stopped),
            _ => Failed::Refused(Refusal::NotLeader),
        })?;
        match self.replica.state().is_former(id) {
            true => Err(MemberError::Former { id }.into()),
            false => Ok(()),
        }
    }

    async fn wait_until_caught_up(&self, id: MemberId) -> Result<(), Failed> {
        let began = Instant::now();
        let wait = self.engine.wait(Some(CHANGE_TIMEOUT));
        let patience = self.patience();
        let near = |metrics: &RaftMetrics<Types>| {
            let Some(replication) = &metrics.replication else { return true };
            let matched = replication.get(&id).and_then(|matched| matched.as_ref());
            let last = metrics.last_log_index.unwrap_or(0);
            // What it has may be known from a time when it still answered.
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id)?.as_ref());
            heard.is_some_and(|heard| heard.elapsed() < patience)
                && matched.is_some_and(|matched| matched.index() + CAUGHT_UP >= last)
        };
        match wait.metrics(near, "a new member catches up").await {
            Ok(metrics) if metrics.replication.is_none() => {
                Err(Failed::Refused(Refusal::NotLeader))
            }
            Ok(_) => Ok(()),
            Err(WaitError::ShuttingDown) => Err(Failed::Refused(Refusal::Stopped)),
            Err(WaitError::Timeout(..)) => {
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Err(MemberError::NotCaughtUp { id, waited_ms }.into())
            }
        }
    }

    async fn remove_here(&self, id: MemberId) -> Result<(), Failed> {
        if !self.members().iter().any(|member| member.id == id) {
            // Asked again by one who did not hear that it was done.
            return match self.check_unused(id).await {
                Err(Failed::Error(MemberError::Former { .. })) => Ok(()),
                Err(failed) => Err(failed),
                Ok(()) => Err(MemberError::NotFound { id }.into()),
            };
        }
        let mut remaining = self.voters();
        let change = if remaining.remove(&id) {
            self.check_quorum(id, &remaining)?;
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        self.engine.change_membership(change, false).await?;
        tracing::info!(member = id, "a member was removed");
        Ok(())
    }

    /// Refuses a removal after which those who answer would be no majority.
    fn check_quorum(
        &self,
        id: MemberId,
        remaining: &BTreeSet<MemberId>,
    ) -> Result<(), MemberError> {
        if remaining.is_empty() {
            return Err(MemberError::LastVoter { id });
        }
        let alive = self
            .member_statuses()
            .iter()
            .filter(|member| remaining.contains(&member.member.id) && self.answers(member))
            .count();
        if alive * 2 <= remaining.len() {
            return Err(MemberError::QuorumLost { id, voters: remaining.len(), alive });
        }
        Ok(())
    }

    /// A member that was silent for longer counts as lost.
    fn patience(&self) -> Duration {
        self.config.tuning.election_max * 2
    }

    fn answers(&self, member: &MemberStatus) -> bool {
        let patience = u64::try_from(self.patience().as_millis()).unwrap_or(u64::MAX);
        member.member.id == self.me() || member.silent_ms.is_some_and(|silent| silent < patience)
    }

    /// The members as this member sees them.
    pub(crate) fn member_statuses(&self) -> Vec<MemberStatus> {
        let metrics = self.engine.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<MemberId> = metrics.membership_config.voter_ids().collect();
        let heard = |id: &MemberId| {
            let heard = metrics.heartbeat.as_ref()?.get(id)?.as_ref()?;
            u64::try_from(heard.elapsed().as_millis()).ok()
        };
        let matched = |id: &MemberId| {
            let matched = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(matched.index())
        };
        metrics
            .membership_config
            .nodes()
            .map(|(id, member)| MemberStatus {
                member: member.clone(),
                role: if voters.contains(id) { Role::Voter } else { Role::Learner },
                is_leader: metrics.current_leader == Some(*id),
                matched: matched(id),
                silent_ms: heard(id),
            })
            .collect()
    }

    /// Ends a change that an earlier leader left half made.
    pub(crate) async fn finish_change(&self) {
        let Ok(_one_at_a_time) = self.changing.try_lock() else { return };
        let metrics = self.engine.server_metrics();
        let joint = metrics.borrow_watched().membership_config.get_joint_config().len() > 1;
        if joint && self.leader().is_me {
            let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
            if let Err(error) = self.engine.change_membership(nothing, true).await {
                tracing::debug!(%error, "a change of members is still half made");
            }
        }
    }
}
