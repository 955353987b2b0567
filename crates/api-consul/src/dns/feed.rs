//! Keeps the table as the catalog is: made anew when something changes, never because somebody asks.

use std::sync::Arc;
use std::time::Duration;

use pontoon_store::{Batch, Range, Read, Watch, WatchError, WatchRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use super::name::Zone;
use super::table::{Sources, Table};
use crate::cluster::MemberState;
use crate::keyspace::{ACL, CATALOG, QUERIES};
use crate::permit::{Permit, PermitError, Wish};
use crate::prepared::Query;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// Pause after a failure, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A table is made anew after so long whatever happens: what the anonymous token may do need not be in the store. Consul
/// keeps policies as long.
const OLDEST: Duration = Duration::from_secs(30);

/// Makes the tables.
pub(super) struct Feed {
    server: ConsulServer,
    zone: Arc<Zone>,
    table: watch::Sender<Option<Arc<Table>>>,
}

/// Who may see nothing.
struct Nothing;

impl Permit for Nothing {
    fn allows(&self, _: Wish<'_>) -> bool {
        false
    }
}

impl Feed {
    pub(super) fn new(
        server: ConsulServer,
        zone: Arc<Zone>,
        table: watch::Sender<Option<Arc<Table>>>,
    ) -> Feed {
        Feed { server, zone, table }
    }

    /// Goes on until it is dropped; while it fails, the last table stays.
    pub(super) async fn follow(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.follow_once(&mut pause).await {
                // There was more than a watch could take.
                Ok(()) => {}
                Err(refusal) => {
                    tracing::warn!(error = ?refusal, "DNS answers by what it knew last");
                }
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn follow_once(&self, pause: &mut Duration) -> Result<(), Refusal> {
        let inner = &self.server.inner;
        let mut own = inner.cluster.own_changes();
        let from = inner.store.revision() + 1;
        let watch = |prefix| {
            let watch = inner.store.watch(WatchRequest::prefix(prefix).from(from));
            watch.map_err(|error| Refusal::Failed(error.to_string()))
        };
        let (mut catalog, mut queries, mut acl) = (watch(CATALOG)?, watch(QUERIES)?, watch(ACL)?);
        loop {
            own.mark_unchanged();
            let began = Instant::now();
            let (table, revision) = self.make().await?;
            self.table.send_replace(Some(Arc::new(table)));
            *pause = FIRST_PAUSE;
            // Half of a processor at most, however often something changes.
            tokio::time::sleep(began.elapsed()).await;
            let news = tokio::select! {
                news = newer(&mut catalog, revision) => news,
                news = newer(&mut queries, revision) => news,
                news = newer(&mut acl, revision) => news,
                changed = own.changed() => match changed {
                    Ok(()) => Ok(true),
                    Err(_) => Err(Refusal::failed("the node has stopped")),
                },
                () = tokio::time::sleep(OLDEST) => Ok(true),
            };
            if !news? {
                return Ok(());
            }
        }
    }

    /// A table, and the revision of the store that it is of at least.
    async fn make(&self) -> Result<(Table, u64), Refusal> {
        let inner = &self.server.inner;
        let revision = inner.store.revision();
        let permit = match inner.permits.of("").await {
            Ok(permit) => permit,
            Err(PermitError::UnknownToken) => Arc::new(Nothing),
            Err(error) => return Err(error.into()),
        };
        let found = inner.store.range(Range::prefix(QUERIES), Read::Local).await?;
        let queries: Result<Vec<Query>, Refusal> =
            found.kvs.iter().map(|kv| Query::decode(kv)).collect();
        let (catalog, _) = self.server.catalog(Read::Local).await?;
        let members = inner.cluster.members().into_iter();
        let servers =
            members.filter(|member| member.is_server && member.state == MemberState::Alive);
        let table = Table::of(&Sources {
            zone: &self.zone,
            catalog: &catalog,
            queries: &queries?,
            permit: &*permit,
            servers: &servers.map(|member| member.name).collect::<Vec<_>>(),
            own_node: &inner.settings.node,
        });
        Ok((table, revision))
    }
}

/// True when something has changed after a revision; false if the watch must begin anew.
async fn newer(watch: &mut Watch, revision: u64) -> Result<bool, Refusal> {
    loop {
        match watch.next().await {
            Some(Ok(Batch { revision: changed, .. })) if changed <= revision => {}
            Some(Ok(_)) => return Ok(true),
            Some(Err(WatchError::Lagged { .. } | WatchError::Compacted { .. })) => {
                return Ok(false);
            }
            None => return Err(Refusal::failed("the store has stopped")),
        }
    }
}
