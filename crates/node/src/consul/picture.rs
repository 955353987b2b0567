//! What the cluster itself has in Consul's catalog, computed from the store alone: the same on all managers, and never
//! older than what a client has seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use pontoon_api_consul::cluster::{Own, OwnNode};
use pontoon_model::object::Object;
use pontoon_model::resource::{ENDPOINT_SLICES, NODES, SERVICES, Typed};
use pontoon_store::{KeyValue, Range, Read, ReadError, Store, Watch, WatchRequest};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::endpoints::{Described, Endpoints, instances};
use super::nodes::{Health, Recorded};
use super::table::Table;
use crate::cluster::NODES_PREFIX;

/// Pause before what failed is begun again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The cluster's own nodes and services.
///
/// They are read from the manager's own copy of the store, and not from its view of the objects, which says of no object
/// as of which revision it is. Nothing is parsed twice that has not changed.
pub(super) struct Picture {
    store: Store,
    cluster: String,
    made: Mutex<Made>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Made {
    /// The revision of the store when it was read.
    as_of: u64,
    records: Table<Recorded>,
    health: Table<Health>,
    services: Table<Described>,
    slices: Table<Endpoints>,
    own: Arc<Own>,
}

/// The records of each kind, as of one revision.
struct Found {
    revision: u64,
    kinds: [Vec<Arc<KeyValue>>; 4],
}

impl Picture {
    pub(super) fn new(store: Store, cluster: String) -> Arc<Picture> {
        let (changes, _) = watch::channel(0);
        Arc::new(Picture { store, cluster, made: Mutex::default(), changes })
    }

    /// Changes when they do.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// As of this revision, which the store has reached, or of a later one.
    pub(super) async fn own(&self, revision: u64) -> Arc<Own> {
        let mut made = self.made.lock().await;
        if made.as_of < revision {
            match self.read().await {
                Ok(found) => self.take(&mut made, &found),
                // It has stopped: whoever asks will hear so by its next read.
                Err(error) => tracing::debug!(%error, "read the cluster's own services"),
            }
        }
        Arc::clone(&made.own)
    }

    async fn read(&self) -> Result<Found, ReadError> {
        let first = self.store.range(Range::prefix(NODES_PREFIX), Read::Local).await?;
        let revision = first.revision;
        let [_, nodes, services, slices] = prefixes();
        let kinds = [
            first.kvs,
            self.read_at(nodes, revision).await?,
            self.read_at(services, revision).await?,
            self.read_at(slices, revision).await?,
        ];
        Ok(Found { revision, kinds })
    }

    async fn read_at(
        &self,
        prefix: String,
        revision: u64,
    ) -> Result<Vec<Arc<KeyValue>>, ReadError> {
        let range = Range::prefix(prefix).at(revision);
        Ok(self.store.range(range, Read::Local).await?.kvs)
    }

    fn take(&self, made: &mut Made, found: &Found) {
        let [records, nodes, services, slices] = &found.kinds;
        let is_changed = [
            made.records.update(records, |kv, _| Recorded::read(kv)),
            made.health.update(nodes, Health::read),
            made.services.update(services, |kv, _| Described::read(kv)),
            made.slices.update(slices, |kv, _| Endpoints::read(kv)),
        ];
        made.as_of = found.revision;
        if !is_changed.contains(&true) {
            return;
        }
        let nodes = made.nodes(&self.cluster);
        // Much that is written to these records is not shown.
        if nodes != made.own.nodes {
            made.own = Arc::new(Own { index: found.revision, nodes });
            self.changes.send_replace(found.revision);
        }
    }

    /// Follows the store, for those who wait for a change, until the token ends it.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = PAUSE;
        loop {
            if let Err(error) = self.follow_once().await {
                tracing::debug!(%error, "follow the cluster's own services");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Ends when the store stops, or when a watch could not take all that changed.
    async fn follow_once(&self) -> Result<(), pontoon_store::WatchError> {
        let begin = |prefix: String| self.store.watch(WatchRequest::prefix(prefix));
        let mut watches: Vec<Watch> =
            prefixes().into_iter().map(begin).collect::<Result<_, _>>()?;
        loop {
            // What changed before the watches began is read here, what changes while it is read is told by them.
            self.own(self.store.revision()).await;
            let next = watches.iter_mut().map(|watch| watch.next().boxed());
            let (batch, ..) = select_all(next).await;
            let Some(batch) = batch.transpose()? else { return Ok(()) };
            drop(batch);
            // All that has come meanwhile is read at once.
            for watch in &mut watches {
                while let Some(Some(batch)) = watch.next().now_or_never() {
                    drop(batch?);
                }
            }
        }
    }
}

impl Made {
    fn nodes(&self, cluster: &str) -> Vec<OwnNode> {
        let mut instances = instances(self.services.values(), self.slices.values());
        let of_all: BTreeMap<&str, &Health> =
            self.health.values().map(|health| (health.node.as_str(), health)).collect();
        let known = self.records.values().filter_map(|recorded| {
            // One that has not reported yet may never do so: nobody knows how it is.
            let health = of_all.get(recorded.record.name.as_str())?;
            let there = instances.remove(&recorded.record.name).unwrap_or_default();
            let (services, checks): (Vec<_>, Vec<_>) = there.into_values().unzip();
            Some(OwnNode {
                node: recorded.node(cluster),
                services: recorded.server().into_iter().chain(services).collect(),
                checks: std::iter::once(health.check.clone()).chain(checks).collect(),
            })
        });
        known.collect()
    }
}

fn prefixes() -> [String; 4] {
    [
        NODES_PREFIX.to_owned(),
        NODES.prefix(None),
        SERVICES.prefix(None),
        ENDPOINT_SLICES.prefix(None),
    ]
}

/// An object of the store; `None`, with a word in the log, if it is none.
pub(super) fn object<K: Typed>(kv: &KeyValue) -> Option<K> {
    let object = Object::from_stored(K::RESOURCE, kv.value.clone(), kv.mod_revision);
    match object.and_then(|object| object.typed()) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(%error, "an object is left out of Consul's catalog");
            None
        }
    }
}
