//! What other members ask of this store.

use async_trait::async_trait;

use crate::core::Core;
use crate::error::WriteError;
use crate::lease::LeaseStatus;
use crate::raft::{Answer, Call, Calls, Refusal};

#[async_trait]
impl Calls for Core {
    async fn answer(&self, call: Call) -> Result<Answer, Refusal> {
        match call {
            Call::ReadIndex => Ok(Answer::ReadIndex(self.read_index().await?)),
            Call::Propose(proposals) => {
                Ok(Answer::Proposed(self.propose_forwarded(proposals).await))
            }
            Call::Members(change) => {
                if !self.leader().is_me {
                    return Err(Refusal::NotLeader);
                }
                Ok(Answer::Members(self.change_here(&change).await?))
            }
            Call::KeepAlive(id) => {
                // A leader that was replaced without noticing must not keep leases alive, nor one that
                // has not yet applied the end that a leader before it put into the log.
                self.be_current().await?;
                let kept = self.replica.lessor.keep_alive(id);
                Ok(Answer::KeptAlive(kept.ok_or(WriteError::LeaseNotFound { id })))
            }
            Call::Hash(revision) => Ok(Answer::Hash(self.hash(revision).await)),
            Call::Files => Ok(Answer::Files(self.files().await)),
            Call::LeaseStatus(id) => {
                self.be_current().await?;
                Ok(Answer::LeaseStatus(self.lease_status(id)))
            }
            Call::Vote(_) | Call::PreVote(_) | Call::Transfer(_) => Err(Refusal::NotLeader),
        }
    }
}

impl Core {
    fn lease_status(&self, id: i64) -> Result<LeaseStatus, WriteError> {
        let not_found = WriteError::LeaseNotFound { id };
        let Some((lease, keys)) = self.replica.state().lease(id) else { return Err(not_found) };
        let remaining = self.replica.lessor.remaining(id).ok_or(not_found)?;
        Ok(LeaseStatus { lease, remaining, keys })
    }
}
