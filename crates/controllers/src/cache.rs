//! Everything the reconcilers see: all objects, indexed, and who of the nodes is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use pontoon_model::object::Object;
use pontoon_model::resource::{self, Resource};

use crate::entry::{Cached, Entry, Unreadable};
use crate::key::Key;
use crate::pod_state;
use crate::retired::Retired;
use crate::settings::Settings;

/// What the leader knows of a node's life, from gossip, from asking it, and from its reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Its daemon answers and its agent reports.
    Alive,
    /// Its daemon answers, but its agent has not reported for too long.
    AgentSilent,
    /// Its machine answers, but no daemon does. Containers outlive their daemon.
    DaemonDown,
    /// Nothing answers.
    Lost,
}

/// One object's step from a former state to a newer one. A change without `old` and `new` does
/// not occur; when a node's liveness changes both are the same.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: Key,
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
    /// The object is a node and its liveness changed.
    pub liveness: bool,
}

impl Change {
    /// Both states, as far as they exist, the newer first.
    pub fn states(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.new.iter().chain(&self.old)
    }
}

type Keys = BTreeSet<Key>;
type Label = (String, String, String);

/// All objects of the cluster by name, with the indexes that reconcilers ask.
///
/// Fed by informers ([`Cache::apply`]) and, so that a reconciler sees at once what the last plan
/// did, by the answers to the runtime's own writes ([`Cache::apply_written`]).
#[derive(Clone, Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Key, Arc<Entry>>,
    by_uid: BTreeMap<String, Key>,
    dependents: BTreeMap<String, Keys>,
    pods_on: BTreeMap<String, Keys>,
    pods_labelled: BTreeMap<Label, Keys>,
    /// Pods, ReplicaSets and ControllerRevisions that nothing controls: somebody may adopt them.
    orphans: Keys,
    /// Pods that have finished, oldest first.
    finished: BTreeSet<(Timestamp, Key)>,
    retired: Retired,
    liveness: BTreeMap<String, Liveness>,
    /// The newest revision an informer has told of, by resource.
    told: BTreeMap<&'static Resource, u64>,
    /// What the cluster was set up with.
    pub settings: Settings,
    /// The term in which this manager leads: what was there before it is not known, and its names do not come again.
    pub term: u64,
}

impl Cache {
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes over what an informer says; `None` means that the object is gone. Returns what
    /// changed, or nothing if the cache knew it (its own write, told again).
    pub fn apply(
        &mut self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        object: Option<Object>,
    ) -> Result<Option<Change>, Unreadable> {
        let key = Key::new(resource, namespace, name);
        let Some(object) = object else {
            let Some(old) = self.remove(&key) else { return Ok(None) };
            self.retire(&key, &old);
            return Ok(Some(Change { key, old: Some(old), new: None, liveness: false }));
        };
        self.heard(resource, object.meta.resource_version);
        self.insert(key, object)
    }

    /// Takes over the answer to a write of our own, a deletion among them. It counts only if the
    /// informer has not told of anything as new yet: it may have told that the object is gone.
    pub fn apply_written(&mut self, object: Object) -> Result<Option<Change>, Unreadable> {
        let r = object.resource;
        let told = self.told.get(r).copied().unwrap_or(0);
        if object.meta.resource_version <= told {
            return Ok(None);
        }
        let key = Key::new(r, object.meta.namespace.as_deref(), &object.meta.name);
        // An object that is on its way out, or was taken away by this very write, is never news
        // that it exists.
        let known = self.entries.get(&key).is_some_and(|e| e.meta().uid == object.meta.uid);
        if object.meta.is_terminating() && !known {
            return Ok(None);
        }
        self.insert(key, object)
    }

    /// Notes that the informer has told of everything up to a revision: of a list, of a deletion.
    pub fn heard(&mut self, resource: &'static Resource, revision: u64) {
        let told = self.told.entry(resource).or_default();
        *told = (*told).max(revision);
    }

    /// Takes over what is known of a node's life; a change if that is news of a known node.
    pub fn set_liveness(&mut self, node: &str, liveness: Liveness) -> Option<Change> {
        let former = self.liveness.insert(node.to_owned(), liveness);
        let key = Key::new(resource::NODES, None, node);
        let entry = self.entries.get(&key)?;
        let news = former != Some(liveness);
        let (old, new) = (Some(Arc::clone(entry)), Some(Arc::clone(entry)));
        news.then_some(Change { key, old, new, liveness: true })
    }

    /// Forgets what was known of a node's life.
    pub fn forget_liveness(&mut self, node: &str) {
        self.liveness.remove(node);
    }

    pub fn liveness(&self, node: &str) -> Option<Liveness> {
        self.liveness.get(node).copied()
    }

    /// Every object as a change from nothing: what a runtime that starts looks at.
    pub fn changes(&self) -> Vec<Change> {
        let change = |(key, entry): (&Key, &Arc<Entry>)| Change {
            key: key.clone(),
            old: None,
            new: Some(Arc::clone(entry)),
            liveness: false,
        };
        self.entries.iter().map(change).collect()
    }

    pub fn entry(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// The typed object of that name.
    pub fn get<K: Cached>(&self, namespace: Option<&str>, name: &str) -> Option<&Arc<K>> {
        self.entry(&Key::new(K::RESOURCE, namespace, name))?.get()
    }

    /// All objects of a resource, in one namespace or in all.
    pub fn entries(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        let from = Key::new(resource, namespace, "");
        let wanted = namespace.map(str::to_owned);
        self.entries.range(from..).take_while(move |(key, _)| {
            key.is(resource) && (wanted.is_none() || key.namespace == wanted)
        })
    }

    /// All typed objects of a kind, in one namespace or in all.
    pub fn list<K: Cached>(&self, namespace: Option<&str>) -> impl Iterator<Item = &Arc<K>> {
        self.entries(K::RESOURCE, namespace).filter_map(|(_, entry)| entry.get())
    }

    /// The object with that uid.
    pub fn by_uid(&self, uid: &str) -> Option<(&Key, &Arc<Entry>)> {
        self.entries.get_key_value(self.by_uid.get(uid)?)
    }

    /// All objects that name this uid among their owners.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        let keys = self.dependents.get(uid).into_iter().flatten();
        keys.filter_map(|key| self.entries.get_key_value(key))
    }

    /// The objects of a kind that this uid controls.
    pub fn controlled<K: Cached>(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        let owner = uid.to_owned();
        let controlled = move |entry: &&Arc<Entry>| entry.controller() == Some(owner.as_str());
        self.dependents(uid).map(|(_, e)| e).filter(controlled).filter_map(|e| e.get())
    }

    /// The objects of a kind that may be adopted, in a namespace, that nothing controls.
    pub fn orphans<K: Cached>(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let from = Key::new(K::RESOURCE, Some(namespace), "");
        let wanted = Some(namespace.to_owned());
        let keys = self.orphans.range(from..);
        let keys = keys.take_while(move |k| k.is(K::RESOURCE) && k.namespace == wanted);
        keys.filter_map(|key| self.entries.get(key)?.get())
    }

    /// The pods that are bound to a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        let keys = self.pods_on.get(node).into_iter().flatten();
        keys.filter_map(|key| self.entries.get(key)?.get())
    }

    /// The pods that have finished, oldest first.
    pub fn finished_pods(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.finished.iter().map(|(_, key)| key)
    }

    /// The nodes that pods are bound to, whether they exist or not.
    pub fn nodes_with_pods(&self) -> impl Iterator<Item = &str> {
        self.pods_on.keys().map(String::as_str)
    }

    /// The pods of a namespace that have all of these labels; an empty set selects none.
    pub fn pods_labelled<'a>(
        &'a self,
        namespace: &str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        let label = |(k, v): (&String, &String)| (namespace.to_owned(), k.clone(), v.clone());
        let sets = labels.iter().map(|l| self.pods_labelled.get(&label(l)));
        // The label that fewest pods have leaves the least to look through.
        let fewest = sets.collect::<Option<Vec<_>>>().unwrap_or_default();
        let fewest = fewest.into_iter().min_by_key(|s| s.len());
        let pods = fewest.into_iter().flatten().filter_map(|key| self.entries.get(key)?.get());
        pods.filter(move |pod: &&Arc<Pod>| {
            let has = pod.metadata.labels.as_ref();
            labels.iter().all(|(k, v)| has.and_then(|l| l.get(k)) == Some(v))
        })
    }

    /// Whether a pod of this owner had the name and is gone.
    pub fn is_retired(&self, owner: &str, name: &str) -> bool {
        self.retired.contains(owner, name)
    }

    fn insert(&mut self, key: Key, object: Object) -> Result<Option<Change>, Unreadable> {
        let known = self.entries.get(&key).map(|e| e.meta().resource_version);
        if known.is_some_and(|revision| revision >= object.meta.resource_version) {
            return Ok(None);
        }
        let entry = Arc::new(Entry::read(&key, object)?);
        let old = self.remove(&key);
        self.index(&key, &entry, true);
        self.entries.insert(key.clone(), Arc::clone(&entry));
        Ok(Some(Change { key, old, new: Some(entry), liveness: false }))
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(key)?;
        self.index(key, &entry, false);
        Some(entry)
    }

    fn index(&mut self, key: &Key, entry: &Entry, add: bool) {
        let meta = entry.meta();
        if add {
            self.by_uid.insert(meta.uid.clone(), key.clone());
        } else {
            self.by_uid.remove(&meta.uid);
        }
        for owner in &meta.owner_references {
            note(&mut self.dependents, &owner.uid, key, add);
        }
        let adoptable = [resource::PODS, resource::REPLICA_SETS, resource::CONTROLLER_REVISIONS]
            .contains(&key.resource);
        match entry.controller() {
            None if adoptable && add => {
                self.orphans.insert(key.clone());
            }
            None => {
                self.orphans.remove(key);
            }
            Some(_) => {}
        }
        if let Some(pod) = entry.get::<Pod>() {
            self.index_pod(key, pod, add);
        }
    }

    fn index_pod(&mut self, key: &Key, pod: &Pod, add: bool) {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
        if let Some(node) = node {
            note(&mut self.pods_on, &node, key, add);
        }
        for (label, value) in pod.metadata.labels.iter().flatten() {
            let label = (key.namespace().to_owned(), label.clone(), value.clone());
            note(&mut self.pods_labelled, &label, key, add);
        }
        if pod_state::is_finished(pod) {
            let born = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0);
            if add {
                self.finished.insert((born, key.clone()));
            } else {
                self.finished.remove(&(born, key.clone()));
            }
        }
    }

    /// Notes that an object is gone for good, so that its owner uses its name no more.
    fn retire(&mut self, key: &Key, entry: &Entry) {
        self.retired.forget(&entry.meta().uid);
        if key.is(resource::PODS)
            && let Some(owner) = entry.controller()
            && self.by_uid.contains_key(owner)
        {
            self.retired.add(owner, &key.name);
        }
    }

    /// Whether the node is known to be dead: nothing answers there.
    pub fn is_dead(&self, node: &str) -> bool {
        self.liveness(node) == Some(Liveness::Lost)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.get(None, name)
    }
}

fn note<K: Ord + Clone>(index: &mut BTreeMap<K, Keys>, at: &K, key: &Key, add: bool) {
    if add {
        index.entry(at.clone()).or_default().insert(key.clone());
    } else if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, uid: &str, revision: u64, terminating: bool) -> Object {
        let mut body = json!({
            "metadata": {"name": name, "namespace": "n", "uid": uid, "labels": {"app": "a"}},
            "spec": {"containers": [], "nodeName": "node"},
        });
        if terminating {
            body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Object::from_value(resource::PODS, body, revision).unwrap()
    }

    fn tell(cache: &mut Cache, object: Option<Object>) -> bool {
        cache.apply(resource::PODS, Some("n"), "p", object).unwrap().is_some()
    }

    fn check(cache: &Cache, pods: usize) {
        let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
        assert_eq!(cache.list::<Pod>(None).count(), pods);
        assert_eq!(cache.pods_on("node").count(), pods);
        assert_eq!(cache.pods_labelled("n", &labels).count(), pods);
        assert_eq!(cache.orphans::<Pod>("n").count(), pods);
    }

    #[test]
    fn indexes_follow_objects() {
        let mut cache = Cache::default();
        assert!(tell(&mut cache, Some(pod("p", "u", 3, false))));
        check(&cache, 1);
        assert!(!tell(&mut cache, Some(pod("p", "u", 2, true))), "older than what is known");
        assert!(tell(&mut cache, None));
        check(&cache, 0);
        assert!(cache.by_uid("u").is_none());
        assert!(!tell(&mut cache, None));
    }

    #[test]
    fn own_writes_are_seen_at_once_but_never_bring_back_what_is_gone() {
        let mut cache = Cache::default();
        assert!(cache.apply_written(pod("p", "u", 5, false)).unwrap().is_some());
        check(&cache, 1);
        assert!(!tell(&mut cache, Some(pod("p", "u", 5, false))), "told again");
        assert!(tell(&mut cache, None));
        assert!(cache.apply_written(pod("p", "u", 5, false)).unwrap().is_none());
        assert!(cache.apply_written(pod("p", "u", 7, true)).unwrap().is_none());
        cache.heard(resource::PODS, 9);
        assert!(cache.apply_written(pod("q", "v", 8, false)).unwrap().is_none());
        assert!(cache.apply_written(pod("p", "u", 9, false)).unwrap().is_none(), "its deletion");
        check(&cache, 0);
    }
}
