//! EndpointSlices: the addresses behind a service, in pieces, with all that routing asks of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pontoon_model::resource;

use crate::cache::{Cache, Change};
use crate::edit;
use crate::generated_name;
use crate::key::Key;
use crate::plan::{Action, Plan, Propagation};
use crate::service_backends::{self, Backend, BackendPort};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// As many endpoints as a slice has, so that a change is a small write however large the service.
const SLICE: usize = 100;

/// The services whose slices may change.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if !change.key.is(resource::ENDPOINT_SLICES) {
        return service_backends::keys(change, cache);
    }
    let of = |e: &Arc<crate::entry::Entry>| e.meta().labels.get(SERVICE_NAME).cloned();
    let namespace = change.key.namespace.as_deref();
    let mut keys: Vec<Key> = change
        .states()
        .filter_map(of)
        .map(|service| Key::new(resource::SERVICES, namespace, &service))
        .collect();
    keys.dedup();
    keys
}

/// Makes the slices say what the service's pods are, and writes as few of them as can be.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let namespace = key.namespace.as_deref();
    let mut existing = managed_by(MANAGER, key, cache);
    let service = cache.get::<Service>(namespace, &key.name);
    let service = service.filter(|s| s.metadata.deletion_timestamp.is_none());
    if let Some(service) = service.filter(|s| service_backends::selector(s).is_some()) {
        let mut writer = Writer { key, service, cache, plan: &mut plan, created: 0 };
        for (ports, backends) in service_backends::of(service, cache) {
            let ports: Vec<EndpointPort> = ports.iter().map(port).collect();
            let (mine, others) = existing.into_iter().partition(|s| has_ports(s, &ports));
            existing = others;
            writer.write(&ports, mine, backends);
        }
    }
    plan.actions.extend(existing.iter().map(|slice| delete(slice)));
    plan
}

/// The slices of a service that this manager keeps.
pub(crate) fn managed_by(manager: &str, key: &Key, cache: &Cache) -> Vec<Arc<EndpointSlice>> {
    let slices = cache.list::<EndpointSlice>(key.namespace.as_deref());
    let ours = |slice: &&Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        let has = |name, value: &str| labels.and_then(|l| l.get(name)).is_some_and(|v| v == value);
        has(SERVICE_NAME, &key.name)
            && has(MANAGED_BY, manager)
            && slice.metadata.deletion_timestamp.is_none()
    };
    slices.filter(ours).map(Arc::clone).collect()
}

fn has_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    slice.ports.as_deref().unwrap_or_default() == ports
}

/// Writes the slices of one service.
struct Writer<'a> {
    key: &'a Key,
    service: &'a Service,
    cache: &'a Cache,
    plan: &'a mut Plan,
    created: usize,
}

impl Writer<'_> {
    /// Endpoints stay in the slice they are in; new ones fill the room there is, and only what is
    /// left over gets new slices.
    fn write(
        &mut self,
        ports: &[EndpointPort],
        slices: Vec<Arc<EndpointSlice>>,
        backends: Vec<Backend>,
    ) {
        let mut left: BTreeMap<String, Backend> =
            backends.into_iter().map(|b| (b.uid().to_owned(), b)).collect();
        let mut contents: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in slices {
            let listed = slice.endpoints.iter().flatten();
            let kept = listed.filter_map(|e| left.remove(uid(e)?)).map(|b| endpoint(&b)).collect();
            contents.push((slice, kept));
        }
        let mut newcomers: Vec<Endpoint> = left.values().map(endpoint).collect();
        for (_, endpoints) in &mut contents {
            let room = SLICE.saturating_sub(endpoints.len()).min(newcomers.len());
            endpoints.extend(newcomers.drain(..room));
        }
        for (slice, endpoints) in contents {
            if endpoints.is_empty() {
                self.plan.push(delete(&slice));
            } else {
                self.update(&slice, endpoints);
            }
        }
        for endpoints in newcomers.chunks(SLICE) {
            self.create(ports, endpoints);
        }
    }

    fn update(&mut self, slice: &EndpointSlice, endpoints: Vec<Endpoint>) {
        let labels = self.labels();
        let same = slice.endpoints.as_ref() == Some(&endpoints);
        if same && slice.metadata.labels.as_ref() == Some(&labels) {
            return;
        }
        let mut updated = slice.clone();
        updated.endpoints = Some(endpoints);
        updated.metadata.labels = Some(labels);
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let key = Key::new(resource::ENDPOINT_SLICES, self.key.namespace.as_deref(), name);
        self.plan.push(Action::Update { key, body: edit::to_json(&updated) });
    }

    fn create(&mut self, ports: &[EndpointPort], endpoints: &[Endpoint]) {
        let uid = self.service.metadata.uid.as_deref().unwrap_or_default();
        let mut names = (0u64..)
            .map(|n| generated_name::join(&self.key.name, &generated_name::letters(&(uid, n), 5)));
        let free = |name: &String| {
            let key = Key::new(resource::ENDPOINT_SLICES, self.key.namespace.as_deref(), name);
            self.cache.entry(&key).is_none()
        };
        let Some(name) = names.by_ref().filter(free).nth(self.created) else { return };
        self.created += 1;
        let slice = EndpointSlice {
            address_type: "IPv4".to_owned(),
            endpoints: Some(endpoints.to_vec()),
            ports: Some(ports.to_vec()),
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.key.namespace.clone(),
                labels: Some(self.labels()),
                owner_references: Some(vec![edit::controller_reference(self.key, uid)]),
                ..ObjectMeta::default()
            },
        };
        self.plan.push(Action::Create {
            resource: resource::ENDPOINT_SLICES,
            namespace: self.key.namespace.clone(),
            body: edit::to_json(&slice),
        });
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_NAME.to_owned(), self.key.name.clone());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        let spec = self.service.spec.as_ref();
        if spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        labels
    }
}

fn uid(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.reference()),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    }
}

fn port(port: &BackendPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

pub(crate) fn delete(slice: &EndpointSlice) -> Action {
    let meta = &slice.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    Action::Delete {
        key: Key::new(resource::ENDPOINT_SLICES, meta.namespace.as_deref(), name),
        uid: meta.uid.clone().unwrap_or_default(),
        grace_seconds: None,
        propagation: Propagation::Background,
        only_if_absent: Vec::new(),
    }
}
