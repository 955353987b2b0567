//! Bytes that no member would send, and that no log holds: they are decoded or refused, and what they are decoded
//! to does no harm.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use proptest::prelude::*;

use super::types::{Membership, SnapshotMeta, Types, Vote};
use super::wire::{Call, Hello, Request, Response, SnapshotHead, decode, encode};
use crate::command::{Command, Entry, Proposal};
use crate::lease::Lease;
use crate::mvcc::{Effects, State};
use crate::{Compare, DeleteRange, Op, Put, Range, Txn};

/// Decodes bytes as everything that comes in frames or lies in records, and applies the commands.
fn decode_as_everything(bytes: &[u8]) {
    macro_rules! decode_as {
        ($($kind:ty)*) => {$( decode::<$kind>(bytes).ok(); )*};
    }
    decode_as! {
        Hello Request Response SnapshotHead Vote SnapshotMeta Membership
        AppendEntriesRequest<Types> StreamAppendResult<Types> Result<Vote, String>
    }
    let Ok(proposals) = Entry::from_encoded(Bytes::copy_from_slice(bytes)).proposals() else {
        return;
    };
    let mut state = State::default();
    let put = Command::Txn(Txn::new().then(Put::new("key", "value")));
    state.execute(&put, &mut Effects::default()).unwrap();
    for proposal in proposals.iter() {
        let revision = state.revision();
        let outcome = state.apply(proposal, &mut Effects::default());
        assert!(outcome.is_ok() || state.revision() == revision, "a refusal changed something");
    }
}

fn proposal(number: u64, key: &str, value: &[u8]) -> Proposal {
    let value = Bytes::copy_from_slice(value);
    let command = match number % 5 {
        0 => Command::LeaseGrant(Lease { id: 3, ttl: 60 }),
        1 => Command::Compact(number),
        2 => Command::LeaseRevoke(3),
        _ => {
            let inner = Txn::new().then(Range::prefix("k")).otherwise(DeleteRange::prefix(""));
            let absent = Compare::absent(key.to_owned());
            let put = Put::new(key.to_owned(), value).with_prev();
            Command::Txn(Txn::new().when(absent).then(put).then(inner))
        }
    };
    Proposal { client: 1, seq: number, floor: 0, command: command.into() }
}

/// A good frame or record.
fn good(kind: u8, number: u64, key: &str, value: &[u8]) -> Vec<u8> {
    let proposals: Vec<Proposal> =
        (number..number + 3).map(|number| proposal(number, key, value)).collect();
    let encoded = match kind % 3 {
        0 => Entry::encode(proposals).encoded().clone(),
        1 => encode(&Request { id: number, call: Call::Propose(proposals) }).unwrap(),
        _ => encode(&Request { id: number, call: Call::KeepAlive(3) }).unwrap(),
    };
    encoded.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 20,000 rows of bytes by chance.
    #[test]
    fn bytes_by_chance_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode_as_everything(&bytes);
    }

    /// 20,000 frames and entries with bytes changed, taken out and cut off.
    #[test]
    fn damaged_frames_are_decoded_or_refused(
        kind in any::<u8>(),
        number in 0..1000_u64,
        key in "[a-z]{0,8}",
        value in prop::collection::vec(any::<u8>(), 0..32),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        gone in prop::option::of(any::<prop::sample::Index>()),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = good(kind, number, &key, &value);
        decode_as_everything(&bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(gone) = gone {
            bytes.remove(gone.index(bytes.len()));
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        decode_as_everything(&bytes);
    }
}

/// A proposal of a transaction that holds another, and so on.
fn nested(depth: usize) -> Entry {
    let innermost = Txn::new().then(Put::new("key", "value"));
    let txn = (0..depth).fold(innermost, |inner, _| Txn::new().then(Op::from(inner)));
    // As it comes in a frame: not decoded yet.
    let command = Command::Txn(txn).into();
    let entry = Entry::encode(vec![Proposal { client: 1, seq: 1, floor: 0, command }]);
    Entry::from_encoded(entry.encoded().clone())
}

#[test]
fn a_transaction_is_decoded_only_as_deep_as_it_may_be() {
    let deepest = nested(crate::txn::MAX_DEPTH).proposals().expect("it may be so deep");
    let mut state = State::default();
    assert!(state.apply(&deepest[0], &mut Effects::default()).is_ok());
    assert!(nested(crate::txn::MAX_DEPTH + 1).proposals().is_err());
    // Deep enough to use up any stack: no compares, one operation, which is a transaction, and so on.
    let level = [0, 1, 3];
    let two = nested(2);
    let (head, rest) = two.encoded().split_at(5);
    assert!(rest.starts_with(&level.repeat(2)), "{rest:?}");
    let endless = [head, &level.repeat(1 << 20)].concat();
    assert!(Entry::from_encoded(endless.into()).proposals().is_err());
    // And the next is decoded from the beginning.
    assert!(nested(crate::txn::MAX_DEPTH).proposals().is_ok());
}
