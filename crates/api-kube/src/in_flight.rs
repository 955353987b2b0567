//! How many requests one identity may have under way: a busy client is told to come back, not queued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pontoon_model::status::Status;

/// The bounds for one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are answered at once.
    pub requests: usize,
    /// Watches, followed logs and exec sessions.
    pub long_running: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { requests: 600, long_running: 20_000 }
    }
}

/// The two sorts of request that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Short,
    Long,
}

#[derive(Default)]
struct Counts {
    short: usize,
    long: usize,
}

/// The requests under way, by user. A user with none takes no room.
pub(crate) struct InFlight {
    limits: Limits,
    counts: Mutex<HashMap<Arc<str>, Counts>>,
}

impl InFlight {
    pub(crate) fn new(limits: Limits) -> Arc<InFlight> {
        Arc::new(InFlight { limits, counts: Mutex::default() })
    }

    /// Takes a place for the user until the answer is dropped; 429 when all are taken.
    pub(crate) fn enter(self: &Arc<Self>, user: &str, sort: Sort) -> Result<Place, Status> {
        let user: Arc<str> = user.into();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counts.entry(user.clone()).or_default();
        let (count, limit) = match sort {
            Sort::Short => (&mut entry.short, self.limits.requests),
            Sort::Long => (&mut entry.long, self.limits.long_running),
        };
        if *count >= limit {
            return Err(Status::too_many_requests(
                "too many requests of this user are under way, please try again later",
                1,
            ));
        }
        *count += 1;
        Ok(Place { of: self.clone(), user, sort })
    }

    fn leave(&self, user: &Arc<str>, sort: Sort) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = counts.get_mut(user) else { return };
        match sort {
            Sort::Short => entry.short = entry.short.saturating_sub(1),
            Sort::Long => entry.long = entry.long.saturating_sub(1),
        }
        if entry.short == 0 && entry.long == 0 {
            counts.remove(user);
        }
    }
}

/// A place among the requests under way, given back on drop.
pub(crate) struct Place {
    of: Arc<InFlight>,
    user: Arc<str>,
    sort: Sort,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.leave(&self.user, self.sort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_user_and_sort_and_given_back() {
        let in_flight = InFlight::new(Limits { requests: 1, long_running: 1 });
        let first = in_flight.enter("a", Sort::Short).ok().unwrap();
        let refused = in_flight.enter("a", Sort::Short).err().unwrap();
        assert_eq!(refused.code, 429);
        assert_eq!(refused.details.unwrap().retry_after_seconds, Some(1));
        let long = in_flight.enter("a", Sort::Long).ok().unwrap();
        let other = in_flight.enter("b", Sort::Short).ok().unwrap();
        drop(first);
        drop(in_flight.enter("a", Sort::Short).ok().unwrap());
        drop((long, other));
        assert!(in_flight.counts.lock().unwrap().is_empty());
    }
}
