//! Running a prepared query: the instances that are as it wants them, in a new order each time.

use pontoon_store::{Range, Read};
use rand::seq::SliceRandom;
use serde::Serialize;

use super::{Dns, Query, Wanted, by_id, not_found, parse_id};
use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::Asked;
use crate::catalog::record::{Service, Status, Texts};
use crate::catalog::shown::ServiceHealth;
use crate::catalog::state::{Catalog, Entry, worst};
use crate::filter::answers;
use crate::keyspace::QUERIES;
use crate::permit::{Permit, Wish};
use crate::refusal::Refusal;

/// What Consul says in the body of how it was read.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadMeta {
    index: u64,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Executed<'c> {
    service: &'c str,
    nodes: Vec<ServiceHealth<'c>>,
    #[serde(rename = "DNS")]
    dns: &'c Dns,
    datacenter: &'c str,
    failovers: u32,
    #[serde(flatten)]
    meta: ReadMeta,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Explained {
    query: Query,
    #[serde(flatten)]
    meta: ReadMeta,
}

/// The query of an id or a name. Who runs one sees what the token may see of the answer; to see the query itself needs
/// more.
async fn find(call: &Call, name: &str) -> Result<Query, Refusal> {
    if let Ok(id) = parse_id(name)
        && let Some(query) = by_id(call, id).await?
    {
        return Ok(query);
    }
    let found = call.store().range(Range::prefix(QUERIES), Read::Linearizable).await?;
    for kv in &found.kvs {
        let query = Query::decode(kv)?;
        if query.name.eq_ignore_ascii_case(name) {
            return Ok(query);
        }
    }
    Err(not_found())
}

fn read_meta(call: &Call) -> Result<ReadMeta, Refusal> {
    let options = call.options()?;
    let meta = call.meta(&options, None);
    Ok(ReadMeta {
        index: 0,
        last_contact: 0,
        known_leader: meta.known_leader,
        consistency_level: options.consistency.word(),
    })
}

pub(super) async fn explain(call: &Call, name: &str) -> Result<Answer, Refusal> {
    let query = find(call, name).await?;
    call.require(Wish::QueryRead(&query.name))?;
    let options = call.options()?;
    let explained = Explained { query, meta: read_meta(call)? };
    Ok(call.json(&explained)?.with_meta(call.meta(&options, Some(1))))
}

pub(super) async fn execute(call: &Call, name: &str) -> Result<Answer, Refusal> {
    let limit = call.query.text("limit");
    let bad =
        |_| Refusal::Failed(format!("Bad limit: strconv.Atoi: parsing {limit:?}: invalid syntax"));
    let limit: usize = if limit.is_empty() { 0 } else { limit.parse().map_err(bad)? };
    let query = find(call, name).await?;
    let options = call.options()?;
    let asked = Asked::of(call, &answers::SERVICE_HEALTH)?;
    let (catalog, _) = call.server.catalog(options.consistency.read()).await?;
    let mut instances = query.service.instances(&catalog, &call.permit);
    instances.shuffle(&mut rand::rng());
    let near = match call.query.text("near").as_ref() {
        "" => query.service.near.clone(),
        near => near.to_owned(),
    };
    asked.sort_near(&catalog, &near, &mut instances, |(entry, _)| &entry.node.name);
    if limit > 0 {
        instances.truncate(limit);
    }
    let health = |(entry, service): (_, _)| {
        ServiceHealth::of(entry, service, asked.datacenter()).with_null_tags()
    };
    let executed = Executed {
        service: &query.service.service,
        nodes: instances.into_iter().map(health).collect(),
        dns: &query.dns,
        datacenter: asked.datacenter(),
        failovers: 0,
        meta: read_meta(call)?,
    };
    Ok(call.json(&executed)?.with_meta(call.meta(&options, Some(1))))
}

impl Query {
    /// The instances that it wants and that somebody may see, as seen from a node if the nearest come first.
    pub(crate) fn instances<'c>(
        &self,
        catalog: &'c Catalog,
        permit: &dyn Permit,
        own_node: &str,
    ) -> Vec<(&'c Entry, &'c Service)> {
        let mut instances = self.service.instances(catalog, permit);
        catalog
            .sort_near(&self.service.near, own_node, &mut instances, |(entry, _)| &entry.node.name);
        instances
    }
}

impl Wanted {
    /// The instances that are wanted and that somebody may see; none of them is critical.
    fn instances<'c>(
        &self,
        catalog: &'c Catalog,
        permit: &dyn Permit,
    ) -> Vec<(&'c Entry, &'c Service)> {
        let ignored = |id: &str| {
            let ids = self.ignore_check_ids.iter().flatten();
            ids.into_iter().any(|ignored| ignored.eq_ignore_ascii_case(id))
        };
        let is_wanted = |(entry, service): &(&Entry, &Service)| {
            let health = worst(entry.checks_of(service).filter(|check| !ignored(&check.id)));
            let is_well = match self.only_passing {
                true => health == Status::Passing,
                false => health != Status::Critical,
            };
            is_well
                && has_tags(service, self)
                && has_all(&entry.node.meta, self.node_meta.as_ref())
                && has_all(&service.meta, self.service_meta.as_ref())
                && permit.allows(Wish::NodeRead(&entry.node.name))
                && permit.allows(Wish::ServiceRead(&service.name))
        };
        catalog.instances(&self.service).filter(is_wanted).collect()
    }
}

/// A tag with a `!` before it is one that must not be there.
fn has_tags(service: &Service, wanted: &Wanted) -> bool {
    let has = |tag: &str| service.tags.iter().any(|own| own.to_lowercase() == tag.to_lowercase());
    wanted.tags.iter().flatten().all(|tag| match tag.strip_prefix('!') {
        Some(unwanted) => !has(unwanted),
        None => has(tag),
    })
}

fn has_all(meta: &Texts, wanted: Option<&Texts>) -> bool {
    wanted.into_iter().flatten().all(|(name, value)| meta.get(name) == Some(value))
}
