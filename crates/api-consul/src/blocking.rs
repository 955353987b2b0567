//! Blocking queries: read, and if the client has seen that already, wait for a change of what was read.
//!
//! What a client names as `index` means "I have seen all changes up to here". The index of an answer is
//!
//! - for one key that exists, the revision of its last change, as in Consul;
//! - for everything else (a prefix, or a key that does not exist) the store's revision when it was read. Consul names
//!   the last change there, deletions included; this may be later, by changes of other keys, and never earlier. An
//!   answer after a wait without a change names what the client named, unless that is long ago.
//!
//! A wait begins with a watch right behind the read, or behind what the client has seen where the answer itself cannot
//! tell (deletions leave nothing to read), so no change is missed, whatever happens in between. A waiting query holds a
//! watch and a timer, nothing of what was read; the store keeps one list for all watches of the same keys.

use std::time::Duration;

use pontoon_store::{Range, RangeResponse, Read, Store, Watch, WatchError, WatchRequest};
use tokio::time::Instant;

use crate::options::Options;
use crate::refusal::Refusal;

/// The part of the wait that jitter adds at most, as in Consul: a sixteenth.
const JITTER_FRACTION: u32 = 16;
/// After a wait without a change the client is told the index that it named if that is so near: an index that stays
/// tells it that nothing changed, and one that is far back costs the next query a search of the history.
pub(crate) const NEAR: u64 = 1000;

/// What was read, and the index for the client to wait behind.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) response: RangeResponse,
    pub(crate) index: u64,
}

impl Found {
    fn of(range: &Range, response: RangeResponse) -> Found {
        let only = range.end.is_none().then(|| response.kvs.first()).flatten();
        let index = only.map_or(response.revision, |kv| kv.mod_revision);
        Found { response, index }
    }
}

/// How a wait ended.
enum Woken {
    Changed,
    TimeUp,
}

/// Reads a range, after a change of it if the options ask for one.
pub(crate) async fn query(
    store: &Store,
    options: &Options,
    range: Range,
) -> Result<Found, Refusal> {
    let response = store.range(range.clone(), options.consistency.read()).await?;
    let mut found = Found::of(&range, response);
    if options.index == 0 {
        return Ok(found);
    }
    let deadline = Instant::now() + with_jitter(options.wait);
    loop {
        let Some(mut watch) = begin(store, options.index, &range, &found)? else {
            return Ok(found);
        };
        // Nothing of the answer is kept while it waits.
        drop(found);
        let woken = wait(&mut watch, deadline).await?;
        drop(watch);
        // This copy of the store told the change, so it has it.
        let response = store.range(range.clone(), Read::Local).await?;
        found = Found::of(&range, response);
        match woken {
            Woken::Changed if found.index > options.index => return Ok(found),
            // The client knows an index of the future: the store was restored, or it asked another server before.
            Woken::Changed => {}
            Woken::TimeUp => {
                if found.index.checked_sub(options.index).is_some_and(|ahead| ahead <= NEAR) {
                    found.index = options.index;
                }
                return Ok(found);
            }
        }
    }
}

/// The watch for the next change after what the client has seen; none if there was one already.
fn begin(store: &Store, seen: u64, range: &Range, found: &Found) -> Result<Option<Watch>, Refusal> {
    let kvs = &found.response.kvs;
    if kvs.iter().any(|kv| kv.mod_revision > seen) {
        return Ok(None);
    }
    let read = found.response.revision;
    let exists = range.end.is_none() && !kvs.is_empty();
    // A key that exists and has not changed was not deleted either.
    let from = if exists { read + 1 } else { seen.min(read) + 1 };
    let request =
        WatchRequest { key: range.key.clone(), end: range.end.clone(), ..Default::default() };
    match store.watch(request.from(from)) {
        Ok(watch) => Ok(Some(watch)),
        // Nobody knows any more what was deleted since.
        Err(WatchError::Compacted { .. } | WatchError::Lagged { .. }) => Ok(None),
    }
}

async fn wait(watch: &mut Watch, deadline: Instant) -> Result<Woken, Refusal> {
    match tokio::time::timeout_at(deadline, watch.next()).await {
        Err(_) => Ok(Woken::TimeUp),
        // Also when the watch ended because there was more than it could take.
        Ok(Some(_)) => Ok(Woken::Changed),
        Ok(None) => Err(Refusal::failed("the store has stopped")),
    }
}

pub(crate) fn with_jitter(wait: Duration) -> Duration {
    wait + (wait / JITTER_FRACTION).mul_f64(rand::random::<f64>())
}
