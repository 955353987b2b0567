//! A list followed by a watch, over and over, as one stream of changes that never ends.

use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::objects::Objects;

/// The newest state of one object; `None` when it is gone.
#[derive(Clone, Debug)]
pub struct Change {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: String,
    pub object: Option<Object>,
}

/// What an informer tells.
#[derive(Clone, Debug)]
pub enum Update {
    Change(Change),
    /// Every resource has been listed once: the changes before this are a whole picture. Told once.
    Synced,
}

/// Follows some resources in all namespaces. Lists again by itself after a gap, and then tells what
/// went in between, deletions as well. States may be skipped, the newest never is.
#[derive(Debug)]
pub struct Informer {
    updates: mpsc::Receiver<Update>,
}

impl Informer {
    /// Begins; ends when `shutdown` is cancelled or the informer is dropped.
    pub fn start(
        objects: &Objects,
        resources: &[&'static Resource],
        shutdown: CancellationToken,
    ) -> Self {
        let _ = (objects, resources, shutdown);
        let (_, updates) = mpsc::channel(1);
        Self { updates }
    }

    /// The next update; `None` after shutdown. Cancel safe.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}
