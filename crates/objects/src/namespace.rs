//! What a namespace asks of the objects that come into it.

use pontoon_model::names::NAMESPACES_BUILT_IN;
use pontoon_model::resource::{NAMESPACES, Resource};
use pontoon_model::status::Status;
use pontoon_store::{Compare, Read};

use crate::objects::Objects;

impl Objects {
    /// The condition under which an object may be created: its namespace is as it was when it was
    /// seen to be there and not on its way out.
    pub(crate) async fn open_namespace(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        how: Read,
    ) -> Result<Option<Compare>, Status> {
        let Some(namespace) = namespace.filter(|_| resource.namespaced) else { return Ok(None) };
        let found = match self.load(NAMESPACES, None, namespace, how).await {
            // This member may not have heard of it yet.
            Err(status) if status.is_not_found() && how == Read::Local => {
                self.load(NAMESPACES, None, namespace, Read::Linearizable).await?
            }
            other => other?,
        };
        if found.meta.is_terminating() {
            return Err(Status::namespace_terminating(resource, name, namespace));
        }
        Ok(Some(Compare::unchanged(found.key(), found.meta.resource_version)))
    }
}

/// Refuses to delete the namespaces that every cluster has.
pub(crate) fn deletable(resource: &Resource, name: &str) -> Result<(), Status> {
    if *resource == *NAMESPACES && NAMESPACES_BUILT_IN.contains(&name) {
        return Err(Status::forbidden(resource, name, "this namespace may not be deleted"));
    }
    Ok(())
}
