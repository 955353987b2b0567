//! [`Objects`]: the one way to objects, for every dialect, controller and node.

use std::sync::Arc;

use ipnet::Ipv4Net;
use pontoon_model::object::Object;
use pontoon_model::resource::{Resource, Typed};
use pontoon_model::status::Status;
use pontoon_store::Store;
use serde_json::Value;

use crate::event_lease::EventLease;
use crate::hub::{Hub, Hubs};
use crate::options::{ListOptions, Sub, WriteOptions};

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
    event_lease: EventLease,
    hubs: Hubs,
}

impl Objects {
    /// Objects on this store, with the default ranges.
    pub fn new(store: Store) -> Self {
        Self::with_config(store, Config::default())
    }

    /// Objects on this store.
    pub fn with_config(store: Store, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                config,
                event_lease: EventLease::default(),
                hubs: Hubs::default(),
            }),
        }
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The ranges in use.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn event_lease(&self) -> &EventLease {
        &self.inner.event_lease
    }

    /// The watch cache of a resource, begun when it is first asked for.
    pub(crate) fn hub(&self, resource: &'static Resource) -> Arc<Hub> {
        self.inner.hubs.get(resource, &self.inner.store)
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
