//! How many events a node may have written: each is a write of the whole cluster, and a node may be in other hands.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Events that a node may have in one go: as many pods as it holds, begun at once, with a few each.
const BURST: u32 = 1_000;
/// After that one in so long.
const REFILL: Duration = Duration::from_millis(200);

/// What each node has left.
#[derive(Default)]
pub struct EventQuota(Mutex<HashMap<String, Left>>);

struct Left {
    count: u32,
    since: Instant,
}

impl EventQuota {
    /// Whether the node may have another event now.
    pub(crate) fn allow(&self, node: &str, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nodes that have been quiet are as new: the map holds no more than those that are not.
        all.retain(|_, left| now.duration_since(left.since) < REFILL * BURST);
        let left = all.entry(node.to_owned()).or_insert(Left { count: BURST, since: now });
        let passed = now.duration_since(left.since).as_millis() / REFILL.as_millis();
        if let Ok(refill @ 1..) = u32::try_from(passed) {
            left.count = left.count.saturating_add(refill).min(BURST);
            left.since += REFILL * refill;
        }
        let allowed = left.count > 0;
        left.count = left.count.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_says_too_much_is_not_heard_for_a_while_and_others_are() {
        let (quota, start) = (EventQuota::default(), Instant::now());
        let allowed = (0..BURST * 2).filter(|_| quota.allow("loud", start)).count();
        assert_eq!(allowed, BURST as usize);
        assert!(quota.allow("quiet", start));
        assert!(!quota.allow("loud", start + REFILL / 2));
        assert!(quota.allow("loud", start + REFILL));
        assert!(!quota.allow("loud", start + REFILL));
        let later = start + REFILL * (BURST + 2);
        assert_eq!((0..BURST * 2).filter(|_| quota.allow("loud", later)).count(), BURST as usize);
    }
}
