//! Endpoints: the addresses behind a service, in the form that older clients read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service,
};
use pontoon_model::resource;

use crate::cache::{Cache, Change};
use crate::edit;
use crate::key::Key;
use crate::plan::{Action, Plan, Propagation};
use crate::service_backends::{self, Backend, BackendPort};

/// Marks the objects that are ours, so that those of users are left alone.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// The object is cut here and says so; slices have no such bound.
const MOST_ADDRESSES: usize = 1_000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The services whose endpoints may change.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::ENDPOINTS) {
        return vec![Key::new(
            resource::SERVICES,
            change.key.namespace.as_deref(),
            &change.key.name,
        )];
    }
    service_backends::keys(change, cache)
}

/// Makes the Endpoints say what the service's pods are.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let namespace = key.namespace.as_deref();
    let existing = cache.get::<Endpoints>(namespace, &key.name);
    let service = cache.get::<Service>(namespace, &key.name);
    let service = service.filter(|s| s.metadata.deletion_timestamp.is_none());
    let Some(service) = service.filter(|s| service_backends::selector(s).is_some()) else {
        plan.actions.extend(existing.filter(|e| is_ours(e)).map(|e| delete(e)));
        return plan;
    };
    let wanted = wanted(service, cache);
    let target = Key::new(resource::ENDPOINTS, namespace, &key.name);
    match existing {
        None => plan.push(Action::Create {
            resource: resource::ENDPOINTS,
            namespace: key.namespace.clone(),
            body: edit::to_json(&wanted),
        }),
        Some(existing) if !is_same(existing, &wanted) => {
            let mut updated = Endpoints::clone(existing);
            updated.metadata.labels.clone_from(&wanted.metadata.labels);
            updated.metadata.annotations.clone_from(&wanted.metadata.annotations);
            updated.subsets = wanted.subsets;
            plan.push(Action::Update { key: target, body: edit::to_json(&updated) });
        }
        Some(_) => {}
    }
    plan
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|l| l.get(MANAGED_BY)).is_some_and(|m| m == MANAGER)
}

fn is_same(a: &Endpoints, b: &Endpoints) -> bool {
    let of = |e: &Endpoints| {
        let subsets = e.subsets.clone().unwrap_or_default();
        (subsets, e.metadata.labels.clone().unwrap_or_default())
    };
    of(a) == of(b)
}

fn delete(endpoints: &Endpoints) -> Action {
    let meta = &endpoints.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    Action::Delete {
        key: Key::new(resource::ENDPOINTS, meta.namespace.as_deref(), name),
        uid: meta.uid.clone().unwrap_or_default(),
        grace_seconds: None,
        propagation: Propagation::Background,
        only_if_absent: Vec::new(),
    }
}

fn wanted(service: &Service, cache: &Cache) -> Endpoints {
    let mut left = MOST_ADDRESSES;
    let mut cut = false;
    let mut subsets = Vec::new();
    for (ports, backends) in service_backends::of(service, cache) {
        let stays = |b: &&Backend| b.ready || !b.terminating;
        let staying: Vec<&Backend> = backends.iter().filter(stays).collect();
        cut |= staying.len() > left;
        let taken = &staying[..staying.len().min(left)];
        left -= taken.len();
        let (ready, waiting): (Vec<_>, Vec<_>) = taken.iter().partition(|b| b.ready);
        let list = |backends: Vec<&&Backend>| {
            let addresses: Vec<EndpointAddress> =
                backends.into_iter().map(|b| address(b)).collect();
            Some(addresses).filter(|a| !a.is_empty())
        };
        if !taken.is_empty() {
            subsets.push(EndpointSubset {
                addresses: list(ready),
                not_ready_addresses: list(waiting),
                ports: Some(ports.iter().map(port).collect::<Vec<_>>()).filter(|p| !p.is_empty()),
            });
        }
    }
    let mut wanted = Endpoints::default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    wanted.metadata.name.clone_from(&service.metadata.name);
    wanted.metadata.namespace.clone_from(&service.metadata.namespace);
    wanted.metadata.labels = Some(labels);
    if cut {
        let said = BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]);
        wanted.metadata.annotations = Some(said);
    }
    wanted.subsets = Some(subsets).filter(|s| !s.is_empty());
    wanted
}

fn address(backend: &Backend) -> EndpointAddress {
    EndpointAddress {
        ip: backend.address.clone(),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.reference()),
    }
}

fn port(port: &BackendPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
