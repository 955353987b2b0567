//! Taking a node out of the cluster: out of the store's members, its object, its record, in that order, so
//! that whatever was interrupted can be asked for again.

use pontoon_model::resource;
use pontoon_objects::{DeleteOptions, Objects};
use pontoon_store::{Read, Store};

use crate::cluster::{NodeRecord, Records, no_such_node};
use crate::member::Member;
use crate::quorum::{is_alive, tolerance};
use crate::rpc::{Refusal, chain};

/// Takes another node out of this manager's cluster, one that is alive only when forced. Answers with what is to be
/// known of the managers that stay.
///
/// # Errors
/// When there is no such node, it is alive, or it cannot be spared.
pub(crate) async fn take_out(
    member: &Member,
    name: &str,
    force: bool,
) -> Result<Option<String>, Refusal> {
    let manager = member.manager()?.with_quorum()?;
    let nodes = manager.records.nodes(Read::Linearizable).await?;
    let record = nodes.iter().find(|node| node.name == name);
    let record = record.ok_or_else(|| no_such_node(name))?;
    let members = member.gossip().members().borrow().clone();
    if members.iter().any(|m| m.name == name && is_alive(m)) && !force {
        return Err(Refusal::conflict(format!(
            "{name} is alive; run `pontoon leave` on it, or remove it all the same with --force"
        )));
    }
    if record.name == member.membership().node {
        return Err(Refusal::conflict("this node cannot remove itself; `pontoon leave` does that"));
    }
    remove(&manager.store, &manager.objects, record).await?;
    if let Err(error) = member.gossip().force_leave(name).await {
        tracing::debug!(%error, node = name, "forget a removed node");
    }
    Ok(warning_without(&nodes, name))
}

/// What is to be known when this one of the nodes is a manager no more.
#[must_use]
pub(crate) fn warning_without(nodes: &[NodeRecord], name: &str) -> Option<String> {
    let voters = || nodes.iter().filter(|node| node.has_vote());
    let staying = voters().filter(|node| node.name != name).count();
    if staying == voters().count() { None } else { tolerance(staying) }
}

/// Removes a node. Durable on a quorum when this returns.
///
/// # Errors
/// When the managers that would be left are no quorum, or the store cannot answer.
pub(crate) async fn remove(
    store: &Store,
    objects: &Objects,
    node: &NodeRecord,
) -> Result<(), Refusal> {
    let is_member = store.members().iter().any(|status| status.member.id == node.store);
    if is_member {
        store.remove_member(node.store).await.map_err(|e| {
            Refusal::conflict(format!(
                "{} cannot be taken from the managers: {}",
                node.name,
                chain(&e)
            ))
        })?;
    }
    delete_object(objects, node).await?;
    Records::new(store.clone()).remove_node(node).await?;
    // Once more: until its record was gone the node could report, which makes its object anew.
    delete_object(objects, node).await
}

async fn delete_object(objects: &Objects, node: &NodeRecord) -> Result<(), Refusal> {
    let options = DeleteOptions::default();
    match objects.delete(resource::NODES, None, &node.name, &options).await {
        Err(status) if status.code != 404 => Err(Refusal::unavailable(status.message)),
        _ => Ok(()),
    }
}
