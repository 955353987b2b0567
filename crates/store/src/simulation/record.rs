//! What all who take part note down: where members are, what was asked, what was seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_history::{Operation, Time, WatchLog};
use tokio::time::Instant;

use super::cluster::Life;
use crate::MemberId;

/// The notes of one run.
pub(crate) struct Record {
    began: Instant,
    numbers: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lives: BTreeMap<MemberId, Life>,
    operations: Vec<Operation>,
    watches: Vec<WatchLog>,
    not_done: u64,
}

impl Record {
    pub(crate) fn new() -> Arc<Record> {
        let numbers = AtomicU64::new(1);
        Arc::new(Record { began: Instant::now(), numbers, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody else gets.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The moment that it is.
    pub(crate) fn now(&self) -> Time {
        Time { seq: self.number(), ns: self.nanos(Instant::now()) }
    }

    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The members that can be asked.
    pub(crate) fn lives(&self) -> BTreeMap<MemberId, Life> {
        self.inner().lives.clone()
    }

    pub(crate) fn set_lives(&self, lives: Vec<(MemberId, Life)>) {
        self.inner().lives = lives.into_iter().collect();
    }

    pub(crate) fn add(&self, operation: Operation) {
        self.inner().operations.push(operation);
    }

    pub(crate) fn not_done(&self) {
        self.inner().not_done += 1;
    }

    pub(crate) fn add_watch(&self, watch: WatchLog) {
        self.inner().watches.push(watch);
    }

    /// Everything noted, and how many calls were refused.
    pub(crate) fn take(&self) -> (Vec<Operation>, Vec<WatchLog>, u64) {
        let inner = std::mem::take(&mut *self.inner());
        (inner.operations, inner.watches, inner.not_done)
    }
}
