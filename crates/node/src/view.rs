//! A manager's view of all objects: one cache fed by informers, and the changes as they come in.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pontoon_controllers::{Cache, Change, Settings};
use pontoon_model::object::Object;
use pontoon_model::resource;
use pontoon_objects::{Informer, Objects, Update};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Changes kept for a listener that is slow; one that falls behind further looks at everything again.
const CHANGES_KEPT: usize = 8192;

/// All objects as this manager last heard of them.
pub struct View {
    cache: RwLock<Cache>,
    changes: broadcast::Sender<Arc<Change>>,
    synced: watch::Sender<bool>,
}

impl View {
    /// An empty view.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (synced, _) = watch::channel(false);
        Arc::new(Self { cache: RwLock::new(Cache::new(settings)), changes, synced })
    }

    /// The objects; hold this only for a moment and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.subscribe()
    }

    /// Waits until every resource has been listed once.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as `self`.
        drop(synced.wait_for(|synced| *synced).await);
    }

    /// Takes over the answer to a write of this manager's own, so that the next look sees it.
    pub fn apply_written(&self, object: Object) {
        let mut cache = self.write();
        let changed = cache.apply_written(object);
        self.publish(changed, cache);
    }

    /// Changes the cache by other news than objects (a node's liveness).
    pub fn change(&self, f: impl FnOnce(&mut Cache) -> Option<Change>) {
        let mut cache = self.write();
        let changed = f(&mut cache);
        self.publish(Ok(changed), cache);
    }

    /// Follows all resources until the token ends it.
    pub async fn run(self: Arc<Self>, objects: Objects, stop: CancellationToken) {
        let mut informer = Informer::start(&objects, resource::ALL, stop);
        while let Some(update) = informer.next().await {
            match update {
                Update::Change(change) => self.apply(&change),
                Update::Synced => {
                    self.synced.send_replace(true);
                }
            }
        }
    }

    fn apply(&self, change: &pontoon_objects::Change) {
        let (namespace, name) = (change.namespace.as_deref(), change.name.as_str());
        let object = change.object.clone();
        let mut cache = self.write();
        // The answer to our own deletion may come later than this, and must not bring back what is gone.
        cache.heard(change.resource, change.revision);
        let changed = cache.apply(change.resource, namespace, name, object);
        self.publish(changed, cache);
    }

    /// Tells of a change before the cache may be changed again: told out of order, the older state of an
    /// object would be the one that stays with the listeners.
    fn publish(
        &self,
        changed: Result<Option<Change>, pontoon_controllers::Unreadable>,
        _cache: RwLockWriteGuard<'_, Cache>,
    ) {
        match changed {
            // No listener is no error: a follower has none but its nodes.
            Ok(Some(change)) => drop(self.changes.send(Arc::new(change))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an object is left out"),
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
