//! Following changes of objects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pontoon_model::object::Object;
use pontoon_model::resource::{PODS, Resource};
use pontoon_model::status::Status;
use pontoon_store::{Batch, Store, Watch, WatchError, WatchRequest};
use tokio::time::{Instant, Interval, sleep_until};

use crate::failure::of_selector;
use crate::hub::{Delta, Deltas, Hub, Subscription};
use crate::list::selected;
use crate::objects::Objects;
use crate::options::{ListOptions, VersionMatch, WatchOptions};

/// One change, from the point of view of the watch's selectors: an object that begins to be
/// selected is Added, one that ceases to be is Deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    Added(Object),
    Modified(Object),
    /// The last state of the object, at the revision of its deletion.
    Deleted(Object),
    /// Nothing but a resourceVersion: everything up to it was told.
    Bookmark(Object),
}

/// How often a watch that asked for it is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);

/// A watch that is running. Dropping it ends it.
pub struct ObjectWatch {
    resource: &'static Resource,
    store: Store,
    hub: Arc<Hub>,
    filter: Filter,
    source: Source,
    /// What is to be told next.
    ready: VecDeque<WatchEvent>,
    /// Everything up to this revision was taken from the source.
    seen: u64,
    /// The revision that the client was last told.
    told: u64,
    deadline: Option<Instant>,
    bookmarks: Option<Interval>,
    ended: bool,
}

/// Which objects the watch is about.
struct Filter {
    namespace: Option<String>,
    /// All pods on this node and no others, besides what the selectors say.
    node: Option<String>,
    selectors: ListOptions,
}

/// Where changes come from: the hub that all share, or the store's own history until the hub's
/// memory is reached.
enum Source {
    Shared { backlog: VecDeque<Deltas>, subscription: Subscription },
    Own(Watch),
}

/// What a source gave.
enum Given {
    Changes(Deltas),
    Batch(Batch),
    /// The hub let go of this follower: it was too slow, or the store stopped.
    Released,
    Stopped,
    Failed(WatchError),
}

impl Objects {
    /// Follows the changes of a resource in one namespace or in all.
    pub async fn watch(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        options: WatchOptions,
    ) -> Result<ObjectWatch, Status> {
        if let Some(fields) = &options.fields {
            fields.check(resource).map_err(|e| of_selector(&e))?;
        }
        // The hub must be there before the list, so that it reaches back to it.
        let hub = self.hub(resource);
        let filter = Filter::new(resource, namespace, &options);
        let mut ready = VecDeque::new();
        let from = options.resource_version.unwrap_or(0);
        let seen = if from == 0 || options.send_initial {
            let list = self.list(resource, namespace, &initial(&options)).await?;
            ready.extend(list.items.into_iter().map(WatchEvent::Added));
            if options.send_initial && options.bookmarks {
                let end = Object::bookmark(resource, list.revision, true);
                ready.push_back(WatchEvent::Bookmark(end));
            }
            list.revision
        } else {
            from
        };
        let source = Source::begin(&hub, self.store(), resource, &filter, seen)?;
        let bookmarks = options
            .bookmarks
            .then(|| tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY));
        Ok(ObjectWatch {
            resource,
            store: self.store().clone(),
            hub,
            filter,
            source,
            ready,
            seen,
            told: seen,
            // One that is beyond the clock is none.
            deadline: options.timeout.and_then(|t| Instant::now().checked_add(t)),
            bookmarks,
            ended: false,
        })
    }
}

/// The list that a watch begins with.
fn initial(options: &WatchOptions) -> ListOptions {
    ListOptions {
        labels: options.labels.clone(),
        fields: options.fields.clone(),
        resource_version: options.resource_version,
        resource_version_match: options.resource_version.map(|_| VersionMatch::NotOlderThan),
        ..ListOptions::default()
    }
}

impl Filter {
    fn new(resource: &Resource, namespace: Option<&str>, options: &WatchOptions) -> Self {
        let fields = options.fields.as_ref().filter(|_| *resource == *PODS);
        let node = fields.and_then(|f| f.required("spec.nodeName")).filter(|n| !n.is_empty());
        Self {
            namespace: namespace
                .filter(|n| resource.namespaced && !n.is_empty())
                .map(str::to_owned),
            node: node.map(str::to_owned),
            selectors: initial(options),
        }
    }

    /// What the change is from this point of view, if anything.
    fn event(&self, delta: &Delta) -> Option<WatchEvent> {
        let namespace = |o: &Object| o.meta.namespace == self.namespace;
        if self.namespace.is_some() && !delta.state().is_some_and(namespace) {
            return None;
        }
        let all = self.selectors.labels.is_none() && self.selectors.fields.is_none();
        let wanted =
            |o: &Option<Object>| o.as_ref().is_some_and(|o| all || selected(o, &self.selectors));
        // A former state that is not known any more may have been selected.
        let before = wanted(&delta.old) || (delta.old.is_none() && !delta.created);
        match (before, wanted(&delta.new)) {
            (false, true) => delta.new.clone().map(WatchEvent::Added),
            (true, true) => delta.new.clone().map(WatchEvent::Modified),
            (true, false) => delta.gone().map(WatchEvent::Deleted),
            (false, false) => None,
        }
    }
}

impl Source {
    fn begin(
        hub: &Arc<Hub>,
        store: &Store,
        resource: &'static Resource,
        filter: &Filter,
        after: u64,
    ) -> Result<Self, Status> {
        if let Some((backlog, subscription)) = hub.attach(after, filter.node.as_deref()) {
            return Ok(Self::Shared { backlog: backlog.into(), subscription });
        }
        let prefix = resource.prefix(filter.namespace.as_deref());
        let request = WatchRequest::prefix(prefix).with_prev().from(after + 1);
        store.watch(request).map(Self::Own).map_err(|error| expired(after, &error))
    }

    async fn next(&mut self) -> Given {
        match self {
            Self::Shared { backlog, subscription } => match backlog.pop_front() {
                Some(changes) => Given::Changes(changes),
                None => subscription.changes.recv().await.map_or(Given::Released, Given::Changes),
            },
            Self::Own(watch) => match watch.next().await {
                Some(Ok(batch)) => Given::Batch(batch),
                Some(Err(error)) => Given::Failed(error),
                None => Given::Stopped,
            },
        }
    }

    /// Up to which revision there is nothing more to come; 0 if that is not known.
    fn progress(&self) -> u64 {
        match self {
            Self::Shared { backlog, subscription } if backlog.is_empty() => subscription.progress(),
            Self::Shared { .. } => 0,
            Self::Own(watch) => watch.progress(),
        }
    }
}

fn expired(after: u64, error: &WatchError) -> Status {
    match error {
        WatchError::Compacted { compact_revision } => {
            Status::gone(format!("too old resource version: {after} ({compact_revision})"))
        }
        WatchError::Lagged { .. } => Status::gone(format!("too old resource version: {after}")),
    }
}

impl ObjectWatch {
    /// The next change; `None` when the time asked for is over; an error once, when the watch had to
    /// end: 410 when its history is gone, and then a new list is needed. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                () = at(self.deadline) => {
                    self.ended = true;
                    self.bookmark();
                }
                () = tick(&mut self.bookmarks) => self.bookmark(),
                given = self.source.next() => {
                    if let Err(status) = self.take(given) {
                        self.ended = true;
                        return Some(Err(status));
                    }
                }
            }
        }
    }

    fn take(&mut self, given: Given) -> Result<(), Status> {
        match given {
            Given::Changes(deltas) => self.tell(&deltas),
            Given::Batch(batch) => {
                let deltas = Delta::read_all(self.resource, &batch);
                self.tell(&deltas);
                self.seen = self.seen.max(batch.revision);
                // Once the hub's memory is reached, this follower is one among the others.
                if let Some((backlog, subscription)) =
                    self.hub.attach(self.seen, self.filter.node.as_deref())
                {
                    self.source = Source::Shared { backlog: backlog.into(), subscription };
                }
            }
            Given::Failed(error) => {
                let WatchError::Lagged { resume } = error else {
                    return Err(expired(self.seen, &error));
                };
                // What came before concerned other objects, or was told.
                self.seen = self.seen.max(resume.saturating_sub(1));
                self.begin_again()?;
            }
            Given::Stopped => return Err(Status::service_unavailable("the store has stopped")),
            // From the hub's memory if it is there still, else from the store.
            Given::Released => self.begin_again()?,
        }
        Ok(())
    }

    fn begin_again(&mut self) -> Result<(), Status> {
        self.source =
            Source::begin(&self.hub, &self.store, self.resource, &self.filter, self.seen)?;
        Ok(())
    }

    fn tell(&mut self, deltas: &Deltas) {
        let Some(revision) = deltas.first().map(|d| d.revision) else { return };
        if revision <= self.seen {
            return;
        }
        self.seen = revision;
        let events = deltas.iter().filter_map(|delta| self.filter.event(delta));
        self.ready.extend(events);
        if !self.ready.is_empty() {
            self.told = revision;
        }
    }

    fn bookmark(&mut self) {
        let progress = self.source.progress().max(self.seen);
        if self.bookmarks.is_some() && progress > self.told {
            self.told = progress;
            self.seen = progress;
            let mark = Object::bookmark(self.resource, progress, false);
            self.ready.push_back(WatchEvent::Bookmark(mark));
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for ObjectWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWatch")
            .field("resource", &self.resource.plural)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
