//! `/v1/query`: prepared queries, which name a service and what its instances must be like.

mod run;

use bytes::Bytes;
use http::Method;
use pontoon_store::{Compare, DeleteRange, KeyValue, Put, Range, Read, Txn};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::catalog::record::Texts;
use crate::draft::nothing_since;
use crate::duration::GoDuration;
use crate::json;
use crate::keyspace::{self, QUERIES};
use crate::permit::Wish;
use crate::refusal::Refusal;

/// Attempts to keep a query while others are made.
const ATTEMPTS: usize = 100;

/// A query, as it is kept and as clients read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Query {
    #[serde(rename = "ID")]
    id: Uuid,
    name: String,
    session: String,
    token: String,
    template: Template,
    service: Wanted,
    #[serde(rename = "DNS")]
    dns: Dns,
    #[serde(default)]
    create_index: u64,
    #[serde(default)]
    modify_index: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Template {
    #[serde(alias = "type")]
    r#type: String,
    #[serde(alias = "regexp")]
    regexp: String,
    #[serde(alias = "removeemptytags")]
    remove_empty_tags: bool,
}

/// What the instances must be like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Wanted {
    #[serde(alias = "service")]
    service: String,
    #[serde(alias = "failover")]
    failover: Failover,
    #[serde(alias = "onlypassing")]
    only_passing: bool,
    #[serde(rename = "IgnoreCheckIDs", alias = "ignorecheckids")]
    ignore_check_ids: Option<Vec<String>>,
    #[serde(alias = "near")]
    near: String,
    #[serde(alias = "tags")]
    tags: Option<Vec<String>>,
    #[serde(alias = "nodemeta")]
    node_meta: Option<Texts>,
    #[serde(alias = "servicemeta")]
    service_meta: Option<Texts>,
    #[serde(alias = "connect")]
    connect: bool,
}

/// Where to go when there is none; there is one datacenter, so nowhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failover {
    #[serde(alias = "nearestn")]
    nearest_n: u32,
    #[serde(alias = "datacenters")]
    datacenters: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Dns {
    #[serde(rename = "TTL", alias = "ttl")]
    ttl: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    id: String,
    name: String,
    session: String,
    token: String,
    template: Template,
    service: Wanted,
    dns: Dns,
}

impl Query {
    pub(crate) fn decode(kv: &KeyValue) -> Result<Query, Refusal> {
        let damaged = "what is stored of a query is damaged, or of a newer version";
        let query: Query =
            serde_json::from_slice(&kv.value).map_err(|_| Refusal::failed(damaged))?;
        let (create_index, modify_index) = (kv.create_revision, kv.mod_revision);
        Ok(Query { create_index, modify_index, ..query })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id_text(&self) -> String {
        self.id.to_string()
    }

    /// How long an answer in DNS may be kept.
    pub(crate) fn ttl_seconds(&self) -> u32 {
        let ttl = self.dns.ttl.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
        ttl.map_or(0, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
    }

    /// True if the nearest instances come first.
    pub(crate) fn is_near(&self) -> bool {
        !self.service.near.is_empty()
    }

    fn may_be_seen(&self, call: &Call) -> bool {
        call.permit.allows(Wish::QueryRead(&self.name))
    }

    /// The query that a body describes, if it can be one.
    fn of(id: Uuid, asked: Asked) -> Result<Query, Refusal> {
        let Asked { name, session, token, template, service, dns, .. } = asked;
        let invalid = |words: &str| Refusal::Failed(format!("Invalid prepared query: {words}"));
        let not_served = |what: &str| Err(Refusal::NotServed(format!("a query {what}")));
        if !session.is_empty() {
            return not_served("that ends with a session");
        }
        if name.is_empty() {
            return Err(invalid("Must be bound to a session"));
        }
        if !token.is_empty() {
            return not_served("with a token of its own");
        }
        if !template.r#type.is_empty() {
            return not_served("that is a template");
        }
        if service.connect {
            return not_served("for instances of a service mesh");
        }
        if service.service.is_empty() {
            return Err(invalid("Must provide a Service name to query"));
        }
        if !dns.ttl.is_empty()
            && let Err(error) = dns.ttl.parse::<GoDuration>()
        {
            return Err(invalid(&format!("Bad DNS TTL '{}': {error}", dns.ttl)));
        }
        let (create_index, modify_index) = (0, 0);
        Ok(Query { id, name, session, token, template, service, dns, create_index, modify_index })
    }
}

/// `/v1/query`: all queries, or a new one.
pub(crate) async fn all(call: Call) -> Result<Answer, Refusal> {
    if call.method == Method::POST {
        let asked: Asked = json::read(&call.body)?;
        if !asked.id.is_empty() {
            let words = "ID must be empty when creating a new prepared query";
            return Err(Refusal::failed(words));
        }
        let query = Query::of(Uuid::new_v4(), asked)?;
        keep(&call, &query).await?;
        return call.json(&json!({ "ID": query.id }));
    }
    shown(&call, Range::prefix(QUERIES)).await
}

/// `/v1/query/`: one query, by its id or, to run it, its name.
pub(crate) async fn one(call: Call) -> Result<Answer, Refusal> {
    let rest = String::from_utf8_lossy(&call.rest).into_owned();
    if let Some(name) = rest.strip_suffix("/execute") {
        return run::execute(&call, name).await;
    }
    if let Some(name) = rest.strip_suffix("/explain") {
        return run::explain(&call, name).await;
    }
    let id = parse_id(&rest);
    let id = match call.method {
        Method::GET => id.map_err(Refusal::Failed)?,
        _ => id.map_err(|why| Refusal::Failed(format!("Prepared Query lookup failed: {why}")))?,
    };
    match call.method {
        Method::PUT => {
            let query = Query::of(id, json::read(&call.body)?)?;
            keep(&call, &query).await?;
            Ok(Answer::done())
        }
        Method::DELETE => {
            let there = by_id(&call, id).await?.ok_or_else(|| unknown(id))?;
            call.require(Wish::QueryWrite(&there.name))?;
            call.store().txn(Txn::new().then(DeleteRange::key(keyspace::query(id)))).await?;
            Ok(Answer::done())
        }
        _ => show(&call, id).await,
    }
}

fn parse_id(text: &str) -> Result<Uuid, String> {
    let bad = |why: &str| format!("failed prepared query lookup: index error: {why}");
    if text.len() != 36 {
        return Err(bad("UUID must be 36 characters"));
    }
    Uuid::try_parse(text).map_err(|error| bad(&format!("Invalid UUID: {error}")))
}

fn unknown(id: Uuid) -> Refusal {
    Refusal::Failed(format!("Cannot modify non-existent prepared query: '{id}'"))
}

fn not_found() -> Refusal {
    Refusal::NotFound("Query not found".to_owned())
}

async fn show(call: &Call, id: Uuid) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let range = Range::key(keyspace::query(id));
    let found = blocking::query(call.store(), &options, range).await?;
    let kv = found.response.kvs.first().ok_or_else(not_found)?;
    let query = Query::decode(kv)?;
    call.require(Wish::QueryRead(&query.name))?;
    Ok(call.json(&[query])?.with_meta(call.meta(&options, Some(found.index))))
}

async fn shown(call: &Call, range: Range) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, range).await?;
    let mut queries = Vec::with_capacity(found.response.kvs.len());
    for kv in &found.response.kvs {
        let query = Query::decode(kv)?;
        if query.may_be_seen(call) {
            queries.push(query);
        }
    }
    Ok(call.json(&queries)?.with_meta(call.meta(&options, Some(found.index))))
}

async fn by_id(call: &Call, id: Uuid) -> Result<Option<Query>, Refusal> {
    let range = Range::key(keyspace::query(id));
    let found = call.store().range(range, Read::Linearizable).await?;
    found.kvs.first().map(|kv| Query::decode(kv)).transpose()
}

/// Keeps a query, new or in the place of one with its id, if no other has its name.
async fn keep(call: &Call, query: &Query) -> Result<(), Refusal> {
    call.require(Wish::QueryWrite(&query.name))?;
    let value = serde_json::to_vec(query);
    let value = value.map_err(|error| Refusal::Failed(format!("write a query: {error}")))?;
    let value = Bytes::from(value);
    let key = keyspace::query(query.id);
    for _ in 0..ATTEMPTS {
        let found = call.store().range(Range::prefix(QUERIES), Read::Linearizable).await?;
        let mut there = false;
        for kv in &found.kvs {
            let other = Query::decode(kv)?;
            if other.id == query.id {
                call.require(Wish::QueryWrite(&other.name))?;
                there = true;
            } else if other.name.eq_ignore_ascii_case(&query.name) {
                let words = format!("name '{}' aliases an existing query name", query.name);
                return Err(Refusal::Failed(words));
            }
        }
        if call.method == Method::PUT && !there {
            return Err(unknown(query.id));
        }
        let seen = if there { Compare::present(key.clone()) } else { Compare::absent(key.clone()) };
        let txn = Txn::new()
            .when(nothing_since(Bytes::from(QUERIES), found.revision))
            .when(seen)
            .then(Put::new(key.clone(), value.clone()));
        if call.store().txn(txn).await?.succeeded {
            return Ok(());
        }
    }
    Err(Refusal::Busy("others change queries all the time; try again".to_owned()))
}
