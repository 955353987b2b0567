//! The service `kubernetes` in the namespace `default`: where pods find the cluster's API. Its endpoints are the managers
//! that answer, so that a connection never waits for one that is dead.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Node, Service,
};
use pontoon_model::{names, resource};
use serde_json::{Value, json};

use crate::cache::{Cache, Change, Liveness};
use crate::edit;
use crate::key::Key;
use crate::plan::{Action, Plan};

const NAMESPACE: Option<&str> = Some(names::NAMESPACE_DEFAULT);
const NAME: &str = names::API_SERVICE;
/// The port of the service, and the one where managers serve it.
const PORT: i32 = 443;
const TARGET_PORT: i32 = 6443;
const PORT_NAME: &str = "https";

/// The service, whenever it, its endpoints or a node changes.
pub(crate) fn keys(change: &Change, _cache: &Cache) -> Vec<Key> {
    let is_own = change.key.namespace.as_deref() == NAMESPACE && change.key.name == NAME;
    let concerns = is_own || change.key.is(resource::NODES);
    concerns.then(|| Key::new(resource::SERVICES, NAMESPACE, NAME)).into_iter().collect()
}

/// Makes the service and keeps its endpoints; a service of that name with another address is a user's own.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let known = cache.get::<Endpoints>(NAMESPACE, NAME);
    let managers = managers(cache, known.map(AsRef::as_ref));
    // Until one is known there is nobody to lead to.
    if managers.is_empty() {
        return plan;
    }
    match cache.get::<Service>(NAMESPACE, NAME) {
        None => plan.push(Action::Create {
            resource: resource::SERVICES,
            namespace: key.namespace.clone(),
            body: service(cache.settings.api_address()),
        }),
        Some(service) if is_own(service, cache.settings.api_address()) => {}
        Some(_) => return plan,
    }
    let subsets = Some(vec![subset(managers)]);
    match known {
        None => plan.push(Action::Create {
            resource: resource::ENDPOINTS,
            namespace: key.namespace.clone(),
            body: json!({
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": NAME, "namespace": names::NAMESPACE_DEFAULT},
                "subsets": edit::to_json(&subsets),
            }),
        }),
        Some(existing) if existing.subsets != subsets => {
            let mut updated = Endpoints::clone(existing);
            updated.subsets = subsets;
            let key = Key::new(resource::ENDPOINTS, NAMESPACE, NAME);
            plan.push(Action::Update { key, body: edit::to_json(&updated) });
        }
        Some(_) => {}
    }
    plan
}

fn is_own(service: &Service, address: Ipv4Addr) -> bool {
    let given = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    given.and_then(|text| text.parse().ok()) == Some(address)
}

/// The addresses of the managers whose daemons answer, in their order. Of one that nothing is known of yet, as after a
/// change of leader, what is told stays told.
fn managers(cache: &Cache, told: Option<&Endpoints>) -> Vec<String> {
    let is_told = |node: &Node| {
        let subsets = told.and_then(|told| told.subsets.as_deref()).unwrap_or_default();
        let mut addresses = subsets.iter().flat_map(|subset| subset.addresses.iter().flatten());
        address(node).is_some_and(|ip| addresses.any(|told| told.ip == ip.to_string()))
    };
    let answers = |node: &Node| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match cache.liveness(name) {
            Some(Liveness::Lost | Liveness::DaemonDown) => false,
            Some(_) => true,
            None => is_told(node),
        }
    };
    let is_manager = |node: &Node| {
        let labels = node.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(names::LABEL_CONTROL_PLANE))
    };
    let nodes = cache.list::<Node>(None).filter(|node| is_manager(node) && answers(node));
    let mut addresses: Vec<Ipv4Addr> = nodes.filter_map(|node| address(node)).collect();
    addresses.sort_unstable();
    addresses.iter().map(Ipv4Addr::to_string).collect()
}

fn address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()
}

fn subset(managers: Vec<String>) -> EndpointSubset {
    let address = |ip| EndpointAddress { ip, ..EndpointAddress::default() };
    EndpointSubset {
        addresses: Some(managers.into_iter().map(address).collect()),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: TARGET_PORT,
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
        ..EndpointSubset::default()
    }
}

fn service(address: Ipv4Addr) -> Value {
    let labels = BTreeMap::from([("component", "apiserver"), ("provider", "kubernetes")]);
    let port =
        json!({"name": PORT_NAME, "port": PORT, "protocol": "TCP", "targetPort": TARGET_PORT});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": names::NAMESPACE_DEFAULT, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address.to_string(), "ports": [port]},
    })
}
