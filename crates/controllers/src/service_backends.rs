//! The pods behind a service, as endpoints and endpoint slices have them in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pontoon_model::resource;

use crate::cache::{Cache, Change};
use crate::key::Key;
use crate::pod_state;

/// A port as pods serve it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackendPort {
    pub(crate) name: String,
    pub(crate) number: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// One pod behind a service.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) pod: Arc<Pod>,
    pub(crate) address: String,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) hostname: Option<String>,
    /// Answers: its readiness holds and its node lives.
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// Gets new connections.
    pub(crate) ready: bool,
}

impl Backend {
    pub(crate) fn reference(&self) -> ObjectReference {
        let meta = &self.pod.metadata;
        ObjectReference {
            kind: Some("Pod".to_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// Backends by the ports they serve: a named port may be another number in another pod.
pub(crate) type ByPorts = BTreeMap<Vec<BackendPort>, Vec<Backend>>;

/// The services that a change may concern.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    let mut keys = Vec::new();
    if change.key.is(resource::SERVICES) {
        keys.push(change.key.clone());
    } else if change.key.is(resource::NODES) {
        if change.liveness || answers(change) {
            for pod in cache.pods_on(&change.key.name) {
                let labels = pod.metadata.labels.as_ref();
                select(cache, pod.metadata.namespace.as_deref(), labels, &mut keys);
            }
        }
    } else if change.key.is(resource::PODS) {
        for state in change.states() {
            select(cache, change.key.namespace.as_deref(), Some(&state.meta().labels), &mut keys);
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Whether the node's zone changed or the node came or went.
fn answers(change: &Change) -> bool {
    let zone = |e: &Option<Arc<crate::entry::Entry>>| e.as_ref().map(|e| zone_of(e.get::<Node>()));
    zone(&change.old) != zone(&change.new)
}

fn zone_of(node: Option<&Arc<Node>>) -> Option<String> {
    node?.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

fn select(
    cache: &Cache,
    namespace: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
    keys: &mut Vec<Key>,
) {
    let Some(labels) = labels else { return };
    for service in cache.list::<Service>(namespace) {
        let selects = selector(service)
            .is_some_and(|s| s.iter().all(|(key, value)| labels.get(key) == Some(value)));
        if selects {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            keys.push(Key::new(resource::SERVICES, namespace, name));
        }
    }
}

/// The labels that a service selects pods by; `None` if somebody else says where it leads.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|s| !s.is_empty() && !external)
}

/// The backends of a service, in the order of their pods' names.
pub(crate) fn of(service: &Service, cache: &Cache) -> ByPorts {
    let mut groups = ByPorts::new();
    let (Some(spec), Some(selector)) = (&service.spec, selector(service)) else { return groups };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    for pod in cache.pods_labelled(namespace, selector) {
        let Some(backend) = backend(service, pod, cache) else { continue };
        let wanted = spec.ports.as_deref().unwrap_or_default();
        let mut ports: Vec<BackendPort> = wanted.iter().filter_map(|p| port(p, pod)).collect();
        ports.sort();
        // A headless service may be without ports; any other needs one that the pod has.
        if !ports.is_empty() || (headless && wanted.is_empty()) {
            groups.entry(ports).or_default().push(backend);
        }
    }
    groups
}

fn backend(service: &Service, pod: &Arc<Pod>, cache: &Cache) -> Option<Backend> {
    if pod_state::is_finished(pod) {
        return None;
    }
    let address = pod_state::address(pod)?.to_owned();
    let node = pod_state::node(pod).map(str::to_owned);
    let dead = node.as_deref().is_some_and(|n| cache.is_dead(n));
    let spec = pod.spec.as_ref()?;
    let eager = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let serving = pod_state::is_ready(pod) && !dead;
    let terminating = pod_state::is_terminating(pod);
    let zone = node.as_deref().and_then(|n| zone_of(cache.node(n)));
    let within = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(Backend {
        pod: Arc::clone(pod),
        address,
        node,
        zone,
        hostname: spec.hostname.clone().filter(|h| within && !h.is_empty()),
        serving,
        terminating,
        ready: eager || (serving && !terminating),
    })
}

fn port(port: &ServicePort, pod: &Pod) -> Option<BackendPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
    };
    Some(BackendPort {
        name: port.name.clone().unwrap_or_default(),
        number,
        protocol,
        app_protocol: port.app_protocol.clone(),
    })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
    let same = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
        p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.find(same).map(|p| p.container_port)
}
