//! Services and checks of this node: registered, put out of service, and taken away.

use super::body::{NewCheck, NewService, named};
use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::record::{Check, Service, ServiceAddress, Source, Status};
use crate::catalog::state::Catalog;
use crate::catalog::{Change, Put};
use crate::json;
use crate::permit::Wish;
use crate::refusal::Refusal;

const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

pub(crate) async fn service(call: Call) -> Result<Answer, Refusal> {
    let asked: NewService = json::read(&call.body)?;
    if asked.name().is_empty() {
        return Err(Refusal::bad_request("Missing service name"));
    }
    let mut service = asked.service()?;
    tag_address(&mut service);
    let checks = asked.checks(&service)?;
    let replaces = call.query.has("replace-existing-checks");
    let node = call.node();
    call.server
        .change(node, |catalog| {
            call.require_of_agent(Wish::ServiceWrite(&service.name))?;
            let mut change = Change::default();
            let there = catalog.node(node);
            if let Some(there) = there.and_then(|there| there.service(&service.id)) {
                call.require_of_agent(Wish::ServiceWrite(&there.name))?;
            }
            if replaces {
                delete_others(&mut change, catalog, node, &service, &checks);
            }
            change.put(catalog, Put::Service(node.to_owned(), service.clone()))?;
            for check in &checks {
                change
                    .put(catalog, Put::Check(node.to_owned(), as_it_was(catalog, node, check)))?;
            }
            Ok((change, ()))
        })
        .await?;
    let ids: Vec<_> = checks.iter().map(|check| check.id.clone()).collect();
    call.server.arm(node, &ids).await?;
    Ok(Answer::done())
}

/// Deletes the checks of a service that it is registered without.
fn delete_others(
    change: &mut Change,
    catalog: &Catalog,
    node: &str,
    service: &Service,
    checks: &[Check],
) {
    let there = catalog.node(node).into_iter().flat_map(|there| there.checks.values());
    for check in there.filter(|check| check.service_id.eq_ignore_ascii_case(&service.id)) {
        if !checks.iter().any(|kept| kept.id.eq_ignore_ascii_case(&check.id)) {
            change.delete_check(node, &check.id);
        }
    }
}

/// An address that is an IP address is shown once more by its kind.
fn tag_address(service: &mut Service) {
    let Ok(ip) = service.address.parse::<std::net::IpAddr>() else { return };
    let kind = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    for network in ["lan", "wan"] {
        let address = ServiceAddress { address: service.address.clone(), port: service.port };
        service.tagged_addresses.entry(format!("{network}_{kind}")).or_insert(address);
    }
}

/// A check that is registered again stays as it was.
fn as_it_was(catalog: &Catalog, node: &str, check: &Check) -> Check {
    let mut check = check.clone();
    let there = catalog.node(node).and_then(|there| there.check(&check.id));
    if let Some(there) = there.filter(|there| there.source == check.source) {
        (check.status, check.output) = (there.status, there.output.clone());
        (check.ttl_lease, check.critical_lease) = (there.ttl_lease, there.critical_lease);
    }
    check
}

pub(crate) async fn deregister_service(call: Call) -> Result<Answer, Refusal> {
    let id = call.name("").map_err(|_| Refusal::failed("ServiceID missing"))?;
    let node = call.node();
    call.server
        .change(node, |catalog| {
            let mut change = Change::default();
            if let Some(there) = catalog.node(node).and_then(|there| there.service(&id)) {
                call.require_of_agent(Wish::ServiceWrite(&there.name))?;
                change.delete_service(catalog, node, &id)?;
            }
            Ok((change, ()))
        })
        .await?;
    Ok(Answer::done())
}

pub(crate) async fn check(call: Call) -> Result<Answer, Refusal> {
    let asked: NewCheck = json::read(&call.body)?;
    if asked.name.is_empty() {
        return Err(Refusal::bad_request("Missing check name"));
    }
    let mut check = asked.check()?;
    if check.id.is_empty() {
        check.name.clone_into(&mut check.id);
    }
    named(&check.id, "Missing check name")?;
    let node = call.node();
    call.server
        .change(node, |catalog| {
            let service = catalog.node(node).and_then(|there| there.service(&check.service_id));
            match service {
                Some(service) => call.require_of_agent(Wish::ServiceWrite(&service.name))?,
                None if check.service_id.is_empty() => {
                    call.require_of_agent(Wish::NodeWrite(node))?
                }
                None => {
                    let words = format!("ServiceID {:?} does not exist", check.service_id);
                    return Err(Refusal::Failed(words));
                }
            }
            permit_check(&call, catalog, node, &check.id)?;
            let mut change = Change::default();
            let kept =
                if asked.says_status() { check.clone() } else { as_it_was(catalog, node, &check) };
            change.put(catalog, Put::Check(node.to_owned(), kept))?;
            Ok((change, ()))
        })
        .await?;
    call.server.arm(node, &[check.id.clone()]).await?;
    Ok(Answer::done())
}

pub(crate) async fn deregister_check(call: Call) -> Result<Answer, Refusal> {
    let id = call.name("").map_err(|_| Refusal::failed("CheckID missing"))?;
    let node = call.node();
    call.server
        .change(node, |catalog| {
            let mut change = Change::default();
            if catalog.node(node).is_some_and(|there| there.check(&id).is_some()) {
                permit_check(&call, catalog, node, &id)?;
                change.delete_check(node, &id);
            }
            Ok((change, ()))
        })
        .await?;
    Ok(Answer::done())
}

/// A check is its service's, or its node's.
pub(super) fn permit_check(
    call: &Call,
    catalog: &Catalog,
    node: &str,
    id: &str,
) -> Result<(), Refusal> {
    let Some(there) = catalog.node(node) else { return Ok(()) };
    let Some(check) = there.check(id) else { return Ok(()) };
    call.require_of_agent(match there.service_of(check) {
        Some(service) => Wish::ServiceWrite(&service.name),
        None => Wish::NodeWrite(node),
    })
}

/// Puts the node out of service, or back.
pub(crate) async fn maintenance(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::NodeWrite(call.node()))?;
    let check = Check {
        id: NODE_MAINTENANCE.to_owned(),
        name: "Node Maintenance Mode".to_owned(),
        notes: reason(&call, "node"),
        ..closed()
    };
    set_maintenance(&call, check).await
}

/// Puts a service of this node out of service, or back.
pub(crate) async fn service_maintenance(call: Call) -> Result<Answer, Refusal> {
    let id = call.name("Missing service ID")?;
    enables(&call)?;
    let (catalog, _) = call.server.catalog(pontoon_store::Read::Linearizable).await?;
    let there = catalog.node(call.node()).and_then(|there| there.service(&id));
    let missing = || Refusal::NotFound(format!("No service registered with ID {id:?}"));
    let service = there.ok_or_else(missing)?;
    call.require_of_agent(Wish::ServiceWrite(&service.name))?;
    let check = Check {
        id: format!("{SERVICE_MAINTENANCE}{}", service.id),
        name: "Service Maintenance Mode".to_owned(),
        notes: reason(&call, "service"),
        service_id: service.id.clone(),
        ..closed()
    };
    set_maintenance(&call, check).await
}

fn closed() -> Check {
    Check { status: Status::Critical, source: Source::Maintenance, ..Check::default() }
}

fn reason(call: &Call, what: &str) -> String {
    match call.query.text("reason").as_ref() {
        "" => format!(
            "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
        ),
        reason => reason.to_owned(),
    }
}

fn enables(call: &Call) -> Result<bool, Refusal> {
    let text = call.query.text("enable");
    if text.is_empty() {
        return Err(Refusal::bad_request("Missing value for enable"));
    }
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(Refusal::BadRequest(format!("Invalid value for enable: {:?}", text))),
    }
}

async fn set_maintenance(call: &Call, check: Check) -> Result<Answer, Refusal> {
    let enables = enables(call)?;
    let node = call.node();
    call.server
        .change(node, |catalog| {
            let mut change = Change::default();
            if enables {
                change.put(catalog, Put::Check(node.to_owned(), check.clone()))?;
            } else if catalog.node(node).is_some_and(|there| there.check(&check.id).is_some()) {
                change.delete_check(node, &check.id);
            }
            Ok((change, ()))
        })
        .await?;
    Ok(Answer::done())
}
