//! When leases end: only the leader's clock counts, and only time that passed on it.
//!
//! The state knows leases and their time to live; this knows when each is due. A new leader gives
//! every lease its full time again, for it cannot know when it was last kept alive.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lease::Lease;
use crate::mvcc::LeaseChange;
use crate::runtime::Instant;

/// The due times of all leases.
#[derive(Debug)]
pub(crate) struct Lessor {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    leases: HashMap<i64, Due>,
    queue: BTreeSet<(Instant, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    ttl: i64,
    at: Instant,
    /// Its end is being proposed; it cannot be kept alive any more.
    ending: bool,
}

impl Lessor {
    pub(crate) fn new(leases: Vec<Lease>) -> Lessor {
        let lessor = Lessor { inner: Mutex::default() };
        lessor.reset(leases);
        lessor
    }

    /// Forgets everything and gives `leases` their full time.
    pub(crate) fn reset(&self, leases: Vec<Lease>) {
        let mut inner = self.lock();
        *inner = Inner::default();
        for lease in leases {
            inner.start(lease);
        }
    }

    /// Gives every lease its full time: this member became the leader.
    pub(crate) fn renew_all(&self) {
        let mut inner = self.lock();
        let leases: Vec<Lease> =
            inner.leases.iter().map(|(id, due)| Lease { id: *id, ttl: due.ttl }).collect();
        inner.queue.clear();
        leases.into_iter().for_each(|lease| inner.start(lease));
    }

    /// Learns of leases that came or went.
    pub(crate) fn follow(&self, changes: &[LeaseChange]) {
        if changes.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for change in changes {
            match *change {
                LeaseChange::Granted(lease) => inner.start(lease),
                LeaseChange::Revoked(id) => inner.stop(id),
            }
        }
    }

    /// Gives a lease its full time; answers with that time, or `None` if it is gone or ending.
    pub(crate) fn keep_alive(&self, id: i64) -> Option<i64> {
        let mut inner = self.lock();
        let due = *inner.leases.get(&id)?;
        if due.ending {
            return None;
        }
        inner.start(Lease { id, ttl: due.ttl });
        Some(due.ttl)
    }

    /// Seconds left of a lease, rounded up.
    pub(crate) fn remaining(&self, id: i64) -> Option<i64> {
        let due = *self.lock().leases.get(&id)?;
        let left = due.at.saturating_duration_since(Instant::now());
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// The leases whose time is up, at most `limit`; they can no longer be kept alive.
    pub(crate) fn due(&self, limit: usize) -> Vec<i64> {
        let mut inner = self.lock();
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < limit {
            match inner.queue.first() {
                Some((at, _)) if *at <= now => {}
                _ => break,
            }
            let Some((_, id)) = inner.queue.pop_first() else { break };
            if let Some(lease) = inner.leases.get_mut(&id) {
                lease.ending = true;
            }
            due.push(id);
        }
        due
    }

    /// The end of a lease could not be proposed: it is due again at once.
    pub(crate) fn retry(&self, id: i64) {
        let mut inner = self.lock();
        if let Some(at) = inner.leases.get(&id).map(|due| due.at) {
            inner.queue.insert((at, id));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn start(&mut self, lease: Lease) {
        self.stop(lease.id);
        let ttl = Duration::from_secs(u64::try_from(lease.ttl).unwrap_or(0));
        let at = Instant::now() + ttl;
        self.leases.insert(lease.id, Due { ttl: lease.ttl, at, ending: false });
        self.queue.insert((at, lease.id));
    }

    fn stop(&mut self, id: i64) {
        if let Some(due) = self.leases.remove(&id) {
            self.queue.remove(&(due.at, id));
        }
    }
}
