//! One object's way into and out of the store.

use std::sync::Arc;

use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use pontoon_store::{KeyValue, Range, Read};

use crate::failure::{of_object, of_read};
use crate::objects::Objects;

/// The largest object, in bytes of its stored JSON.
const MAX_BYTES: usize = 3 << 19;

/// An object from what the store holds.
pub(crate) fn read(resource: &'static Resource, kv: &KeyValue) -> Result<Object, Status> {
    Object::from_stored(resource, kv.value.clone(), kv.mod_revision).map_err(|e| of_object(&e))
}

/// Refuses what is too large to be stored.
pub(crate) fn bounded(object: Object) -> Result<Object, Status> {
    let bytes = object.stored().len();
    if bytes > MAX_BYTES {
        let message =
            format!("Request entity too large: limit is {MAX_BYTES}, the object has {bytes} bytes");
        return Err(Status::too_large(message));
    }
    Ok(object)
}

impl Objects {
    /// What the store holds at a key.
    pub(crate) async fn key_value(
        &self,
        key: String,
        read: Read,
    ) -> Result<Option<Arc<KeyValue>>, Status> {
        let found = self.store().range(Range::key(key), read).await.map_err(|e| of_read(&e))?;
        Ok(found.kvs.into_iter().next())
    }

    /// An object that must be there.
    pub(crate) async fn load(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        how: Read,
    ) -> Result<Object, Status> {
        let plain = |part: &str| !part.is_empty() && !part.contains('/');
        if !plain(name) || namespace.is_some_and(|n| resource.namespaced && !plain(n)) {
            return Err(Status::not_found(resource, name));
        }
        let kv = self.key_value(resource.key(namespace, name), how).await?;
        read(resource, &*kv.ok_or_else(|| Status::not_found(resource, name))?)
    }
}
