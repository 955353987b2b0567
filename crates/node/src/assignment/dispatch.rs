//! The manager's end: what concerns one node, as lines, from the manager's view of all objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use pontoon_controllers::{Change, Entry, Key};
use pontoon_model::resource::{self, Resource};
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Kind, Line, references};
use crate::cluster::NodeRecord;
use crate::config::MANAGER_PORT;
use crate::gossip_keys::GossipKeys;
use crate::identity::Role;
use crate::known::KnownNode;
use crate::membership::ManagerAddress;
use crate::view::View;

/// Lines on their way to one node; a node that does not take them holds up nobody but itself.
const LINES_WAITING: usize = 256;
/// How often a silent stream says that it lives.
const PING_EVERY: Duration = Duration::from_secs(2);

/// What a dispatcher reads.
#[derive(Clone)]
pub struct Source {
    pub view: Arc<View>,
    /// All nodes' records, the newest.
    pub records: watch::Receiver<Arc<Vec<NodeRecord>>>,
    /// Gossip's keys, never newer than the records.
    pub gossip_keys: watch::Receiver<Option<Arc<GossipKeys>>>,
    /// Whether this manager is in contact with the leader.
    pub contact: watch::Receiver<bool>,
}

/// Why a stream ended: the node does not listen any more, it was removed, or this manager stops.
struct Ended;

impl Source {
    /// The lines for a node, until it stops listening, is removed, or the token ends it.
    #[must_use]
    pub fn lines(&self, node: &NodeRecord, stop: CancellationToken) -> mpsc::Receiver<Line> {
        let (out, lines) = mpsc::channel(LINES_WAITING);
        let (node, member) = (node.name.clone(), node.member);
        let (source, told) = (self.clone(), BTreeSet::new());
        let stream = Stream { source, node, member, is_known: false, out, told };
        tokio::spawn(async move {
            tokio::select! {
                _ = stream.run() => {}
                () = stop.cancelled() => {}
            }
        });
        lines
    }
}

struct Stream {
    source: Source,
    node: String,
    member: u64,
    /// Whether this manager has heard of the node: one that it has not is perhaps new, not removed.
    is_known: bool,
    out: mpsc::Sender<Line>,
    /// The pods, ConfigMaps and Secrets that the node has been told of.
    told: BTreeSet<(Kind, String, String)>,
}

impl Stream {
    async fn run(mut self) -> Result<(), Ended> {
        self.source.view.synced().await;
        loop {
            // Subscribed before everything is read: a change in between is told twice, never lost.
            let mut changes = self.source.view.subscribe();
            self.tell_everything().await?;
            let mut ping = tokio::time::interval(PING_EVERY);
            loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(change) => self.tell_change(&change).await?,
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Err(Ended),
                    },
                    changed = self.source.records.changed() => {
                        changed.map_err(|_| Ended)?;
                        self.tell_records().await?;
                    }
                    changed = self.source.gossip_keys.changed() => {
                        changed.map_err(|_| Ended)?;
                        self.tell_records().await?;
                    }
                    _ = ping.tick() => self.tell(Line::Ping).await?,
                }
            }
        }
    }

    async fn tell(&self, line: Line) -> Result<(), Ended> {
        self.out.send(line).await.map_err(|_| Ended)
    }

    async fn tell_everything(&mut self) -> Result<(), Ended> {
        self.tell(Line::Begin).await?;
        self.told.clear();
        self.tell_records().await?;
        let entries = self.everything();
        for (kind, entry) in entries {
            self.put(kind, &entry).await?;
        }
        self.tell(Line::Complete).await
    }

    fn everything(&self) -> Vec<(Kind, Arc<Entry>)> {
        let cache = self.source.view.read();
        let mut found = Vec::new();
        for (resource, kind) in [
            (resource::NODES, Kind::Node),
            (resource::SERVICES, Kind::Service),
            (resource::ENDPOINT_SLICES, Kind::Slice),
        ] {
            found.extend(cache.entries(resource, None).map(|(_, entry)| (kind, entry.clone())));
        }
        // What a pod uses is told before the pod.
        for pod in cache.pods_on(&self.node) {
            found.extend(needs(&cache, pod).into_values());
        }
        for pod in cache.pods_on(&self.node) {
            let (namespace, name) = names(pod);
            let key = Key::new(resource::PODS, Some(namespace), name);
            found.extend(cache.entry(&key).map(|entry| (Kind::Pod, entry.clone())));
        }
        found
    }

    async fn tell_change(&mut self, change: &Change) -> Result<(), Ended> {
        let Some(kind) = Kind::of(change.key.resource) else { return Ok(()) };
        match kind {
            Kind::Node | Kind::Service | Kind::Slice => match &change.new {
                Some(entry) => self.put(kind, entry).await,
                None => self.gone(kind, &change.key).await,
            },
            Kind::Pod => self.tell_pod(change).await,
            Kind::ConfigMap | Kind::Secret => {
                let id = (kind, change.key.namespace().to_owned(), change.key.name.clone());
                match &change.new {
                    Some(entry) if self.told.contains(&id) || self.is_needed(&id) => {
                        self.put(kind, entry).await
                    }
                    None if self.told.contains(&id) => self.gone(kind, &change.key).await,
                    _ => Ok(()),
                }
            }
        }
    }

    async fn tell_pod(&mut self, change: &Change) -> Result<(), Ended> {
        let here = |entry: &&Arc<Entry>| {
            let pod = entry.get::<Pod>();
            pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_deref()) == Some(self.node.as_str())
        };
        let Some(entry) = change.new.as_ref().filter(here) else {
            let id = (Kind::Pod, change.key.namespace().to_owned(), change.key.name.clone());
            if self.told.contains(&id) {
                self.gone(Kind::Pod, &change.key).await?;
                self.forget_unused(change.key.namespace()).await?;
            }
            return Ok(());
        };
        let needed = {
            let cache = self.source.view.read();
            entry.get::<Pod>().map(|pod| needs(&cache, pod)).unwrap_or_default()
        };
        for (id, (kind, entry)) in needed {
            if !self.told.contains(&id) {
                self.put(kind, &entry).await?;
            }
        }
        self.put(Kind::Pod, entry).await
    }

    /// Takes back the ConfigMaps and Secrets of a namespace that no pod of this node uses any more: what changes in
    /// them is none of its business from now on.
    async fn forget_unused(&mut self, namespace: &str) -> Result<(), Ended> {
        let used: BTreeSet<(Kind, String)> = {
            let cache = self.source.view.read();
            let here = cache.pods_on(&self.node).filter(|pod| names(pod).0 == namespace);
            here.flat_map(|pod| references::of(pod)).collect()
        };
        let unused = |(kind, of, name): &&(Kind, String, String)| {
            matches!(kind, Kind::ConfigMap | Kind::Secret)
                && of == namespace
                && !used.contains(&(*kind, name.clone()))
        };
        let unused: Vec<_> = self.told.iter().filter(unused).cloned().collect();
        for (kind, _, name) in unused {
            self.gone(kind, &Key::new(resource_of(kind), Some(namespace), &name)).await?;
        }
        Ok(())
    }

    /// Whether a pod of this node uses it.
    fn is_needed(&self, (kind, namespace, name): &(Kind, String, String)) -> bool {
        let cache = self.source.view.read();
        let wanted = (*kind, name.clone());
        cache
            .pods_on(&self.node)
            .filter(|pod| names(pod).0 == namespace)
            .any(|pod| references::of(pod).contains(&wanted))
    }

    async fn tell_records(&mut self) -> Result<(), Ended> {
        // Before the records: so these are at least as new, and a node that is removed gets no key any more.
        let keys = self.source.gossip_keys.borrow_and_update().clone();
        let records = self.source.records.borrow_and_update().clone();
        self.tell(Line::Managers { managers: managers(&records) }).await?;
        let known = |r: &NodeRecord| KnownNode { name: r.name.clone(), member: r.member };
        self.tell(Line::Nodes { nodes: records.iter().map(known).collect() }).await?;
        match records.iter().find(|r| r.name == self.node && r.member == self.member) {
            Some(record) => {
                self.is_known = true;
                self.tell(Line::Role { role: record.role }).await?;
                match keys {
                    Some(keys) => self.tell(Line::Gossip { keys: keys.opening() }).await,
                    None => Ok(()),
                }
            }
            None if self.is_known => Err(Ended),
            None => Ok(()),
        }
    }

    async fn put(&mut self, kind: Kind, entry: &Entry) -> Result<(), Ended> {
        let meta = entry.meta();
        let json = entry.object.json();
        let raw = std::str::from_utf8(&json).ok().map(str::to_owned).map(RawValue::from_string);
        let Some(Ok(object)) = raw else {
            tracing::error!(
                name = meta.name,
                "an object in the store is no JSON; its node is not told"
            );
            return Ok(());
        };
        self.told.insert((kind, meta.namespace.clone().unwrap_or_default(), meta.name.clone()));
        self.tell(Line::Put { kind, object }).await
    }

    async fn gone(&mut self, kind: Kind, key: &Key) -> Result<(), Ended> {
        self.told.remove(&(kind, key.namespace().to_owned(), key.name.clone()));
        self.tell(Line::Gone { kind, namespace: key.namespace.clone(), name: key.name.clone() })
            .await
    }
}

type Needed = BTreeMap<(Kind, String, String), (Kind, Arc<Entry>)>;

/// The ConfigMaps and Secrets that a pod uses, as far as they exist.
fn needs(cache: &pontoon_controllers::Cache, pod: &Pod) -> Needed {
    let namespace = names(pod).0;
    let entry = |(kind, name): (Kind, String)| {
        let found = cache.entry(&Key::new(resource_of(kind), Some(namespace), &name))?.clone();
        Some(((kind, namespace.to_owned(), name), (kind, found)))
    };
    references::of(pod).into_iter().filter_map(entry).collect()
}

/// The resource of what pods use: a ConfigMap or a Secret.
fn resource_of(kind: Kind) -> &'static Resource {
    if kind == Kind::Secret { resource::SECRETS } else { resource::CONFIG_MAPS }
}

fn names(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Where the managers among these nodes are reached.
#[must_use]
pub(crate) fn managers(records: &[NodeRecord]) -> Vec<ManagerAddress> {
    let managers = records.iter().filter(|record| record.role == Role::Manager);
    managers
        .map(|record| ManagerAddress {
            name: record.name.clone(),
            member: record.member,
            address: std::net::SocketAddr::new(record.address, MANAGER_PORT),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pontoon_controllers::Settings;
    use pontoon_model::object::Object;
    use serde_json::{Value, json};

    use super::*;

    fn put(view: &View, resource: &'static Resource, body: Option<Value>, name: &str) -> Change {
        static REVISION: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let revision = REVISION.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let object = body.map(|body| Object::from_value(resource, body, revision).unwrap());
        let mut changed = None;
        view.change(|cache| {
            changed = cache.apply(resource, Some("n"), name, object).unwrap();
            None
        });
        changed.unwrap()
    }

    fn secret(name: &str) -> Option<Value> {
        Some(json!({ "metadata": { "name": name, "namespace": "n", "uid": name } }))
    }

    fn pod(name: &str, secret: &str) -> Option<Value> {
        let volume = json!({ "name": "v", "secret": { "secretName": secret } });
        Some(json!({
            "metadata": { "name": name, "namespace": "n", "uid": name },
            "spec": { "nodeName": "here", "containers": [], "volumes": [volume] },
        }))
    }

    /// What was told since, in short.
    fn told(lines: &mut mpsc::Receiver<Line>) -> Vec<String> {
        let mut found = Vec::new();
        while let Ok(line) = lines.try_recv() {
            match line {
                Line::Put { kind, object } => {
                    let object: Value = serde_json::from_str(object.get()).unwrap();
                    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                    found.push(format!("{kind:?} {name}"));
                }
                Line::Gone { kind, name, .. } => found.push(format!("no {kind:?} {name}")),
                _ => {}
            }
        }
        found
    }

    #[tokio::test]
    async fn a_secret_goes_with_the_last_pod_that_uses_it() {
        let view = View::new(Settings::default());
        let (_records, records) = watch::channel(Arc::default());
        let (_contact, contact) = watch::channel(true);
        let (_keys, gossip_keys) = watch::channel(None);
        let source = Source { view: view.clone(), records, contact, gossip_keys };
        let (out, mut lines) = mpsc::channel(LINES_WAITING);
        let (node, told_before) = ("here".to_owned(), BTreeSet::new());
        let mut stream =
            Stream { source, node, member: 1, is_known: false, out, told: told_before };
        for name in ["both", "one"] {
            put(&view, resource::SECRETS, secret(name), name);
        }
        for (name, secret) in [("p1", "both"), ("p2", "both"), ("p3", "one")] {
            let change = put(&view, resource::PODS, pod(name, secret), name);
            stream.tell_change(&change).await.ok().unwrap();
        }
        let all = ["Secret both", "Pod p1", "Pod p2", "Secret one", "Pod p3"];
        assert_eq!(told(&mut lines), all);
        for (name, wanted) in
            [("p1", vec!["no Pod p1"]), ("p2", vec!["no Pod p2", "no Secret both"])]
        {
            let change = put(&view, resource::PODS, None, name);
            stream.tell_change(&change).await.ok().unwrap();
            assert_eq!(told(&mut lines), wanted);
        }
        for (name, wanted) in [("both", vec![]), ("one", vec!["Secret one"])] {
            let change = put(&view, resource::SECRETS, secret(name), name);
            stream.tell_change(&change).await.ok().unwrap();
            assert_eq!(told(&mut lines), wanted, "{name} is changed");
        }
    }
}
