//! The state against a model so simple that it is right: one whole map for each revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Changes, Effects, Restore, State};
use crate::command::{Command, Reply};
use crate::error::WriteError;
use crate::kv::{EventKind, KeyValue, prefix_end};
use crate::lease::Lease;
use crate::range::Range;
use crate::txn::{Compare, DeleteRange, Op, Put, Txn};

#[derive(Clone, Debug)]
enum Action {
    Put { key: u8, value: u8, lease: i64 },
    Delete { key: u8 },
    DeletePrefix { prefix: u8 },
    Guarded { key: u8, value: u8 },
    Two { first: u8, second: u8, delete: u8 },
    Grant(i64),
    Revoke(i64),
    Compact { back: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let key = 0_u8..12;
    prop_oneof![
        6 => (key.clone(), any::<u8>(), 0_i64..4)
            .prop_map(|(key, value, lease)| Action::Put { key, value, lease }),
        3 => key.clone().prop_map(|key| Action::Delete { key }),
        1 => (0_u8..4).prop_map(|prefix| Action::DeletePrefix { prefix }),
        3 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Action::Guarded { key, value }),
        2 => (key.clone(), key.clone(), key)
            .prop_map(|(first, second, delete)| Action::Two { first, second, delete }),
        2 => (1_i64..4).prop_map(Action::Grant),
        1 => (1_i64..4).prop_map(Action::Revoke),
        1 => (0_u64..10).prop_map(|back| Action::Compact { back }),
    ]
}

/// Keys of two letters, so that there are prefixes.
fn name(key: u8) -> Bytes {
    Bytes::from(vec![b'a' + key / 3, b'a' + key % 3])
}

fn command(action: &Action, revision: u64) -> Command {
    match action {
        Action::Put { key, value, lease } => {
            Command::Txn(Txn::new().then(Put::new(name(*key), vec![*value]).lease(*lease)))
        }
        Action::Delete { key } => Command::Txn(Txn::new().then(DeleteRange::key(name(*key)))),
        Action::DeletePrefix { prefix } => {
            Command::Txn(Txn::new().then(DeleteRange::prefix(vec![b'a' + *prefix])))
        }
        Action::Guarded { key, value } => Command::Txn(
            Txn::new()
                .when(Compare::absent(name(*key)))
                .then(Put::new(name(*key), vec![*value]))
                .otherwise(DeleteRange::key(name(*key))),
        ),
        Action::Two { first, second, delete } => Command::Txn(
            Txn::new()
                .then(Put::new(name(*first), "1"))
                .then(Put::new(name(*second), "2"))
                .then(DeleteRange::key(name(*delete))),
        ),
        Action::Grant(id) => Command::LeaseGrant(Lease { id: *id, ttl: 60 }),
        Action::Revoke(id) => Command::LeaseRevoke(*id),
        Action::Compact { back } => Command::Compact(revision.saturating_sub(*back)),
    }
}

type Map = BTreeMap<Bytes, KeyValue>;

#[derive(Default)]
struct Model {
    /// The whole keyspace at each revision from 1 on.
    maps: Vec<Map>,
    leases: BTreeSet<i64>,
    compacted: u64,
}

impl Model {
    fn new() -> Model {
        Model { maps: vec![Map::new()], ..Model::default() }
    }

    fn revision(&self) -> u64 {
        self.maps.len() as u64
    }

    fn at(&self, revision: u64) -> &Map {
        &self.maps[usize::try_from(revision).unwrap() - 1]
    }

    /// What should happen, from the command alone; `false` if it should be refused.
    fn run(&mut self, command: &Command) -> bool {
        match command {
            Command::LeaseGrant(lease) => return self.leases.insert(lease.id),
            Command::Compact(revision) => {
                let fine = *revision > self.compacted && *revision <= self.revision();
                if fine {
                    self.compacted = *revision;
                }
                return fine;
            }
            _ => {}
        }
        let mut map = self.maps.last().unwrap().clone();
        let changed = match command {
            Command::Txn(txn) => match self.run_txn(txn, &mut map) {
                Some(changed) => changed,
                None => return false,
            },
            Command::LeaseRevoke(id) => {
                if !self.leases.remove(id) {
                    return false;
                }
                let before = map.len();
                map.retain(|_, kv| kv.lease != *id);
                map.len() != before
            }
            _ => unreachable!(),
        };
        if changed {
            self.maps.push(map);
        }
        true
    }

    fn run_txn(&self, txn: &Txn, map: &mut Map) -> Option<bool> {
        let holds = txn.compare.iter().all(|compare| !map.contains_key(&compare.key));
        let ops = if holds { &txn.success } else { &txn.failure };
        let revision = self.revision() + 1;
        let mut written: BTreeSet<Bytes> = BTreeSet::new();
        let mut changed = false;
        for op in ops {
            match op {
                Op::Put(put) => {
                    if !written.insert(put.key.clone())
                        || (put.lease != 0 && !self.leases.contains(&put.lease))
                    {
                        return None;
                    }
                    let before = map.get(&put.key);
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: before.map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: before.map_or(1, |kv| kv.version + 1),
                        lease: put.lease,
                    };
                    map.insert(put.key.clone(), kv);
                    changed = true;
                }
                Op::DeleteRange(delete) => {
                    let hit = |key: &Bytes| match &delete.end {
                        None => *key == delete.key,
                        Some(end) => *key >= delete.key && key < end,
                    };
                    if written.iter().any(hit) {
                        return None;
                    }
                    let before = map.len();
                    map.retain(|key, _| !hit(key));
                    changed |= map.len() != before;
                }
                _ => unreachable!(),
            }
        }
        Some(changed)
    }
}

/// Every readable revision reads the same, and history is the difference between revisions.
fn check(state: &State, model: &Model) {
    assert_eq!(state.revision(), model.revision());
    let newest = model.maps.last().unwrap();
    assert_eq!(state.live_keys(), newest.len() as u64);
    assert_eq!(state.live_bytes(), newest.values().map(|kv| kv.weight() as u64).sum::<u64>());
    for revision in model.compacted.max(1)..=model.revision() {
        let read = state.range(&Range::prefix("").at(revision)).unwrap();
        let found: Vec<&KeyValue> = read.kvs.iter().map(|kv| &**kv).collect();
        let expected: Vec<&KeyValue> = model.at(revision).values().collect();
        assert_eq!(found, expected, "at revision {revision}");
        for prefix in [&b"a"[..], b"b"] {
            let read = state.range(&Range::prefix(prefix.to_vec()).at(revision)).unwrap();
            let end = prefix_end(prefix);
            let keys = model.at(revision).range(Bytes::copy_from_slice(prefix)..end);
            assert_eq!(read.count, keys.count() as u64);
        }
    }
    if model.compacted > 1 {
        assert!(state.range(&Range::prefix("").at(model.compacted - 1)).is_err());
    }
    let history = state.history_from(model.compacted).expect("history since the compaction");
    let mut next = model.compacted.max(2);
    for changes in history {
        let batch = changes.batch();
        assert_eq!(changes.weight(), batch.weight());
        assert_eq!(batch.revision, next);
        let (before, after) = (model.at(next - 1), model.at(next));
        let mut replayed = before.clone();
        for event in batch.events.iter() {
            match event.kind {
                EventKind::Put => {
                    replayed.insert(event.kv.key.clone(), KeyValue::clone(&event.kv));
                }
                EventKind::Delete => {
                    assert!(replayed.remove(&event.kv.key).is_some());
                }
            }
            if next > model.compacted {
                assert_eq!(event.prev.as_deref(), before.get(&event.kv.key));
            }
        }
        assert_eq!(&replayed, after, "history of revision {next}");
        next += 1;
    }
    assert_eq!(next, model.revision() + 1);
}

/// A state taken apart and put together again, with writes going on meanwhile.
fn rebuild(state: State, later: &[Action]) -> State {
    let state = RwLock::new(state);
    let mut dump = {
        let mut state = state.write().unwrap();
        state.pin();
        state.dump()
    };
    let mut restore = Restore::new(dump.head.clone());
    for action in later {
        let keys = dump.keys().next(&state.read().unwrap(), 2).expect("the same state");
        keys.into_iter().for_each(|key| restore.add_key(key));
        let mut state = state.write().unwrap();
        let command = command(action, state.revision());
        // Whether it is refused does not matter: it must not show.
        let _outcome = state.execute(&command, &mut Effects::default());
        state.collect(usize::MAX);
    }
    loop {
        let keys = dump.keys().next(&state.read().unwrap(), 2).expect("the same state");
        if keys.is_empty() {
            break;
        }
        keys.into_iter().for_each(|key| restore.add_key(key));
    }
    for images in dump.history(3) {
        assert!(images.into_iter().all(|image| restore.add_history(image)));
    }
    restore.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_state_does_what_the_model_does(
        actions in prop::collection::vec(action(), 1..60),
        split in 0_usize..60,
        later in prop::collection::vec(action(), 0..12),
    ) {
        let mut state = State::default();
        let mut model = Model::new();
        for (at, action) in actions.iter().enumerate() {
            if at == split {
                state = rebuild(state, &later);
                check(&state, &model);
            }
            let command = command(action, state.revision());
            let done = state.execute(&command, &mut Effects::default());
            state.collect(at % 3);
            prop_assert_eq!(done.is_ok(), model.run(&command), "{:?}: {:?}", command, done);
            if let (Ok(Reply::Txn(response)), Ok(())) = (&done, Ok::<(), WriteError>(())) {
                prop_assert_eq!(response.revision, model.revision());
            }
        }
        state.collect(usize::MAX);
        check(&state, &model);
        let lease_keys: BTreeSet<Bytes> =
            state.leases().iter().flat_map(|lease| state.lease(lease.id).unwrap().1).collect();
        let attached: BTreeSet<Bytes> = model.maps.last().unwrap().values()
            .filter(|kv| kv.lease != 0).map(|kv| kv.key.clone()).collect();
        prop_assert_eq!(lease_keys, attached);
    }
}

#[test]
fn what_one_revision_did_to_a_key_twice_is_restored_as_it_was() {
    let mut state = State::default();
    let txn =
        |ops: &[Txn]| Command::Txn(ops.iter().fold(Txn::new(), |txn, op| txn.then(Txn::clone(op))));
    let (put, delete) =
        (Txn::new().then(Put::new("a", "1")), Txn::new().then(DeleteRange::key("a")));
    let (once, twice) = ([put.clone()], [put, delete]);
    for ops in [&twice[..], &once, &twice] {
        state.execute(&txn(ops), &mut Effects::default()).expect("it is done");
    }
    let history = |state: &State| -> Vec<_> {
        state.history_from(0).expect("all of it").map(Changes::batch).collect()
    };
    let before = history(&state);
    assert_eq!(before.iter().map(|batch| batch.events.len()).collect::<Vec<_>>(), [2, 1, 2]);
    assert_eq!(history(&rebuild(state, &[])), before);
}
