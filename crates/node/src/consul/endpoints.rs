//! Kubernetes Services as Consul's catalog shows them: each endpoint is an instance on its pod's node, with a check that
//! says whether the pod is ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pontoon_api_consul::cluster::{Check, Service, Status, Texts};
use pontoon_store::KeyValue;

use super::names;
use super::picture::object;

/// The label by which a slice says whose endpoints it has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name of a Service.
pub(super) type ServiceKey = (String, String);

/// A Service, as far as it matters here.
pub(super) struct Described {
    key: ServiceKey,
    /// Its name in Consul's catalog.
    name: String,
    created: u64,
    /// The names of its ports in its own order.
    ports: Vec<String>,
}

impl Described {
    pub(super) fn read(kv: &KeyValue) -> Option<Described> {
        let object: ServiceObject = object(kv)?;
        let spec = object.spec.unwrap_or_default();
        let key = (object.metadata.namespace?, object.metadata.name?);
        let name = names::service(&key.0, &key.1)?;
        let ports = spec.ports.into_iter().flatten().map(|port| port.name.unwrap_or_default());
        Some(Described { key, name, created: kv.create_revision, ports: ports.collect() })
    }
}

/// The endpoints of a Service, or some of them.
pub(super) struct Endpoints {
    service: ServiceKey,
    /// By name.
    ports: Vec<(String, u16)>,
    all: Vec<Endpoint>,
    created: u64,
    changed: u64,
}

struct Endpoint {
    address: String,
    node: String,
    /// The pod's name, or its address if it is told no pod's.
    pod: String,
    is_ready: bool,
}

impl Endpoints {
    pub(super) fn read(kv: &KeyValue) -> Option<Endpoints> {
        let slice: EndpointSlice = object(kv)?;
        let name = slice.metadata.labels?.remove(SERVICE_NAME)?;
        let ports = slice.ports.into_iter().flatten().filter_map(|port| {
            Some((port.name.unwrap_or_default(), u16::try_from(port.port?).ok()?))
        });
        let all = slice.endpoints.into_iter().flatten().filter_map(|endpoint| {
            let address = endpoint.addresses.into_iter().next()?;
            let pod = endpoint.target_ref.and_then(|target| target.name);
            Some(Endpoint {
                // What is on no node of the cluster has no place in Consul's catalog.
                node: endpoint.node_name?,
                pod: pod.unwrap_or_else(|| address.clone()),
                // Nothing said means that it is.
                is_ready: endpoint.conditions.and_then(|c| c.ready).unwrap_or(true),
                address,
            })
        });
        Some(Endpoints {
            service: (slice.metadata.namespace?, name),
            ports: ports.collect(),
            all: all.collect(),
            created: kv.create_revision,
            changed: kv.mod_revision,
        })
    }
}

/// An instance with its check.
pub(super) type Instance = (Service, Check);

/// All instances by node and id.
pub(super) fn instances<'t>(
    services: impl Iterator<Item = &'t Described>,
    slices: impl Iterator<Item = &'t Endpoints>,
) -> BTreeMap<String, BTreeMap<String, Instance>> {
    let services = holders(services);
    let mut instances = BTreeMap::<String, BTreeMap<String, Instance>>::new();
    for slice in slices {
        let Some(service) = services.get(&slice.service) else { continue };
        for endpoint in &slice.all {
            let instance = instance(service, slice, endpoint);
            let there = instances.entry(endpoint.node.clone()).or_default();
            there.entry(instance.0.id.clone()).or_insert(instance);
        }
    }
    instances
}

/// The Services by key that have their names: `a-b` in `default` and `a` in `b` want the same one, and it stays with the
/// one that had it first, so that nobody takes over the clients of another.
fn holders<'t>(
    services: impl Iterator<Item = &'t Described>,
) -> BTreeMap<&'t ServiceKey, &'t Described> {
    let mut by_name = BTreeMap::<&str, &Described>::new();
    for service in services {
        let holder = by_name.entry(&service.name).or_insert(service);
        if (service.created, &service.key) < (holder.created, &holder.key) {
            *holder = service;
        }
    }
    by_name.into_values().map(|service| (&service.key, service)).collect()
}

fn instance(service: &Described, slice: &Endpoints, endpoint: &Endpoint) -> Instance {
    let (namespace, name) = &service.key;
    let numbered = |wanted: &String| slice.ports.iter().find(|(name, _)| name == wanted);
    let first = service.ports.iter().find_map(numbered).or(slice.ports.first());
    let id = format!("{namespace}/{name}/{}", endpoint.pod);
    let told = [("external-source", "kubernetes"), ("external-k8s-ns", namespace.as_str())];
    let mut meta: Texts = told.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let named = slice.ports.iter().filter(|(name, _)| !name.is_empty());
    meta.extend(named.map(|(name, number)| (format!("port-{name}"), number.to_string())));
    let check = check(&id, slice, endpoint);
    let instance = Service {
        id,
        name: service.name.clone(),
        address: endpoint.address.clone(),
        port: first.map_or(0, |(_, number)| *number),
        meta,
        create_index: slice.created,
        modify_index: slice.changed,
        ..Service::default()
    };
    (instance, check)
}

fn check(service_id: &str, slice: &Endpoints, endpoint: &Endpoint) -> Check {
    let (status, word) = match endpoint.is_ready {
        true => (Status::Passing, "ready"),
        false => (Status::Critical, "not ready"),
    };
    Check {
        id: format!("{service_id}/ready"),
        name: "Pod Readiness".to_owned(),
        status,
        output: format!("{} is {word}", endpoint.pod),
        service_id: service_id.to_owned(),
        create_index: slice.created,
        modify_index: slice.changed,
        ..Check::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use serde_json::{Value, json};

    fn service(namespace: &str, name: &str, created: u64) -> Described {
        let body = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "ports": [{ "name": "http", "port": 80 }, { "name": "admin", "port": 81 }] },
        });
        Described::read(&record(body.to_string(), created)).unwrap()
    }

    fn slice(namespace: &str, service: &str, endpoints: &Value) -> Endpoints {
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "s", "namespace": namespace, "labels": { SERVICE_NAME: service },
            },
            "ports": [{ "name": "admin", "port": 9001 }, { "name": "http", "port": 9000 }],
            "endpoints": endpoints,
        });
        Endpoints::read(&record(body.to_string(), 7)).unwrap()
    }

    fn endpoint(pod: &str, ready: bool) -> Value {
        json!({
            "addresses": ["10.244.0.9"], "nodeName": "n", "conditions": { "ready": ready },
            "targetRef": { "kind": "Pod", "name": pod },
        })
    }

    #[test]
    fn an_endpoint_is_an_instance() {
        let outside = json!({ "addresses": ["192.0.2.1"] });
        let slice = slice("default", "web", &json!([endpoint("p", false), outside]));
        let all = instances([service("default", "web", 1)].iter(), [slice].iter());
        assert_eq!(all.len(), 1, "what is on no node is left out");
        let (service, check) = &all["n"]["default/web/p"];
        assert_eq!(
            (service.name.as_str(), service.address.as_str(), service.port),
            ("web", "10.244.0.9", 9000)
        );
        assert_eq!(service.meta["port-admin"], "9001");
        assert_eq!((check.status, check.output.as_str()), (Status::Critical, "p is not ready"));
        assert_eq!(check.service_id, service.id);
    }

    #[test]
    fn a_name_stays_with_whom_had_it_first() {
        let slices = [
            slice("default", "a-b", &json!([endpoint("p", true)])),
            slice("b", "a", &json!([endpoint("q", true)])),
        ];
        let ids = |services: [Described; 2]| {
            let all = instances(services.iter(), slices.iter());
            all["n"].keys().cloned().collect::<Vec<_>>()
        };
        let first = |default, b| ids([service("default", "a-b", default), service("b", "a", b)]);
        assert_eq!(first(1, 2), ["default/a-b/p"]);
        assert_eq!(first(2, 1), ["b/a/q"]);
    }
}
