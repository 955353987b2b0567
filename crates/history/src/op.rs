//! The words of a history: calls, answers, and when.

use std::collections::BTreeMap;

/// When something was asked or answered: `seq` orders all that one observer saw, `ns` is for times to
/// live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Counts what was seen; no two are equal.
    pub seq: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// A key as it was read. Values are written once only, so a value names its write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kv {
    /// The value; 0 stands for one that is not known.
    pub value: u64,
    /// Revision of the last write; 0 where it is not known.
    pub modified: u64,
    /// Revision at which the key came into being; 0 where it is not known.
    pub created: u64,
    /// Writes since then.
    pub version: u64,
    /// Its lease, or 0.
    pub lease: i64,
}

/// A condition of a transaction on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// It was last written at this revision.
    Modified(String, u64),
    /// It has this value.
    Value(String, u64),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads a key.
    Get(String),
    /// Writes a value to a key, attached to a lease if that is not 0; answers with what was before.
    Put(String, u64, i64),
    /// Deletes a key.
    Delete(String),
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// If all compares hold do the first row of steps, else the second. Without writes it is a
    /// linearizable read.
    Txn(Vec<Compare>, Vec<Op>, Vec<Op>),
    /// A read that may be behind, of these keys, at a revision or (0) at the newest that is known there.
    Stale(Vec<String>, u64),
    /// A new lease: its number, and seconds to live.
    Grant(i64, u64),
    /// Gives a lease its full time again.
    KeepAlive(i64),
    /// Ends a lease and deletes its keys.
    Revoke(i64),
}

/// What one step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To a get: what was there. To a put: what was there before.
    Kv(Option<Kv>),
    /// To a delete: how many keys are gone.
    Deleted(u64),
    /// It was done, and nothing more was said.
    Untold,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Revision of the store (0 if that was not said), whether the compares held, and what the steps came to.
    Txn(u64, bool, Vec<Effect>),
    /// The same, of a stale read; where it was read, as a name that a restart changes.
    Stale(u64, Vec<Option<Kv>>, String),
    /// It was done: a grant, a keepalive or a revocation.
    Done,
    /// The lease that was named does not exist.
    NoLease,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered, then.
    Answered(Time, Answer),
    /// Nobody knows: it may have been done, may be done later, or never.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked; one that has an unknown call open does not ask again under this number.
    pub client: u64,
    /// When.
    pub asked: Time,
    /// What.
    pub call: Call,
    /// What became of it.
    pub fate: Fate,
}

/// Everything that was asked. Calls that certainly were not done are left out.
#[derive(Default)]
pub struct History {
    /// The calls, in any order.
    pub operations: Vec<Operation>,
    /// The earliest time at which a lease may end that was given `ttl` seconds at the time `ns`.
    pub expiry: Option<Box<dyn Fn(u64, u64) -> u64>>,
}

impl Call {
    /// True if it can change the state.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Call::Txn(_, then, otherwise) => {
                then.iter().chain(otherwise).any(|op| !matches!(op, Op::Get(_)))
            }
            Call::Stale(..) => false,
            Call::Grant(..) | Call::KeepAlive(_) | Call::Revoke(_) => true,
        }
    }

    /// The keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let (compares, then, otherwise): (&[Compare], &[Op], &[Op]) = match self {
            Call::Txn(compares, then, otherwise) => (compares, then, otherwise),
            _ => (&[], &[], &[]),
        };
        let stale: &[String] = if let Call::Stale(keys, _) = self { keys } else { &[] };
        let compared = compares.iter().map(|compare| match compare {
            Compare::Absent(key) | Compare::Modified(key, _) | Compare::Value(key, _) => {
                key.as_str()
            }
        });
        let done = then.iter().chain(otherwise).map(|op| match op {
            Op::Get(key) | Op::Put(key, ..) | Op::Delete(key) => key.as_str(),
        });
        compared.chain(done).chain(stale.iter().map(String::as_str))
    }

    /// The leases that it names.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        let named = match self {
            Call::Grant(lease, _) | Call::KeepAlive(lease) | Call::Revoke(lease) => Some(*lease),
            _ => None,
        };
        let puts = match self {
            Call::Txn(_, then, otherwise) => then.iter().chain(otherwise).collect(),
            _ => Vec::new(),
        };
        let put = puts.into_iter().filter_map(|op| match op {
            Op::Put(_, _, lease) if *lease != 0 => Some(*lease),
            _ => None,
        });
        named.into_iter().chain(put)
    }
}

impl Operation {
    /// The steps that were done, with what they came to; nothing if that is not known.
    pub fn effects(&self) -> impl Iterator<Item = (&Op, &Effect)> {
        let done: (&[Op], &[Effect]) = match (&self.call, &self.fate) {
            (Call::Txn(_, then, otherwise), Fate::Answered(_, Answer::Txn(_, held, effects))) => {
                (if *held { then } else { otherwise }, effects)
            }
            _ => (&[], &[]),
        };
        done.0.iter().zip(done.1)
    }

    /// The revision of an acknowledged write that changed something.
    #[must_use]
    pub fn wrote_at(&self) -> Option<u64> {
        let Fate::Answered(_, Answer::Txn(revision, ..)) = &self.fate else { return None };
        let changes = |(op, effect): (&Op, &Effect)| match (op, effect) {
            (Op::Put(..), _) => true,
            (Op::Delete(_), Effect::Deleted(count)) => *count > 0,
            _ => false,
        };
        (*revision != 0 && self.effects().any(changes)).then_some(*revision)
    }

    /// Everything that was read, with the key it was read of.
    #[must_use]
    pub fn seen(&self) -> Vec<(&str, &Kv)> {
        let mut seen = Vec::new();
        for (op, effect) in self.effects() {
            if let (Op::Get(key) | Op::Put(key, ..), Effect::Kv(Some(kv))) = (op, effect) {
                seen.push((key.as_str(), kv));
            }
        }
        if let (Call::Stale(keys, _), Fate::Answered(_, Answer::Stale(_, kvs, _))) =
            (&self.call, &self.fate)
        {
            let found =
                keys.iter().zip(kvs).filter_map(|(key, kv)| Some((key.as_str(), kv.as_ref()?)));
            seen.extend(found);
        }
        seen
    }
}

impl History {
    /// The revision at which each value was written, as far as anybody saw it.
    #[must_use]
    pub fn written(&self) -> BTreeMap<u64, u64> {
        let mut written = BTreeMap::new();
        for operation in &self.operations {
            if let Some(revision) = operation.wrote_at() {
                for (op, _) in operation.effects() {
                    if let Op::Put(_, value, _) = op {
                        written.insert(*value, revision);
                    }
                }
            }
            for (_, kv) in operation.seen() {
                written.entry(kv.value).or_insert(kv.modified);
            }
        }
        written
    }

    /// Each value as somebody read it.
    pub(crate) fn read(&self) -> BTreeMap<u64, Kv> {
        let seen = self.operations.iter().flat_map(Operation::seen);
        seen.map(|(_, kv)| (kv.value, kv.clone())).collect()
    }
}
