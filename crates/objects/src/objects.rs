//! [`Objects`]: the one way to objects, for every dialect, controller and node.

use std::sync::Arc;

use ipnet::Ipv4Net;
use pontoon_model::object::Object;
use pontoon_model::resource::{Resource, Typed};
use pontoon_model::status::Status;
use pontoon_store::Store;
use serde_json::Value;

use crate::list::List;
use crate::options::{DeleteOptions, ListOptions, Patch, Sub, WatchOptions, WriteOptions};
use crate::watch::ObjectWatch;

/// The ranges that services draw from; the same on every manager of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub service_cidr: Ipv4Net,
    /// The first and the last port that services get on nodes.
    pub node_ports: (u16, u16),
}

/// The objects of the cluster. Cheap to clone; clones share the watch caches.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    config: Config,
}

impl Objects {
    /// Objects on this store, with the default ranges.
    pub fn new(store: Store) -> Self {
        Self::with_config(store, Config::default())
    }

    /// Objects on this store.
    pub fn with_config(store: Store, config: Config) -> Self {
        Self { inner: Arc::new(Inner { store, config }) }
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The ranges in use.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Makes what every cluster has: its four namespaces. May be called again at any time.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        Err(pending())
    }

    /// The newest state of one object (linearizable).
    pub async fn get(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Object, Status> {
        let _ = (resource, namespace, name);
        Err(pending())
    }

    /// The objects of a resource in one namespace or in all.
    pub async fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let _ = (resource, namespace, options);
        Err(pending())
    }

    /// Creates an object: defaults, validation, admission, then one transaction.
    pub async fn create(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let _ = (resource, namespace, body, options);
        Err(pending())
    }

    /// Replaces an object, or its status or scale. Fails with Conflict if the body has a
    /// resourceVersion and the object is at another.
    pub async fn update(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        body: Value,
        sub: Sub,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let _ = (resource, namespace, name, body, sub, options);
        Err(pending())
    }

    /// Changes an object, or its status or scale. Tries again by itself when somebody else writes
    /// in between, unless the patch names a resourceVersion.
    pub async fn patch(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch,
        sub: Sub,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let _ = (resource, namespace, name, patch, sub, options);
        Err(pending())
    }

    /// Deletes an object, or begins to: pods on a node, objects with finalizers and namespaces get
    /// a deletionTimestamp first. Answers with the object as it is then or was last.
    pub async fn delete(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Status> {
        let _ = (resource, namespace, name, options);
        Err(pending())
    }

    /// Deletes the objects that the list options select; answers with them.
    pub async fn delete_collection(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        selected: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let _ = (resource, namespace, selected, options);
        Err(pending())
    }

    /// Follows the changes of a resource in one namespace or in all.
    pub async fn watch(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        options: WatchOptions,
    ) -> Result<ObjectWatch, Status> {
        let _ = (resource, namespace, options);
        Err(pending())
    }

    /// The autoscaling/v1 Scale of a Deployment or ReplicaSet.
    pub async fn scale(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Status> {
        let _ = (resource, namespace, name);
        Err(pending())
    }

    /// Assigns a pod to a node, once. `uid` guards against a pod of the same name.
    pub async fn bind(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        node: &str,
    ) -> Result<Object, Status> {
        let _ = (namespace, pod, uid, node);
        Err(pending())
    }

    /// Evicts a pod: a deletion that may be refused with 429.
    pub async fn evict(
        &self,
        namespace: &str,
        pod: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Status> {
        let _ = (namespace, pod, options);
        Err(pending())
    }

    /// [`Objects::get`], typed.
    pub async fn get_as<K: Typed>(&self, namespace: Option<&str>, name: &str) -> Result<K, Status> {
        typed(&self.get(K::RESOURCE, namespace, name).await?)
    }

    /// [`Objects::list`], typed.
    pub async fn list_as<K: Typed>(
        &self,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Vec<K>, Status> {
        let list = self.list(K::RESOURCE, namespace, options).await?;
        list.items.iter().map(typed).collect()
    }

    /// [`Objects::create`], typed, in the namespace that the object names.
    pub async fn create_as<K: Typed>(&self, object: &K) -> Result<K, Status> {
        let namespace = object.metadata().namespace.clone();
        let body = value(object)?;
        let options = WriteOptions::default();
        typed(&self.create(K::RESOURCE, namespace.as_deref(), body, &options).await?)
    }

    /// [`Objects::update`], typed.
    pub async fn update_as<K: Typed>(&self, object: &K) -> Result<K, Status> {
        self.write_as(object, Sub::None).await
    }

    /// [`Objects::update`] of the status, typed.
    pub async fn update_status_as<K: Typed>(&self, object: &K) -> Result<K, Status> {
        self.write_as(object, Sub::Status).await
    }

    async fn write_as<K: Typed>(&self, object: &K, sub: Sub) -> Result<K, Status> {
        let meta = object.metadata();
        let namespace = meta.namespace.as_deref();
        let name = meta.name.as_deref().unwrap_or_default();
        let options = WriteOptions::default();
        typed(&self.update(K::RESOURCE, namespace, name, value(object)?, sub, &options).await?)
    }
}

impl Default for Config {
    fn default() -> Self {
        use pontoon_model::names;
        let service_cidr = names::SERVICE_CIDR.parse().expect("the default range is well formed");
        Self { service_cidr, node_ports: names::NODE_PORTS }
    }
}

fn typed<K: Typed>(object: &Object) -> Result<K, Status> {
    object.typed().map_err(|e| Status::internal(e.to_string()))
}

fn value<K: Typed>(object: &K) -> Result<Value, Status> {
    pontoon_model::object::value_of(object).map_err(|e| Status::internal(e.to_string()))
}

fn pending() -> Status {
    Status::service_unavailable("objects are not connected to the store yet")
}
