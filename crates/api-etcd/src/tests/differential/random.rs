//! Random operations on few keys, then a watch of all of it.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Both, header, op};
use crate::proto::{
    CompactionRequest, Compare, DeleteRangeRequest, HeaderResponse, LeaseGrantRequest, LeaseId,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Operand, PutRequest, RangeRequest, Request,
    RequestOp, TxnRequest,
};

const STEPS: usize = 1500;

/// Makes up requests on few keys, so that they meet.
struct Dice {
    rng: StdRng,
    revision: i64,
}

impl Dice {
    fn one_in(&mut self, many: u32) -> bool {
        self.rng.random_ratio(1, many)
    }

    fn key(&mut self) -> Bytes {
        let keys = ["a", "ab", "b", "b/1", "b/2", "c", "\u{ff}"];
        Bytes::from_static(keys[self.rng.random_range(0..keys.len())].as_bytes())
    }

    fn range_end(&mut self) -> Bytes {
        match self.rng.random_range(0..4) {
            0 => Bytes::from_static(b"\0"),
            1 => self.key(),
            _ => Bytes::new(),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.one_in(3) { self.rng.random_range(1..5) } else { 0 }
    }

    fn some_revision(&mut self) -> i64 {
        self.rng.random_range((self.revision - 30).max(0)..self.revision + 3)
    }

    fn bound(&mut self) -> i64 {
        if self.one_in(6) { self.some_revision() } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.one_in(3) { self.rng.random_range(0..4) } else { 0 },
            revision: self.bound(),
            sort_order: if self.one_in(3) { self.rng.random_range(0..3) } else { 0 },
            sort_target: if self.one_in(3) { self.rng.random_range(0..5) } else { 0 },
            serializable: self.one_in(2),
            keys_only: self.one_in(4),
            count_only: self.one_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(8);
        let ignore_lease = self.one_in(8);
        let value = Bytes::from(format!("{}", self.rng.random_range(0..5)));
        let odd = self.one_in(20);
        PutRequest {
            key: if self.one_in(40) { Bytes::new() } else { self.key() },
            value: if ignore_value && !odd { Bytes::new() } else { value },
            // With a lease and a key that are both missing, etcd names one or the other.
            lease: if (ignore_lease && !odd) || ignore_value { 0 } else { self.lease() },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = (self.key(), self.range_end());
        DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    fn compare(&mut self) -> Compare {
        let number = self.rng.random_range(-1..6);
        let (target, operand) = match self.rng.random_range(0..5) {
            0 => (0, Operand::Version(number)),
            1 => (1, Operand::Create(self.some_revision())),
            2 => (2, Operand::Mod(self.some_revision())),
            3 => (3, Operand::Value(Bytes::from(number.to_string()))),
            _ => (4, Operand::Lease(number)),
        };
        let range_end = if self.one_in(3) { self.range_end() } else { Bytes::new() };
        let result = self.rng.random_range(0..4);
        Compare { result, target, key: self.key(), operand: Some(operand), range_end }
    }

    fn ops(&mut self, depth: u32) -> Vec<RequestOp> {
        let made = |dice: &mut Dice| {
            let request = match dice.rng.random_range(0..7) {
                0 | 1 => Request::Range(dice.range()),
                2..=4 => Request::Put(dice.put()),
                5 => {
                    let mut delete = dice.delete();
                    // etcd does not see that a delete to the end of all keys and a put meet; we do.
                    if delete.range_end == b"\0"[..] {
                        delete.range_end = Bytes::from_static(b"\xff");
                    }
                    Request::DeleteRange(delete)
                }
                _ if depth == 0 => Request::Range(dice.range()),
                _ => Request::Txn(dice.txn(depth - 1)),
            };
            op(request)
        };
        (0..self.rng.random_range(0..4)).map(|_| made(self)).collect()
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compare = (0..self.rng.random_range(0..3)).map(|_| self.compare()).collect();
        TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) }
    }
}

/// Does one random thing on both.
async fn step(both: &Both, dice: &mut Dice) {
    let revision = match dice.rng.random_range(0..20) {
        0..=5 => both.range(&dice.range()).await.ok().and_then(|a| a.header),
        6..=10 => both.put(&dice.put()).await.ok().and_then(|a| a.header),
        11 | 12 => both.delete(&dice.delete()).await.ok().and_then(|a| a.header),
        13..=16 => both.txn(&dice.txn(2)).await.ok().and_then(|a| a.header),
        17 => {
            let (ttl, id) = (100_000, dice.rng.random_range(1..5));
            both.grant(&LeaseGrantRequest { ttl, id }).await.ok().and_then(|a| a.header)
        }
        18 => {
            let id = dice.rng.random_range(1..5);
            let left = |a: &mut LeaseTimeToLiveResponse| {
                header(&mut a.header);
                // One may have lived a second longer than the other.
                a.ttl = a.ttl.signum();
                a.keys.sort();
            };
            let request = LeaseTimeToLiveRequest { id, keys: true };
            both.same("Lease/LeaseTimeToLive", &request, left).await.ok();
            let revoked = |a: &mut HeaderResponse| header(&mut a.header);
            let request = LeaseId { id };
            both.same("Lease/LeaseRevoke", &request, revoked).await.ok().and_then(|a| a.header)
        }
        _ => {
            let compacted = |a: &mut HeaderResponse| header(&mut a.header);
            let request = CompactionRequest {
                revision: (dice.some_revision() - 20).max(1),
                physical: dice.one_in(2),
            };
            both.same("KV/Compact", &request, compacted).await.ok().and_then(|a| a.header)
        }
    };
    dice.revision = revision.map_or(dice.revision, |header| header.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_answers_the_same() {
    let Some(both) = Both::begin().await else { return };
    let seed = std::env::var("PONTOON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("PONTOON_SEED={seed} makes the same requests again");
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed), revision: 1 };
    for _ in 0..STEPS {
        step(&both, &mut dice).await;
    }
    let last = both.write("last", "").await;
    let from = i64::try_from(both.bed.store.compact_revision()).unwrap() + 1;
    both.same_events(from, last).await;
}
