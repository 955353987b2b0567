//! The same random operations, one after the other, on this server and on etcd's own: the answers are the
//! same, field by field, and so is what a watch of all of it tells.

use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::bed;
use super::client::{Client, Failure};
use crate::proto::{
    CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, Event, HeaderResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, Operand, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Request, RequestOp, Response, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchCreate,
    WatchKind, WatchRequest, WatchResponse,
};

const STEPS: usize = 1500;
/// How long a server may take on a loaded computer.
const PATIENCE: Duration = Duration::from_secs(30);

/// etcd's own server, while it runs.
struct Etcd {
    address: SocketAddr,
    _child: Child,
    _dir: TempDir,
}

/// etcd, or `None`, with a word why, where there is none.
async fn etcd() -> Option<Etcd> {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, peer) = (free(), free());
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &format!("http://{address}")])
        .args(["--advertise-client-urls", &format!("http://{address}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", &format!("default=http://{peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(child) = child else {
        println!("skipped: there is no etcd here (Debian's package etcd-server)");
        return None;
    };
    let listens = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.expect("etcd listens");
    Some(Etcd { address, _child: child, _dir: dir })
}

/// Both servers, asked the same.
struct Both {
    ours: Client,
    theirs: Client,
}

impl Both {
    async fn same<Q, A>(
        &self,
        path: &str,
        request: &Q,
        compared: impl Fn(&mut A),
    ) -> Result<A, Failure>
    where
        Q: Message + Debug,
        A: Message + Default + PartialEq + Debug,
    {
        let path = format!("/etcdserverpb.{path}");
        let ask = async |who: &str, client: &Client| {
            let answer = tokio::time::timeout(PATIENCE, client.call::<Q, A>(&path, request)).await;
            answer.unwrap_or_else(|_| panic!("{who} does not answer {path} {request:?}"))
        };
        let (mut ours, mut theirs) =
            tokio::join!(ask("ours", &self.ours), ask("etcd", &self.theirs));
        for answer in [&mut ours, &mut theirs].into_iter().flatten() {
            compared(answer);
        }
        assert_eq!(ours, theirs, "{path} {request:?}: ours, and etcd's");
        ours
    }
}

/// The revision is compared, not who answers.
fn header(header: &mut Option<ResponseHeader>) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    *header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
}

/// Headers inside a transaction say less in etcd.
fn inner(responses: &mut [ResponseOp]) {
    for response in responses {
        match response.response.as_mut().unwrap() {
            Response::Range(answer) => answer.header = None,
            Response::Put(answer) => answer.header = None,
            Response::DeleteRange(answer) => answer.header = None,
            Response::Txn(answer) => {
                answer.header = None;
                inner(&mut answer.responses);
            }
        }
    }
}

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
            // Versions and values tie, and etcd leaves open what comes first then.
            sort_target: if self.one_in(3) { [0, 3][self.rng.random_range(0..2)] } else { 0 },
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
        let op = |dice: &mut Dice| {
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
            RequestOp { request: Some(request) }
        };
        (0..self.rng.random_range(0..4)).map(|_| op(self)).collect()
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compare = (0..self.rng.random_range(0..3)).map(|_| self.compare()).collect();
        TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) }
    }
}

/// Does one random thing on both.
async fn step(both: &Both, dice: &mut Dice) {
    let revision = match dice.rng.random_range(0..20) {
        0..=5 => {
            let ranged = |a: &mut RangeResponse| header(&mut a.header);
            both.same("KV/Range", &dice.range(), ranged).await.ok().and_then(|a| a.header)
        }
        6..=10 => {
            let put = |a: &mut PutResponse| header(&mut a.header);
            both.same("KV/Put", &dice.put(), put).await.ok().and_then(|a| a.header)
        }
        11 | 12 => {
            let deleted = |a: &mut DeleteRangeResponse| header(&mut a.header);
            both.same("KV/DeleteRange", &dice.delete(), deleted).await.ok().and_then(|a| a.header)
        }
        13..=16 => {
            let done = |a: &mut TxnResponse| {
                header(&mut a.header);
                inner(&mut a.responses);
            };
            both.same("KV/Txn", &dice.txn(2), done).await.ok().and_then(|a| a.header)
        }
        17 => {
            let (ttl, id) = (100_000, dice.rng.random_range(1..5));
            let granted = |a: &mut LeaseGrantResponse| header(&mut a.header);
            let request = LeaseGrantRequest { ttl, id };
            both.same("Lease/LeaseGrant", &request, granted).await.ok().and_then(|a| a.header)
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

/// All events from a revision up to another.
async fn events(client: &Client, from: i64, to: i64) -> Vec<Event> {
    let everything = Bytes::from_static(b"\0");
    let create = WatchCreate {
        key: everything.clone(),
        range_end: everything,
        start_revision: from,
        prev_kv: true,
        ..WatchCreate::default()
    };
    let create = WatchRequest { kind: Some(WatchKind::Create(create)) };
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", &create).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|e| e.kv.as_ref().unwrap().mod_revision < to) {
        let answer = tokio::time::timeout(PATIENCE, stream.hear::<WatchResponse>()).await;
        let answer = answer.expect("the events come").unwrap();
        assert!(!answer.canceled, "{answer:?}");
        events.extend(answer.events);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_answers_the_same() {
    let Some(etcd) = etcd().await else { return };
    let bed = bed().await;
    let ours = Client::connect(bed.address).await;
    let both = Both { ours, theirs: Client::connect(etcd.address).await };
    let seed = std::env::var("PONTOON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("PONTOON_SEED={seed} makes the same requests again");
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed), revision: 1 };
    for _ in 0..STEPS {
        step(&both, &mut dice).await;
    }
    let put = PutRequest { key: "last".into(), ..PutRequest::default() };
    let last = both.same("KV/Put", &put, |a: &mut PutResponse| header(&mut a.header)).await;
    let last = last.unwrap().header.unwrap().revision;
    let from = i64::try_from(bed.store.compact_revision()).unwrap() + 1;
    let (ours, theirs) =
        tokio::join!(events(&both.ours, from, last), events(&both.theirs, from, last));
    assert_eq!(ours, theirs, "what a watch from {from} tells");
}
