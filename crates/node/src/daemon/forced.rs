//! `init --force-new-cluster`: a manager whose cluster has lost its quorum for good goes on alone.

use std::sync::Arc;
use std::time::Duration;

use pontoon_store::{Range, Read, ReadError};

use super::stranded::retry;
use super::{Shared, not_a_member};
use crate::backup;
use crate::cluster::CLUSTER_KEY;
use crate::identity::Role;
use crate::member::Member;
use crate::membership::Membership;
use crate::rpc::Refusal;

/// How long a quorum may take to answer before it counts as lost. Longer than any election.
const QUORUM_PATIENCE: Duration = Duration::from_secs(5);

impl Shared {
    /// Makes this manager the only one. Pods go on. Durable when this returns.
    ///
    /// # Errors
    /// When this node is no manager, or its cluster has a quorum.
    pub async fn force_new_cluster(self: &Arc<Self>) -> Result<Member, Refusal> {
        let mut slot = self.member.lock().await;
        let membership = Membership::load(&self.config.membership_file());
        let membership = membership.map_err(|e| Refusal::internal(&e))?.ok_or_else(not_a_member)?;
        if membership.role != Role::Manager {
            return Err(Refusal::conflict(
                "this node is a worker and holds no state: force a new cluster on a manager that is left, \
                 or restore a backup with `pontoon store snapshot restore`",
            ));
        }
        if membership.leaving {
            return Err(Refusal::conflict(
                "this node is leaving its cluster; `pontoon leave` ends that",
            ));
        }
        match slot.as_ref() {
            Some(member) => refuse_quorum(member).await?,
            None if backup::was_cut_short(&self.config, &membership) => {}
            // It cannot be asked whether there is a quorum.
            None => return Err(self.no_member()),
        }
        if let Some(member) = slot.take() {
            member.stop().await;
        }
        let (config, former) = (self.config.clone(), membership.clone());
        let work = move || backup::force_new_cluster(&config, &former);
        let forced = tokio::task::spawn_blocking(work).await.map_err(|e| Refusal::internal(&e))?;
        let forced = match forced {
            Ok(forced) => forced,
            Err(refusal) => {
                // As before: whatever hindered it hinders nothing else.
                if let Err(again) = self.go_on_as(&mut slot, membership).await {
                    tracing::error!(error = again.message, "go on as before");
                }
                return Err(refusal);
            }
        };
        tracing::warn!(node = forced.node, "a new cluster was forced: this is the only manager");
        self.go_on_as(&mut slot, forced).await?;
        slot.as_ref().cloned().ok_or_else(not_a_member)
    }

    /// Begins to be a member again; what hinders that is tried again until it does not.
    async fn go_on_as(
        self: &Arc<Self>,
        slot: &mut Option<Member>,
        membership: Membership,
    ) -> Result<(), Refusal> {
        let begun = self.begin_again(slot, membership).await;
        if begun.is_err() {
            tokio::spawn(retry(self.clone()));
        }
        begun
    }
}

/// A cluster that works must not be cut into two.
async fn refuse_quorum(member: &Member) -> Result<(), Refusal> {
    let store = &member.manager()?.store;
    if store.members().len() <= 1 {
        return Err(Refusal::conflict(
            "this is the only manager already: there is nothing to force",
        ));
    }
    let key = Range { count_only: true, ..Range::key(CLUSTER_KEY) };
    let asked = store.range(key, Read::Linearizable);
    match tokio::time::timeout(QUORUM_PATIENCE, asked).await {
        Ok(Ok(_)) => Err(Refusal::conflict(
            "the managers of this cluster have a quorum: remove those that are gone with `pontoon node rm NAME --force`",
        )),
        // Its own disk has failed: that says nothing of the others.
        Ok(Err(ReadError::Stopped)) => Err(Refusal::conflict(
            "the store of this manager has stopped, so it cannot tell whether the others have a quorum; \
             `pontoon status` says why: mend that and start the daemon again, then force if it is still needed",
        )),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}
