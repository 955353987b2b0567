//! Clients: they ask managers for this and that, and note what they get.

use std::sync::Arc;
use std::time::Duration;

use pontoon_history::{Call, Compare, Fate, Op, Operation};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio_util::sync::CancellationToken;

use super::door::{Connection, Door, Said};
use super::record::Record;

/// All keys begin with this.
pub(super) const PREFIX: &str = "/nemesis/";
/// Keys that are written once and never again begin with this.
pub(super) const KEPT: &str = "/nemesis/kept/";
/// Groups of keys; a client stays with its group.
pub(super) const GROUPS: u64 = 3;
/// Keys of one group.
const KEYS: u64 = 3;
/// After so many calls of all clients there are new keys, so that the search for an order stays short.
const CALLS_PER_AGE: u64 = 600;
/// Pause after a failure, before another manager is asked: so as not to take the processor from those that
/// are to come back.
const PAUSE: Duration = Duration::from_millis(20);

/// One client.
pub(super) struct Client {
    door: Arc<Door>,
    record: Arc<Record>,
    random: StdRng,
    group: u64,
    age: u64,
    /// The name under which it asks; another one after a call of unknown fate.
    name: u64,
    connection: Option<Connection>,
    /// What it saw last of its keys: revision and value.
    seen: Vec<(String, u64, u64)>,
    leases: Vec<i64>,
}

/// The keys of a group in an age.
pub(super) fn keys(group: u64, age: u64) -> Vec<String> {
    (0..KEYS).map(|key| format!("{}{age}/{key}", prefix(group))).collect()
}

/// What the keys of a group begin with.
pub(super) fn prefix(group: u64) -> String {
    format!("{PREFIX}{group}/")
}

impl Client {
    pub(super) fn new(door: Arc<Door>, record: Arc<Record>, random: StdRng, group: u64) -> Client {
        let name = record.number();
        let (connection, seen, leases) = (None, Vec::new(), Vec::new());
        Client { door, record, random, group, age: 0, name, connection, seen, leases }
    }

    /// Asks until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let age = self.record.calls() / CALLS_PER_AGE;
            if self.age != age {
                (self.age, self.seen, self.leases) = (age, Vec::new(), Vec::new());
            }
            let call = self.call();
            let patience = Duration::from_millis(self.random.random_range(500..3000));
            if !self.ask(call, patience).await {
                tokio::time::sleep(PAUSE).await;
            } else if self.random.random_bool(0.02) {
                self.connection = None;
            }
        }
    }

    /// Asks one thing at some manager; true if there was an answer.
    pub(super) async fn ask(&mut self, call: Call, patience: Duration) -> bool {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let manager = self.random.random_range(0..self.door.managers());
                match self.door.connect(manager).await {
                    Some(connection) => connection,
                    None => {
                        self.record.not_done();
                        return false;
                    }
                }
            }
        };
        let asked = self.record.now();
        let said = tokio::time::timeout(patience, connection.ask(&call)).await;
        let said = said.unwrap_or_else(|_| Said::Unknown("no answer in time".to_owned()));
        let client = self.name;
        let fate = match said {
            Said::NotDone(words) => {
                self.record.failed(words);
                self.record.not_done();
                return false;
            }
            Said::Unknown(words) => {
                self.record.failed(words);
                self.name = self.record.number();
                Fate::Unknown
            }
            Said::Answer(answer) => {
                self.connection = Some(connection);
                Fate::Answered(self.record.now(), answer)
            }
        };
        let answered = fate != Fate::Unknown;
        let operation = Operation { client, asked, call, fate };
        for (key, kv) in operation.seen() {
            self.seen.retain(|(other, ..)| other != key);
            self.seen.push((key.to_owned(), kv.modified, kv.value));
        }
        if let (Call::Grant(lease, _), true) = (&operation.call, answered) {
            self.leases.push(*lease);
        }
        self.record.add(operation);
        answered
    }

    fn call(&mut self) -> Call {
        let keys = keys(self.group, self.age);
        let key = keys.choose(&mut self.random).unwrap().clone();
        let other = keys.choose(&mut self.random).unwrap().clone();
        let value = self.record.number();
        let put = Op::Put(key.clone(), value, 0);
        let always = |op: Op| Call::Txn(vec![], vec![op], vec![]);
        match self.random.random_range(0..100) {
            0..26 => always(Op::Get(key)),
            26..32 => Call::Txn(vec![], keys.into_iter().map(Op::Get).collect(), vec![]),
            32..42 => Call::Stale(keys, self.past()),
            42..60 => always(put),
            60..65 => always(Op::Delete(key)),
            65..78 => self.swap(key, value),
            78..83 if key != other => {
                let second = Op::Put(other, self.record.number(), 0);
                let absent = vec![Compare::Absent(key.clone())];
                Call::Txn(absent, vec![put, second], vec![Op::Delete(key)])
            }
            78..86 => {
                let lease = i64::try_from(value).unwrap();
                Call::Grant(lease, self.random.random_range(2..5))
            }
            86..90 => self.lease().map_or(always(put), |lease| always(Op::Put(key, value, lease))),
            90..93 => self.lease().map_or(always(Op::Get(key)), Call::KeepAlive),
            93..95 => self.lease().map_or(always(Op::Get(key)), Call::Revoke),
            _ => always(Op::Put(format!("{KEPT}{value}"), value, 0)),
        }
    }

    /// A revision to read at that is not the newest, or 0.
    fn past(&mut self) -> u64 {
        let newest = self.seen.iter().map(|(_, revision, _)| *revision).max().unwrap_or(0);
        if self.random.random_bool(0.3) {
            newest.saturating_sub(self.random.random_range(1..20))
        } else {
            0
        }
    }

    /// Changes a key only if it is as it was seen.
    fn swap(&mut self, key: String, value: u64) -> Call {
        let seen = self.seen.iter().find(|(other, ..)| *other == key);
        let condition = match seen {
            None => Compare::Absent(key.clone()),
            Some((_, revision, _)) if value.is_multiple_of(2) => {
                Compare::Modified(key.clone(), *revision)
            }
            Some((_, _, value)) => Compare::Value(key.clone(), *value),
        };
        Call::Txn(vec![condition], vec![Op::Put(key.clone(), value, 0)], vec![Op::Get(key)])
    }

    /// One of its last leases, which may have ended.
    fn lease(&mut self) -> Option<i64> {
        let recent = self.leases.len().saturating_sub(3);
        self.leases[recent..].choose(&mut self.random).copied()
    }
}
