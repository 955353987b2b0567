//! A list followed by a watch, over and over, as one stream of changes that never ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::objects::Objects;
use crate::options::{ListOptions, WatchOptions};
use crate::watch::WatchEvent;

/// The newest state of one object; `None` when it is gone.
#[derive(Clone, Debug)]
pub struct Change {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: String,
    pub object: Option<Object>,
    /// The revision by which this was so.
    pub revision: u64,
}

/// What an informer tells.
#[derive(Clone, Debug)]
pub enum Update {
    Change(Change),
    /// Every resource has been listed once: the changes before this are a whole picture. Told once.
    Synced,
}

/// How many updates may wait to be taken.
const QUEUE: usize = 1024;
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// Follows some resources in all namespaces. Lists again by itself after a gap, and then tells what
/// went in between, deletions as well. States may be skipped, the newest never is.
#[derive(Debug)]
pub struct Informer {
    updates: mpsc::Receiver<Update>,
    _stop: DropGuard,
}

impl Informer {
    /// Begins; ends when `shutdown` is cancelled or the informer is dropped. Must be called within
    /// a tokio runtime.
    pub fn start(
        objects: &Objects,
        resources: &[&'static Resource],
        shutdown: CancellationToken,
    ) -> Self {
        let (sender, updates) = mpsc::channel(QUEUE);
        let stop = shutdown.child_token();
        let unlisted = Arc::new(AtomicUsize::new(resources.len()));
        for resource in resources {
            let follower = Follower {
                objects: objects.clone(),
                resource,
                updates: sender.clone(),
                known: HashMap::new(),
                unlisted: Some(Arc::clone(&unlisted)),
            };
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = follower.run() => {}
                }
            });
        }
        if resources.is_empty() {
            // The queue is empty and has room.
            sender.try_send(Update::Synced).ok();
        }
        Self { updates, _stop: stop.drop_guard() }
    }

    /// The next update; `None` after shutdown. Cancel safe.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

/// Nobody listens any more.
struct Unheard;

type Name = (Option<String>, String);

struct Follower {
    objects: Objects,
    resource: &'static Resource,
    updates: mpsc::Sender<Update>,
    /// What has been told, with its revision.
    known: HashMap<Name, u64>,
    /// How many resources have not been listed yet; `None` once this one has.
    unlisted: Option<Arc<AtomicUsize>>,
}

impl Follower {
    async fn run(mut self) {
        let mut back_off = BACK_OFF_FIRST;
        loop {
            let listed = match self.list().await {
                Ok(Ok(revision)) => Ok(revision),
                Ok(Err(status)) => Err(status),
                Err(Unheard) => return,
            };
            match listed {
                Ok(revision) => {
                    back_off = BACK_OFF_FIRST;
                    if self.follow(revision).await.is_err() {
                        return;
                    }
                }
                Err(status) => {
                    tracing::debug!(resource = %self.resource, %status, "list again later");
                }
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MOST);
        }
    }

    /// Tells how the newest list differs from what was told.
    async fn list(&mut self) -> Result<Result<u64, Status>, Unheard> {
        let list = match self.objects.list(self.resource, None, &ListOptions::default()).await {
            Ok(list) => list,
            Err(status) => return Ok(Err(status)),
        };
        let mut before = std::mem::take(&mut self.known);
        for object in list.items {
            let name = name_of(&object);
            let told = before.remove(&name);
            if told == Some(object.meta.resource_version) {
                self.known.insert(name, object.meta.resource_version);
            } else {
                let revision = object.meta.resource_version;
                self.tell(name, Some(object), revision).await?;
            }
        }
        for name in before.into_keys() {
            self.tell(name, None, list.revision).await?;
        }
        if let Some(unlisted) = self.unlisted.take()
            && unlisted.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.updates.send(Update::Synced).await.map_err(|_| Unheard)?;
        }
        Ok(Ok(list.revision))
    }

    /// Tells what changes, until the watch ends.
    async fn follow(&mut self, revision: u64) -> Result<(), Unheard> {
        let options = WatchOptions { resource_version: Some(revision), ..WatchOptions::default() };
        let mut watch = match self.objects.watch(self.resource, None, options).await {
            Ok(watch) => watch,
            Err(status) => {
                tracing::debug!(resource = %self.resource, %status, "watch again later");
                return Ok(());
            }
        };
        loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    let revision = object.meta.resource_version;
                    self.tell(name_of(&object), Some(object), revision).await?;
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    self.tell(name_of(&object), None, object.meta.resource_version).await?;
                }
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                Some(Err(status)) => {
                    tracing::debug!(resource = %self.resource, %status, "list again");
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    async fn tell(
        &mut self,
        name: Name,
        object: Option<Object>,
        revision: u64,
    ) -> Result<(), Unheard> {
        match &object {
            Some(object) => self.known.insert(name.clone(), object.meta.resource_version),
            None => self.known.remove(&name),
        };
        let (namespace, name) = name;
        let change = Change { resource: self.resource, namespace, name, object, revision };
        self.updates.send(Update::Change(change)).await.map_err(|_| Unheard)
    }
}

fn name_of(object: &Object) -> Name {
    (object.meta.namespace.clone(), object.meta.name.clone())
}
