//! What a store that keeps its promises would answer: a few keys and leases, and the revision.

use std::collections::BTreeMap;

use crate::op::{Answer, Call, Compare, Effect, Kv, Op};

/// The state of one group of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    keys: BTreeMap<String, Kv>,
    /// Leases that live, with the earliest time at which they may end.
    leases: BTreeMap<i64, u64>,
    /// The newest revision that showed.
    revision: u64,
    /// What comes next comes after this time: a lease has ended by itself then.
    pub(crate) not_before: u64,
}

/// One thing that may happen.
pub(crate) struct Step<'h> {
    pub(crate) call: &'h Call,
    /// What was answered; `None` if that is not known.
    pub(crate) answer: Option<&'h Answer>,
    /// When it was asked.
    pub(crate) asked_ns: u64,
    /// The revision of the write, where somebody saw it; 0 if not.
    pub(crate) revision: u64,
    /// Whether the compares held, where what was seen tells.
    pub(crate) held: Option<bool>,
    /// Each value as somebody read it.
    pub(crate) read: &'h BTreeMap<u64, Kv>,
}

/// When leases may end.
pub(crate) type Expiry<'h> = &'h dyn Fn(u64, u64) -> u64;

impl State {
    /// The state after a step; `None` if the step cannot have been answered so here.
    pub(crate) fn after(
        &self,
        step: &Step<'_>,
        ttl: &BTreeMap<i64, u64>,
        expiry: Expiry<'_>,
    ) -> Option<State> {
        let mut next = self.clone();
        match step.call {
            Call::Txn(compares, then, otherwise) => {
                if let Some(Answer::NoLease) = step.answer {
                    return self.refuses(compares, then, otherwise).then_some(next);
                }
                next.txn(step, compares, then, otherwise)?;
            }
            // Numbers of leases are used once.
            Call::Grant(..) if step.answer == Some(&Answer::NoLease) => return None,
            Call::Grant(lease, seconds) => {
                next.leases.insert(*lease, expiry(step.asked_ns, *seconds));
            }
            // Ending takes a moment, in which it cannot be kept alive any more.
            Call::KeepAlive(_) if step.answer == Some(&Answer::NoLease) => {}
            Call::KeepAlive(lease) => {
                let until = next.leases.get_mut(lease)?;
                let seconds = ttl.get(lease).copied().unwrap_or(0);
                *until = (*until).max(expiry(step.asked_ns, seconds));
            }
            Call::Revoke(lease) if step.answer == Some(&Answer::NoLease) => {
                if self.leases.contains_key(lease) {
                    return None;
                }
            }
            Call::Revoke(lease) => {
                let lived = next.end(*lease);
                if !lived && step.answer.is_some() {
                    return None;
                }
            }
            Call::Stale(..) => {}
        }
        Some(next)
    }

    /// The newest revision that showed.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn has_lease(&self, lease: i64) -> bool {
        self.leases.contains_key(&lease)
    }

    /// True if a call names the lease, or a key that is attached to it.
    pub(crate) fn concerns(&self, lease: i64, call: &Call) -> bool {
        let attached = |key: &str| self.keys.get(key).is_some_and(|kv| kv.lease == lease);
        call.leases().any(|other| other == lease) || call.keys().any(attached)
    }

    /// The leases that may have ended by themselves by this time.
    pub(crate) fn may_end(&self, ns: u64) -> impl Iterator<Item = i64> {
        self.leases.iter().filter(move |(_, until)| **until <= ns).map(|(lease, _)| *lease)
    }

    /// The state after a lease has ended by itself.
    pub(crate) fn expired(&self, lease: i64) -> Option<State> {
        let mut next = self.clone();
        let until = *next.leases.get(&lease)?;
        next.end(lease);
        next.not_before = next.not_before.max(until);
        Some(next)
    }

    fn end(&mut self, lease: i64) -> bool {
        self.keys.retain(|_, kv| kv.lease != lease);
        self.leases.remove(&lease).is_some()
    }

    /// True if a transaction names a lease that does not live.
    fn refuses(&self, compares: &[Compare], then: &[Op], otherwise: &[Op]) -> bool {
        self.lacks_lease(if self.holds(compares) { then } else { otherwise })
    }

    fn lacks_lease(&self, ops: &[Op]) -> bool {
        let lives = |lease: &i64| *lease == 0 || self.leases.contains_key(lease);
        ops.iter().any(|op| matches!(op, Op::Put(_, _, lease) if !lives(lease)))
    }

    /// Whether the compares hold.
    fn holds(&self, compares: &[Compare]) -> bool {
        let one = |compare: &Compare| match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            // A revision that was named had been seen, so a write that nobody saw has another.
            Compare::Modified(key, revision) => {
                self.keys.get(key).is_some_and(|kv| kv.modified == *revision)
            }
            Compare::Value(key, value) => self.keys.get(key).is_some_and(|kv| kv.value == *value),
        };
        compares.iter().all(one)
    }

    fn txn(
        &mut self,
        step: &Step<'_>,
        compares: &[Compare],
        then: &[Op],
        otherwise: &[Op],
    ) -> Option<()> {
        let holds = self.holds(compares);
        let (said, effects) = match step.answer {
            Some(Answer::Txn(said, held, effects)) if *held == holds => {
                (if *said == 0 { step.revision } else { *said }, Some(effects))
            }
            Some(_) => return None,
            None if step.held.is_some_and(|held| held != holds) => return None,
            None => (step.revision, None),
        };
        if said != 0 && said < self.revision {
            return None;
        }
        let ops = if holds { then } else { otherwise };
        if self.lacks_lease(ops) {
            // It was refused, and so did nothing that anybody could see.
            return (step.answer.is_none() && step.revision == 0).then_some(());
        }
        let mut wrote = false;
        for (at, op) in ops.iter().enumerate() {
            let came_to = match op {
                Op::Get(key) => Effect::Kv(self.keys.get(key).cloned()),
                Op::Put(key, value, lease) => {
                    wrote = true;
                    // What nobody saw is one as good as the other.
                    let unseen = step.answer.is_none() && step.revision == 0;
                    let before = self.put(key, if unseen { 0 } else { *value }, *lease, said);
                    if !step.read.get(value).is_none_or(|read| self.is_there(key, read)) {
                        return None;
                    }
                    Effect::Kv(before)
                }
                Op::Delete(key) => {
                    let gone = self.keys.remove(key).is_some();
                    wrote |= gone;
                    Effect::Deleted(u64::from(gone))
                }
            };
            if let Some(effects) = effects
                && !effects.get(at).is_some_and(|seen| matches_seen(&came_to, seen))
            {
                return None;
            }
        }
        // A write has a revision of its own.
        if wrote && said != 0 && said <= self.revision {
            return None;
        }
        self.revision = self.revision.max(said);
        Some(())
    }

    /// True if a key is as somebody read it.
    fn is_there(&self, key: &str, read: &Kv) -> bool {
        self.keys.get(key).is_some_and(|kv| is_same(kv, read))
    }

    fn put(&mut self, key: &str, value: u64, lease: i64, revision: u64) -> Option<Kv> {
        let before = self.keys.get(key).cloned();
        let kv = Kv {
            value,
            modified: revision,
            created: before.as_ref().map_or(revision, |kv| kv.created),
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
        };
        self.keys.insert(key.to_owned(), kv);
        before
    }
}

fn is_same(here: &Kv, seen: &Kv) -> bool {
    here.value == seen.value
        && (here.modified == 0 || here.modified == seen.modified)
        && (here.created == 0 || here.created == seen.created)
        && here.version == seen.version
        && here.lease == seen.lease
}

/// Whether what should be there is what was seen; what is 0 here is not known.
fn matches_seen(here: &Effect, seen: &Effect) -> bool {
    match (here, seen) {
        (Effect::Kv(Some(here)), Effect::Kv(Some(seen))) => is_same(here, seen),
        (_, Effect::Untold) => true,
        (here, seen) => here == seen,
    }
}
