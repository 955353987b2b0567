//! Probes: what this node does itself to see how its services are.

mod connect;
mod grpc;
mod http;
mod tls;
mod udp;

use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_store::{Read, WatchRequest};
use tokio::task::JoinSet;

use super::status::Told;
use crate::catalog::record::{Probe, Source, Status};
use crate::keyspace;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// How long a probe may take that does not say.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

impl ConsulServer {
    /// Probes what this node's checks say, until the store stops. Every node with a server runs this.
    pub async fn probe_services(self) {
        while let Err(error) = self.follow_probes().await {
            tracing::warn!(%error, "follow this node's checks; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs one task for each probe, and begins again whenever they are others; `Ok` when the store stops.
    async fn follow_probes(&self) -> Result<(), Refusal> {
        let node = &self.inner.settings.node;
        let [_, checks] = keyspace::of_node(node);
        let mut running = JoinSet::new();
        let mut known = BTreeMap::new();
        let (_, revision) = self.catalog(Read::Local).await?;
        let watch = self.inner.store.watch(WatchRequest::prefix(checks).from(revision + 1));
        let mut watch = watch.map_err(|error| Refusal::Failed(error.to_string()))?;
        loop {
            let (catalog, _) = self.catalog(Read::Local).await?;
            let all = catalog.node(node).into_iter().flat_map(|there| there.checks.values());
            let probes = all.filter(|check| matches!(check.source, Source::Probe { .. }));
            let probes: BTreeMap<_, _> =
                probes.map(|check| (check.id.clone(), check.source.clone())).collect();
            if probes != known {
                running.abort_all();
                while running.join_next().await.is_some() {}
                for (id, source) in &probes {
                    running.spawn(self.clone().probe(id.clone(), source.clone()));
                }
                known = probes;
            }
            drop(catalog);
            match watch.next().await {
                Some(batch) => drop(batch.map_err(|error| Refusal::Failed(error.to_string()))?),
                None => return Ok(()),
            }
        }
    }

    async fn probe(self, id: String, source: Source) {
        let Source::Probe { how, every, within, steps } = source else { return };
        let every = every.to_std().unwrap_or(PATIENCE);
        let patience = within.and_then(crate::duration::GoDuration::to_std).unwrap_or(PATIENCE);
        let node = self.inner.settings.node.clone();
        let (mut good, mut bad) = (0_u32, 0_u32);
        loop {
            let probing = tokio::time::timeout(patience, look(&how));
            let (status, output) = probing.await.unwrap_or_else(|_| {
                (Status::Critical, format!("no answer within {} ms", patience.as_millis()))
            });
            (good, bad) = match status {
                Status::Critical => (0, bad.saturating_add(1)),
                Status::Passing | Status::Warning => (good.saturating_add(1), 0),
            };
            if good >= steps.successes.max(1) || bad >= steps.failures.max(1) {
                let told = self.set_status(&node, &id, status, output, Told::InTime).await;
                if let Err(error) = told {
                    tracing::debug!(%error, check = %id, "write how a check is; it is tried again");
                }
            }
            // Probes that began together do not stay together.
            tokio::time::sleep(every.mul_f64(0.9 + rand::random::<f64>() / 5.0)).await;
        }
    }
}

/// One look at a service.
pub(crate) async fn look(how: &Probe) -> (Status, String) {
    let looked = match how {
        Probe::Tcp(address) => connect::tcp(address)
            .await
            .map(|_| (Status::Passing, format!("TCP connect {address}: Success"))),
        Probe::Udp(address) => udp::ask(address).await,
        Probe::Http { url, method, header, body, skip_verify } => {
            let what = http::Ask { url, method, header, body };
            what.ask(*skip_verify).await
        }
        Probe::Grpc { target, tls, skip_verify } => grpc::ask(target, *tls, *skip_verify).await,
    };
    looked.unwrap_or_else(|words| (Status::Critical, words))
}
