//! A node that was removed while it was away: when a manager tells it so it stops its pods, removes what it made,
//! and is a node without a cluster, which says why.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Shared, Stranded};
use crate::config::Config;
use crate::member;
use crate::membership::write_private;
use crate::rpc::Refusal;

/// Pause before what could not be removed is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is remembered of the membership.
#[derive(Serialize, Deserialize)]
struct Removal {
    cluster: String,
    at: Timestamp,
}

impl Shared {
    /// Why this node is in no cluster, where that was not its own wish.
    #[must_use]
    pub fn why_without_cluster(&self) -> Option<String> {
        let bytes = fs::read(self.config.removal_file()).ok()?;
        let Removal { cluster, at } = serde_json::from_slice(&bytes).ok()?;
        Some(format!(
            "this node was removed from cluster {cluster} (`pontoon node rm`), as a manager of it said at {at:.0}; \
             its pods were stopped and what it had made was removed; \
             a token of `pontoon join-token` on a manager lets it join again"
        ))
    }

    /// Gives the membership up, if it still is the one of this number. Can be asked again until it is done.
    async fn leave_as_told(&self, number: u64) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        let Some(membership) = self.membership_of(slot.as_ref()) else { return Ok(()) };
        if membership.member != number {
            return Ok(());
        }
        tracing::warn!(cluster = membership.cluster, "this node was removed from its cluster");
        if let Some(member) = slot.take() {
            member.stop().await;
        }
        let problem =
            "this node was removed from its cluster; its pods are being stopped".to_owned();
        self.set_stranded(Some(Stranded { membership: membership.clone(), problem }));
        member::remove_all(&self.config, &membership, &self.images).await?;
        let removal = Removal { cluster: membership.cluster, at: Timestamp::now() };
        let bytes = serde_json::to_vec(&removal).expect("plain data becomes JSON");
        write_private(&self.config.removal_file(), &bytes).map_err(|e| Refusal::internal(&e))?;
        self.forget()?;
        self.set_stranded(None);
        Ok(())
    }
}

/// Gives the membership up, again and again until it is done. Each attempt is carried to its end, whatever happens
/// to this.
pub(super) async fn carry_out(shared: &Arc<Shared>, number: u64) {
    let mut pause = PAUSE;
    loop {
        let again = shared.clone();
        let attempt = async move { again.leave_as_told(number).await };
        let Err(refusal) = shared.to_the_end(attempt).await else { return };
        tracing::error!(error = refusal.message, "remove what this node made as a member");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Forgets why: a new membership begins.
pub(super) fn forget(config: &Config) {
    match fs::remove_file(config.removal_file()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "forget an earlier membership");
        }
        _ => {}
    }
}
