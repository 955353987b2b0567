//! One object in the cache: as it is stored, and typed where a reconciler reads its fields.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pontoon_model::object::{BadObject, Meta, Object};
use pontoon_model::resource::{self, Typed};

use crate::key::Key;

/// An object could not be read as its own kind; it was stored by something that did not validate.
#[derive(Debug, thiserror::Error)]
#[error("take {key} into the controllers' cache: {source}")]
pub struct Unreadable {
    pub key: Key,
    pub source: BadObject,
}

/// An object that the cache holds.
#[derive(Clone, Debug)]
pub struct Entry {
    pub object: Object,
    kind: Kind,
}

/// The kinds that reconcilers read; of all others they need the metadata only.
#[derive(Clone, Debug)]
enum Kind {
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    ServiceAccount(Arc<ServiceAccount>),
    Endpoints(Arc<Endpoints>),
    EndpointSlice(Arc<EndpointSlice>),
    Deployment(Arc<Deployment>),
    ReplicaSet(Arc<ReplicaSet>),
    DaemonSet(Arc<DaemonSet>),
    ControllerRevision(Arc<ControllerRevision>),
    Plain,
}

impl Entry {
    /// Reads an object, with its resourceVersion in the typed metadata.
    pub fn read(key: &Key, object: Object) -> Result<Self, Unreadable> {
        let r = key.resource;
        let kind = if r == resource::PODS {
            Kind::Pod(typed(key, &object)?)
        } else if r == resource::NODES {
            Kind::Node(typed(key, &object)?)
        } else if r == resource::NAMESPACES {
            Kind::Namespace(typed(key, &object)?)
        } else if r == resource::SERVICES {
            Kind::Service(typed(key, &object)?)
        } else if r == resource::SERVICE_ACCOUNTS {
            Kind::ServiceAccount(typed(key, &object)?)
        } else if r == resource::ENDPOINTS {
            Kind::Endpoints(typed(key, &object)?)
        } else if r == resource::ENDPOINT_SLICES {
            Kind::EndpointSlice(typed(key, &object)?)
        } else if r == resource::DEPLOYMENTS {
            Kind::Deployment(typed(key, &object)?)
        } else if r == resource::REPLICA_SETS {
            Kind::ReplicaSet(typed(key, &object)?)
        } else if r == resource::DAEMON_SETS {
            Kind::DaemonSet(typed(key, &object)?)
        } else if r == resource::CONTROLLER_REVISIONS {
            Kind::ControllerRevision(typed(key, &object)?)
        } else {
            Kind::Plain
        };
        Ok(Self { object, kind })
    }

    /// The metadata, which every object has.
    pub fn meta(&self) -> &Meta {
        &self.object.meta
    }

    /// The object as `K`, if that is its kind and one that the cache reads.
    pub fn get<K: Cached>(&self) -> Option<&Arc<K>> {
        K::pick(self)
    }

    /// The uid of the owner that controls the object.
    pub fn controller(&self) -> Option<&str> {
        self.meta().controller().map(|o| o.uid.as_str())
    }
}

fn typed<K: Typed>(key: &Key, object: &Object) -> Result<Arc<K>, Unreadable> {
    let unreadable = |source| Unreadable { key: key.clone(), source };
    object.typed().map(Arc::new).map_err(unreadable)
}

/// A kind that the cache holds typed.
pub trait Cached: Typed + Sized {
    fn pick(entry: &Entry) -> Option<&Arc<Self>>;
}

macro_rules! cached {
    ($($kind:ident),*) => {$(
        impl Cached for $kind {
            fn pick(entry: &Entry) -> Option<&Arc<Self>> {
                match &entry.kind {
                    Kind::$kind(typed) => Some(typed),
                    _ => None,
                }
            }
        }
    )*};
}

cached!(
    Pod,
    Node,
    Namespace,
    Service,
    ServiceAccount,
    Endpoints,
    EndpointSlice,
    Deployment,
    ReplicaSet,
    DaemonSet,
    ControllerRevision
);
