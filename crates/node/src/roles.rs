//! Giving a node another role. The node itself carries it out when it hears of it.

use pontoon_store::{Read, Store};

use crate::cluster::{NodeRecord, Records, no_such_node};
use crate::identity::Role;
use crate::rpc::Refusal;

/// Makes a node a manager, one without a vote where it is to be a `learner` first: writes its role; durable on a quorum
/// when it returns.
///
/// # Errors
/// When there is no such node, or it is about to become a worker.
pub(crate) async fn promote(
    records: &Records,
    store: &Store,
    name: &str,
    learner: bool,
) -> Result<NodeRecord, Refusal> {
    let nodes = records.nodes(Read::Linearizable).await?;
    let node = nodes.iter().find(|node| node.name == name).ok_or_else(|| no_such_node(name))?;
    let is_leaving = |m: &pontoon_store::MemberStatus| m.member.id == node.store;
    if node.role == Role::Worker && store.members().iter().any(is_leaving) {
        return Err(Refusal::conflict(format!(
            "{name} is about to become a worker; promote it again in a moment, when that is done"
        )));
    }
    records.promote(name, learner).await
}
