//! A node that belongs to a cluster but cannot go on as its member: its log is damaged, or a port is taken. The
//! daemon stays, says so, tries again, and lets the node leave.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Shared, not_a_member};
use crate::member::{self, Member};
use crate::membership::Membership;
use crate::rpc::{Refusal, chain};

/// Pause before going on is tried again; it doubles up to the longest.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What this node is, and why it cannot be it.
#[derive(Clone)]
pub struct Stranded {
    pub membership: Membership,
    pub problem: String,
}

impl Shared {
    /// The membership that cannot be gone on with, if so it is.
    #[must_use]
    pub fn stranded(&self) -> Option<Stranded> {
        self.stranded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_stranded(&self, stranded: Option<Stranded>) {
        *self.stranded.lock().unwrap_or_else(PoisonError::into_inner) = stranded;
    }

    /// The refusal of what only a member can do.
    pub(super) fn no_member(&self) -> Refusal {
        match self.stranded() {
            None => not_a_member(),
            Some(stranded) => Refusal::unavailable(format!(
                "this node belongs to a cluster but cannot go on as its member: {}; \
                 it goes on by itself when that is mended, or `pontoon leave` gives the membership up",
                stranded.problem
            )),
        }
    }

    /// Goes on with a membership that is on the disk; a node that cannot stays stranded.
    pub(super) async fn go_on(&self, membership: Membership) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        // Whoever waited for the lock may find that the node has left.
        if slot.is_some() || !self.config.membership_file().exists() {
            self.set_stranded(None);
            return Ok(());
        }
        if membership.leaving {
            let removed = member::remove_all(&self.config, &membership, &self.images).await;
            return self.cleared(membership, removed);
        }
        self.begin_again(&mut slot, membership).await
    }

    /// Ends a membership that is over, now that what was made for it is `removed`. What could not be is told, and tried
    /// again when this node is asked to leave once more, or its daemon starts.
    pub(super) fn cleared(
        &self,
        membership: Membership,
        removed: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match removed.and_then(|()| self.forget()) {
            Ok(()) => {
                self.set_stranded(None);
                Ok(())
            }
            Err(refusal) => {
                let problem =
                    format!("it has left, but not all of it is removed: {}", refusal.message);
                self.set_stranded(Some(Stranded { membership, problem }));
                let again = "the cluster has let this node go; `pontoon leave` removes the rest";
                Err(Refusal::unavailable(format!("{}; {again}", refusal.message)))
            }
        }
    }

    /// Starts being a member; what hinders is remembered.
    pub(super) async fn begin_again(
        &self,
        slot: &mut Option<Member>,
        membership: Membership,
    ) -> Result<(), Refusal> {
        match self.begin(membership.clone(), None).await {
            Ok(member) => {
                *slot = Some(member);
                self.set_stranded(None);
                Ok(())
            }
            Err(refusal) => {
                let problem = refusal.message.clone();
                self.set_stranded(Some(Stranded { membership, problem }));
                Err(refusal)
            }
        }
    }

    /// Gives up a membership that cannot be gone on with, and removes what was made for it.
    pub(super) async fn give_up(&self, stranded: Stranded, force: bool) -> Result<(), Refusal> {
        if !stranded.membership.leaving
            && let Err(refusal) = stranded.membership.give_back().await
            && !force
        {
            let effect = "leaves all the same: what only this node has is lost then";
            return Err(refusal.unless_forced(effect));
        }
        let membership = Membership { leaving: true, ..stranded.membership };
        if let Err(error) = membership.save(&self.config.membership_file()) {
            tracing::warn!(error = chain(&error), "remember that this node leaves");
        }
        let removed = member::remove_all(&self.config, &membership, &self.images).await;
        self.cleared(membership, removed)
    }
}

/// Tries to go on until it is done, the node has left, or the daemon ends.
pub(super) async fn retry(shared: Arc<Shared>) {
    let mut pause = RETRY_PAUSE;
    while let Some(stranded) = shared.stranded() {
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
            () = shared.stop.cancelled() => return,
        }
        let again = shared.clone();
        let attempt = async move { again.go_on(stranded.membership).await };
        if let Err(refusal) = shared.to_the_end(attempt).await {
            tracing::error!(error = refusal.message, "still no member of the cluster");
        }
    }
}
