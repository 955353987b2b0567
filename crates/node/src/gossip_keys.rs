//! The key that gossip is sealed with, and how another one takes its place without a node going unheard: all
//! nodes learn to open with the new key first, then all seal with it, then the old one is worth nothing. Pure.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// How long a new key is announced before anybody seals with it: longer than a node needs to find another manager
/// and be told.
const ANNOUNCED: Duration = Duration::from_secs(15);
/// How long the old key still opens: for whoever was told late.
const OVERLAP: Duration = Duration::from_secs(60);

/// One key, 32 bytes in base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GossipKey(String);

impl GossipKey {
    /// A new key.
    #[must_use]
    pub fn random() -> Self {
        Self(STANDARD.encode(rand::random::<[u8; 32]>()))
    }

    /// The key's bytes, unless it is damaged.
    #[must_use]
    pub fn bytes(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.0).ok()?.try_into().ok()
    }
}

/// The keys in use. A node that is removed knows those of its time: each removal makes another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKeys {
    /// What all seal with.
    pub current: GossipKey,
    /// What all are to seal with next; they open with it already.
    next: Option<GossipKey>,
    /// What all sealed with before; they still open with it.
    former: Option<GossipKey>,
    /// A node was removed in the middle of a change, and knows what it changes to.
    again: bool,
}

impl GossipKeys {
    /// One key, in use from now on.
    #[must_use]
    pub fn new(current: GossipKey) -> Self {
        Self { current, next: None, former: None, again: false }
    }

    /// Begins a change to another key, or has one follow on the change that is being made.
    pub fn rotate(&mut self, fresh: GossipKey) {
        if self.pending().is_some() {
            self.again = true;
        } else {
            self.next = Some(fresh);
        }
    }

    /// How long the present step of a change lasts; none while nothing changes.
    #[must_use]
    pub fn pending(&self) -> Option<Duration> {
        if self.next.is_some() {
            return Some(ANNOUNCED);
        }
        self.former.is_some().then_some(OVERLAP)
    }

    /// Whether both are at the same step of the same change.
    #[must_use]
    pub fn same_step(&self, other: &Self) -> bool {
        (&self.current, &self.next, &self.former) == (&other.current, &other.next, &other.former)
    }

    /// Takes the next step of the change.
    pub fn advance(&mut self, fresh: GossipKey) {
        if let Some(next) = self.next.take() {
            self.former = Some(std::mem::replace(&mut self.current, next));
        } else if self.former.take().is_some() && std::mem::take(&mut self.again) {
            self.next = Some(fresh);
        }
    }

    /// The keys that nodes open with; the first is the one that they seal with.
    #[must_use]
    pub fn opening(&self) -> Vec<GossipKey> {
        [Some(&self.current), self.next.as_ref(), self.former.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> GossipKey {
        GossipKey(name.to_owned())
    }

    fn opening(keys: &GossipKeys) -> Vec<String> {
        keys.opening().into_iter().map(|key| key.0).collect()
    }

    #[test]
    fn whoever_is_one_step_behind_hears_and_is_heard() {
        let mut keys = GossipKeys::new(key("a"));
        assert_eq!((opening(&keys), keys.pending()), (vec!["a".to_owned()], None));
        keys.rotate(key("b"));
        let mut before = keys.clone();
        for expected in [&["a", "b"][..], &["b", "a"], &["b"]] {
            assert_eq!(opening(&keys), expected);
            for (one, other) in [(&keys, &before), (&before, &keys)] {
                assert!(other.opening().contains(&one.current), "{expected:?}");
            }
            before = keys.clone();
            keys.advance(key("unused"));
        }
        assert_eq!((opening(&keys), keys.pending()), (vec!["b".to_owned()], None), "it is over");
    }

    #[test]
    fn a_removal_in_the_middle_of_a_change_is_followed_by_another() {
        for steps in 0..2 {
            let mut keys = GossipKeys::new(key("a"));
            keys.rotate(key("b"));
            (0..steps).for_each(|_| keys.advance(key("unused")));
            keys.rotate(key("unused"));
            keys.rotate(key("unused"));
            while keys.pending().is_some() {
                keys.advance(key("c"));
            }
            assert_eq!(opening(&keys), ["c"], "after {steps} steps");
        }
    }

    #[test]
    fn keys_have_32_bytes() {
        let (one, other) = (GossipKey::random(), GossipKey::random());
        assert!(one.bytes().is_some() && one != other);
        assert!(key("hello").bytes().is_none());
    }
}
