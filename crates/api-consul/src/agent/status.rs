//! How a check is: told by a client, found by a probe, or critical because nobody said anything in time.
//!
//! A check with a time to live has a lease, beside which a key lives: when it goes, whoever leads makes the check
//! critical. So has a check that is critical and whose service is to go after a while.

use bytes::Bytes;
use pontoon_store::{DeleteRange, Put as StorePut, Range, Read, WriteError};
use serde::Deserialize;

use super::register::permit_check;
use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::record::{Check, Source, Status};
use crate::catalog::{Change, Put};
use crate::duration::GoDuration;
use crate::json;
use crate::keyspace::{check_critical, check_ttl};
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// The longest output of a check that is kept, as in Consul.
pub(super) const OUTPUT_MAX: usize = 4096;

pub(crate) async fn pass(call: Call) -> Result<Answer, Refusal> {
    told(&call, Status::Passing).await
}

pub(crate) async fn warn(call: Call) -> Result<Answer, Refusal> {
    told(&call, Status::Warning).await
}

pub(crate) async fn fail(call: Call) -> Result<Answer, Refusal> {
    told(&call, Status::Critical).await
}

async fn told(call: &Call, status: Status) -> Result<Answer, Refusal> {
    let note = call.query.text("note").into_owned();
    set(call, status, note).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Update {
    status: String,
    output: String,
}

pub(crate) async fn update(call: Call) -> Result<Answer, Refusal> {
    let asked: Update = json::read(&call.body)?;
    let invalid = || Refusal::BadRequest(format!("Invalid check status: '{}'", asked.status));
    let status = Status::parse(&asked.status).ok_or_else(invalid)?;
    set(&call, status, asked.output).await
}

async fn set(call: &Call, status: Status, output: String) -> Result<Answer, Refusal> {
    let id = call.name("Missing check ID")?;
    let node = call.node();
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    permit_check(call, &catalog, node, &id)?;
    let check = catalog.node(node).and_then(|there| there.check(&id));
    if !check.is_some_and(|check| matches!(check.source, Source::Ttl(_))) {
        return Err(Refusal::Failed(format!("CheckID {id:?} does not have associated TTL")));
    }
    call.server.set_status(node, &id, status, shortened(output), Told::InTime).await?;
    Ok(Answer::done())
}

fn shortened(mut output: String) -> String {
    if output.len() > OUTPUT_MAX {
        let whole = (0..=OUTPUT_MAX).rev().find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        output.truncate(whole);
    }
    output
}

/// Who says how a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A client or a probe.
    InTime,
    /// Nobody: the time of this lease is up.
    TooLate(i64),
}

impl ConsulServer {
    /// Begins the time of checks that were just registered.
    pub(crate) async fn arm(&self, node: &str, ids: &[String]) -> Result<(), Refusal> {
        // What was just written may not have reached this server's copy.
        let (catalog, _) = self.catalog(Read::Linearizable).await?;
        for id in ids {
            let Some(check) = catalog.node(node).and_then(|there| there.check(id)) else {
                continue;
            };
            let is_timed =
                matches!(check.source, Source::Ttl(_)) && check.status != Status::Critical;
            if is_timed || check.deregister_after.is_some() {
                self.set_status(node, id, check.status, check.output.clone(), Told::InTime).await?;
            }
        }
        Ok(())
    }

    /// Says how a check is. It is written only if it was otherwise, or had no lease that it needs.
    pub(crate) async fn set_status(
        &self,
        node: &str,
        id: &str,
        status: Status,
        output: String,
        told: Told,
    ) -> Result<(), Refusal> {
        let (catalog, _) = self.catalog(Read::Local).await?;
        let Some(check) = catalog.node(node).and_then(|there| there.check(id)) else {
            return Ok(());
        };
        let ttl = match check.source {
            Source::Ttl(ttl) if told == Told::InTime => self.lease(check.ttl_lease, ttl).await?,
            _ => None,
        };
        let critical = match check.deregister_after {
            Some(_) if status == Status::Critical && check.critical_lease.is_some() => {
                check.critical_lease
            }
            Some(after) if status == Status::Critical => self.lease(None, after).await?,
            _ => None,
        };
        self.change(node, |catalog| {
            let mut change = Change::default();
            let Some(check) = catalog.node(node).and_then(|there| there.check(id)) else {
                return Ok((change, ()));
            };
            let next = Check {
                status,
                output: output.clone(),
                ttl_lease: ttl,
                critical_lease: critical,
                ..check.clone()
            };
            // Whoever tells it after that has given it another lease.
            if matches!(told, Told::TooLate(lease) if check.ttl_lease != Some(lease)) {
                return Ok((change, ()));
            }
            for (key, before, now) in [
                (check_ttl(node, id), check.ttl_lease, ttl),
                (check_critical(node, id), check.critical_lease, critical),
            ] {
                match now {
                    Some(lease) if before != now => change.op(StorePut::new(key, "").lease(lease)),
                    None if before.is_some() => change.op(DeleteRange::key(key)),
                    _ => {}
                }
            }
            change.put(catalog, Put::Check(node.to_owned(), next))?;
            Ok((change, ()))
        })
        .await
    }

    /// A lease that has just begun: the one that is there, if it has not ended.
    async fn lease(&self, there: Option<i64>, time: GoDuration) -> Result<Option<i64>, Refusal> {
        if let Some(lease) = there {
            match self.inner.store.lease_keepalive(lease).await {
                Ok(_) => return Ok(Some(lease)),
                Err(WriteError::LeaseNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let time = time.to_std().unwrap_or_default();
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds.max(1)).unwrap_or(i64::MAX);
        Ok(Some(self.inner.store.lease_grant(seconds, None).await?.id))
    }

    /// True if there is nothing under a key.
    pub(super) async fn is_absent(&self, key: Bytes) -> Result<bool, Refusal> {
        let found = self.inner.store.range(Range::key(key), Read::Linearizable).await?;
        Ok(found.kvs.is_empty())
    }
}
