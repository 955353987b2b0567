//! `/v1/session/`: sessions, which hold keys as long as they live.
//!
//! A session with a time to live has a lease in the store for twice that time, as Consul gives it; its end deletes a key
//! beside the session, and whoever leads then ends the session itself ([`ConsulServer::end_sessions`]). A new leader
//! gives every lease its full time again and looks for sessions whose lease ended before, so none is forgotten.
//!
//! [`ConsulServer::end_sessions`]: crate::ConsulServer::end_sessions

mod create;
mod end;
mod reaper;
mod record;

use http::StatusCode;
use pontoon_store::{Range, Read, WriteError};

use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::keyspace;
use crate::permit::Wish;
use crate::refusal::Refusal;
pub(crate) use create::create;
pub(crate) use end::end;
pub(crate) use record::Record;
use record::Shown;

const MISSING: &str = "Missing session";

/// Ends a session; to end one that is not there is fine.
pub(crate) async fn destroy(call: Call) -> Result<Answer, Refusal> {
    let id = call.name(MISSING)?;
    if let Some(found) = find(&call, &id).await? {
        call.require(Wish::SessionWrite(&found.node))?;
        end(call.store(), found.id).await?;
    }
    call.json(&true)
}

/// Gives a session its full time again.
pub(crate) async fn renew(call: Call) -> Result<Answer, Refusal> {
    let id = call.name(MISSING)?;
    let gone = || {
        let words = format!("Session id '{id}' not found");
        Ok(Answer::text(StatusCode::NOT_FOUND, words))
    };
    let Some(found) = find(&call, &id).await? else { return gone() };
    call.require(Wish::SessionWrite(&found.node))?;
    if let Some(lease) = found.lease {
        match call.store().lease_keepalive(lease).await {
            Ok(_) => {}
            // Its time is up; it is about to be ended.
            Err(WriteError::LeaseNotFound { .. }) => return gone(),
            Err(error) => return Err(error.into()),
        }
    }
    call.json(&[Shown::of(&found)])
}

pub(crate) async fn info(call: Call) -> Result<Answer, Refusal> {
    let id = call.name(MISSING)?;
    let id = keyspace::parse_session_id(&id).map_err(Refusal::Failed)?;
    shown(&call, Range::key(keyspace::session(id)), None).await
}

pub(crate) async fn of_node(call: Call) -> Result<Answer, Refusal> {
    let node = call.name("Missing node name")?;
    shown(&call, Range::prefix(keyspace::SESSIONS), Some(&node)).await
}

pub(crate) async fn list(call: Call) -> Result<Answer, Refusal> {
    shown(&call, Range::prefix(keyspace::SESSIONS), None).await
}

/// The sessions of a range, or those of them that belong to one node.
async fn shown(call: &Call, range: Range, node: Option<&str>) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, range).await?;
    let mut records = Vec::with_capacity(found.response.kvs.len());
    for kv in &found.response.kvs {
        let record = Record::decode(kv)?;
        let wanted = node.is_none_or(|node| record.node == node);
        if wanted && call.permit.allows(Wish::SessionRead(&record.node)) {
            records.push(record);
        }
    }
    let records: Vec<Shown<'_>> = records.iter().map(Shown::of).collect();
    Ok(call.json(&records)?.with_meta(call.meta(&options, Some(found.index))))
}

/// A session as the leader knows it.
async fn find(call: &Call, id: &str) -> Result<Option<Record>, Refusal> {
    let id = keyspace::parse_session_id(id).map_err(Refusal::Failed)?;
    let range = Range::key(keyspace::session(id));
    let found = call.store().range(range, Read::Linearizable).await?;
    found.kvs.first().map(|kv| Record::decode(kv)).transpose()
}
