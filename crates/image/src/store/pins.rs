//! What work in progress needs, so that garbage collection leaves it alone; and one lock for each digest being worked on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::digest::Digest;

/// Counts of pins by digest (of a blob, or of a layer's chain).
#[derive(Default)]
pub(crate) struct Pins {
    counts: Mutex<HashMap<Digest, usize>>,
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Pins {
    pub(crate) fn session(self: &Arc<Self>) -> Session {
        Session { pins: self.clone(), held: Vec::new() }
    }

    pub(crate) fn is_pinned(&self, digest: &Digest) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(digest)
    }

    /// The lock under which this digest's blob or layer is made: who gets it second finds the work done.
    pub(crate) fn lock_of(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(*digest, Arc::downgrade(&lock));
        lock
    }
}

/// The pins of one piece of work; dropping it lets go of them.
pub(crate) struct Session {
    pins: Arc<Pins>,
    held: Vec<Digest>,
}

impl Session {
    /// From now on garbage collection keeps this digest. To be called before looking whether it is there.
    pub(crate) fn pin(&mut self, digest: Digest) {
        *self
            .pins
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(digest)
            .or_default() += 1;
        self.held.push(digest);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut counts = self.pins.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &self.held {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}
