//! Applying commands: the only code that changes the state.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::check::validate;
use super::history::{Change, Changes};
use super::packed::{Key, Numbers, Packed};
use super::read::{FoundStep, FoundTxn};
use super::room::Room;
use super::session::Seen;
use super::slot::{Slot, Version};
use super::{Effects, LeaseChange, LeaseState, State, bounds};
use crate::command::{Command, Outcome, Proposal, Reply};
use crate::error::WriteError;
use crate::kv::KeyValue;
use crate::lease::Lease;
use crate::txn::{Compare, CompareOp, DeleteRange, Op, OpResponse, Operand, Put, Txn, TxnResponse};

/// The longest a lease may live, as in etcd.
const MAX_TTL: i64 = 9_000_000_000;

impl State {
    /// Applies one proposal, once, however often it comes.
    pub(crate) fn apply(&mut self, proposal: &Proposal, effects: &mut Effects) -> Arc<Outcome> {
        match self.sessions.look_up(proposal) {
            Seen::Done(outcome) => return outcome,
            // Nobody waits for this answer.
            Seen::Stale => return Arc::new(Err(WriteError::Timeout { waited_ms: 0 })),
            Seen::New => {}
        }
        let outcome = Arc::new(self.execute(&proposal.command, effects));
        self.sessions.done(proposal, Arc::clone(&outcome));
        outcome
    }

    pub(crate) fn execute(&mut self, command: &Command, effects: &mut Effects) -> Outcome {
        match command {
            Command::Txn(txn) => self.txn(txn, effects).map(Reply::Txn),
            Command::Compact(revision) => self.compact(*revision),
            Command::LeaseGrant(lease) => self.grant(*lease, effects),
            Command::LeaseRevoke(id) => self.revoke(*id, effects),
        }
    }

    fn txn(&mut self, txn: &Txn, effects: &mut Effects) -> Result<TxnResponse, WriteError> {
        validate(txn)?;
        let plan = self.decide(txn);
        self.check(&plan)?;
        let mut writer = Writer::new(self);
        let mut response = writer.run(&plan, &mut effects.room);
        let told = effects.room.end();
        let revision = writer.finish(effects);
        stamp(&mut response, revision);
        // It is known only when it is done.
        if told { Ok(response) } else { Err(WriteError::AnswerTooLarge) }
    }

    /// Finds what a transaction that only reads asks for.
    pub(crate) fn find_txn(&self, txn: &Txn) -> Result<FoundTxn, WriteError> {
        validate(txn)?;
        let plan = self.decide(txn);
        self.check(&plan)?;
        let mut room = Room::default();
        let found = self.find_plan(&plan, &mut room);
        if room.end() { Ok(found) } else { Err(WriteError::AnswerTooLarge) }
    }

    fn find_plan(&self, plan: &Plan<'_>, room: &mut Room) -> FoundTxn {
        let find = |step: &Step<'_>| match step {
            Step::Txn(plan) => FoundStep::Txn(self.find_plan(plan, room)),
            Step::Op(Op::Range(range)) => FoundStep::Range(self.select(range, room)),
            Step::Op(_) => unreachable!("the caller has checked that it only reads"),
        };
        let steps = plan.steps.iter().map(find).collect();
        FoundTxn { revision: self.revision, succeeded: plan.succeeded, steps }
    }

    /// Decides every compare, of inner transactions too, before anything is changed.
    fn decide<'t>(&self, txn: &'t Txn) -> Plan<'t> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let step = |op: &'t Op| match op {
            Op::Txn(inner) => Step::Txn(self.decide(inner)),
            op => Step::Op(op),
        };
        Plan { succeeded, steps: ops.iter().map(step).collect() }
    }

    /// Checks the operations that will be done, before any is: all puts and then all reads, as etcd does, so that of
    /// several reasons to refuse a transaction the same one is told.
    fn check(&self, plan: &Plan<'_>) -> Result<(), WriteError> {
        plan.each(&mut |op| match op {
            Op::Put(put) => self.check_put(put),
            _ => Ok(()),
        })?;
        plan.each(&mut |op| match op {
            Op::Range(range) => Ok(self.check_range(range)?),
            _ => Ok(()),
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        if compare.end.is_none() {
            let kv = self.keys.get(&compare.key[..]).and_then(Slot::live);
            return compare_one(compare, kv);
        }
        let Some(bounds) = bounds(&compare.key, compare.end.as_ref()) else {
            return compare_one(compare, None);
        };
        let mut found = false;
        for (_, slot) in self.keys.range::<[u8], _>(bounds) {
            let Some(kv) = slot.live() else { continue };
            found = true;
            if !compare_one(compare, Some(kv)) {
                return false;
            }
        }
        found || compare_one(compare, None)
    }

    fn compact(&mut self, revision: u64) -> Outcome {
        if revision > self.revision {
            return Err(WriteError::Future { asked: revision, revision: self.revision });
        }
        if revision <= self.compact_revision {
            return Err(WriteError::Compacted { compact_revision: self.compact_revision });
        }
        self.compact_revision = revision;
        Ok(Reply::Compacted)
    }

    fn grant(&mut self, lease: Lease, effects: &mut Effects) -> Outcome {
        if lease.ttl < 1 || lease.ttl > MAX_TTL {
            return Err(WriteError::LeaseTtl { ttl: lease.ttl });
        }
        if lease.id == 0 || self.leases.contains_key(&lease.id) {
            return Err(WriteError::LeaseExists { id: lease.id });
        }
        let state = LeaseState { ttl: lease.ttl, ..LeaseState::default() };
        self.leases.insert(lease.id, state);
        effects.leases.push(LeaseChange::Granted(lease));
        Ok(Reply::Granted(lease))
    }

    fn revoke(&mut self, id: i64, effects: &mut Effects) -> Outcome {
        let lease = self.leases.remove(&id).ok_or(WriteError::LeaseNotFound { id })?;
        let mut writer = Writer::new(self);
        for key in &lease.keys {
            writer.delete(key);
        }
        writer.finish(effects);
        effects.leases.push(LeaseChange::Revoked(id));
        Ok(Reply::Revoked)
    }
}

/// A transaction whose compares are decided.
struct Plan<'t> {
    succeeded: bool,
    steps: Vec<Step<'t>>,
}

impl Plan<'_> {
    /// Calls for each operation, those of inner transactions included, until one call fails.
    fn each(&self, call: &mut impl FnMut(&Op) -> Result<(), WriteError>) -> Result<(), WriteError> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Op(op) => call(op),
            Step::Txn(plan) => plan.each(call),
        })
    }
}

enum Step<'t> {
    Op(&'t Op),
    Txn(Plan<'t>),
}

/// Makes the changes of one revision.
struct Writer<'s> {
    state: &'s mut State,
    revision: u64,
    changes: Vec<Change>,
}

impl<'s> Writer<'s> {
    fn new(state: &'s mut State) -> Writer<'s> {
        let revision = state.revision + 1;
        Writer { state, revision, changes: Vec::new() }
    }

    /// What is answered has no part in what is done.
    fn run(&mut self, plan: &Plan<'_>, room: &mut Room) -> TxnResponse {
        let responses = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::Txn(plan) => OpResponse::Txn(self.run(plan, room)),
                Step::Op(Op::Range(range)) => {
                    OpResponse::Range(self.state.select(range, room).answer())
                }
                Step::Op(Op::Put(put)) => OpResponse::Put { prev: self.put(put, room) },
                Step::Op(Op::DeleteRange(delete)) => self.delete_range(delete, room),
                Step::Op(Op::Txn(_)) => unreachable!("inner transactions are planned"),
            })
            .collect();
        TxnResponse { revision: 0, succeeded: plan.succeeded, responses }
    }

    fn put(&mut self, put: &Put, room: &mut Room) -> Option<Arc<KeyValue>> {
        // Copies, the key's and the value's: the command's are parts of a large buffer, which would be kept for as long
        // as the smallest part of it.
        let key = Key::from(&put.key[..]);
        let (key, now, before) = match self.state.keys.entry(key) {
            Entry::Occupied(mut at) => {
                let key = Key::clone(at.key());
                let before = at.get().live().cloned();
                let now = make(put, self.revision, before.as_ref());
                at.get_mut().push(Version::Live(now.clone()));
                self.state.superseded.push_back((self.revision, Key::clone(&key)));
                (key, now, before)
            }
            Entry::Vacant(at) => {
                let key = Key::clone(at.key());
                let now = make(put, self.revision, None);
                at.insert(Slot::new(Version::Live(now.clone())));
                (key, now, None)
            }
        };
        self.move_lease(&key, before.as_ref().map_or(0, Packed::lease), now.lease());
        self.state.live += u64::from(before.is_none());
        self.state.live_bytes += now.weight(&key) as u64;
        self.state.live_bytes -= before.as_ref().map_or(0, |kv| kv.weight(&key)) as u64;
        let asked = before.as_ref().filter(|kv| put.prev_kv && room.take(&key, kv, false));
        let prev = asked.map(|kv| kv.key_value(&key));
        self.changes.push(Change { key, now: Version::Live(now), before });
        prev
    }

    fn delete_range(&mut self, delete: &DeleteRange, room: &mut Room) -> OpResponse {
        let mut keys = Vec::new();
        if let Some(bounds) = bounds(&delete.key, delete.end.as_ref()) {
            let range = self.state.keys.range::<[u8], _>(bounds);
            keys.extend(range.filter_map(|(key, slot)| slot.live().map(|_| Key::clone(key))));
        }
        let (mut deleted, mut prev) = (0, Vec::new());
        for key in keys {
            let Some(gone) = self.delete(&key) else { continue };
            deleted += 1;
            if delete.prev_kv && room.take(&key, &gone, false) {
                prev.push(gone.key_value(&key));
            }
        }
        OpResponse::DeleteRange { deleted, prev }
    }

    fn delete(&mut self, key: &Key) -> Option<Packed> {
        let slot = self.state.keys.get_mut(key)?;
        let prev = slot.live()?.clone();
        // A watcher is told what was there before this revision, which may have made the key itself.
        let before = slot.at(self.revision - 1).cloned();
        slot.push(Version::Gone(self.revision));
        self.state.superseded.push_back((self.revision, Key::clone(key)));
        self.move_lease(key, prev.lease(), 0);
        self.state.live -= 1;
        self.state.live_bytes -= prev.weight(key) as u64;
        let now = Version::Gone(self.revision);
        self.changes.push(Change { key: Key::clone(key), now, before });
        Some(prev)
    }

    fn move_lease(&mut self, key: &Key, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.state.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.state.leases.get_mut(&to) {
            lease.keys.insert(Key::clone(key));
        }
    }

    /// Ends the revision; answers with the store's revision. Writing nothing makes no revision.
    fn finish(self, effects: &mut Effects) -> u64 {
        if !self.changes.is_empty() {
            self.state.revision = self.revision;
            let changes = Changes::new(self.revision, self.changes);
            self.state.remember(changes.clone());
            effects.changes.push(changes);
        }
        self.state.revision
    }
}

/// The version that a put makes at a revision.
fn make(put: &Put, revision: u64, before: Option<&Packed>) -> Packed {
    let numbers = before.map(Packed::numbers);
    let value = before.filter(|_| put.ignore_value).map_or(&put.value[..], Packed::value);
    let lease = numbers.filter(|_| put.ignore_lease).map_or(put.lease, |kv| kv.lease);
    let create_revision = numbers.map_or(revision, |kv| kv.create_revision);
    let version = numbers.map_or(1, |kv| kv.version + 1);
    Packed::new(Numbers { create_revision, mod_revision: revision, version, lease }, value)
}

/// Writes the revision into a response and into all responses inside.
fn stamp(response: &mut TxnResponse, revision: u64) {
    response.revision = revision;
    for inner in &mut response.responses {
        match inner {
            OpResponse::Txn(txn) => stamp(txn, revision),
            OpResponse::Range(range) => range.revision = revision,
            OpResponse::Put { .. } | OpResponse::DeleteRange { .. } => {}
        }
    }
}

fn compare_one(compare: &Compare, kv: Option<&Packed>) -> bool {
    let numbers = kv.map(Packed::numbers);
    let ordering = match &compare.operand {
        // A key that does not exist has no value, so no compare of it holds.
        Operand::Value(value) => match kv {
            Some(kv) => kv.value().cmp(&value[..]),
            None => return false,
        },
        Operand::Create(revision) => numbers.map_or(0, |kv| kv.create_revision).cmp(revision),
        Operand::Mod(revision) => numbers.map_or(0, |kv| kv.mod_revision).cmp(revision),
        Operand::Version(version) => numbers.map_or(0, |kv| kv.version).cmp(version),
        Operand::Lease(lease) => numbers.map_or(0, |kv| kv.lease).cmp(lease),
    };
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
        CompareOp::NotEqual => ordering.is_ne(),
    }
}
