//! The catalog as it is at one moment: what clients registered, together with what the cluster knows by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use pontoon_store::KeyValue;
use serde::de::DeserializeOwned;

use super::record::{Check, Node, Service, Source, Status};
use crate::cluster::{Own, OwnNode};
use crate::keyspace::{CATALOG, CatalogKey};
use crate::near::{Coordinate, sort_by_distance};
use crate::refusal::Refusal;

/// A node with all that is on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    /// By id in lower case, as the checks.
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) checks: BTreeMap<String, Check>,
    /// It is one of the cluster's own nodes.
    pub(crate) is_own: bool,
}

/// The catalog.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// By name in lower case.
    nodes: BTreeMap<String, Entry>,
    /// Node and id of the instances of each service, by its name in lower case.
    instances: BTreeMap<String, Vec<(String, String)>>,
    pub(crate) coordinates: BTreeMap<String, Coordinate>,
    /// The newest index of anything in it.
    pub(crate) newest: u64,
    /// What it was made from.
    records: Origin,
    own: Arc<Own>,
}

/// How the same records are known again: how many there are, and the newest revision of any. Whatever is written gets a
/// newer one, and what is deleted lowers the count.
type Origin = (usize, u64);

fn origin(kvs: &[Arc<KeyValue>]) -> Origin {
    (kvs.len(), kvs.iter().map(|kv| kv.mod_revision).max().unwrap_or(0))
}

impl Catalog {
    /// True if these would make the same.
    pub(crate) fn is_of(&self, kvs: &[Arc<KeyValue>], own: &Arc<Own>) -> bool {
        Arc::ptr_eq(&self.own, own) && self.records == origin(kvs)
    }

    pub(crate) fn of(kvs: &[Arc<KeyValue>], own: &Arc<Own>) -> Result<Catalog, Refusal> {
        let records = origin(kvs);
        let newest = records.1.max(own.index);
        let mut catalog = Catalog { newest, records, own: Arc::clone(own), ..Catalog::default() };
        for there in &own.nodes {
            let lower = |id: &str| id.to_lowercase();
            let services =
                there.services.iter().map(|service| (lower(&service.id), service.clone()));
            let checks = there.checks.iter().map(|check| (lower(&check.id), check.clone()));
            let entry = Entry {
                node: there.node.clone(),
                services: services.collect(),
                checks: checks.collect(),
                is_own: true,
            };
            catalog.nodes.insert(lower(&there.node.name), entry);
        }
        // Nodes come before what is on them: what is on none is not shown.
        let (nodes, others): (Vec<_>, Vec<_>) = kvs
            .iter()
            .filter_map(|kv| Some((CatalogKey::parse(kv.key.get(CATALOG.len()..)?)?, kv)))
            .partition(|(key, _)| matches!(key, CatalogKey::Node(_)));
        for (key, kv) in nodes.into_iter().chain(others) {
            catalog.add(key, kv)?;
        }
        catalog.finish();
        Ok(catalog)
    }

    fn add(&mut self, key: CatalogKey, kv: &KeyValue) -> Result<(), Refusal> {
        let (create_index, modify_index) = (kv.create_revision, kv.mod_revision);
        match key {
            CatalogKey::Node(name) => {
                let node = Node { create_index, modify_index, ..decode(kv)? };
                // What the cluster knows of its own nodes is right.
                self.nodes.entry(name).or_insert_with(|| Entry { node, ..Entry::default() });
            }
            CatalogKey::Service(node, id) => {
                if let Some(entry) = self.nodes.get_mut(&node) {
                    let service = Service { create_index, modify_index, ..decode(kv)? };
                    entry.services.entry(id).or_insert(service);
                }
            }
            CatalogKey::Check(node, id) => {
                if let Some(entry) = self.nodes.get_mut(&node) {
                    let check = Check { create_index, modify_index, ..decode(kv)? };
                    entry.checks.entry(id).or_insert(check);
                }
            }
            CatalogKey::Coordinate(node) => drop(self.coordinates.insert(node, decode(kv)?)),
        }
        Ok(())
    }

    /// Computes what follows from the records.
    fn finish(&mut self) {
        for (name, entry) in &mut self.nodes {
            let services = &entry.services;
            let is_about = |check: &Check| {
                check.service_id.is_empty()
                    || services.contains_key(&check.service_id.to_lowercase())
            };
            entry.checks.retain(|_, check| is_about(check));
            for (id, service) in services {
                let of_name = self.instances.entry(service.name.to_lowercase()).or_default();
                of_name.push((name.clone(), id.clone()));
            }
        }
        let mut aliases = Vec::new();
        for (name, entry) in &self.nodes {
            for (id, check) in &entry.checks {
                if let Source::Alias { node, service } = &check.source {
                    let of = if node.is_empty() { name.clone() } else { node.to_lowercase() };
                    aliases.push((name.clone(), id.clone(), self.aliased(&of, service)));
                }
            }
        }
        for (node, id, (status, output)) in aliases {
            if let Some(check) =
                self.nodes.get_mut(&node).and_then(|entry| entry.checks.get_mut(&id))
            {
                (check.status, check.output) = (status, output);
            }
        }
    }

    /// How a service is, or a node, by all its checks that are no aliases themselves.
    fn aliased(&self, node: &str, service: &str) -> (Status, String) {
        let checks = self.nodes.get(node).into_iter().flat_map(|entry| entry.checks.values());
        let worst = checks
            .filter(|check| !matches!(check.source, Source::Alias { .. }))
            .filter(|check| {
                check.service_id.is_empty() || check.service_id.eq_ignore_ascii_case(service)
            })
            .max_by_key(|check| check.status);
        match worst {
            Some(check) if check.status != Status::Passing => {
                let output = format!("Aliased check {:?} failing: {}", check.name, check.output);
                (check.status, output)
            }
            Some(_) => (Status::Passing, "All checks passing.".to_owned()),
            None => (Status::Passing, "No checks found.".to_owned()),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Entry> {
        self.nodes.get(&name.to_lowercase())
    }

    /// True if the cluster itself runs a service.
    pub(crate) fn owns_service(&self, node: &str, id: &str) -> bool {
        let is_it = |service: &Service| service.id.eq_ignore_ascii_case(id);
        self.own_node(node).is_some_and(|there| there.services.iter().any(is_it))
    }

    /// True if the cluster itself says how a check is.
    pub(crate) fn owns_check(&self, node: &str, id: &str) -> bool {
        let is_it = |check: &Check| check.id.eq_ignore_ascii_case(id);
        self.own_node(node).is_some_and(|there| there.checks.iter().any(is_it))
    }

    fn own_node(&self, name: &str) -> Option<&OwnNode> {
        self.own.nodes.iter().find(|there| there.node.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.values()
    }

    /// Puts what is on nodes near to this one first, if it is one; `_agent` is the server's own.
    pub(crate) fn sort_near<T>(
        &self,
        near: &str,
        own_node: &str,
        items: &mut [T],
        node: impl Fn(&T) -> &String,
    ) {
        if near.is_empty() {
            return;
        }
        let origin = if near == "_agent" { own_node } else { near }.to_lowercase();
        let at = |name: &String| self.coordinates.get(&name.to_lowercase());
        sort_by_distance(items, self.coordinates.get(&origin), |item| at(node(item)));
        // Nothing is nearer to a node than itself, whether it has measured or not.
        items.sort_by_key(|item| node(item).to_lowercase() != origin);
    }

    /// The instances of a service.
    pub(crate) fn instances(&self, name: &str) -> impl Iterator<Item = (&Entry, &Service)> {
        let of_name = self.instances.get(&name.to_lowercase());
        of_name.into_iter().flatten().filter_map(|(node, id)| {
            let entry = self.nodes.get(node)?;
            Some((entry, entry.services.get(id)?))
        })
    }
}

impl Entry {
    pub(crate) fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(&id.to_lowercase())
    }

    pub(crate) fn check(&self, id: &str) -> Option<&Check> {
        self.checks.get(&id.to_lowercase())
    }

    /// The checks of the node itself and of one of its services.
    pub(crate) fn checks_of(&self, service: &Service) -> impl Iterator<Item = &Check> {
        self.checks.values().filter(move |check| {
            check.service_id.is_empty() || check.service_id.eq_ignore_ascii_case(&service.id)
        })
    }

    /// The service that a check is about.
    pub(crate) fn service_of(&self, check: &Check) -> Option<&Service> {
        if check.service_id.is_empty() { None } else { self.service(&check.service_id) }
    }
}

/// The worst of some checks; without any, all is well.
pub(crate) fn worst<'c>(checks: impl IntoIterator<Item = &'c Check>) -> Status {
    checks.into_iter().map(|check| check.status).max().unwrap_or(Status::Passing)
}

fn decode<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, Refusal> {
    let damaged = "what is stored in the catalog is damaged, or of a newer version";
    serde_json::from_slice(&kv.value).map_err(|_| Refusal::failed(damaged))
}
