//! `/v1/catalog/register` and `deregister`: nodes, services and checks that no agent of ours is responsible for.

use serde::Deserialize;

use super::record::{Check, Node, Service, Source, Status};
use super::state::Catalog;
use super::write::{Change, Put};
use crate::agent::body::{NewService, Texts, named};
use crate::answer::Answer;
use crate::call::Call;
use crate::json;
use crate::permit::Wish;
use crate::refusal::Refusal;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registration {
    id: String,
    node: String,
    address: String,
    datacenter: String,
    #[serde(rename = "taggedaddresses")]
    tagged_addresses: Texts,
    #[serde(rename = "nodemeta")]
    node_meta: Texts,
    service: Option<NewService>,
    check: Option<NewCheck>,
    checks: Vec<NewCheck>,
    #[serde(rename = "skipnodeupdate")]
    skip_node_update: bool,
}

/// A check whose status is told.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NewCheck {
    #[serde(rename = "checkid")]
    id: String,
    name: String,
    status: String,
    notes: String,
    output: String,
    #[serde(rename = "serviceid")]
    service_id: String,
}

pub(crate) async fn register(call: Call) -> Result<Answer, Refusal> {
    let asked: Registration = json::read(&call.body)?;
    named(&asked.node, "Must provide node")?;
    if asked.address.is_empty() && !asked.skip_node_update {
        return Err(Refusal::failed("Must provide address if SkipNodeUpdate is not set"));
    }
    call.in_datacenter(&asked.datacenter)?;
    let node = Node {
        id: asked.id.clone(),
        name: asked.node.clone(),
        address: asked.address.clone(),
        tagged_addresses: asked.tagged_addresses.clone(),
        meta: asked.node_meta.clone(),
        ..Node::default()
    };
    let service = asked.service.as_ref().map(NewService::service).transpose()?;
    let checks: Vec<Check> =
        asked.check.iter().chain(&asked.checks).map(NewCheck::check).collect::<Result<_, _>>()?;
    call.server
        .change(&asked.node, |catalog| {
            permit(&call, catalog, &node.name, service.as_ref(), &checks)?;
            let mut change = Change::default();
            match catalog.node(&node.name) {
                None if asked.address.is_empty() => {
                    return Err(Refusal::failed("Missing node registration"));
                }
                Some(_) if asked.skip_node_update => {}
                _ => change.put(catalog, Put::Node(node.clone()))?,
            }
            if let Some(service) = &service {
                change.put(catalog, Put::Service(node.name.clone(), service.clone()))?;
            }
            for check in &checks {
                let is_here =
                    |service: &Service| service.id.eq_ignore_ascii_case(&check.service_id);
                let is_there = || {
                    let entry = catalog.node(&node.name);
                    entry.is_some_and(|entry| entry.service(&check.service_id).is_some())
                };
                if !check.service_id.is_empty()
                    && !service.as_ref().is_some_and(is_here)
                    && !is_there()
                {
                    let words = format!(
                        "failed inserting check: Missing service registration on node {:?}",
                        node.name
                    );
                    return Err(Refusal::Failed(words));
                }
                change.put(catalog, Put::Check(node.name.clone(), check.clone()))?;
            }
            Ok((change, ()))
        })
        .await?;
    call.json(&true)
}

/// Refuses what the token may not write.
fn permit(
    call: &Call,
    catalog: &Catalog,
    node: &str,
    service: Option<&Service>,
    checks: &[Check],
) -> Result<(), Refusal> {
    if service.is_none() || checks.iter().any(|check| check.service_id.is_empty()) {
        call.require(Wish::NodeWrite(node))?;
    }
    // A new node, or other words about one, come with a service as well.
    if catalog.node(node).is_none() {
        call.require(Wish::NodeWrite(node))?;
    }
    let there = |id: &str| catalog.node(node).and_then(|entry| entry.service(id));
    if let Some(service) = service {
        call.require(Wish::ServiceWrite(&service.name))?;
        // Nor may one service take another's place.
        if let Some(there) = there(&service.id) {
            call.require(Wish::ServiceWrite(&there.name))?;
        }
    }
    for check in checks.iter().filter(|check| !check.service_id.is_empty()) {
        if let Some(there) = there(&check.service_id) {
            call.require(Wish::ServiceWrite(&there.name))?;
        }
    }
    Ok(())
}

impl NewCheck {
    fn check(&self) -> Result<Check, Refusal> {
        let id = if self.id.is_empty() { &self.name } else { &self.id };
        named(id, "Must provide a CheckID or a Name of the check")?;
        let status = match self.status.as_str() {
            "" => Status::Critical,
            word => Status::parse(word)
                .ok_or_else(|| Refusal::Failed(format!("Invalid check status: '{word}'")))?,
        };
        Ok(Check {
            id: id.clone(),
            name: self.name.clone(),
            status,
            notes: self.notes.clone(),
            output: self.output.clone(),
            service_id: self.service_id.clone(),
            source: Source::Told,
            ..Check::default()
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Deregistration {
    node: String,
    datacenter: String,
    #[serde(rename = "serviceid")]
    service_id: String,
    #[serde(rename = "checkid")]
    check_id: String,
}

pub(crate) async fn deregister(call: Call) -> Result<Answer, Refusal> {
    let asked: Deregistration = json::read(&call.body)?;
    named(&asked.node, "Must provide node")?;
    call.in_datacenter(&asked.datacenter)?;
    call.server
        .change(&asked.node, |catalog| {
            let mut change = Change::default();
            let Some(entry) = catalog.node(&asked.node) else { return Ok((change, ())) };
            let (service, check) = (&asked.service_id, &asked.check_id);
            if !service.is_empty() {
                if let Some(there) = entry.service(service) {
                    call.require(Wish::ServiceWrite(&there.name))?;
                    change.delete_service(catalog, &asked.node, service);
                }
            } else if !check.is_empty() {
                if let Some(there) = entry.check(check) {
                    call.require(match entry.service_of(there) {
                        Some(service) => Wish::ServiceWrite(&service.name),
                        None => Wish::NodeWrite(&asked.node),
                    })?;
                    change.delete_check(&asked.node, check);
                }
            } else {
                call.require(Wish::NodeWrite(&asked.node))?;
                change.delete_node(&asked.node);
            }
            Ok((change, ()))
        })
        .await?;
    call.json(&true)
}
