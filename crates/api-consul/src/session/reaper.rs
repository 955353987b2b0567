//! Sessions whose time is up: the leader ends them.

use std::time::Duration;

use pontoon_store::{EventKind, Range, Read, Watch, WatchRequest};
use uuid::Uuid;

use super::end::end;
use super::record::Record;
use crate::keyspace;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// The pause after something failed; then all sessions are looked through again.
const PAUSE: Duration = Duration::from_secs(1);

impl ConsulServer {
    /// Ends sessions whose time is up, while this server leads, until the store stops. Every manager runs this.
    pub async fn end_sessions(self) {
        let mut leadership = self.inner.leadership.clone();
        while leadership.wait_for(|now| now.is_me).await.is_ok() {
            let lost = async {
                // An error means that the store has stopped: then it leads no more, either.
                drop(leadership.wait_for(|now| !now.is_me).await);
            };
            tokio::select! {
                () = lost => {}
                failed = self.end_due_sessions() => match failed {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "end sessions; it is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Ends the sessions whose lease ended before, and then each when its lease ends; `Ok` when the store stops.
    async fn end_due_sessions(&self) -> Result<(), Refusal> {
        let store = &self.inner.store;
        // All that was done before this server led is here after such a read.
        let found = store.range(Range::prefix(keyspace::SESSIONS), Read::Linearizable).await?;
        let from = WatchRequest::prefix(keyspace::SESSION_TTL).from(found.revision + 1);
        let mut watch = store.watch(from).map_err(|error| Refusal::Failed(error.to_string()))?;
        for kv in &found.kvs {
            let record = Record::decode(kv)?;
            let lives = Range::key(keyspace::session_ttl(record.id)).at(found.revision);
            if record.lease.is_some() && store.range(lives, Read::Local).await?.kvs.is_empty() {
                end(store, record.id).await?;
            }
        }
        while let Some(ids) = ended(&mut watch).await? {
            for id in ids {
                tracing::debug!(session = %id, "a session's time is up");
                end(store, id).await?;
            }
        }
        Ok(())
    }
}

/// The sessions whose lease ended; none when the store stops.
async fn ended(watch: &mut Watch) -> Result<Option<Vec<Uuid>>, Refusal> {
    let Some(batch) = watch.next().await else { return Ok(None) };
    let batch = batch.map_err(|error| Refusal::Failed(error.to_string()))?;
    let deleted = batch.events.iter().filter(|event| event.kind == EventKind::Delete);
    Ok(Some(deleted.filter_map(|event| keyspace::session_id(&event.kv.key)).collect()))
}
