//! What is inside of an archive: all records as they are kept, and the leases that some of them have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{KeyValue, Lease};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::keyspace;
use crate::refusal::Refusal;

/// How a state of ours begins; the number is that of its form.
const MAGIC: &[u8] = b"pontoon consul state 1\n";
/// How one of Consul's own begins: a header with the last index, in msgpack.
const CONSULS: &[u8] = b"\x81\xa9LastIndex";
/// Fields of records that name a lease.
const LEASES: &[&str] = &["lease", "TtlLease", "CriticalLease"];
/// The longest time to live that is taken.
const TTL_MAX: i64 = 10 * 365 * 86_400;

/// Everything of Consul's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Number and time to live, in seconds, of the leases that records have.
    pub(super) leases: Vec<(i64, i64)>,
    pub(super) records: Vec<Record>,
}

/// A key of the store below `/consul/`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    /// 0 for none.
    pub(super) lease: i64,
}

impl State {
    pub(super) fn of(kvs: &[Arc<KeyValue>], leases: &[Lease]) -> State {
        let record = |kv: &Arc<KeyValue>| Record {
            key: kv.key.clone(),
            value: kv.value.clone(),
            lease: kv.lease,
        };
        let used: BTreeSet<i64> = kvs.iter().map(|kv| kv.lease).collect();
        let is_used = |lease: &&Lease| used.contains(&lease.id);
        let leases = leases.iter().filter(is_used).map(|lease| (lease.id, lease.ttl));
        State { leases: leases.collect(), records: kvs.iter().map(record).collect() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, Refusal> {
        let failed = |error| Refusal::Failed(format!("write the snapshot: {error}"));
        postcard::to_extend(self, MAGIC.to_vec()).map_err(failed)
    }

    /// Reads a state; all its keys are Consul's.
    pub(super) fn decode(bytes: &[u8]) -> Result<State, Refusal> {
        if bytes.starts_with(CONSULS) {
            return Err(Refusal::NotServed(
                "to restore a snapshot of HashiCorp's Consul (copy its keys with `consul kv export` and \
                 `consul kv import`)"
                    .to_owned(),
            ));
        }
        let damaged = || Refusal::failed("the snapshot is damaged, or of a newer version");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let state: State = postcard::from_bytes(rest).map_err(|_| damaged())?;
        let known: BTreeSet<i64> = state.leases.iter().map(|(id, _)| *id).collect();
        let is_good = |record: &Record| {
            let has_lease = record.lease == 0 || known.contains(&record.lease);
            has_lease && record.key.starts_with(keyspace::ALL.as_bytes())
        };
        let in_order = state.records.is_sorted_by(|one, other| one.key < other.key);
        let are_times = state.leases.iter().all(|(_, ttl)| (1..=TTL_MAX).contains(ttl));
        // A lease without a record would be granted for nothing.
        let are_used = state.leases.len() <= state.records.len();
        if in_order && are_times && are_used && state.records.iter().all(is_good) {
            return Ok(state);
        }
        Err(damaged())
    }

    /// Gives what had a lease another one, and tells the records that name it.
    pub(super) fn replace_leases(&mut self, leases: &BTreeMap<i64, i64>) -> Result<(), Refusal> {
        for record in &mut self.records {
            if let Some(new) = leases.get(&record.lease) {
                record.lease = *new;
            }
            let names_leases = [keyspace::SESSIONS, keyspace::CATALOG]
                .iter()
                .any(|prefix| record.key.starts_with(prefix.as_bytes()));
            if !names_leases {
                continue;
            }
            let damaged = |_| Refusal::failed("the snapshot is damaged: a record cannot be read");
            let mut value: Value = serde_json::from_slice(&record.value).map_err(damaged)?;
            let mut is_changed = false;
            for name in LEASES {
                let Some(field) = value.get_mut(name) else { continue };
                if let Some(new) = field.as_i64().and_then(|old| leases.get(&old)) {
                    *field = Value::from(*new);
                    is_changed = true;
                }
            }
            if is_changed {
                record.value = Bytes::from(value.to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(keys: &[&'static str]) -> State {
        let record = |key: &&'static str| Record {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            lease: 0,
        };
        State { leases: vec![(4, 30)], records: keys.iter().map(record).collect() }
    }

    #[test]
    fn states_are_read_back() {
        let good = state(&["/consul/kv/a", "/consul/kv/b"]);
        assert_eq!(State::decode(&good.encode().unwrap()), Ok(good));
        for bad in [&["/pontoon/ca"][..], &["/consul/kv/b", "/consul/kv/a"], &["/consul"]] {
            assert!(State::decode(&state(bad).encode().unwrap()).is_err(), "{bad:?}");
        }
        let consuls = State::decode(b"\x81\xa9LastIndex1");
        assert!(matches!(consuls, Err(Refusal::NotServed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_state_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut all = MAGIC.to_vec();
            all.extend(bytes);
            let _outcome = State::decode(&all);
        }
    }
}
