//! The catalog within a transaction: as it was read, what the operations so far have made of it, and the writes and
//! conditions that come of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{Compare, DeleteRange, Op, Put, Txn};

use super::record::{Check, Node, Service};
use super::state::{Catalog, Entry};
use super::write::{encode, is_same};
use crate::draft::nothing_since;
use crate::entry::PENDING;
use crate::keyspace::{self, catalog_check, catalog_node, catalog_service};
use crate::op::OpError;

/// The catalog being changed.
pub(crate) struct CatalogDraft {
    catalog: Arc<Catalog>,
    /// The revision as of which it was read.
    at: u64,
    /// The nodes that were looked at, by name in lower case, as they are by now.
    nodes: BTreeMap<String, Option<Entry>>,
    /// Nodes that were deleted with all that was on them.
    cleared: BTreeSet<String>,
    /// The revisions of the records that were looked at; 0 for one that was not there.
    seen: BTreeMap<Bytes, u64>,
    /// The records that are to be, or not to be any more.
    writes: BTreeMap<Bytes, Option<Bytes>>,
}

impl CatalogDraft {
    pub(crate) fn new(catalog: Arc<Catalog>, at: u64) -> CatalogDraft {
        CatalogDraft {
            catalog,
            at,
            nodes: BTreeMap::new(),
            cleared: BTreeSet::new(),
            seen: BTreeMap::new(),
            writes: BTreeMap::new(),
        }
    }

    /// A node as it is by now.
    pub(crate) fn node(&mut self, name: &str) -> Option<&Entry> {
        let catalog = &self.catalog;
        let look = || catalog.node(name).cloned();
        self.nodes.entry(name.to_lowercase()).or_insert_with(look).as_ref()
    }

    /// The name of the node with an id.
    pub(crate) fn name_of(&self, id: &str) -> Option<String> {
        let by_now = self.nodes.values().flatten();
        let before = self.catalog.nodes();
        let is_it = |entry: &&Entry| entry.node.id.eq_ignore_ascii_case(id);
        let found = by_now.chain(before).find(is_it);
        found.map(|entry| entry.node.name.clone())
    }

    /// A service as it is by now. The change is made only if it stays so.
    pub(crate) fn service(&mut self, node: &str, id: &str) -> Option<&Service> {
        let there = self.catalog.node(node).and_then(|entry| entry.service(id));
        if !self.catalog.owns_service(node, id) {
            let index = there.map_or(0, |service| service.modify_index);
            self.seen.insert(catalog_service(node, id), index);
        }
        self.node(node).and_then(|entry| entry.service(id))
    }

    /// A check as it is by now. The change is made only if it stays so.
    pub(crate) fn check(&mut self, node: &str, id: &str) -> Option<&Check> {
        let there = self.catalog.node(node).and_then(|entry| entry.check(id));
        // The index of an alias is that of its record, too.
        if !self.catalog.owns_check(node, id) {
            let index = there.map_or(0, |check| check.modify_index);
            self.seen.insert(catalog_check(node, id), index);
        }
        self.node(node).and_then(|entry| entry.check(id))
    }

    /// Keeps a node; answers with it as it will be.
    pub(crate) fn put_node(&mut self, mut node: Node) -> Result<Node, OpError> {
        let there = self.node(&node.name);
        if there.is_some_and(|there| there.is_own) {
            return Err(is_own("node", &node.name));
        }
        if let Some(there) = there.filter(|there| is_same(&there.node, &node)) {
            return Ok(there.node.clone());
        }
        node.create_index = there.map_or(PENDING, |there| there.node.create_index);
        node.modify_index = PENDING;
        self.writes.insert(catalog_node(&node.name), Some(encode(&node)?));
        let slot = self.nodes.entry(node.name.to_lowercase()).or_default();
        slot.get_or_insert_default().node = node.clone();
        Ok(node)
    }

    /// Keeps a service of a node that is there; answers with it as it will be.
    pub(crate) fn put_service(
        &mut self,
        node: &str,
        mut service: Service,
    ) -> Result<Service, OpError> {
        if self.catalog.owns_service(node, &service.id) {
            return Err(is_own("service", &service.id));
        }
        let there = self.service(node, &service.id);
        if let Some(there) = there.filter(|there| is_same(*there, &service)) {
            return Ok(there.clone());
        }
        service.create_index = there.map_or(PENDING, |there| there.create_index);
        service.modify_index = PENDING;
        self.writes.insert(catalog_service(node, &service.id), Some(encode(&service)?));
        if let Some(Some(entry)) = self.nodes.get_mut(&node.to_lowercase()) {
            entry.services.insert(service.id.to_lowercase(), service.clone());
        }
        Ok(service)
    }

    /// Keeps a check of a node that is there; answers with it as it will be.
    pub(crate) fn put_check(&mut self, node: &str, mut check: Check) -> Result<Check, OpError> {
        if self.catalog.owns_check(node, &check.id) {
            return Err(is_own("check", &check.id));
        }
        let there = self.check(node, &check.id);
        if let Some(there) = there.filter(|there| is_same(*there, &check)) {
            return Ok(there.clone());
        }
        check.create_index = there.map_or(PENDING, |there| there.create_index);
        check.modify_index = PENDING;
        self.writes.insert(catalog_check(node, &check.id), Some(encode(&check)?));
        if let Some(Some(entry)) = self.nodes.get_mut(&node.to_lowercase()) {
            entry.checks.insert(check.id.to_lowercase(), check.clone());
        }
        Ok(check)
    }

    /// Deletes a node with all that is on it.
    pub(crate) fn delete_node(&mut self, name: &str) -> Result<(), OpError> {
        if self.node(name).is_some_and(|there| there.is_own) {
            return Err(is_own("node", name));
        }
        let prefixes = keyspace::of_node(name);
        self.writes.retain(|key, _| !prefixes.iter().any(|prefix| key.starts_with(prefix)));
        self.writes.insert(catalog_node(name), None);
        self.writes.insert(keyspace::coordinate(name), None);
        self.cleared.insert(name.to_lowercase());
        self.nodes.insert(name.to_lowercase(), None);
        Ok(())
    }

    /// Deletes a service with its checks.
    pub(crate) fn delete_service(&mut self, node: &str, id: &str) -> Result<(), OpError> {
        if self.catalog.owns_service(node, id) {
            return Err(is_own("service", id));
        }
        let Some(entry) = self.node(node) else { return Ok(()) };
        let is_about = |check: &&Check| check.service_id.eq_ignore_ascii_case(id);
        let checks: Vec<_> =
            entry.checks.values().filter(is_about).map(|check| check.id.clone()).collect();
        for check in checks {
            self.delete_check(node, &check)?;
        }
        self.writes.insert(catalog_service(node, id), None);
        if let Some(Some(entry)) = self.nodes.get_mut(&node.to_lowercase()) {
            entry.services.remove(&id.to_lowercase());
        }
        Ok(())
    }

    /// Deletes a check.
    pub(crate) fn delete_check(&mut self, node: &str, id: &str) -> Result<(), OpError> {
        if self.catalog.owns_check(node, id) {
            return Err(is_own("check", id));
        }
        if let Some(Some(entry)) = self.nodes.get_mut(&node.to_lowercase()) {
            entry.checks.remove(&id.to_lowercase());
        }
        for key in
            [catalog_check, keyspace::check_ttl, keyspace::check_critical].map(|key| key(node, id))
        {
            self.writes.insert(key, None);
        }
        Ok(())
    }

    /// True if there is something to write.
    pub(crate) fn writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Adds what must be so and what is to be done.
    pub(crate) fn add(&self, txn: &mut Txn) {
        for name in self.nodes.keys() {
            let before = self.catalog.node(name).filter(|entry| !entry.is_own);
            if before.is_some() || self.catalog.node(name).is_none() {
                let index = before.map_or(0, |entry| entry.node.modify_index);
                txn.compare.push(Compare::unchanged(catalog_node(name), index));
            }
            let prefixes = keyspace::of_node(name).into_iter();
            txn.compare.extend(prefixes.map(|prefix| nothing_since(prefix, self.at)));
        }
        let seen = self.seen.iter();
        txn.compare.extend(seen.map(|(key, index)| Compare::unchanged(key.clone(), *index)));
        let mut writes = self.writes.clone();
        for name in &self.cleared {
            self.clear(name, &mut writes, txn);
        }
        for (key, value) in writes {
            txn.success.push(match value {
                Some(value) => Put::new(key, value).into(),
                None => DeleteRange::key(key).into(),
            });
        }
    }

    /// Deletes what was on a node: as a whole, or one by one if something is written there again, since the store writes
    /// no key twice in one transaction.
    fn clear(&self, name: &str, writes: &mut BTreeMap<Bytes, Option<Bytes>>, txn: &mut Txn) {
        let prefixes = keyspace::of_node(name);
        let is_on_it = |key: &Bytes| prefixes.iter().any(|prefix| key.starts_with(prefix));
        if !writes.iter().any(|(key, value)| value.is_some() && is_on_it(key)) {
            writes.retain(|key, _| !is_on_it(key));
            txn.success.extend(prefixes.map(|prefix| Op::from(DeleteRange::prefix(prefix))));
            return;
        }
        let Some(before) = self.catalog.node(name) else { return };
        let services = before.services.keys().map(|id| catalog_service(name, id));
        let checks = before.checks.keys().map(|id| catalog_check(name, id));
        for key in services.chain(checks) {
            writes.entry(key).or_insert(None);
        }
    }
}

/// What the cluster knows by itself is not for clients to change.
fn is_own(what: &str, name: &str) -> OpError {
    OpError::Failed(super::write::is_own(what, name))
}
