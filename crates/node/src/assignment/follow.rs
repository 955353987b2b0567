//! The node's end: lines become the one value that the agent makes its node like.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pontoon_agent::Assignments;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::{Kind, Line};
use crate::gossip_keys::GossipKey;
use crate::identity::Role;
use crate::known::KnownNode;
use crate::membership::ManagerAddress;

/// Takes lines and publishes what they add up to.
pub(crate) struct Follower {
    node: String,
    assignments: watch::Sender<Arc<Assignments>>,
    /// What is being told between a beginning and its completion.
    coming: Option<Assignments>,
}

/// What a line says beyond objects, for the node itself.
pub(crate) enum News {
    Managers(Vec<ManagerAddress>),
    Nodes(Vec<KnownNode>),
    Role(Role),
    Gossip(Vec<GossipKey>),
}

impl Follower {
    /// A follower for this node that has been told nothing yet, and goes by what is remembered.
    #[must_use]
    pub(crate) fn new(node: &str, remembered: Assignments) -> Self {
        let (assignments, _) = watch::channel(Arc::new(remembered));
        Self { node: node.to_owned(), assignments, coming: None }
    }

    /// What the node is to be, the newest.
    #[must_use]
    pub(crate) fn assignments(&self) -> watch::Receiver<Arc<Assignments>> {
        self.assignments.subscribe()
    }

    /// The stream broke off; a new one begins with everything.
    pub(crate) fn interrupted(&mut self) {
        self.coming = None;
    }

    /// Takes one line.
    pub(crate) fn take(&mut self, line: Line) -> Option<News> {
        match line {
            Line::Begin => self.coming = Some(Assignments::default()),
            Line::Complete => {
                if let Some(mut complete) = self.coming.take() {
                    complete.complete = true;
                    self.assignments.send_replace(Arc::new(complete));
                }
            }
            Line::Put { kind, object } => self.change(|all, node| put(all, node, kind, &object)),
            Line::Gone { kind, namespace, name } => {
                let namespace = namespace.unwrap_or_default();
                self.change(|all, _| remove(all, kind, (namespace, name)));
            }
            Line::Managers { managers } => return Some(News::Managers(managers)),
            Line::Nodes { nodes } => return Some(News::Nodes(nodes)),
            Line::Role { role } => return Some(News::Role(role)),
            Line::Gossip { keys } => return Some(News::Gossip(keys)),
            Line::Ping => {}
        }
        None
    }

    fn change(&mut self, f: impl FnOnce(&mut Assignments, &str)) {
        let node = self.node.as_str();
        match &mut self.coming {
            Some(coming) => f(coming, node),
            // The maps are copied (the objects in them are shared) only while somebody still reads the former value.
            None => self.assignments.send_modify(|all| f(Arc::make_mut(all), node)),
        }
    }
}

fn put(all: &mut Assignments, node: &str, kind: Kind, raw: &RawValue) {
    match kind {
        Kind::Pod => insert(&mut all.pods, read::<Pod>(raw)),
        Kind::ConfigMap => insert(&mut all.config_maps, read::<ConfigMap>(raw)),
        Kind::Secret => insert(&mut all.secrets, read::<Secret>(raw)),
        Kind::Service => insert(&mut all.services, read::<Service>(raw)),
        Kind::Slice => insert(&mut all.slices, read::<EndpointSlice>(raw)),
        Kind::Node => {
            let Some(object) = read::<Node>(raw).map(Arc::new) else { return };
            let name = object.metadata.name.clone().unwrap_or_default();
            if name == node {
                all.node = Some(object.clone());
            }
            all.nodes.insert(name, object);
        }
    }
}

type Objects<K> = std::collections::BTreeMap<(String, String), Arc<K>>;

fn insert<K>(map: &mut Objects<K>, object: Option<K>)
where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
{
    let Some(object) = object else { return };
    let meta = object.metadata();
    let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    map.insert(key, Arc::new(object));
}

fn read<K: DeserializeOwned>(raw: &RawValue) -> Option<K> {
    serde_json::from_str(raw.get())
        .inspect_err(|error| tracing::warn!(%error, "an assigned object is left out"))
        .ok()
}

fn remove(all: &mut Assignments, kind: Kind, key: (String, String)) {
    match kind {
        Kind::Pod => drop(all.pods.remove(&key)),
        Kind::ConfigMap => drop(all.config_maps.remove(&key)),
        Kind::Secret => drop(all.secrets.remove(&key)),
        Kind::Service => drop(all.services.remove(&key)),
        Kind::Slice => drop(all.slices.remove(&key)),
        Kind::Node => {
            if key.1 == self_name(all) {
                all.node = None;
            }
            all.nodes.remove(&key.1);
        }
    }
}

fn self_name(all: &Assignments) -> String {
    all.node.as_ref().and_then(|node| node.metadata.name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Line {
        let text = format!(r#"{{"metadata":{{"namespace":"d","name":"{name}"}}}}"#);
        Line::Put { kind: Kind::Service, object: RawValue::from_string(text).unwrap() }
    }

    fn names(follower: &Follower) -> Vec<String> {
        let all = follower.assignments.borrow();
        all.services.keys().map(|(_, name)| name.clone()).collect()
    }

    #[test]
    fn nothing_is_believed_before_it_is_complete() {
        let mut follower = Follower::new("n", Assignments::default());
        follower.take(Line::Begin);
        follower.take(service("a"));
        assert!(!follower.assignments.borrow().complete);
        assert_eq!(names(&follower), Vec::<String>::new());
        follower.take(Line::Complete);
        assert!(follower.assignments.borrow().complete);
        assert_eq!(names(&follower), ["a"]);
    }

    #[test]
    fn a_second_telling_replaces_the_first_at_once() {
        let mut follower = Follower::new("n", Assignments::default());
        for line in [Line::Begin, service("a"), service("b"), Line::Complete] {
            follower.take(line);
        }
        follower.take(Line::Gone {
            kind: Kind::Service,
            namespace: Some("d".into()),
            name: "a".into(),
        });
        assert_eq!(names(&follower), ["b"]);
        follower.take(Line::Begin);
        follower.interrupted();
        assert_eq!(names(&follower), ["b"], "a telling that broke off changes nothing");
        for line in [Line::Begin, service("c")] {
            follower.take(line);
        }
        assert_eq!(names(&follower), ["b"]);
        follower.take(Line::Complete);
        assert_eq!(names(&follower), ["c"]);
    }
}
