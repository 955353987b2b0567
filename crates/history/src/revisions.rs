//! What revisions promise beyond linearizability, over all keys: they grow with time, each belongs to one
//! write, and what was read at one revision agrees with all else that is known of it.

use std::collections::BTreeMap;

use crate::op::{Answer, Call, Effect, Fate, History, Kv, Op, Operation};

/// What is known of each key: at which revision it got which value and lease; `None` is "deleted".
type Versions<'h> = BTreeMap<&'h str, BTreeMap<u64, Option<(u64, i64)>>>;

/// Checks revisions.
///
/// # Errors
/// The first anomaly, in words.
pub fn check_revisions(history: &History) -> Result<(), String> {
    let mut versions = Versions::new();
    let mut read: BTreeMap<(&str, u64), &Kv> = BTreeMap::new();
    let mut owners: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        for (key, kv) in operation.seen() {
            learn(&mut versions, key, kv.modified, Some((kv.value, kv.lease)))?;
            if let Some(before) = read.insert((key, kv.modified), kv)
                && before != kv
            {
                return Err(format!("{key} was read as {before:?} and as {kv:?}"));
            }
        }
        let Some(revision) = operation.wrote_at() else { continue };
        if let Some(other) = owners.insert(revision, operation) {
            return Err(format!("revision {revision} was given twice: {other:?}; {operation:?}"));
        }
        for (op, effect) in operation.effects() {
            match (op, effect) {
                (Op::Put(key, value, lease), _) => {
                    learn(&mut versions, key, revision, Some((*value, *lease)))?;
                }
                (Op::Delete(key), Effect::Deleted(1)) => {
                    learn(&mut versions, key, revision, None)?;
                }
                _ => {}
            }
        }
    }
    revisions_follow_time(history)?;
    reads_agree(history, &versions)?;
    stale_reads_go_forward(history, &owners)
}

fn learn<'h>(
    versions: &mut Versions<'h>,
    key: &'h str,
    revision: u64,
    version: Option<(u64, i64)>,
) -> Result<(), String> {
    match versions.entry(key).or_default().insert(revision, version) {
        Some(before) if before != version => Err(format!(
            "{key} at revision {revision} was seen with value and lease {before:?} and {version:?}"
        )),
        _ => Ok(()),
    }
}

/// The revision of an answer that saw the newest state.
fn newest(operation: &Operation) -> Option<(u64, bool)> {
    match &operation.fate {
        Fate::Answered(_, Answer::Txn(revision, ..)) if *revision != 0 => {
            Some((*revision, operation.wrote_at().is_some()))
        }
        _ => None,
    }
}

fn revisions_follow_time(history: &History) -> Result<(), String> {
    // Calls and answers by time; at a call the newest revision that was answered before counts.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        if let (Some(_), Fate::Answered(time, _)) = (newest(operation), &operation.fate) {
            events.push((operation.asked.seq, false, at));
            events.push((time.seq, true, at));
        }
    }
    events.sort_unstable();
    let mut floor = vec![0; history.operations.len()];
    let mut highest = 0;
    for (_, is_answer, at) in events {
        let operation = &history.operations[at];
        let (revision, wrote) = newest(operation).unwrap_or_default();
        if !is_answer {
            floor[at] = highest;
        } else if revision < floor[at] || (wrote && revision == floor[at]) {
            return Err(format!(
                "revision {} had been answered before this began: {operation:?}",
                floor[at]
            ));
        } else {
            highest = highest.max(revision);
        }
    }
    Ok(())
}

/// Everything read at a revision is the newest at that revision that is known.
fn reads_agree(history: &History, versions: &Versions<'_>) -> Result<(), String> {
    for operation in &history.operations {
        let (Call::Stale(keys, asked), Fate::Answered(_, Answer::Stale(header, kvs, _))) =
            (&operation.call, &operation.fate)
        else {
            continue;
        };
        let revision = if *asked == 0 { *header } else { *asked };
        for (key, kv) in keys.iter().zip(kvs) {
            let Some(known) = versions.get(key.as_str()) else { continue };
            let from = kv.as_ref().map_or(0, |kv| kv.modified);
            if from > revision {
                return Err(format!(
                    "{key} of revision {from} was read at {revision}: {operation:?}"
                ));
            }
            let Some((at, newer)) = known.range(..=revision).next_back() else { continue };
            // A delete of a lease leaves no trace here, so an absent key may have been deleted later.
            let missed = if kv.is_some() {
                *at > from
            } else {
                newer.is_some() && !may_be_gone(history, newer)
            };
            if missed {
                return Err(format!(
                    "{key} read at {revision} lacks what was written at {at}: {operation:?}"
                ));
            }
        }
    }
    Ok(())
}

/// True for a version that may have been deleted without our knowing.
fn may_be_gone(history: &History, version: &Option<(u64, i64)>) -> bool {
    version.is_some_and(|(_, lease)| lease != 0)
        || history.operations.iter().any(|operation| {
            matches!(operation.fate, Fate::Unknown)
                && matches!(&operation.call, Call::Txn(_, then, otherwise)
                    if then.iter().chain(otherwise).any(|op| matches!(op, Op::Delete(_))))
        })
}

fn stale_reads_go_forward(
    history: &History,
    owners: &BTreeMap<u64, &Operation>,
) -> Result<(), String> {
    let mut reads: Vec<(&Operation, u64, u64, &str)> = Vec::new();
    for operation in &history.operations {
        if let Fate::Answered(time, Answer::Stale(header, _, place)) = &operation.fate {
            reads.push((operation, time.seq, *header, place));
        }
    }
    reads.sort_by_key(|(_, answered, ..)| *answered);
    let mut last: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    for (operation, answered, header, place) in reads {
        let before = last.insert((operation.client, place), header).unwrap_or(0);
        if header < before {
            return Err(format!(
                "a client saw revision {before} and then {header} in one place: {operation:?}"
            ));
        }
        if let Some((revision, write)) = owners.range(..=header).next_back()
            && write.asked.seq > answered
        {
            return Err(format!(
                "revision {revision} was read before its write began: {operation:?}; {write:?}"
            ));
        }
    }
    Ok(())
}
