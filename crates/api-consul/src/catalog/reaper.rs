//! What was registered on nodes of the cluster that have left it: nobody sees it any more, and in the end it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pontoon_store::{Compare, DeleteRange, Range, Read, Txn};
use tokio::time::Instant;

use crate::keyspace::{self, CATALOG, CatalogKey};
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// How often the leader looks.
pub(crate) const LOOK: Duration = Duration::from_secs(60);
/// How long a node must have gone: it may come back, and a server that has just begun may not know all nodes.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);
/// Nodes whose records go at one look.
const AT_ONCE: usize = 16;

/// Nodes that have gone but not their records, and since when.
pub(crate) type Gone = BTreeMap<String, Instant>;

impl ConsulServer {
    /// Deletes the records of nodes that were gone for `grace`, of a few at a time.
    pub(crate) async fn forget_gone(
        &self,
        gone: &mut Gone,
        grace: Duration,
    ) -> Result<(), Refusal> {
        let store = &self.inner.store;
        let range = Range { keys_only: true, ..Range::prefix(CATALOG) };
        let found = store.range(range, Read::Linearizable).await?;
        let (catalog, _) = self.catalog(Read::Local).await?;
        let mut left = BTreeSet::new();
        for kv in &found.kvs {
            let node = match CatalogKey::parse(kv.key.get(CATALOG.len()..).unwrap_or_default()) {
                Some(
                    CatalogKey::Service(node, _)
                    | CatalogKey::Check(node, _)
                    | CatalogKey::Coordinate(node),
                ) => node,
                Some(CatalogKey::Node(_)) | None => continue,
            };
            if catalog.node(&node).is_none() {
                left.insert(node);
            }
        }
        let now = Instant::now();
        gone.retain(|node, _| left.contains(node));
        for node in left {
            gone.entry(node).or_insert(now);
        }
        let due: Vec<_> = gone
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= grace)
            .map(|(node, _)| node.clone())
            .take(AT_ONCE)
            .collect();
        for node in due {
            tracing::info!(node, "what was registered on a node that has gone is deleted");
            let mut txn = Txn::new().when(Compare::absent(keyspace::catalog_node(&node)));
            let times = [keyspace::check_ttl(&node, ""), keyspace::check_critical(&node, "")];
            for prefix in keyspace::of_node(&node).into_iter().chain(times) {
                txn = txn.then(DeleteRange::prefix(prefix));
            }
            store.txn(txn.then(DeleteRange::key(keyspace::coordinate(&node)))).await?;
            gone.remove(&node);
        }
        Ok(())
    }
}
