//! Changes of the catalog: a few records put or deleted, if what they were decided from is still so.

use bytes::Bytes;
use pontoon_store::{Compare, DeleteRange, Op, Read, Txn};
use serde::Serialize;

use super::record::{Check, Node, Service};
use super::state::Catalog;
use crate::draft::nothing_since;
use crate::keyspace;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// Attempts to change the catalog while others do.
const ATTEMPTS: usize = 100;

/// Something to be kept.
pub(crate) enum Put {
    Node(Node),
    /// The node it is on, and the service.
    Service(String, Service),
    Check(String, Check),
}

/// What is to be written.
#[derive(Default)]
pub(crate) struct Change {
    ops: Vec<Op>,
}

impl Change {
    /// Keeps something, unless it is so already.
    pub(crate) fn put(&mut self, catalog: &Catalog, put: Put) -> Result<(), Refusal> {
        let (key, value) = match put {
            Put::Node(node) => {
                if !changes_node(catalog, &node) {
                    return Ok(());
                }
                (keyspace::catalog_node(&node.name), encode(&node)?)
            }
            Put::Service(node, service) => {
                if catalog.owns_service(&node, &service.id) {
                    return Err(Refusal::Failed(is_own("service", &service.id)));
                }
                let there = catalog.node(&node).and_then(|there| there.service(&service.id));
                if there.is_some_and(|there| is_same(there, &service)) {
                    return Ok(());
                }
                (keyspace::catalog_service(&node, &service.id), encode(&service)?)
            }
            Put::Check(node, check) => {
                if catalog.owns_check(&node, &check.id) {
                    return Err(Refusal::Failed(is_own("check", &check.id)));
                }
                let there = catalog.node(&node).and_then(|there| there.check(&check.id));
                if there.is_some_and(|there| is_same(there, &check)) {
                    return Ok(());
                }
                (keyspace::catalog_check(&node, &check.id), encode(&check)?)
            }
        };
        self.op(pontoon_store::Put::new(key, value));
        Ok(())
    }

    pub(crate) fn op(&mut self, op: impl Into<Op>) {
        self.ops.push(op.into());
    }

    pub(crate) fn delete_check(&mut self, node: &str, check: &str) {
        self.op(DeleteRange::key(keyspace::catalog_check(node, check)));
        self.op(DeleteRange::key(keyspace::check_ttl(node, check)));
        self.op(DeleteRange::key(keyspace::check_critical(node, check)));
    }

    /// Deletes a service with its checks.
    pub(crate) fn delete_service(
        &mut self,
        catalog: &Catalog,
        node: &str,
        service: &str,
    ) -> Result<(), Refusal> {
        if catalog.owns_service(node, service) {
            return Err(Refusal::Failed(is_own("service", service)));
        }
        self.op(DeleteRange::key(keyspace::catalog_service(node, service)));
        let checks = catalog.node(node).into_iter().flat_map(|entry| entry.checks.values());
        for check in checks.filter(|check| check.service_id.eq_ignore_ascii_case(service)) {
            self.delete_check(node, &check.id);
        }
        Ok(())
    }

    /// Deletes a node with all that is on it.
    pub(crate) fn delete_node(&mut self, node: &str) {
        self.op(DeleteRange::key(keyspace::catalog_node(node)));
        self.op(DeleteRange::key(keyspace::coordinate(node)));
        for prefix in keyspace::of_node(node) {
            self.op(DeleteRange::prefix(prefix));
        }
    }
}

/// What is said of a record that would take the place of one of the cluster's own.
pub(super) fn is_own(what: &str, name: &str) -> String {
    format!("{what} {name:?} is the cluster's own, and no client changes it; use another name")
}

/// True if a node is not there like this already. Of the cluster's own nodes nothing is kept.
pub(super) fn changes_node(catalog: &Catalog, node: &Node) -> bool {
    !catalog.node(&node.name).is_some_and(|there| there.is_own || is_same(&there.node, node))
}

/// True if keeping the one over the other would change nothing.
pub(super) fn is_same<T: Serialize>(there: &T, new: &T) -> bool {
    // What the store keeps beside a record is not in its encoding.
    matches!((serde_json::to_vec(there), serde_json::to_vec(new)), (Ok(a), Ok(b)) if a == b)
}

pub(super) fn encode(record: &impl Serialize) -> Result<Bytes, Refusal> {
    let bytes = serde_json::to_vec(record);
    bytes.map(Bytes::from).map_err(|error| Refusal::Failed(format!("write the catalog: {error}")))
}

impl ConsulServer {
    /// Makes up a change of what is on a node from the catalog, and does it if nothing there has changed meanwhile;
    /// otherwise it is made up again.
    pub(crate) async fn change<T>(
        &self,
        node: &str,
        decide: impl Fn(&Catalog) -> Result<(Change, T), Refusal>,
    ) -> Result<T, Refusal> {
        for _ in 0..ATTEMPTS {
            let (catalog, revision) = self.catalog(Read::Linearizable).await?;
            let (change, outcome) = decide(&catalog)?;
            if change.ops.is_empty() {
                return Ok(outcome);
            }
            let seen = catalog.node(node).filter(|entry| !entry.is_own);
            let seen = seen.map_or(0, |entry| entry.node.modify_index);
            let mut txn = Txn::new().when(Compare::unchanged(keyspace::catalog_node(node), seen));
            for prefix in keyspace::of_node(node) {
                txn = txn.when(nothing_since(prefix, revision));
            }
            txn.success = change.ops;
            if self.inner.store.txn(txn).await?.succeeded {
                return Ok(outcome);
            }
        }
        Err(Refusal::Busy("others change this node all the time; try again".to_owned()))
    }
}
