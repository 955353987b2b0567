//! The search for an order: is there one row of all operations, each between its call and its answer,
//! that a single store would have answered so? (Wing and Gong's algorithm, with what was tried before
//! remembered, for each group of keys by itself.)

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Expiry, State, Step};
use crate::op::{Answer, Call, Fate, History, Kv, Op, Operation};

/// Steps of the search for one group before it is given up.
const STEPS: u64 = 300_000;

/// The rank of what has no revision that anybody saw.
const UNRANKED: (u64, bool) = (u64::MAX, false);

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable {
        /// Steps of the search.
        steps: u64,
    },
    /// There is none.
    Anomaly(String),
    /// It took too long to know.
    GaveUp {
        /// Steps of the search.
        steps: u64,
        /// What it could not get past.
        at: String,
    },
}

/// Looks for an order. Keys that no operation names together, directly or through others, cannot
/// disturb each other and are searched by themselves.
#[must_use]
pub fn linearize(history: &History) -> Verdict {
    let without_slack = |ns: u64, ttl: u64| ns.saturating_add(ttl.saturating_mul(1_000_000_000));
    let expiry: Expiry<'_> = history.expiry.as_deref().unwrap_or(&without_slack);
    let (written, read) = (history.written(), history.read());
    let mut steps = 0;
    for group in groups(history) {
        // What nobody saw need not have happened: most often it is not needed to explain the rest.
        let seen: Vec<&Operation> =
            group.iter().copied().filter(|operation| left_a_trace(operation, &written)).collect();
        // First the most likely orders alone; there is no anomaly before all of them were tried.
        let attempts = [(&seen, true), (&group, true), (&seen, false), (&group, false)];
        for (at, (operations, eager)) in attempts.into_iter().enumerate() {
            let mut search = Search::new(operations, (&written, &read), expiry, eager);
            let verdict = search.run();
            steps += search.steps;
            match verdict {
                Some(true) => break,
                _ if at + 1 < attempts.len() => {}
                Some(false) => {
                    return Verdict::Anomaly(format!("not linearizable: {}", search.stuck()));
                }
                None => return Verdict::GaveUp { steps, at: search.stuck() },
            }
        }
    }
    Verdict::Linearizable { steps }
}

/// False for a write without an answer of which nobody ever saw a value.
fn left_a_trace(operation: &Operation, written: &BTreeMap<u64, u64>) -> bool {
    let Call::Txn(_, then, otherwise) = &operation.call else { return true };
    operation.fate != Fate::Unknown
        || then.iter().chain(otherwise).any(|op| match op {
            Op::Put(_, value, _) => written.contains_key(value),
            Op::Delete(_) => true,
            Op::Get(_) => false,
        })
}

/// The operations that count, by groups of keys and leases that belong together.
fn groups(history: &History) -> Vec<Vec<&Operation>> {
    let mut parent: BTreeMap<String, String> = BTreeMap::new();
    fn root(parent: &BTreeMap<String, String>, name: &str) -> String {
        let mut name = name.to_owned();
        while let Some(up) = parent.get(&name).filter(|up| **up != name) {
            name = up.clone();
        }
        name
    }
    let names = |operation: &Operation| -> Vec<String> {
        let keys = operation.call.keys().map(|key| format!("k{key}"));
        keys.chain(operation.call.leases().map(|lease| format!("l{lease}"))).collect()
    };
    let counts = |operation: &&Operation| match (&operation.call, &operation.fate) {
        (Call::Stale(..), _) | (Call::KeepAlive(_), Fate::Unknown) => false,
        (call, Fate::Unknown) => call.writes(),
        _ => true,
    };
    for operation in history.operations.iter().filter(counts) {
        let names = names(operation);
        let Some(first) = names.first() else { continue };
        for name in &names {
            let (one, other) = (root(&parent, first), root(&parent, name));
            parent.insert(one.clone(), one.clone());
            parent.insert(other, one);
        }
    }
    let mut groups: BTreeMap<String, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(counts) {
        if let Some(name) = names(operation).first() {
            groups.entry(root(&parent, name)).or_default().push(operation);
        }
    }
    groups.into_values().collect()
}

struct Search<'h> {
    operations: Vec<&'h Operation>,
    steps_of: Vec<Step<'h>>,
    /// What to try first: what has the lower revision.
    rank: Vec<(u64, bool)>,
    /// Operations without an answer or a trace that do the same have the same shape.
    shape: Vec<String>,
    ttl: BTreeMap<i64, u64>,
    expiry: Expiry<'h>,
    /// What fits is done at once: in almost all histories what has no place of its own (deletes without an answer, ends
    /// of leases) need not come before something that fits without it.
    eager: bool,
    seen: HashSet<u64>,
    steps: u64,
    /// The longest row that was found.
    best: usize,
    stuck_at: Vec<usize>,
}

/// One place in the search.
struct Frame {
    state: State,
    /// Operation done to get here; `None` for the end of a lease.
    did: Option<usize>,
    /// What is left to try, last first.
    choices: Vec<Choice>,
}

#[derive(Clone, Copy)]
enum Choice {
    Do(usize),
    Expire(i64),
}

impl<'h> Search<'h> {
    fn new(
        group: &[&'h Operation],
        (written, read): (&BTreeMap<u64, u64>, &'h BTreeMap<u64, Kv>),
        expiry: Expiry<'h>,
        eager: bool,
    ) -> Search<'h> {
        let mut operations = group.to_vec();
        operations.sort_by_key(|operation| operation.asked);
        let mut ttl = BTreeMap::new();
        for operation in &operations {
            if let Call::Grant(lease, seconds) = operation.call {
                ttl.insert(lease, seconds);
            }
        }
        let steps_of: Vec<Step<'h>> = operations.iter().map(|o| step(o, written, read)).collect();
        let rank = operations
            .iter()
            .zip(&steps_of)
            .map(|(operation, step)| match (&operation.fate, step.revision) {
                (Fate::Answered(_, Answer::Txn(revision, ..)), _) if *revision != 0 => {
                    (*revision, operation.wrote_at().is_none())
                }
                (Fate::Unknown, revision) if revision != 0 => (revision, false),
                _ => UNRANKED,
            })
            .collect();
        let shape = operations.iter().map(|operation| shape(operation)).collect();
        let seen = HashSet::new();
        Search {
            operations,
            steps_of,
            rank,
            shape,
            ttl,
            expiry,
            eager,
            seen,
            steps: 0,
            best: 0,
            stuck_at: Vec::new(),
        }
    }

    /// True if there is an order, false if there is none, `None` if it takes too long.
    fn run(&mut self) -> Option<bool> {
        let mut done = vec![false; self.operations.len()];
        let required =
            self.operations.iter().filter(|o| matches!(o.fate, Fate::Answered(..))).count();
        let mut answered = 0;
        let state = State::default();
        let choices = self.choices(&done, &state);
        let mut path = vec![Frame { state, did: None, choices }];
        while let Some(frame) = path.last_mut() {
            if answered == required {
                return Some(true);
            }
            let Some(choice) = frame.choices.pop() else {
                let frame = path.pop()?;
                if let Some(at) = frame.did {
                    done[at] = false;
                    answered -= usize::from(matches!(self.operations[at].fate, Fate::Answered(..)));
                }
                continue;
            };
            self.steps += 1;
            if self.steps > STEPS {
                return None;
            }
            let next = match choice {
                Choice::Expire(lease) => frame.state.expired(lease),
                Choice::Do(at) => frame.state.after(&self.steps_of[at], &self.ttl, self.expiry),
            };
            let Some(state) = next else { continue };
            let did = if let Choice::Do(at) = choice { Some(at) } else { None };
            if let Some(at) = did {
                done[at] = true;
            }
            if !self.seen.insert(digest(&done, &state)) {
                if let Some(at) = did {
                    done[at] = false;
                }
                continue;
            }
            answered += usize::from(did.is_some_and(|at| self.is_answered(at)));
            let choices = self.choices(&done, &state);
            if answered > self.best {
                self.best = answered;
                self.stuck_at =
                    (0..done.len()).filter(|at| !done[*at] && self.is_answered(*at)).collect();
            }
            path.push(Frame { state, did, choices });
        }
        Some(answered == required)
    }

    fn is_answered(&self, at: usize) -> bool {
        matches!(self.operations[at].fate, Fate::Answered(..))
    }

    /// What may come next: what was asked before anything left was answered. The most likely is last.
    fn choices(&self, done: &[bool], state: &State) -> Vec<Choice> {
        let answered = |at: usize| match &self.operations[at].fate {
            Fate::Answered(time, _) => Some(*time),
            Fate::Unknown => None,
        };
        let left = || (0..done.len()).filter(|at| !done[*at]);
        let first = left().filter_map(|at| Some((answered(at)?, at))).min();
        let Some((first, first_at)) = first else { return Vec::new() };
        if first.ns < state.not_before {
            // Something left was answered before the time that it is now.
            return Vec::new();
        }
        let asked: Vec<usize> =
            left().take_while(|at| self.operations[*at].asked < first).collect();
        if let Some(at) = asked.iter().find(|at| self.changes_nothing(**at, state)) {
            // An order with it later is as good with it here: nothing else need be tried.
            return vec![Choice::Do(*at)];
        }
        // Revisions grow, so of what has one the lowest comes before all others.
        let lowest = left().filter(|at| self.rank[*at] != UNRANKED).min_by_key(|at| self.rank[*at]);
        let ready = lowest.filter(|at| asked.contains(at));
        let passed = lowest.is_some_and(|at| self.rank[at].0 < state.revision());
        let first_is_ranked = self.rank[first_at] != UNRANKED;
        if passed || (ready.is_none() && first_is_ranked) {
            return Vec::new();
        }
        if self.eager {
            let certain = |at: &usize| self.only_adds(*at, state);
            let fits = ready.filter(|at| self.fits(*at, state));
            if let Some(at) = fits.or_else(|| asked.iter().copied().find(certain)) {
                return vec![Choice::Do(at)];
            }
        }
        // What stands in the way of this one.
        let target = self.operations[ready.unwrap_or(first_at)];
        let others = self.others(&asked, state, self.eager.then_some(target));
        let expire = state.may_end(first.ns);
        let expire = expire.filter(|lease| !self.eager || state.concerns(*lease, &target.call));
        let expire: Vec<Choice> = expire.map(Choice::Expire).collect();
        expire.into_iter().chain(others.into_iter().chain(ready).map(Choice::Do)).collect()
    }

    /// What has no place of its own, and would change something, if it names what `target` names; of several that do the
    /// same one. The most likely is last.
    fn others(&self, asked: &[usize], state: &State, target: Option<&Operation>) -> Vec<usize> {
        let meets = |at: usize, target: &Operation| {
            let call = &self.operations[at].call;
            call.keys().any(|key| target.call.keys().any(|other| key == other))
                || call.leases().any(|lease| state.concerns(lease, &target.call))
        };
        let mut shapes = HashSet::new();
        let mut others: Vec<usize> = asked
            .iter()
            .copied()
            .filter(|at| self.rank[*at] == UNRANKED)
            .filter(|at| self.is_answered(*at) || target.is_none_or(|target| meets(*at, target)))
            .filter(|at| self.is_answered(*at) || self.changes_something(*at, state))
            .filter(|at| self.is_answered(*at) || shapes.insert(&self.shape[*at]))
            .collect();
        others.sort_by_key(|at| {
            (self.is_answered(*at), std::cmp::Reverse(self.operations[*at].asked))
        });
        others
    }

    fn changes_something(&self, at: usize, state: &State) -> bool {
        let after = state.after(&self.steps_of[at], &self.ttl, self.expiry);
        after.is_some_and(|after| after != *state)
    }

    fn fits(&self, at: usize, state: &State) -> bool {
        state.after(&self.steps_of[at], &self.ttl, self.expiry).is_some()
    }

    /// True for a lease that was granted or kept alive: what else names it comes after the grant, and its end after both.
    fn only_adds(&self, at: usize, state: &State) -> bool {
        let done = matches!(self.operations[at].fate, Fate::Answered(_, Answer::Done));
        match self.operations[at].call {
            Call::Grant(..) => done,
            Call::KeepAlive(lease) => done && state.has_lease(lease),
            _ => false,
        }
    }

    /// True if an operation can have been answered so here, and leaves everything as it is.
    fn changes_nothing(&self, at: usize, state: &State) -> bool {
        self.is_answered(at)
            && self.operations[at].wrote_at().is_none()
            && state.after(&self.steps_of[at], &self.ttl, self.expiry).as_ref() == Some(state)
    }

    /// What the search could not get past.
    fn stuck(&self) -> String {
        let mut left: Vec<&Operation> =
            self.stuck_at.iter().map(|at| self.operations[*at]).collect();
        left.sort_by_key(|operation| match &operation.fate {
            Fate::Answered(time, _) => *time,
            Fate::Unknown => operation.asked,
        });
        let shown: Vec<String> =
            left.iter().take(4).map(|operation| format!("{operation:?}")).collect();
        format!(
            "{} of {} answers fit in a row, and then none of these: {}",
            self.best,
            self.operations.len(),
            shown.join("; ")
        )
    }
}

fn step<'h>(
    operation: &'h Operation,
    written: &BTreeMap<u64, u64>,
    read: &'h BTreeMap<u64, Kv>,
) -> Step<'h> {
    let answer = match &operation.fate {
        Fate::Answered(_, answer) => Some(answer),
        Fate::Unknown => None,
    };
    let written_by = |ops: &[Op]| {
        ops.iter().find_map(|op| match op {
            Op::Put(_, value, _) => written.get(value).copied(),
            _ => None,
        })
    };
    let (revision, held) = match &operation.call {
        Call::Txn(_, then, otherwise) => match (written_by(then), written_by(otherwise)) {
            (Some(revision), None) => (revision, Some(true)),
            (None, Some(revision)) => (revision, Some(false)),
            (revision, _) => (revision.unwrap_or(0), None),
        },
        _ => (0, None),
    };
    Step { call: &operation.call, answer, asked_ns: operation.asked.ns, revision, held, read }
}

fn digest(done: &[bool], state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    done.hash(&mut hasher);
    state.hash(&mut hasher);
    hasher.finish()
}

/// What an operation without an answer does, but for values that nobody saw.
fn shape(operation: &Operation) -> String {
    let ops = |ops: &[Op]| {
        let named = |op: &Op| match op {
            Op::Put(key, _, lease) => Op::Put(key.clone(), 0, *lease),
            op => op.clone(),
        };
        ops.iter().map(named).collect::<Vec<Op>>()
    };
    match &operation.call {
        Call::Txn(compares, then, otherwise) => {
            format!("{:?}", (compares, ops(then), ops(otherwise)))
        }
        call => format!("{call:?}"),
    }
}
