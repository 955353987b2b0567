//! New sessions: what a client may say of one, and what is made of it.

use std::time::Duration;

use bytes::Bytes;
use pontoon_store::{Compare, Put, Read, Txn};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::record::{Behavior, Record, ServiceCheck};
use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::record::Status;
use crate::catalog::state::Catalog;
use crate::cluster::NODE_CHECK;
use crate::duration::GoDuration;
use crate::json::{decode, field, text};
use crate::keyspace;
use crate::permit::Wish;
use crate::refusal::Refusal;

const LOCK_DELAY_DEFAULT: i64 = 15_000_000_000;
/// A lock delay that is less is meant in seconds, not in nanoseconds, as in Consul.
const SECONDS_BELOW: i64 = 1000;
const NANOS_A_SECOND: i64 = 1_000_000_000;
const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// How much longer than its time to live a session may go without renewal, as in Consul.
const TTL_MULTIPLIER: u32 = 2;

pub(crate) async fn create(call: Call) -> Result<Answer, Refusal> {
    let mut record = asked(&call)?;
    call.require(Wish::SessionWrite(&record.node))?;
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    well(&catalog, &record)?;
    let store = call.store();
    let ttl = time_to_live(&record.ttl)?;
    if let Some(seconds) = ttl {
        record.lease = Some(store.lease_grant(seconds, None).await?.id);
    }
    let key = keyspace::session(record.id);
    let mut txn =
        Txn::new().when(Compare::absent(key.clone())).then(Put::new(key, record.encode()?));
    if let Some(lease) = record.lease {
        txn = txn.then(Put::new(keyspace::session_ttl(record.id), Bytes::new()).lease(lease));
    }
    if !store.txn(txn).await?.succeeded {
        return Err(Refusal::failed("the new session's id is taken; try again"));
    }
    call.json(&json!({ "ID": record.id }))
}

/// Refuses a session of a node that is not there, or with a check that is missing or critical.
fn well(catalog: &Catalog, record: &Record) -> Result<(), Refusal> {
    let missing = || Refusal::failed("Missing node registration");
    let node = catalog.node(&record.node).ok_or_else(missing)?;
    for id in record.checks() {
        match node.check(id) {
            None => return Err(Refusal::Failed(format!("Missing check '{id}' registration"))),
            Some(check) if check.status == Status::Critical => {
                let words = format!("Check '{id}' is in critical state");
                return Err(Refusal::Failed(words));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The session that a request describes.
fn asked(call: &Call) -> Result<Record, Refusal> {
    let bad = |words| Refusal::BadRequest(format!("Request decode failed: {words}"));
    let settings = &call.server.inner.settings;
    let mut record = Record {
        id: Uuid::new_v4(),
        name: String::new(),
        node: settings.node.clone(),
        lock_delay_ns: LOCK_DELAY_DEFAULT,
        behavior: Behavior::Release,
        ttl: String::new(),
        lease: None,
        node_checks: Some(vec![NODE_CHECK.to_owned()]),
        service_checks: None,
        create_index: 0,
        modify_index: 0,
    };
    if !call.body.is_empty() {
        let body = decode(&call.body).map_err(bad)?;
        let body = body.as_object().ok_or_else(|| bad("it must be an object".to_owned()))?;
        fill(&mut record, body).map_err(bad)?;
        record.behavior = behavior(text(body, "Behavior").map_err(bad)?)?;
    }
    Ok(record)
}

fn fill(record: &mut Record, body: &Map<String, Value>) -> Result<(), String> {
    record.name = text(body, "Name")?.to_owned();
    record.ttl = text(body, "TTL")?.to_owned();
    let node = text(body, "Node")?;
    if !node.is_empty() {
        record.node = node.to_owned();
    }
    if let Some(delay) = field(body, "LockDelay") {
        record.lock_delay_ns = lock_delay(delay)?;
    }
    // `Checks` is the older word; with either of them nothing is added.
    for word in ["Checks", "NodeChecks"] {
        if let Some(checks) = field(body, word) {
            record.node_checks = Some(names(checks, word)?);
        }
    }
    if let Some(checks) = field(body, "ServiceChecks") {
        let bad = |error| format!("ServiceChecks: {error}");
        let checks: Vec<ServiceCheck> = serde_json::from_value(checks.clone()).map_err(bad)?;
        record.service_checks = Some(checks);
    }
    Ok(())
}

fn names(value: &Value, word: &str) -> Result<Vec<String>, String> {
    let names = value.as_array().and_then(|names| {
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    names.ok_or_else(|| format!("{word} must be a list of strings"))
}

fn lock_delay(value: &Value) -> Result<i64, String> {
    let delay: GoDuration =
        serde_json::from_value(value.clone()).map_err(|error| format!("LockDelay: {error}"))?;
    if delay.nanos < SECONDS_BELOW {
        return Ok(delay.nanos.saturating_mul(NANOS_A_SECOND));
    }
    Ok(delay.nanos)
}

fn behavior(word: &str) -> Result<Behavior, Refusal> {
    match word {
        "" | "release" => Ok(Behavior::Release),
        "delete" => Ok(Behavior::Delete),
        _ => Err(Refusal::Failed(format!("Invalid Behavior setting '{word}'"))),
    }
}

/// The seconds of the lease that a session needs; none if it does not end by time.
fn time_to_live(text: &str) -> Result<Option<i64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |error| Refusal::Failed(format!("Session TTL '{text}' invalid: {error}"));
    let asked: GoDuration = text.parse().map_err(bad)?;
    let ttl = asked.to_std().unwrap_or_default();
    if asked.nanos == 0 {
        return Ok(None);
    }
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Err(Refusal::Failed(format!(
            "Invalid Session TTL '{}', must be between [10s=24h0m0s]",
            asked.nanos
        )));
    }
    let full = ttl * TTL_MULTIPLIER;
    let seconds = full.as_secs() + u64::from(full.subsec_nanos() > 0);
    Ok(i64::try_from(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live() {
        assert_eq!(time_to_live(""), Ok(None));
        assert_eq!(time_to_live("0s"), Ok(None));
        assert_eq!(time_to_live("10s"), Ok(Some(20)));
        assert_eq!(time_to_live("10.2s"), Ok(Some(21)));
        assert_eq!(time_to_live("24h"), Ok(Some(172_800)));
        for bad in ["9s", "24h1s", "-10s", "10", "x"] {
            assert!(matches!(time_to_live(bad), Err(Refusal::Failed(_))), "{bad}");
        }
    }

    #[test]
    fn lock_delays() {
        let of = |json: &str| lock_delay(&serde_json::from_str(json).unwrap());
        assert_eq!(of("\"15s\""), Ok(15 * NANOS_A_SECOND));
        assert_eq!(of("5"), Ok(5 * NANOS_A_SECOND));
        assert_eq!(of("0"), Ok(0));
        assert_eq!(of("15000000000"), Ok(15 * NANOS_A_SECOND));
        assert!(of("\"5\"").is_err());
    }
}
