//! `/v1/agent/`: this server's own node, its services and their checks, and the members of the cluster.
//!
//! Consul's agents keep what is registered with them, and copy it into the catalog. Here it is in the catalog alone: the
//! services of the server's node are those that it shows.

pub(crate) mod body;
mod metrics;
mod own;
pub(crate) mod probe;
pub(crate) mod reaper;
pub(crate) mod register;
pub(crate) mod status;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use http::StatusCode;
use pontoon_store::Read;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::Asked;
use crate::catalog::record::{Check, Service, Source, Status};
use crate::catalog::shown::{AgentService, ShownCheck};
use crate::catalog::state::{Catalog, worst};
use crate::catalog::view;
use crate::filter::answers;
use crate::json;
use crate::permit::Wish;
use crate::refusal::Refusal;

pub(crate) use metrics::metrics;
pub(crate) use own::{force_leave, join, leave, members, reload, this};

pub(crate) async fn services(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::SERVICE)?;
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    let mut shown = BTreeMap::new();
    for service in registered(&catalog, call.node()).filter(|service| asked.may_see(service)) {
        let service_shown = AgentService::of(service);
        if asked.matches(&service_shown)? {
            shown.insert(&service.id, service_shown);
        }
    }
    call.json(&shown)
}

pub(crate) async fn checks(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::CHECK)?;
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    let mut shown = BTreeMap::new();
    if let Some(there) = catalog.node(call.node()) {
        for check in there.checks.values() {
            let may_see = match there.service_of(check) {
                Some(service) => asked.may_see(service),
                None => asked.wants(&there.node),
            };
            let check_shown = ShownCheck::of(there, check).without_indexes();
            let is_registered = !catalog.owns_check(call.node(), &check.id);
            if may_see && is_registered && asked.matches(&check_shown)? {
                shown.insert(&check.id, check_shown);
            }
        }
    }
    call.json(&shown)
}

/// One service. A client that names the hash of what it has waits until it is something else.
pub(crate) async fn service(call: Call) -> Result<Answer, Refusal> {
    let id = call.name("Missing service ID")?;
    let known = call.query.text("hash").into_owned();
    let mut waiting = view::Changes::of(&call)?;
    loop {
        let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
        let there = registered(&catalog, call.node()).find(|there| there.id == id);
        let Some(there) = there else {
            return Err(Refusal::NotFound(format!("unknown service ID: {id}")));
        };
        call.require(Wish::ServiceRead(&there.name))?;
        let mut shown = AgentService::of(there);
        let mut hasher = DefaultHasher::new();
        hasher.write(&json::encode(&shown, false)?);
        let hash = format!("{:016x}", hasher.finish());
        if known != hash || !waiting.changed().await? {
            let header = hash.clone();
            shown.content_hash = Some(hash);
            return Ok(call.json(&shown)?.with_header("x-consul-contenthash", &header));
        }
    }
}

/// A service, and how it is by its own checks and its node's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health<'c> {
    aggregated_status: &'static str,
    service: Option<AgentService<'c>>,
    checks: Option<Vec<ShownCheck<'c>>>,
}

pub(crate) async fn health_by_id(call: Call) -> Result<Answer, Refusal> {
    let id = call.name("Missing serviceID")?;
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    let there = catalog.node(call.node());
    let service = registered(&catalog, call.node()).find(|service| service.id == id);
    let Some((there, service)) = there.zip(service) else {
        let reason = format!("ServiceId {id} not found");
        let nothing = Health { aggregated_status: "critical", service: None, checks: None };
        return health(&call, &nothing, StatusCode::NOT_FOUND, &reason);
    };
    call.require(Wish::ServiceRead(&service.name))?;
    let checks = || there.checks_of(service).filter(|check| !check.is_clusters());
    let status = worst(checks());
    let word = aggregated(checks(), status);
    let shown = Health {
        aggregated_status: word,
        service: Some(AgentService::of(service)),
        checks: Some(
            checks().map(|check| ShownCheck::of(there, check).without_indexes()).collect(),
        ),
    };
    health(&call, &shown, code(status), word)
}

pub(crate) async fn health_by_name(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing service Name")?;
    call.require(Wish::ServiceRead(&name))?;
    let (catalog, _) = call.server.catalog(Read::Linearizable).await?;
    let mut all = Vec::new();
    let mut status = Status::Passing;
    if let Some(there) = catalog.node(call.node()) {
        let here = registered(&catalog, call.node());
        for service in here.filter(|service| service.name.eq_ignore_ascii_case(&name)) {
            let checks = || there.checks_of(service).filter(|check| !check.is_clusters());
            let its = worst(checks());
            status = status.max(its);
            all.push(Health {
                aggregated_status: aggregated(checks(), its),
                service: Some(AgentService::of(service)),
                checks: Some(
                    checks().map(|check| ShownCheck::of(there, check).without_indexes()).collect(),
                ),
            });
        }
    }
    if all.is_empty() {
        let reason = format!("ServiceName {name} Not Found");
        return health(&call, &all, StatusCode::NOT_FOUND, &reason);
    }
    health(&call, &all, code(status), status.word())
}

/// The services that clients registered on a node: what the cluster runs there is in the catalog alone.
pub(crate) fn registered<'c>(
    catalog: &'c Catalog,
    node: &'c str,
) -> impl Iterator<Item = &'c Service> {
    let all = catalog.node(node).into_iter().flat_map(|there| there.services.values());
    all.filter(move |service| !catalog.owns_service(node, &service.id))
}

/// The word for the worst of some checks; whoever closed a service is named before all.
fn aggregated<'c>(mut checks: impl Iterator<Item = &'c Check>, worst: Status) -> &'static str {
    let is_closed = checks.any(|check| check.source == Source::Maintenance);
    if is_closed { "maintenance" } else { worst.word() }
}

fn code(status: Status) -> StatusCode {
    match status {
        Status::Passing => StatusCode::OK,
        Status::Warning => StatusCode::TOO_MANY_REQUESTS,
        Status::Critical => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn health(
    call: &Call,
    shown: &impl Serialize,
    code: StatusCode,
    reason: &str,
) -> Result<Answer, Refusal> {
    let answer = match call.query.text("format").as_ref() {
        "text" => {
            let word = if code == StatusCode::NOT_FOUND { "critical" } else { reason };
            Answer::plain(code, word)
        }
        _ => Answer::json_with(code, shown, call.pretty())?,
    };
    Ok(answer.with_header("x-consul-reason", reason))
}
