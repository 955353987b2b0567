//! What only the leader does: controllers, scheduling, and judging which nodes are alive. Two managers may
//! both believe to lead for a moment; every write is conditional on what it was decided from, so that the
//! late one's fail.

pub(crate) mod controllers;
mod gossip_keys;
pub(crate) mod leases;
pub(crate) mod liveness;
pub(crate) mod scheduling;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pontoon_gossip::Member;
use pontoon_objects::Objects;
use pontoon_store::Leadership;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Records;
use crate::events::Recorder;
use crate::gossip_keys::GossipKeys;
use crate::tls::Tls;
use crate::view::View;

/// Pause before the making of what every cluster has is tried again; it doubles up to the longest.
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(100);
const BOOTSTRAP_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pause before a part of the leader's work that panicked is begun again; it doubles up to the longest.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the leader's work needs.
#[derive(Clone)]
pub(crate) struct Leader {
    pub objects: Objects,
    pub view: Arc<View>,
    pub recorder: Arc<Recorder>,
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    pub tls: Tls,
    pub records: Records,
    pub gossip_keys: watch::Receiver<Option<Arc<GossipKeys>>>,
}

impl Leader {
    /// Does the leader's work whenever this manager leads, until the token ends it.
    pub(crate) async fn run(
        self,
        mut leadership: watch::Receiver<Leadership>,
        stop: CancellationToken,
    ) {
        loop {
            let elected = tokio::select! {
                elected = leadership.wait_for(|l| l.is_me) => elected.is_ok(),
                () = stop.cancelled() => false,
            };
            if !elected {
                return;
            }
            tracing::info!("this manager leads");
            let number = leadership.borrow().term;
            self.view.change(|cache| {
                cache.term = number;
                None
            });
            let term = stop.child_token();
            let tasks = self.start(&term).await;
            tokio::select! {
                lost = leadership.wait_for(|l| !l.is_me) => drop(lost),
                () = stop.cancelled() => {}
            }
            term.cancel();
            tasks.wait().await;
            tracing::info!("this manager does not lead any more");
        }
    }

    async fn start(&self, term: &CancellationToken) -> TaskTracker {
        let tasks = TaskTracker::new();
        tokio::select! {
            () = self.view.synced() => {}
            () = term.cancelled() => {}
        }
        tasks.spawn(bootstrap(self.objects.clone(), term.clone()));
        let (leader, stop) = (self.clone(), term.clone());
        let judge = move || liveness::run(leader.clone(), stop.clone());
        tasks.spawn(keep_up("liveness", term.clone(), judge));
        let (leader, stop) = (self.clone(), term.clone());
        let renew = move || leases::run(leader.clone(), stop.clone());
        tasks.spawn(keep_up("leases", term.clone(), renew));
        let (leader, stop) = (self.clone(), term.clone());
        let rotate = move || gossip_keys::run(leader.clone(), stop.clone());
        tasks.spawn(keep_up("gossip-keys", term.clone(), rotate));
        let (leader, stop) = (self.clone(), term.clone());
        let schedule = move || scheduling::run(leader.clone(), stop.clone());
        tasks.spawn(keep_up("scheduling", term.clone(), schedule));
        for controller in pontoon_controllers::ALL {
            let (leader, stop) = (self.clone(), term.clone());
            let control = move || controllers::run(leader.clone(), controller, stop.clone());
            tasks.spawn(keep_up(controller.name, term.clone(), control));
        }
        tasks.close();
        tasks
    }
}

/// Does a part of the leader's work. A panic in it is a bug, and must not cost the cluster that part for the rest of
/// the term: it is begun again after a pause.
async fn keep_up<F: Future<Output = ()>>(
    part: &'static str,
    term: CancellationToken,
    begin: impl Fn() -> F,
) {
    let mut pause = RESTART_PAUSE;
    while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
        tracing::error!(part, "a part of the leader's work panicked; it is begun again");
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESTART_PAUSE_MAX),
            () = term.cancelled() => return,
        }
    }
}

/// Makes what every cluster has (its namespaces), again and again until it is there.
async fn bootstrap(objects: Objects, term: CancellationToken) {
    let make = async {
        let mut pause = BOOTSTRAP_PAUSE;
        while let Err(status) = objects.bootstrap().await {
            tracing::warn!(error = status.message, "make what every cluster has");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BOOTSTRAP_PAUSE_MAX);
        }
    };
    // A write waits for a leader for a long time; the end of a term does not wait for the write.
    tokio::select! {
        () = make => {}
        () = term.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_begun_again_until_it_ends_by_itself_or_the_term_does() {
        let begun = Cell::new(0);
        let work = || {
            begun.set(begun.get() + 1);
            let fails = begun.get() < 4;
            async move { assert!(!fails, "a bug") }
        };
        keep_up("test", CancellationToken::new(), work).await;
        assert_eq!(begun.get(), 4);
        let term = CancellationToken::new();
        term.cancel();
        keep_up("test", term, || async { panic!("a bug") }).await;
    }
}
