//! Single rules of the state, one test each.

use std::sync::Arc;

use bytes::Bytes;

use super::{Effects, LeaseChange, State};
use crate::command::{Command, Outcome, Proposal, Reply};
use crate::error::{ReadError, WriteError};
use crate::kv::EventKind;
use crate::lease::Lease;
use crate::range::Range;
use crate::txn::{Compare, CompareOp, DeleteRange, OpResponse, Operand, Put, Txn, TxnResponse};

fn execute(state: &mut State, command: Command) -> Outcome {
    state.execute(&command, &mut Effects::default())
}

fn txn(state: &mut State, txn: Txn) -> TxnResponse {
    match execute(state, Command::Txn(txn)).expect("the transaction is done") {
        Reply::Txn(response) => response,
        other => panic!("{other:?}"),
    }
}

fn put(state: &mut State, key: &'static str, value: &'static str) -> u64 {
    txn(state, Txn::new().then(Put::new(key, value))).revision
}

fn value(state: &State, range: Range) -> Option<Bytes> {
    state.range(&range).expect("readable").kvs.first().map(|kv| kv.value.clone())
}

#[test]
fn revisions_and_versions_count_as_in_etcd() {
    let mut state = State::default();
    assert_eq!(put(&mut state, "a", "1"), 2);
    assert_eq!(put(&mut state, "a", "2"), 3);
    let kv = Arc::clone(&state.range(&Range::key("a")).unwrap().kvs[0]);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    let deleted = txn(&mut state, Txn::new().then(DeleteRange::key("a")));
    assert_eq!(deleted.revision, 4);
    // Deleting nothing makes no revision.
    assert_eq!(txn(&mut state, Txn::new().then(DeleteRange::key("a"))).revision, 4);
    put(&mut state, "a", "3");
    let kv = Arc::clone(&state.range(&Range::key("a")).unwrap().kvs[0]);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    assert_eq!(value(&state, Range::key("a").at(3)), Some(Bytes::from_static(b"2")));
    assert_eq!(value(&state, Range::key("a").at(4)), None);
}

#[test]
fn a_transaction_writes_at_one_revision_and_sees_its_own_writes() {
    let mut state = State::default();
    let response = txn(
        &mut state,
        Txn::new().then(Put::new("a", "1")).then(Put::new("b", "2")).then(Range::prefix("")),
    );
    let OpResponse::Range(range) = &response.responses[2] else { panic!("{response:?}") };
    assert_eq!(range.kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(range.revision, 2);
    let batch = state.history_from(0).unwrap().next().unwrap().batch();
    assert_eq!(batch.events.len(), 2);
}

#[test]
fn compares_decide_and_a_missing_key_has_no_value() {
    let mut state = State::default();
    put(&mut state, "a", "1");
    let holds = |state: &mut State, compare| txn(state, Txn::new().when(compare)).succeeded;
    assert!(holds(&mut state, Compare::present("a")));
    assert!(holds(&mut state, Compare::absent("b")));
    assert!(holds(&mut state, Compare::unchanged("a", 2)));
    let greater = |key: &'static str, value: &'static str| {
        Compare::new(key, CompareOp::Greater, Operand::Value(Bytes::from_static(value.as_bytes())))
    };
    assert!(holds(&mut state, greater("a", "0")));
    assert!(!holds(&mut state, greater("a", "1")));
    assert!(!holds(&mut state, greater("b", "")));
    let over_range = Compare {
        end: Some(Bytes::from_static(b"z")),
        ..Compare::new("a", CompareOp::Equal, Operand::Version(1))
    };
    assert!(holds(&mut state, over_range.clone()));
    put(&mut state, "b", "1");
    put(&mut state, "b", "2");
    assert!(!holds(&mut state, over_range));
}

#[test]
fn inner_transactions_are_decided_before_anything_is_written() {
    let mut state = State::default();
    let inner = Txn::new()
        .when(Compare::absent("a"))
        .then(Put::new("b", "inner"))
        .otherwise(Put::new("c", "inner"));
    let response = txn(&mut state, Txn::new().then(Put::new("a", "1")).then(inner));
    assert!(matches!(&response.responses[1], OpResponse::Txn(inner) if inner.succeeded));
    assert_eq!(value(&state, Range::key("b")), Some(Bytes::from_static(b"inner")));
    assert_eq!(state.revision(), 2);
}

#[test]
fn what_a_transaction_may_not_do_changes_nothing() {
    let mut state = State::default();
    put(&mut state, "a", "1");
    let refused = |state: &mut State, txn| {
        let before = state.revision();
        let error = execute(state, Command::Txn(txn)).expect_err("refused");
        assert_eq!(state.revision(), before);
        error
    };
    let twice = Txn::new().then(Put::new("x", "1")).then(Put::new("x", "2"));
    assert!(matches!(refused(&mut state, twice), WriteError::DuplicateKey { .. }));
    let both = Txn::new().then(Put::new("x", "1")).then(DeleteRange::prefix("x"));
    assert!(matches!(refused(&mut state, both), WriteError::DuplicateKey { .. }));
    let inner = Txn::new().then(Put::new("x", "1")).then(Txn::new().otherwise(Put::new("x", "2")));
    assert!(matches!(refused(&mut state, inner), WriteError::DuplicateKey { .. }));
    let branches = Txn::new().then(Put::new("x", "1")).otherwise(Put::new("x", "2"));
    assert!(execute(&mut state, Command::Txn(branches)).is_ok());
    assert_eq!(refused(&mut state, Txn::new().then(Put::new("", "1"))), WriteError::EmptyKey);
    let lease = Txn::new().then(Put::new("y", "1")).then(Put::new("z", "1").lease(9));
    assert_eq!(refused(&mut state, lease), WriteError::LeaseNotFound { id: 9 });
    let keep = Put { ignore_value: true, ..Put::new("nokey", "") };
    assert!(matches!(refused(&mut state, Txn::new().then(keep)), WriteError::KeyNotFound { .. }));
    let future = Txn::new().then(Put::new("y", "1")).then(Range::key("a").at(99));
    assert!(matches!(refused(&mut state, future), WriteError::Future { asked: 99, .. }));
    assert_eq!(value(&state, Range::key("y")), None);
}

#[test]
fn a_lease_takes_its_keys_with_it() {
    let mut state = State::default();
    let lease = Lease { id: 5, ttl: 10 };
    execute(&mut state, Command::LeaseGrant(lease)).unwrap();
    assert!(matches!(
        execute(&mut state, Command::LeaseGrant(lease)),
        Err(WriteError::LeaseExists { id: 5 })
    ));
    txn(&mut state, Txn::new().then(Put::new("a", "1").lease(5)).then(Put::new("b", "1").lease(5)));
    // A put without the lease takes the key away from it.
    put(&mut state, "a", "2");
    let kept = Put { ignore_lease: true, ..Put::new("b", "2") };
    txn(&mut state, Txn::new().then(kept));
    assert_eq!(state.lease(5).unwrap().1, [Bytes::from_static(b"b")]);
    let mut effects = Effects::default();
    state.execute(&Command::LeaseRevoke(5), &mut effects).unwrap();
    assert_eq!(effects.leases, [LeaseChange::Revoked(5)]);
    let events = effects.changes[0].batch().events;
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Delete));
    assert_eq!(&events[0].kv.key[..], b"b");
    assert!(value(&state, Range::key("a")).is_some());
    assert!(matches!(
        execute(&mut state, Command::LeaseRevoke(5)),
        Err(WriteError::LeaseNotFound { id: 5 })
    ));
}

#[test]
fn compaction_forgets_what_is_older_and_only_that() {
    let mut state = State::default();
    put(&mut state, "a", "1");
    put(&mut state, "a", "2");
    txn(&mut state, Txn::new().then(DeleteRange::key("a")));
    put(&mut state, "b", "1");
    execute(&mut state, Command::Compact(3)).unwrap();
    assert_eq!(
        state.range(&Range::key("a").at(2)),
        Err(ReadError::Compacted { compact_revision: 3 })
    );
    assert_eq!(value(&state, Range::key("a").at(3)), Some(Bytes::from_static(b"2")));
    assert!(state.history_from(2).is_none());
    assert_eq!(state.history_from(3).unwrap().count(), 3);
    assert!(matches!(
        execute(&mut state, Command::Compact(3)),
        Err(WriteError::Compacted { compact_revision: 3 })
    ));
    assert!(matches!(execute(&mut state, Command::Compact(9)), Err(WriteError::Future { .. })));
    execute(&mut state, Command::Compact(5)).unwrap();
    state.collect(usize::MAX);
    assert_eq!(state.keys.len(), 1, "a deleted key leaves nothing behind");
}

#[test]
fn a_command_that_comes_twice_is_done_once() {
    let mut state = State::default();
    let mut effects = Effects::default();
    let proposal = |seq, floor| Proposal {
        client: 1,
        seq,
        floor,
        command: Arc::new(Command::Txn(Txn::new().then(Put::new("a", "1")))),
    };
    let first = state.apply(&proposal(1, 1), &mut effects);
    assert_eq!(state.apply(&proposal(1, 1), &mut effects), first);
    assert_eq!(state.revision(), 2);
    // When nobody waits for it any more it is neither done again nor answered.
    state.apply(&proposal(2, 2), &mut effects);
    assert!(state.apply(&proposal(1, 1), &mut effects).is_err());
    assert_eq!((state.revision(), effects.changes.len()), (3, 2));
    // Another client's numbers are its own.
    state.apply(&Proposal { client: 2, ..proposal(1, 1) }, &mut effects);
    assert_eq!(state.revision(), 4);
}

#[test]
fn of_a_large_answer_only_is_kept_that_it_was_given() {
    let mut state = State::default();
    let mut effects = Effects::default();
    let mut apply = |seq, txn: Txn| {
        let command = Arc::new(Command::Txn(txn));
        state.apply(&Proposal { client: 1, seq, floor: 1, command }, &mut effects)
    };
    let large = Txn::new().then(Put::new("a", vec![1; 100_000])).then(Range::key("a"));
    let first = apply(1, large.clone());
    assert!(matches!(&*first, Ok(Reply::Txn(txn)) if txn.responses.len() == 2), "{first:?}");
    assert_eq!(*apply(1, large), Err(WriteError::AnswerTooLarge), "it is not done again");
    let small = Txn::new().then(Put::new("b", "1")).then(Range::prefix("b"));
    let first = apply(2, small.clone());
    assert_eq!((apply(2, small), first.is_ok()), (first, true));
    // A refusal is one for ever, however large.
    let kept = Put { ignore_value: true, ..Put::new(vec![b'k'; 100_000], "") };
    for _ in 0..2 {
        let refused = apply(3, Txn::new().then(kept.clone()));
        assert!(matches!(*refused, Err(WriteError::KeyNotFound { .. })));
    }
    assert_eq!(state.revision(), 3);
    let sizes = state.sessions.images().map(|image| postcard::to_stdvec(&image).unwrap().len());
    assert!(sizes.sum::<usize>() < 10_000);
}

#[test]
fn limits_count_and_order() {
    let mut state = State::default();
    for key in ["b", "d", "a", "c"] {
        put(&mut state, key, "x");
    }
    let response = state.range(&Range::prefix("").limit(2)).unwrap();
    let keys: Vec<&[u8]> = response.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!((keys, response.count, response.more), (vec![&b"a"[..], b"b"], 4, true));
    let counted = state.range(&Range { count_only: true, ..Range::prefix("") }).unwrap();
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 4, false));
    let keys_only = state.range(&Range { keys_only: true, ..Range::key("a") }).unwrap();
    assert!(keys_only.kvs[0].value.is_empty());
    let backwards = Range { end: Some(Bytes::from_static(b"a")), ..Range::key("b") };
    assert_eq!(state.range(&backwards).unwrap().count, 0);
}

#[test]
fn a_read_at_a_revision_does_not_see_the_transaction_that_it_is_in() {
    let mut state = State::default();
    put(&mut state, "a", "1");
    let before = Range::key("a").at(state.revision());
    let ops = Txn::new().then(Put::new("a", "2")).then(before).then(Range::key("a"));
    let responses = txn(&mut state, ops).responses;
    let value = |response: &OpResponse| match response {
        OpResponse::Range(range) => range.kvs[0].value.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((&value(&responses[1])[..], &value(&responses[2])[..]), (&b"1"[..], &b"2"[..]));
}

#[test]
fn a_transaction_is_refused_for_its_puts_before_its_reads() {
    let mut state = State::default();
    let refused = Txn::new().then(Range::key("a").at(99)).then(Put::new("b", "1").lease(7));
    assert!(matches!(
        execute(&mut state, Command::Txn(refused)),
        Err(WriteError::LeaseNotFound { id: 7 })
    ));
}

#[test]
fn a_delete_tells_watchers_what_was_there_before_its_revision() {
    let mut state = State::default();
    for value in ["1", "2"] {
        let both = Txn::new()
            .then(Txn::new().then(Put::new("a", value)))
            .then(Txn::new().then(DeleteRange::key("a")));
        let mut effects = Effects::default();
        state.execute(&Command::Txn(both), &mut effects).unwrap();
        let events = effects.changes[0].batch().events;
        let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Put, EventKind::Delete]);
        assert!(events.iter().all(|event| event.prev.is_none()), "{events:?}");
    }
}

#[test]
fn a_transaction_that_reads_too_much_is_not_answered_and_is_done() {
    let mut state = State::default();
    let large = Put::new("large", vec![1; 1 << 20]);
    txn(&mut state, Txn::new().then(large));
    let reads = |count: usize| (0..count).fold(Txn::new(), |txn, _| txn.then(Range::prefix("")));
    assert_eq!(state.find_txn(&reads(200)).expect("it fits").answer().responses.len(), 200);
    assert_eq!(state.find_txn(&reads(300)).err(), Some(WriteError::AnswerTooLarge));
    // Inner transactions are a part of the same answer.
    let nested = (0..3).fold(Txn::new(), |txn, _| txn.then(reads(100)));
    assert_eq!(state.find_txn(&nested).err(), Some(WriteError::AnswerTooLarge));
    let counted = Range { count_only: true, ..Range::prefix("") };
    let counts = (0..300).fold(Txn::new(), |txn, _| txn.then(counted.clone()));
    assert_eq!(state.find_txn(&counts).expect("numbers fit").answer().responses.len(), 300);
    // All members do the same, whatever is said of it.
    let writes = reads(300).then(Put::new("small", "x"));
    let told = execute(&mut state, Command::Txn(writes));
    assert_eq!(told.err(), Some(WriteError::AnswerTooLarge));
    assert_eq!(value(&state, Range::key("small")), Some(Bytes::from_static(b"x")));
    assert_eq!(state.revision(), 3);
}

#[test]
fn answers_to_what_was_put_into_the_log_together_share_their_room() {
    let mut state = State::default();
    txn(&mut state, Txn::new().then(Put::new("large", vec![1; 1 << 20])));
    let reads = |count: usize| {
        let write = Txn::new().then(Put::new("small", "x"));
        Command::Txn((0..count).fold(write, |txn, _| txn.then(Range::key("large"))))
    };
    let mut entry = Effects::default();
    assert!(state.execute(&reads(200), &mut entry).is_ok());
    assert_eq!(state.execute(&reads(100), &mut entry), Err(WriteError::AnswerTooLarge));
    // What is given up leaves its room to the next.
    assert!(state.execute(&reads(50), &mut entry).is_ok());
    assert!(state.execute(&reads(0), &mut entry).is_ok());
    assert!(state.execute(&reads(100), &mut Effects::default()).is_ok(), "another entry");
    assert_eq!(state.revision(), 7, "all were done");
}
