//! One watch of the store for each resource, shared by all who follow the resource: an event is
//! read once, and those who follow one node's pods are woken for these only.

mod delta;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pontoon_model::resource::Resource;
use pontoon_store::{Batch, Store, Watch, WatchError, WatchRequest};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use delta::{Delta, Deltas};
use state::State;

/// How often a resource in which nothing happens is said to be up to date.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The hubs that somebody asked for.
#[derive(Default)]
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<&'static Resource, Arc<Hub>>>,
}

impl Hubs {
    /// The hub of a resource. Must be called within a tokio runtime.
    pub(crate) fn get(&self, resource: &'static Resource, store: &Store) -> Arc<Hub> {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = hubs.entry(resource).or_insert_with(|| Hub::start(resource, store));
        Arc::clone(hub)
    }
}

/// The recent changes of a resource, and who follows them.
pub(crate) struct Hub {
    resource: &'static Resource,
    state: Mutex<State>,
    _stop: DropGuard,
}

/// A place in a hub. Given up when dropped.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    /// All changes of one revision at a time; ends when the follower was too slow.
    pub(crate) changes: mpsc::Receiver<Deltas>,
}

impl Hub {
    fn start(resource: &'static Resource, store: &Store) -> Arc<Self> {
        let stop = CancellationToken::new();
        let revision = store.revision();
        let hub = Arc::new(Self {
            resource,
            state: Mutex::new(State::new(revision)),
            _stop: stop.clone().drop_guard(),
        });
        tokio::spawn(follow(Arc::downgrade(&hub), resource, store.clone(), revision, stop));
        hub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the changes after a revision; with a node, only those of pods that are or were bound
    /// to it. `None` if the hub does not reach back so far.
    pub(crate) fn attach(
        self: &Arc<Self>,
        after: u64,
        node: Option<&str>,
    ) -> Option<(Vec<Deltas>, Subscription)> {
        let (backlog, id, changes) = self.state().attach(after, node)?;
        Some((backlog, Subscription { hub: Arc::clone(self), id, changes }))
    }

    fn publish(&self, batch: &Batch) {
        let deltas = Delta::read_all(self.resource, batch);
        self.state().publish(batch.revision, deltas);
    }
}

impl Subscription {
    /// Up to which revision everything has been received; 0 while something waits to be, and when
    /// the hub has let go of this follower, which then missed something.
    pub(crate) fn progress(&self) -> u64 {
        let state = self.hub.state();
        let current = self.changes.is_empty() && !self.changes.is_closed();
        if current { state.progress() } else { 0 }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.state().detach(self.id);
    }
}

/// Feeds the hub from the store for as long as there is a hub.
async fn follow(
    hub: Weak<Hub>,
    resource: &'static Resource,
    store: Store,
    revision: u64,
    stop: CancellationToken,
) {
    let mut next = revision + 1;
    while let Some(watch) = begin(&hub, resource, &store, &mut next) {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = pump(&hub, watch, &mut next) => ended,
        };
        if !ended {
            break;
        }
    }
    if let Some(hub) = hub.upgrade() {
        hub.state().close();
    }
}

/// A watch from the next revision on. If that is gone, the hub begins anew and its followers have
/// to look for themselves what they missed.
fn begin(
    hub: &Weak<Hub>,
    resource: &'static Resource,
    store: &Store,
    next: &mut u64,
) -> Option<Watch> {
    loop {
        let request = WatchRequest::prefix(resource.prefix(None)).with_prev();
        match store.watch(request.from(*next)) {
            Ok(watch) => return Some(watch),
            Err(_) => {
                let revision = store.revision();
                *next = revision + 1;
                hub.upgrade()?.state().restart(revision);
            }
        }
    }
}

/// True if the watch ended and another is to be begun; false if the store stopped.
async fn pump(hub: &Weak<Hub>, mut watch: Watch, next: &mut u64) -> bool {
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            batch = watch.next() => match batch {
                Some(Ok(batch)) => {
                    *next = batch.revision + 1;
                    let Some(hub) = hub.upgrade() else { return false };
                    hub.publish(&batch);
                }
                Some(Err(WatchError::Lagged { resume })) => {
                    *next = resume;
                    return true;
                }
                Some(Err(WatchError::Compacted { .. })) => return true,
                None => return false,
            },
            _ = progress.tick() => {
                let Some(hub) = hub.upgrade() else { return false };
                hub.state().advance(watch.progress());
            }
        }
    }
}
