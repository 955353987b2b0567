//! Requests about the cluster's nodes, on a manager.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pontoon_model::names;
use pontoon_objects::ListOptions;
use pontoon_store::Read;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::NodeRecord;
use crate::daemon::Shared;
use crate::identity::Role;
use crate::member::Member;
use crate::node_removal::{self, warning_without};
use crate::quorum::is_alive;
use crate::roles;
use crate::rpc::{Refusal, read_json};

/// All nodes with what is known of them, one object each.
pub(super) async fn list(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    shared
        .with_member(async |member| {
            let manager = member.manager()?;
            // Without a quorum nobody knows more than this manager: it tells what it knows, and that it is no more.
            let warning = manager.quorum.lost();
            let how = if warning.is_some() { Read::Local } else { Read::Linearizable };
            let records = manager.records.nodes(how).await?;
            let resource_version = warning.is_some().then_some(0);
            let options = ListOptions { resource_version, ..ListOptions::default() };
            let objects = manager.objects.list_as::<Node>(None, &options).await;
            let objects = objects.map_err(|status| Refusal::unavailable(status.message))?;
            let by_name: BTreeMap<&str, &Node> = objects
                .iter()
                .filter_map(|node| Some((node.metadata.name.as_deref()?, node)))
                .collect();
            let list =
                records.iter().map(|r| describe(member, r, by_name.get(r.name.as_str()).copied()));
            let warning = warning.map(|words| format!("as this node knew them last: {words}"));
            Ok(json!({ "nodes": list.collect::<Vec<Value>>(), "warning": warning }))
        })
        .await
}

fn describe(member: &Member, record: &NodeRecord, node: Option<&Node>) -> Value {
    let spec = node.and_then(|node| node.spec.as_ref());
    let status = node.and_then(|node| node.status.as_ref());
    let is_kept_free =
        spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten().any(|taint| {
            [names::TAINT_NOT_READY, names::TAINT_UNREACHABLE].contains(&taint.key.as_str())
        });
    let ready = status
        .and_then(|status| status.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"))
        .map_or("Joining", |condition| match condition.status.as_str() {
            // Ready is who takes pods: the taint goes a moment after the condition has come.
            "True" if !is_kept_free => "Ready",
            _ => "NotReady",
        });
    let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    let movable = |view: &pontoon_controllers::Cache| {
        view.pods_on(&record.name).filter(|pod| is_movable(&pod.metadata)).count()
    };
    let movable = member.manager().map(|m| movable(&m.view.read())).unwrap_or(0);
    let version =
        status.and_then(|status| status.node_info.as_ref()).map(|i| i.kubelet_version.clone());
    json!({
        "name": record.name,
        "status": ready,
        "availability": availability(cordoned, movable),
        "role": record.role,
        "managerStatus": manager_status(member, record),
        "version": version,
        "address": record.address,
        "podCidr": spec.and_then(|spec| spec.pod_cidr.clone()),
        "pods": member.manager().map(|m| m.view.read().pods_on(&record.name).count()).unwrap_or(0),
    })
}

/// What a node takes: pods; no new ones; none, and a drain would find nothing to move.
fn availability(cordoned: bool, movable: usize) -> &'static str {
    match (cordoned, movable) {
        (false, _) => "Active",
        (true, 0) => "Drained",
        (true, _) => "Cordoned",
    }
}

/// Whether a drain moves the pod: a DaemonSet's belongs where it is.
fn is_movable(pod: &ObjectMeta) -> bool {
    let owner = pod.owner_references.as_ref().and_then(|owners| owners.first());
    owner.is_none_or(|owner| owner.kind != "DaemonSet")
}

fn manager_status(member: &Member, record: &NodeRecord) -> Value {
    if record.role == Role::Worker {
        return Value::Null;
    }
    let Ok(manager) = member.manager() else { return Value::Null };
    let gossip = member.gossip().members();
    let is_lost = gossip.borrow().iter().any(|m| m.name == record.name && !is_alive(m));
    let found = manager.store.members().into_iter().find(|m| m.member.id == record.store);
    json!(match found {
        None => "Joining",
        Some(_) if is_lost => "Unreachable",
        Some(status) if status.is_leader => "Leader",
        Some(_) if record.learner => "Learner",
        Some(_) => "Reachable",
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRole {
    role: Role,
}

/// Gives a node another role; the node itself carries it out when it hears of it.
pub(super) async fn change_role(
    shared: &Arc<Shared>,
    name: &str,
    body: Incoming,
) -> Result<Value, Refusal> {
    let wanted: ChangeRole = read_json(body).await?;
    if wanted.role == Role::Worker {
        let records = shared.records().await?;
        let nodes = records.nodes(Read::Linearizable).await?;
        let node = shared
            .with_member(async |member| {
                let members = member.gossip().members().borrow().clone();
                let answers = |manager: &NodeRecord| {
                    let mut alive = members.iter().filter(|m| is_alive(m));
                    alive.any(|member| member.name == manager.name)
                };
                records.demote(name, answers).await
            })
            .await?;
        let warning = warning_without(&nodes, &node.name);
        return Ok(json!({ "name": node.name, "role": node.role, "warning": warning }));
    }
    let node = shared
        .with_member(async |member| {
            let manager = member.manager()?.with_quorum()?;
            roles::promote(&manager.records, &manager.store, name, false).await
        })
        .await?;
    Ok(json!({ "name": node.name, "role": node.role }))
}

/// Removes a node; one that is alive only when forced.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    name: &str,
    force: bool,
) -> Result<Value, Refusal> {
    let warning = shared
        .with_member(async |member| node_removal::take_out(member, name, force).await)
        .await?;
    Ok(json!({ "name": name, "removed": true, "warning": warning }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_tells_what_a_node_takes() {
        assert_eq!(availability(false, 3), "Active");
        assert_eq!(availability(true, 3), "Cordoned");
        assert_eq!(availability(true, 0), "Drained");
    }
}
