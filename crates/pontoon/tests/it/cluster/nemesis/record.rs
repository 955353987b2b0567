//! What clients noted down: what was asked, when, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pontoon_history::{Fate, History, Operation, Time};

use super::client::KEPT;

/// The notes of one run.
pub(super) struct Record {
    began: Instant,
    numbers: AtomicU64,
    refused: AtomicU64,
    acknowledged: AtomicU64,
    newest: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    operations: Vec<Operation>,
    /// The words of failures, with their number.
    failures: BTreeMap<String, u64>,
}

impl Record {
    pub(super) fn new() -> Record {
        Record {
            began: Instant::now(),
            numbers: AtomicU64::new(1),
            refused: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody else gets: of a client, a value, a lease, a connection.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// The moment that it is.
    pub(super) fn now(&self) -> Time {
        let ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
        Time { seq: self.number(), ns }
    }

    /// Calls that ended, however they did.
    pub(super) fn calls(&self) -> u64 {
        self.inner().operations.len() as u64 + self.refused()
    }

    /// Calls that certainly did nothing.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Writes that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// The newest revision of a write that was acknowledged.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(super) fn not_done(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, words: String) {
        *self.inner().failures.entry(words).or_default() += 1;
    }

    pub(super) fn add(&self, operation: Operation) {
        if let Some(revision) = operation.wrote_at() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.newest.fetch_max(revision, Ordering::Relaxed);
        }
        self.inner().operations.push(operation);
    }

    /// The keys that were named in calls, each once.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let inner = self.inner();
        let keys = inner.operations.iter().flat_map(|operation| operation.call.keys());
        keys.map(str::to_owned).collect()
    }

    /// The keys that are written once whose write was acknowledged.
    pub(super) fn kept(&self) -> BTreeSet<String> {
        let inner = self.inner();
        let written = inner.operations.iter().filter(|operation| operation.wrote_at().is_some());
        let keys = written.flat_map(|operation| operation.call.keys());
        keys.filter(|key| key.starts_with(KEPT)).map(str::to_owned).collect()
    }

    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        self.inner().failures.clone()
    }

    pub(super) fn take(&self) -> History {
        let operations = std::mem::take(&mut self.inner().operations);
        History { operations, expiry: None }
    }
}

/// The operations on the keys and leases that an anomaly names, in the order in which they were asked.
pub(super) fn concerned(history: &History, anomaly: &str) -> String {
    let named = |name: &str| anomaly.contains(&format!("\"{name}\""));
    let mut found: Vec<&Operation> =
        history.operations.iter().filter(|operation| operation.call.keys().any(named)).collect();
    found.sort_by_key(|operation| operation.asked);
    let mut text = String::new();
    for Operation { client, asked, call, fate } in found {
        let (end, answer) = match fate {
            Fate::Answered(time, answer) => (format!("{}", time.seq), format!("{answer:?}")),
            Fate::Unknown => ("never".to_owned(), "unknown".to_owned()),
        };
        let ms = asked.ns / 1_000_000;
        writeln!(text, "{ms} ms, {} to {end}, client {client}: {call:?} => {answer}", asked.seq)
            .unwrap();
    }
    text
}
