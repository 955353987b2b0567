//! Slices of the Endpoints that users write for services without a selector, so that nodes, which
//! read only slices, serve them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pontoon_model::resource;

use crate::cache::{Cache, Change};
use crate::edit;
use crate::endpoint_slices::{self, MANAGED_BY, SERVICE_NAME};
use crate::generated_name;
use crate::key::Key;
use crate::plan::{Action, Plan};
use crate::service_backends;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// A user's word that these Endpoints are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are a lock, not addresses.
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored at most, as Kubernetes has it.
const MOST_ADDRESSES: usize = 1_000;

/// The Endpoints, by name, whose slices may change.
pub(crate) fn keys(change: &Change, _cache: &Cache) -> Vec<Key> {
    let namespace = change.key.namespace.as_deref();
    let named = |name: &str| Key::new(resource::ENDPOINTS, namespace, name);
    if !change.key.is(resource::ENDPOINT_SLICES) {
        return vec![named(&change.key.name)];
    }
    let labels = change.states().filter_map(|s| s.meta().labels.get(SERVICE_NAME));
    let mut keys: Vec<Key> = labels.map(|name| named(name)).collect();
    keys.dedup();
    keys
}

/// Makes the slices say what the Endpoints of the user say.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let mut left: BTreeMap<String, Arc<EndpointSlice>> =
        endpoint_slices::managed_by(MANAGER, key, cache)
            .into_iter()
            .map(|slice| (slice.metadata.name.clone().unwrap_or_default(), slice))
            .collect();
    for wanted in wanted(key, cache) {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        match left.remove(&name) {
            None => plan.push(Action::Create {
                resource: resource::ENDPOINT_SLICES,
                namespace: key.namespace.clone(),
                body: edit::to_json(&wanted),
            }),
            Some(existing) if !is_same(&existing, &wanted) => {
                let mut updated = EndpointSlice::clone(&existing);
                updated.metadata.labels = wanted.metadata.labels;
                updated.endpoints = wanted.endpoints;
                updated.ports = wanted.ports;
                let key = Key::new(resource::ENDPOINT_SLICES, key.namespace.as_deref(), &name);
                plan.push(Action::Update { key, body: edit::to_json(&updated) });
            }
            Some(_) => {}
        }
    }
    plan.actions.extend(left.values().map(|slice| endpoint_slices::delete(slice)));
    plan
}

fn is_same(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    (&a.endpoints, &a.ports, &a.metadata.labels) == (&b.endpoints, &b.ports, &b.metadata.labels)
}

/// One slice a subset and address family; none for a service whose pods are selected.
fn wanted(key: &Key, cache: &Cache) -> Vec<EndpointSlice> {
    let namespace = key.namespace.as_deref();
    let service = cache.get::<Service>(namespace, &key.name);
    let selects = |s: &Arc<Service>| service_backends::selector(s).is_some();
    let unselected =
        service.is_some_and(|s| s.metadata.deletion_timestamp.is_none() && !selects(s));
    let endpoints = cache.get::<Endpoints>(namespace, &key.name);
    let Some(endpoints) = endpoints.filter(|e| unselected && is_mirrored(e)) else {
        return Vec::new();
    };
    let subsets = endpoints.subsets.iter().flatten().enumerate();
    subsets
        .flat_map(|(index, subset)| {
            ["IPv4", "IPv6"].into_iter().filter_map(move |family| {
                let listed = listed(subset, family);
                (!listed.is_empty())
                    .then(|| slice(key, endpoints, (index, family), (subset, listed)))
            })
        })
        .collect()
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|l| l.get(SKIP)).is_some_and(|v| v == "true");
    let lock = meta.annotations.as_ref().is_some_and(|a| a.contains_key(LOCK));
    !skipped && !lock && meta.deletion_timestamp.is_none()
}

fn listed(subset: &EndpointSubset, family: &str) -> Vec<Endpoint> {
    let is_family = |address: &&EndpointAddress| match address.ip.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv4() == (family == "IPv4"),
        Err(_) => false,
    };
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let waiting = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
    let both = ready.chain(waiting).filter(|(address, _)| is_family(address));
    both.take(MOST_ADDRESSES).map(|(address, ready)| endpoint(address, ready)).collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// The slice of one subset and family. Its name is a function of them, so that a plan made twice
/// makes it once.
fn slice(
    key: &Key,
    endpoints: &Endpoints,
    (index, family): (usize, &str),
    (subset, listed): (&EndpointSubset, Vec<Endpoint>),
) -> EndpointSlice {
    let uid = endpoints.metadata.uid.as_deref().unwrap_or_default();
    let suffix = generated_name::letters(&(uid, index, family), 5);
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: Some(listed),
        ports: Some(ports.collect()),
        metadata: ObjectMeta {
            name: Some(generated_name::join(&key.name, &suffix)),
            namespace: key.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![edit::controller_reference(key, uid)]),
            ..ObjectMeta::default()
        },
    }
}
