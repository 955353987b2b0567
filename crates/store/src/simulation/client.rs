//! Clients: they ask members for this and that, and note what they get.

use std::sync::Arc;
use std::time::Duration;

use pontoon_history::{Answer, Call, Compare as Condition, Effect, Fate, Kv, Op as Act, Operation};
use tokio::time::Instant;

use super::cluster::Life;
use super::dice::Dice;
use super::record::Record;
use crate::{
    Compare, DeleteRange, KeyValue, MemberId, Op, OpResponse, Put, Range, Read, ReadError, Store,
    Txn, WriteError,
};

/// Keys of one group; a client stays with its group.
const KEYS: u64 = 3;

/// A member that does not keep its promises, to see that this is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Disks say that they have synced, and have not.
    SkippedSync,
    /// A leader answers reads without asking whether it still leads.
    UnprovenLeader,
    /// Every member answers reads from its own copy.
    StaleFollower,
    /// Writes are acknowledged before they are committed.
    EarlyAcknowledgement,
    /// The end of a lease is acknowledged and forgotten.
    LostRevoke,
}

/// What came of a call.
enum Said {
    Answer(Answer),
    /// Certainly nothing was done.
    NotDone,
    Unknown,
}

pub(super) fn group(number: u64) -> String {
    format!("/s/{number}/")
}

pub(super) fn keys(group: &str) -> Vec<String> {
    (0..KEYS).map(|key| format!("{group}{key}")).collect()
}

fn seen(kv: &KeyValue) -> Kv {
    let value = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
    Kv {
        value: value.unwrap_or(u64::MAX),
        modified: kv.mod_revision,
        created: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn compare(condition: &Condition) -> Compare {
    use crate::{CompareOp, Operand};
    match condition {
        Condition::Absent(key) => Compare::absent(key.clone()),
        Condition::Modified(key, revision) => Compare::unchanged(key.clone(), *revision),
        Condition::Value(key, value) => {
            Compare::new(key.clone(), CompareOp::Equal, Operand::Value(value.to_string().into()))
        }
    }
}

fn act(act: &Act) -> Op {
    match act {
        Act::Get(key) => Range::key(key.clone()).into(),
        Act::Put(key, value, lease) => {
            Put::new(key.clone(), value.to_string()).lease(*lease).with_prev().into()
        }
        Act::Delete(key) => DeleteRange::key(key.clone()).into(),
    }
}

fn effect(response: &OpResponse) -> Effect {
    match response {
        OpResponse::Range(range) => Effect::Kv(range.kvs.first().map(|kv| seen(kv))),
        OpResponse::Put { prev } => Effect::Kv(prev.as_ref().map(|kv| seen(kv))),
        OpResponse::DeleteRange { deleted, .. } => Effect::Deleted(*deleted),
        OpResponse::Txn(_) => Effect::Untold,
    }
}

fn failed(error: &WriteError) -> Said {
    match error {
        WriteError::LeaseNotFound { .. } | WriteError::LeaseExists { .. } => {
            Said::Answer(Answer::NoLease)
        }
        error if error.is_definite() => Said::NotDone,
        _ => Said::Unknown,
    }
}

/// Asks a store, on its host.
async fn ask(store: Store, place: String, call: Call, defect: Option<Defect>) -> Said {
    match &call {
        Call::Txn(conditions, then, otherwise) => {
            ask_txn(&store, conditions, then, otherwise, defect).await
        }
        Call::Stale(keys, revision) => {
            let prefix = keys[0].trim_end_matches(|c: char| c != '/').to_owned();
            read(&store, &place, keys, Range::prefix(prefix).at(*revision)).await
        }
        Call::Revoke(_) if defect == Some(Defect::LostRevoke) => Said::Answer(Answer::Done),
        Call::Grant(..) | Call::KeepAlive(_) | Call::Revoke(_) => {
            let done = match call {
                Call::Grant(lease, ttl) => {
                    let ttl = i64::try_from(ttl).unwrap_or(1);
                    store.lease_grant(ttl, Some(lease)).await.map(|_| ())
                }
                Call::KeepAlive(lease) => store.lease_keepalive(lease).await.map(|_| ()),
                Call::Revoke(lease) => store.lease_revoke(lease).await,
                _ => Ok(()),
            };
            done.map_or_else(|error| failed(&error), |()| Said::Answer(Answer::Done))
        }
    }
}

async fn read(store: &Store, place: &str, keys: &[String], range: Range) -> Said {
    let Ok(found) = store.range(range, Read::Local).await else { return Said::NotDone };
    let of = |key: &String| found.kvs.iter().find(|kv| kv.key == key.as_bytes()).map(|kv| seen(kv));
    Said::Answer(Answer::Stale(found.revision, keys.iter().map(of).collect(), place.to_owned()))
}

async fn ask_txn(
    store: &Store,
    conditions: &[Condition],
    then: &[Act],
    otherwise: &[Act],
    defect: Option<Defect>,
) -> Said {
    if let ([], [Act::Get(key)]) = (conditions, then) {
        let unproven = match defect {
            Some(Defect::StaleFollower) => true,
            Some(Defect::UnprovenLeader) => store.leadership().borrow().is_me,
            _ => false,
        };
        let read = if unproven { Read::Local } else { Read::Linearizable };
        return match store.range(Range::key(key.clone()), read).await {
            Ok(found) => {
                let kv = found.kvs.first().map(|kv| seen(kv));
                Said::Answer(Answer::Txn(found.revision, true, vec![Effect::Kv(kv)]))
            }
            Err(ReadError::Compacted { .. } | ReadError::Future { .. }) => Said::Unknown,
            Err(_) => Said::NotDone,
        };
    }
    let txn = Txn {
        compare: conditions.iter().map(compare).collect(),
        success: then.iter().map(act).collect(),
        failure: otherwise.iter().map(act).collect(),
    };
    let puts = conditions.is_empty() && then.iter().all(|act| matches!(act, Act::Put(_, _, 0)));
    if defect == Some(Defect::EarlyAcknowledgement) && puts && store.leadership().borrow().is_me {
        let store = store.clone();
        crate::runtime::spawn(async move { store.txn(txn).await.ok() });
        return Said::Answer(Answer::Txn(0, true, vec![Effect::Untold; then.len()]));
    }
    match store.txn(txn).await {
        Ok(response) => Said::Answer(Answer::Txn(
            response.revision,
            response.succeeded,
            response.responses.iter().map(effect).collect(),
        )),
        Err(error) => failed(&error),
    }
}

/// One client.
pub(super) struct Client {
    pub(super) record: Arc<Record>,
    pub(super) dice: Dice,
    pub(super) group: String,
    pub(super) defect: Option<Defect>,
    /// The name under which it asks; another one after a call of unknown fate.
    name: u64,
    member: Option<MemberId>,
    /// What it saw last of its keys.
    revision_seen: Vec<(String, u64, u64)>,
    leases: Vec<i64>,
}

impl Client {
    pub(super) fn new(
        record: Arc<Record>,
        mut dice: Dice,
        groups: u64,
        defect: Option<Defect>,
    ) -> Client {
        let group = group(dice.between(0..groups));
        let name = record.number();
        let (revision_seen, leases) = (Vec::new(), Vec::new());
        Client { record, dice, group, defect, name, member: None, revision_seen, leases }
    }

    /// Asks until `end`.
    pub(super) async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            tokio::time::sleep(self.dice.ms(0..80)).await;
            let Some((id, life)) = self.member() else { continue };
            let call = self.call();
            let patience = self.dice.ms(300..4000);
            if !self.try_call(&life, call, patience).await {
                self.member = None;
            }
            if self.dice.chance(10) {
                self.member = None;
            } else {
                self.member = self.member.or(Some(id)).filter(|_| self.dice.chance(95));
            }
        }
    }

    /// Reads all keys of the group; false if that failed.
    pub(super) async fn read_all(&mut self) -> bool {
        let Some((_, life)) = self.member() else { return false };
        let gets = keys(&self.group).into_iter().map(Act::Get).collect();
        self.try_call(&life, Call::Txn(vec![], gets, vec![]), Duration::from_secs(5)).await
    }

    fn member(&mut self) -> Option<(MemberId, Life)> {
        let lives = self.record.lives();
        if let Some(id) = self.member
            && let Some(life) = lives.get(&id)
        {
            return Some((id, life.clone()));
        }
        let ids: Vec<MemberId> = lives.keys().copied().collect();
        let id = *self.dice.pick(&ids)?;
        Some((id, lives[&id].clone()))
    }

    /// True if there was an answer.
    async fn try_call(&mut self, life: &Life, call: Call, patience: Duration) -> bool {
        let place = format!("{}.{}", life.host.id, life.number);
        let asked = self.record.now();
        let asking = life.host.spawn(ask(life.store.clone(), place, call.clone(), self.defect));
        let said = tokio::time::timeout(patience, asking).await;
        let said = said.map_or(Said::Unknown, |joined| joined.unwrap_or(Said::Unknown));
        let client = self.name;
        let fate = match said {
            Said::NotDone => {
                self.record.not_done();
                return false;
            }
            Said::Unknown => {
                self.name = self.record.number();
                Fate::Unknown
            }
            Said::Answer(answer) => Fate::Answered(self.record.now(), answer),
        };
        let answered = fate != Fate::Unknown;
        let operation = Operation { client, asked, call, fate };
        for (key, kv) in operation.seen() {
            self.revision_seen.retain(|(other, ..)| other != key);
            self.revision_seen.push((key.to_owned(), kv.modified, kv.value));
        }
        if let (Call::Grant(lease, _), true) = (&operation.call, answered) {
            self.leases.push(*lease);
        }
        self.record.add(operation);
        answered
    }

    fn call(&mut self) -> Call {
        let keys = keys(&self.group);
        let key = self.dice.pick(&keys).expect("there are keys").clone();
        let other = self.dice.pick(&keys).expect("there are keys").clone();
        let value = self.record.number();
        let put = Act::Put(key.clone(), value, 0);
        match self.dice.between(0..100) {
            0..30 => Call::Txn(vec![], vec![Act::Get(key)], vec![]),
            30..36 => Call::Txn(vec![], keys.into_iter().map(Act::Get).collect(), vec![]),
            36..46 => {
                let back = if self.dice.chance(30) { self.dice.between(1..20) } else { 0 };
                let newest = self.revision_seen.iter().map(|(_, revision, _)| *revision).max();
                let at =
                    newest.filter(|_| back > 0).map_or(0, |newest| newest.saturating_sub(back));
                Call::Stale(keys, at)
            }
            46..66 => Call::Txn(vec![], vec![put], vec![]),
            66..71 => Call::Txn(vec![], vec![Act::Delete(key)], vec![]),
            71..83 => self.swap(key, value),
            83..88 if key != other => {
                let second = Act::Put(other, self.record.number(), 0);
                Call::Txn(
                    vec![Condition::Absent(key.clone())],
                    vec![put, second],
                    vec![Act::Delete(key)],
                )
            }
            83..91 => Call::Grant(i64::try_from(value).unwrap_or(1), self.dice.between(1..4)),
            91..95 => self.lease().map_or(Call::Txn(vec![], vec![put], vec![]), |lease| {
                Call::Txn(vec![], vec![Act::Put(key, value, lease)], vec![])
            }),
            95..98 => {
                self.lease().map_or(Call::Txn(vec![], vec![Act::Get(key)], vec![]), Call::KeepAlive)
            }
            _ => {
                self.lease().map_or(Call::Txn(vec![], vec![Act::Delete(key)], vec![]), Call::Revoke)
            }
        }
    }

    /// Changes a key only if it is as it was seen.
    fn swap(&mut self, key: String, value: u64) -> Call {
        let seen = self.revision_seen.iter().find(|(other, ..)| *other == key);
        let condition = match seen {
            None => Condition::Absent(key.clone()),
            Some((_, revision, _)) if value.is_multiple_of(2) => {
                Condition::Modified(key.clone(), *revision)
            }
            Some((_, _, value)) => Condition::Value(key.clone(), *value),
        };
        Call::Txn(vec![condition], vec![Act::Put(key.clone(), value, 0)], vec![Act::Get(key)])
    }

    fn lease(&mut self) -> Option<i64> {
        let recent = self.leases.len().saturating_sub(3);
        self.dice.pick(&self.leases[recent..]).copied()
    }
}
