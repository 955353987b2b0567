//! Changing who holds the state, one member at a time, without ever losing the quorum by mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::metrics::WaitError;
use openraft::{ChangeMembers, Instant as _, RaftMetrics};
use tokio::time::Instant;

use crate::core::Core;
use crate::error::MemberError;
use crate::member::{Member, MemberId, MemberStatus, Role};
use crate::raft::{Answer, Call, CallError, Refusal, Types};
use crate::retry::Retry;

/// How long a change may take, the catching up of a new member included.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// A new member becomes a voter when it is behind by no more entries than this.
const CAUGHT_UP: u64 = 64;

/// How long a leader may take to hand over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

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
            RaftError::APIError(error) => {
                tracing::debug!(%error, "members were not changed");
                Failed::Error(MemberError::Busy)
            }
            RaftError::Fatal(_) => Failed::Refused(Refusal::Stopped),
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
        match tokio::time::timeout(CHANGE_TIMEOUT, elected).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(MemberError::Stopped),
        }
    }

    /// Adds a member, through whoever leads.
    pub(crate) async fn add_member(&self, member: Member) -> Result<(), MemberError> {
        self.change(Call::AddMember(member)).await
    }

    /// Removes a member, through whoever leads.
    pub(crate) async fn remove_member(&self, id: MemberId) -> Result<(), MemberError> {
        self.change(Call::RemoveMember(id)).await
    }

    async fn change(&self, call: Call) -> Result<(), MemberError> {
        if !self.in_cluster() {
            return Err(MemberError::NotInCluster);
        }
        let mut retry = Retry::new(CHANGE_TIMEOUT, self.leadership.subscribe());
        loop {
            if self.is_stopped() {
                return Err(MemberError::Stopped);
            }
            let refusal = if self.leader().is_me {
                match self.change_here(&call).await {
                    Ok(result) => return result,
                    Err(refusal) => refusal,
                }
            } else {
                match self.forward_change(&call, retry.left()).await {
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
        call: &Call,
        timeout: Duration,
    ) -> Result<Result<(), MemberError>, Refusal> {
        let call = match call {
            Call::AddMember(member) => Call::AddMember(member.clone()),
            Call::RemoveMember(id) => Call::RemoveMember(*id),
            _ => return Err(Refusal::NotLeader),
        };
        match self.ask_leader(call, timeout).await {
            Ok(Answer::Members(result)) => Ok(result),
            Ok(_) | Err(CallError::Unreachable(_)) => Err(Refusal::NotLeader),
            // Adding and removing can be repeated: what is done already is no error.
            Err(CallError::Lost(_)) => Err(Refusal::Deposed),
            Err(CallError::Refused(refusal)) => Err(refusal),
        }
    }

    /// Changes members as the leader.
    pub(crate) async fn change_here(
        &self,
        call: &Call,
    ) -> Result<Result<(), MemberError>, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let changed = match call {
            Call::AddMember(member) => self.add_here(member).await,
            Call::RemoveMember(id) => self.remove_here(*id).await,
            _ => return Err(Refusal::NotLeader),
        };
        match changed {
            Ok(()) => Ok(Ok(())),
            Err(Failed::Error(error)) => Ok(Err(error)),
            Err(Failed::Refused(refusal)) => Err(refusal),
        }
    }

    async fn add_here(&self, member: &Member) -> Result<(), Failed> {
        let known = self.check_new(member)?;
        if self.voters().contains(&member.id) {
            return Ok(());
        }
        if !known {
            self.engine.add_learner(member.id, member.clone(), false).await?;
        }
        self.wait_until_caught_up(member.id).await?;
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([member.id]));
        self.engine.change_membership(voters, true).await?;
        tracing::info!(member = %member.name, address = %member.address, "a member was added");
        Ok(())
    }

    /// True if the member is known; an error if its number, name or address is another's.
    fn check_new(&self, member: &Member) -> Result<bool, MemberError> {
        let mut known = false;
        for other in self.members() {
            if other == *member {
                known = true;
            } else if other.id == member.id {
                let what = format!("number {:x}", member.id);
                return Err(MemberError::Taken { what, id: other.id });
            } else if other.name == member.name {
                let what = format!("name {}", member.name);
                return Err(MemberError::Taken { what, id: other.id });
            } else if other.address == member.address {
                let what = format!("address {}", member.address);
                return Err(MemberError::Taken { what, id: other.id });
            }
        }
        Ok(known)
    }

    async fn wait_until_caught_up(&self, id: MemberId) -> Result<(), Failed> {
        let began = Instant::now();
        let wait = self.engine.wait(Some(CHANGE_TIMEOUT));
        let near = |metrics: &RaftMetrics<Types>| {
            let Some(replication) = &metrics.replication else { return true };
            let matched = replication.get(&id).and_then(|matched| matched.as_ref());
            let last = metrics.last_log_index.unwrap_or(0);
            matched.is_some_and(|matched| matched.index() + CAUGHT_UP >= last)
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
            return Err(MemberError::NotFound { id }.into());
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
        let patience = self.config.tuning.election_max * 2;
        let silent_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let answers = |member: &MemberStatus| {
            member.member.id == self.me()
                || member.silent_ms.is_some_and(|silent| silent < silent_ms)
        };
        let alive = self
            .member_statuses()
            .iter()
            .filter(|member| remaining.contains(&member.member.id) && answers(member))
            .count();
        if alive * 2 <= remaining.len() {
            return Err(MemberError::QuorumLost { id, voters: remaining.len(), alive });
        }
        Ok(())
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

    /// Hands leadership to `to`, or to the voter that is most up to date; returns when another
    /// member leads.
    pub(crate) async fn transfer(&self, to: Option<MemberId>) -> Result<(), MemberError> {
        if !self.leader().is_me {
            return Ok(());
        }
        let target = match to {
            Some(id) if self.voters().contains(&id) => id,
            Some(id) => return Err(MemberError::NotFound { id }),
            None => match self.heir() {
                Some(id) => id,
                None => return Err(MemberError::LastVoter { id: self.me() }),
            },
        };
        if target == self.me() {
            return Ok(());
        }
        let mut leadership = self.leadership.subscribe();
        let sent = self.engine.trigger().transfer_leader(target).await;
        sent.map_err(|_| MemberError::Stopped)?;
        let began = Instant::now();
        let handed = leadership.wait_for(|now| !now.is_me && now.leader.is_some());
        match tokio::time::timeout(TRANSFER_TIMEOUT, handed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(MemberError::Stopped),
            Err(_) => {
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Err(MemberError::NoLeader { waited_ms })
            }
        }
    }

    /// The voter that would lead best.
    fn heir(&self) -> Option<MemberId> {
        self.member_statuses()
            .into_iter()
            .filter(|member| member.role == Role::Voter && member.member.id != self.me())
            .filter(|member| member.silent_ms.is_some_and(|silent| silent < 1000))
            .max_by_key(|member| member.matched)
            .map(|member| member.member.id)
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
