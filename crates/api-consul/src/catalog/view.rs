//! Reading the catalog, and waiting for it to change.
//!
//! The index of an answer is the store's revision when it was read. A query that waits is woken by any change of the
//! catalog, but answers only if its own answer is another one then: it keeps a hash of that, and nothing else.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use pontoon_store::{Range, Read, Watch, WatchRequest};
use tokio::time::Instant;

use super::state::Catalog;
use crate::answer::Answer;
use crate::blocking::{NEAR, with_jitter};
use crate::call::Call;
use crate::keyspace;
use crate::options::Options;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

impl ConsulServer {
    /// The catalog, and the revision of the store as of which it is.
    pub(crate) async fn catalog(&self, read: Read) -> Result<(Arc<Catalog>, u64), Refusal> {
        let inner = &self.inner;
        let found = inner.store.range(Range::prefix(keyspace::CATALOG), read).await?;
        let own = inner.cluster.own(found.revision).await;
        let kept = inner.catalog.load();
        if kept.is_of(&found.kvs, &own) {
            return Ok((kept, found.revision));
        }
        let made = Arc::new(Catalog::of(&found.kvs, &own)?);
        inner.catalog.store(Arc::clone(&made));
        Ok((made, found.revision))
    }
}

/// The last catalog that was made.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Arc<Catalog>>);

impl Kept {
    fn load(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn store(&self, catalog: Arc<Catalog>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = catalog;
    }
}

/// What a waiting query remembers.
struct Waiting {
    watch: Watch,
    /// The hash of the answer that the client has.
    hash: u64,
    /// What changed up to here may be in that answer already, though the client has not seen it.
    read: u64,
}

/// Answers with the JSON that `select` makes of the catalog, once it is new to the client.
pub(crate) async fn answer(
    call: &Call,
    select: impl Fn(&Catalog) -> Result<Vec<u8>, Refusal>,
) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let mut changes = call.server.inner.cluster.own_changes();
    let deadline = Instant::now() + with_jitter(options.wait);
    let mut waiting: Option<Waiting> = None;
    let mut is_seen = true;
    loop {
        changes.mark_unchanged();
        let read = if waiting.is_some() { Read::Local } else { options.consistency.read() };
        let (catalog, revision) = call.server.catalog(read).await?;
        let body = select(&catalog)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let hash = hasher.finish();
        let is_new = match &waiting {
            None => options.index == 0 || catalog.newest > options.index,
            Some(waiting) => !is_seen || waiting.hash != hash,
        };
        let time_is_up = Instant::now() >= deadline;
        if is_new || time_is_up {
            let is_near = revision.checked_sub(options.index).is_some_and(|ahead| ahead <= NEAR);
            let index = if !is_new && is_near { options.index } else { revision };
            return Ok(Answer::json_bytes(body).with_meta(call.meta(&options, Some(index))));
        }
        drop((catalog, body));
        let mut now = match waiting {
            Some(waiting) => Waiting { hash, ..waiting },
            None => {
                let from = options.index.min(revision) + 1;
                let request = WatchRequest::prefix(keyspace::CATALOG).from(from);
                match call.store().watch(request) {
                    Ok(watch) => Waiting { watch, hash, read: revision },
                    // Nobody knows any more what was deleted since.
                    Err(_) => return again(call, &options, select).await,
                }
            }
        };
        is_seen = tokio::select! {
            batch = tokio::time::timeout_at(deadline, now.watch.next()) => match batch {
                Err(_) => true,
                Ok(Some(Ok(batch))) => batch.revision > now.read,
                // There was more than the watch could take.
                Ok(Some(Err(_))) => false,
                Ok(None) => return Err(Refusal::failed("the store has stopped")),
            },
            changed = changes.changed() => match changed {
                Ok(()) => true,
                Err(_) => return Err(Refusal::failed("the node has stopped")),
            },
        };
        waiting = Some(now);
    }
}

/// Changes of the catalog from now on, for as long as a request waits.
pub(crate) struct Changes {
    watch: Watch,
    deadline: Instant,
}

impl Changes {
    pub(crate) fn of(call: &Call) -> Result<Changes, Refusal> {
        let deadline = Instant::now() + with_jitter(call.options()?.wait);
        let from = call.store().revision() + 1;
        let watch = call.store().watch(WatchRequest::prefix(keyspace::CATALOG).from(from));
        let watch = watch.map_err(|error| Refusal::Failed(error.to_string()))?;
        Ok(Changes { watch, deadline })
    }

    /// Returns when something has changed; false when the request has waited long enough.
    pub(crate) async fn changed(&mut self) -> Result<bool, Refusal> {
        match tokio::time::timeout_at(self.deadline, self.watch.next()).await {
            Err(_) => Ok(false),
            Ok(Some(Ok(_))) => Ok(true),
            Ok(Some(Err(error))) => Err(Refusal::Failed(error.to_string())),
            Ok(None) => Err(Refusal::failed("the store has stopped")),
        }
    }
}

/// Answers at once.
async fn again(
    call: &Call,
    options: &Options,
    select: impl Fn(&Catalog) -> Result<Vec<u8>, Refusal>,
) -> Result<Answer, Refusal> {
    let (catalog, revision) = call.server.catalog(options.consistency.read()).await?;
    Ok(Answer::json_bytes(select(&catalog)?).with_meta(call.meta(options, Some(revision))))
}
