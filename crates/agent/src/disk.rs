//! The node's disk: images that nobody uses go before it is full, and pods that take more of it than they may, or most of
//! it when it is nearly full, are evicted.

mod images;
mod pods;
mod usage;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;
use crate::node::facts::Facts;
use crate::node::status::has_low_disk;

/// How often pods are measured.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked while the disk is nearly full: what fills it goes on doing so.
const LOOK_UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// Looks after the disk until `shutdown`.
pub(crate) async fn keep(agent: Agent, shutdown: CancellationToken) {
    let mut images = images::Collector::default();
    loop {
        let facts = Facts::read(&agent.config().data_dir);
        if let Err(error) = images.collect(&agent, &facts).await {
            warn!(%error, "removing images that nobody uses");
        }
        pods::enforce_limits(&agent).await;
        let facts = Facts::read(&agent.config().data_dir);
        let low = has_low_disk(&facts);
        if low {
            pods::relieve(&agent, &facts).await;
        }
        tokio::select! {
            () = tokio::time::sleep(if low { LOOK_UNDER_PRESSURE } else { LOOK }) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
