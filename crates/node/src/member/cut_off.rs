//! A manager without contact to the leader asks the others whether it still is one of them: its own copy of the
//! state would never say that it was removed, for it is told nothing any more.

use std::time::Duration;

use http::Method;
use tokio::sync::watch;

use super::{Member, Order};
use crate::identity::Role;
use crate::membership::ManagerAddress;

/// Pause before the others are asked; it doubles up to the longest. The first is long enough for contact to come.
const PAUSE: Duration = Duration::from_secs(3);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Asks while there is no contact, until the member stops.
pub(super) async fn run(member: Member, mut contact: watch::Receiver<bool>) {
    let client = member.inner.client.clone();
    let ask = async {
        let mut pause = PAUSE;
        loop {
            if *contact.borrow_and_update() {
                pause = PAUSE;
                if contact.wait_for(|contact| !contact).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            if *contact.borrow() {
                continue;
            }
            let asked = client.call::<_, Vec<ManagerAddress>>(Method::GET, "/v1/managers", &());
            match asked.await {
                Ok(managers) => take(&member, managers),
                Err(refusal) if refusal.is_removed() => member.removed(),
                Err(refusal) => tracing::debug!(error = refusal.message, "ask the other managers"),
            }
        }
    };
    let stop = member.inner.stop.clone();
    tokio::select! {
        () = ask => {}
        () = stop.cancelled() => {}
    }
}

/// Takes over who the managers are. One that is not among them is a worker, which its own copy may never say; it is
/// asked about once more before that is carried out.
fn take(member: &Member, managers: Vec<ManagerAddress>) {
    let name = member.membership().node;
    if !managers.is_empty() && !managers.iter().any(|manager| manager.name == name) {
        // A full queue holds this very order already.
        member.inner.orders.try_send(Order::ChangeRole(Role::Worker)).ok();
    }
    member.set_managers(managers);
}
