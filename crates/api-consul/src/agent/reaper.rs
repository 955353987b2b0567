//! What becomes of checks and sessions by themselves: the leader makes checks critical that nobody told in time, takes
//! services away that were critical too long, and ends sessions whose node or checks are not well.

use std::time::Duration;

use pontoon_store::{EventKind, Range, Read, WatchRequest};

use super::status::Told;
use crate::catalog::Change;
use crate::catalog::reaper::{GRACE, Gone, LOOK};
use crate::catalog::record::{Check, Status};
use crate::catalog::state::Catalog;
use crate::keyspace::{self, check_critical, check_ttl};
use crate::refusal::Refusal;
use crate::server::ConsulServer;
use crate::session;

/// The pause after something failed; then everything is looked through again.
const PAUSE: Duration = Duration::from_secs(1);

impl ConsulServer {
    /// Looks after checks while this server leads, until the store stops. Every manager runs this.
    pub async fn watch_checks(self) {
        let mut leadership = self.inner.leadership.clone();
        while leadership.wait_for(|now| now.is_me).await.is_ok() {
            let lost = async {
                drop(leadership.wait_for(|now| !now.is_me).await);
            };
            tokio::select! {
                () = lost => {}
                watched = self.watch_due_checks() => match watched {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "look after checks; it is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// `Ok` when the store stops.
    async fn watch_due_checks(&self) -> Result<(), Refusal> {
        let store = &self.inner.store;
        let failed = |error: pontoon_store::WatchError| Refusal::Failed(error.to_string());
        let mut changes = self.inner.cluster.own_changes();
        let (_, revision) = self.catalog(Read::Linearizable).await?;
        let timed = WatchRequest::prefix(keyspace::CHECK_TIMES).from(revision + 1);
        let mut timed = store.watch(timed).map_err(failed)?;
        let records = WatchRequest::prefix(keyspace::CATALOG).from(revision + 1);
        let mut records = store.watch(records).map_err(failed)?;
        self.end_due(None).await?;
        let (mut gone, mut look) = (Gone::new(), tokio::time::interval(LOOK));
        loop {
            changes.mark_unchanged();
            self.end_sick_sessions().await?;
            tokio::select! {
                batch = timed.next() => {
                    let Some(batch) = batch else { return Ok(()) };
                    let events = batch.map_err(failed)?.events;
                    if events.iter().any(|event| event.kind == EventKind::Delete) {
                        let gone: Vec<_> = events.iter().map(|event| event.kv.key.clone()).collect();
                        self.end_due(Some(&gone)).await?;
                    }
                }
                batch = records.next() => match batch {
                    Some(batch) => drop(batch.map_err(failed)?),
                    None => return Ok(()),
                },
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                _ = look.tick() => self.forget_gone(&mut gone, GRACE).await?,
            }
        }
    }

    /// Does what is due to checks whose time is up: to all, or to those of whom one of these keys is.
    async fn end_due(&self, keys: Option<&[bytes::Bytes]>) -> Result<(), Refusal> {
        let (catalog, _) = self.catalog(Read::Linearizable).await?;
        let is_meant = |key: &bytes::Bytes| keys.is_none_or(|keys| keys.contains(key));
        for entry in catalog.nodes() {
            for check in entry.checks.values() {
                let node = &entry.node.name;
                let (ttl, critical) = (check_ttl(node, &check.id), check_critical(node, &check.id));
                if let Some(lease) = check.ttl_lease.filter(|_| is_meant(&ttl))
                    && self.is_absent(ttl).await?
                {
                    let output = expired(&check.output);
                    let told = Told::TooLate(lease);
                    self.set_status(node, &check.id, Status::Critical, output, told).await?;
                }
                if check.critical_lease.is_some()
                    && is_meant(&critical)
                    && self.is_absent(critical).await?
                {
                    self.deregister_critical(node, check).await?;
                }
            }
        }
        Ok(())
    }

    async fn deregister_critical(&self, node: &str, was: &Check) -> Result<(), Refusal> {
        tracing::info!(node, service = %was.service_id, "a service was critical too long, and goes");
        self.change(node, |catalog| {
            let mut change = Change::default();
            let check = catalog.node(node).and_then(|there| there.check(&was.id));
            if check.is_some_and(|check| check.critical_lease == was.critical_lease) {
                match was.service_id.as_str() {
                    // A service of the cluster's own stays, whatever somebody checks of it.
                    service if service.is_empty() || catalog.owns_service(node, service) => {
                        change.delete_check(node, &was.id);
                    }
                    service => change.delete_service(catalog, node, service)?,
                }
            }
            Ok((change, ()))
        })
        .await
    }

    /// Ends sessions whose node has gone, or whose checks have, or are critical.
    async fn end_sick_sessions(&self) -> Result<(), Refusal> {
        let found = self.inner.store.range(Range::prefix(keyspace::SESSIONS), Read::Local).await?;
        if found.kvs.is_empty() {
            return Ok(());
        }
        let (catalog, _) = self.catalog(Read::Local).await?;
        for kv in &found.kvs {
            let session = session::Record::decode(kv)?;
            if !is_well(&catalog, &session) {
                tracing::debug!(session = %session.id, "a session's node or check is not well");
                session::end(&self.inner.store, session.id).await?;
            }
        }
        Ok(())
    }
}

/// True if the node of a session is there, and no check that it depends on has gone or is critical.
pub(crate) fn is_well(catalog: &Catalog, session: &session::Record) -> bool {
    let Some(node) = catalog.node(&session.node) else { return false };
    session.checks().all(|id| node.check(id).is_some_and(|check| check.status != Status::Critical))
}

fn expired(output: &str) -> String {
    match output {
        "" => "TTL expired".to_owned(),
        output => format!("TTL expired (last output before timeout follows): {output}"),
    }
}
