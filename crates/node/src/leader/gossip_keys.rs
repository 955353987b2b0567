//! Takes the steps of a change of gossip's key, each after its time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Leader;

/// Pause before a step that could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Steps until the token ends it. A new leader begins the present step's time anew.
pub(super) async fn run(mut leader: Leader, stop: CancellationToken) {
    let run = async {
        loop {
            let keys = leader.gossip_keys.borrow_and_update().clone();
            let Some((keys, time)) = keys.and_then(|keys| Some((keys.clone(), keys.pending()?)))
            else {
                if leader.gossip_keys.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::time::sleep(time).await;
            match leader.records.advance_gossip_keys(&keys).await {
                Ok(()) => {}
                Err(refusal) => tracing::warn!(error = refusal.message, "change gossip's key"),
            }
            // The change comes back by the watch; until then it would be found undone.
            drop(tokio::time::timeout(PAUSE, leader.gossip_keys.changed()).await);
        }
    };
    tokio::select! {
        () = run => {}
        () = stop.cancelled() => {}
    }
}
