//! Events live for an hour. Those of the same minute share a lease of the store.

use std::time::{Duration, Instant};

use pontoon_store::{Store, WriteError};
use tokio::sync::Mutex;

/// How long an event lives at least, in seconds.
const TTL_SECONDS: i64 = 3600;
/// How long a lease takes new events.
const SHARED: Duration = Duration::from_secs(60);

/// The lease that events are attached to now.
#[derive(Debug, Default)]
pub(crate) struct EventLease {
    current: Mutex<Option<(i64, Instant)>>,
}

impl EventLease {
    /// The number of a lease that lives long enough for an event that is written now.
    pub(crate) async fn get(&self, store: &Store) -> Result<i64, WriteError> {
        let mut current = self.current.lock().await;
        if let Some((id, since)) = *current
            && since.elapsed() < SHARED
        {
            return Ok(id);
        }
        let ttl = TTL_SECONDS + i64::try_from(SHARED.as_secs()).unwrap_or(0);
        let lease = store.lease_grant(ttl, None).await?;
        *current = Some((lease.id, Instant::now()));
        Ok(lease.id)
    }

    /// Forgets the lease; somebody ended it.
    pub(crate) async fn forget(&self) {
        *self.current.lock().await = None;
    }
}
