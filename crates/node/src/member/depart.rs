//! A node that leaves because a client of its own APIs asks it to: the daemon carries it out, and the client hears how it
//! went.

use super::{Member, Order};
use crate::rpc::Refusal;

impl Member {
    /// Has this node leave its cluster, and returns when the cluster has let it go.
    ///
    /// # Errors
    /// When the cluster cannot spare it or cannot be reached.
    pub(crate) async fn depart(&self) -> Result<(), Refusal> {
        let mut stays = self.inner.stays.subscribe();
        if self.inner.orders.send(Order::Depart).await.is_err() {
            return Err(Refusal::unavailable("this node's daemon ends"));
        }
        tokio::select! {
            () = self.inner.stop.cancelled() => Ok(()),
            _ = stays.changed() => match stays.borrow().clone() {
                Some(refusal) => Err(refusal),
                None => Err(Refusal::unavailable("this node's daemon ends")),
            },
        }
    }

    /// Tells the client that asked this node to leave why it stays.
    pub(crate) fn stay(&self, why: Refusal) {
        self.inner.stays.send_replace(Some(why));
    }
}
