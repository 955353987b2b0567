//! Taking a node out of the cluster: out of the store's members, its object, its record, in that order, so
//! that whatever was interrupted can be asked for again.

use pontoon_model::resource;
use pontoon_objects::{DeleteOptions, Objects};
use pontoon_store::Store;

use crate::cluster::{NodeRecord, Records};
use crate::rpc::{Refusal, chain};

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
