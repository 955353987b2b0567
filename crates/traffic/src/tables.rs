//! Service tables: what the node's packet filter has to do for every Service, as plain data.
//! Pure: Services and EndpointSlices in, one table out; the same objects give the same table.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label that says which Service an EndpointSlice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// How long a client sticks to its backend when the Service does not say, in seconds.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The transport of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads Kubernetes' spelling; nothing said means TCP, an unknown word is `None`.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The lower-case word used in names, such as the `_tcp` of an SRV name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of one Service: the key of a `ServiceTable`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name, empty when the Service has only one and it is nameless.
    pub port: String,
    /// The port's transport; DNS has one name on two transports.
    pub protocol: Protocol,
}

/// Where one Service port listens and who answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The cluster address.
    pub address: Ipv4Addr,
    /// The port on the cluster address.
    pub port: u16,
    /// The port on every node's own address, for NodePort and LoadBalancer Services.
    pub node_port: Option<u16>,
    /// All ready endpoints, sorted, without doubles; empty means that connections are refused.
    pub backends: Vec<SocketAddrV4>,
    /// The ready endpoints on this node, a subset of `backends`.
    pub local_backends: Vec<SocketAddrV4>,
    /// `externalTrafficPolicy: Local`: the node port goes to `local_backends` only and keeps the client's address.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`: the cluster address goes to `local_backends` only.
    pub internal_local: bool,
    /// `sessionAffinity: ClientIP`: how many seconds a client stays with its backend.
    pub affinity_seconds: Option<u32>,
}

/// Every Service port of the cluster as one node serves it. Headless and external Services are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// By namespace, Service, port name and transport.
    pub services: BTreeMap<PortKey, VirtualService>,
}

/// The table that node `node_name` serves for these objects.
pub fn compute<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node_name: &str,
) -> ServiceTable {
    let slices = SliceIndex::new(slices);
    let mut table = ServiceTable::default();
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name)
        else {
            continue;
        };
        let Some(address) = cluster_address(service) else { continue };
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
        for port in ports.unwrap_or_default() {
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
            let Ok(number) = u16::try_from(port.port) else { continue };
            let key = PortKey {
                namespace: namespace.clone(),
                service: name.clone(),
                port: port.name.clone().unwrap_or_default(),
                protocol,
            };
            let ready = slices.ready(namespace, name, port, protocol);
            let at = (address, number);
            table.services.insert(key, virtual_service(service, port, at, &ready, node_name));
        }
    }
    table
}

fn virtual_service(
    service: &Service,
    port: &ServicePort,
    (address, number): (Ipv4Addr, u16),
    ready: &[(SocketAddrV4, Option<&str>)],
    node_name: &str,
) -> VirtualService {
    let spec = service.spec.as_ref();
    let policy_is_local =
        |policy: Option<&String>| policy.is_some_and(|policy| policy.as_str() == "Local");
    VirtualService {
        address,
        port: number,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|&p| p != 0),
        backends: distinct(ready.iter().map(|(address, _)| *address)),
        local_backends: distinct(
            ready.iter().filter(|(_, node)| *node == Some(node_name)).map(|(address, _)| *address),
        ),
        external_local: policy_is_local(spec.and_then(|s| s.external_traffic_policy.as_ref())),
        internal_local: policy_is_local(spec.and_then(|s| s.internal_traffic_policy.as_ref())),
        affinity_seconds: affinity_seconds(service),
    }
}

fn distinct(addresses: impl Iterator<Item = SocketAddrV4>) -> Vec<SocketAddrV4> {
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn affinity_seconds(service: &Service) -> Option<u32> {
    let spec = service.spec.as_ref()?;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let asked = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds);
    Some(asked.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

/// The Service's cluster address, or `None` when it is headless, external or not yet given one.
pub(crate) fn cluster_address(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.cluster_ip.as_deref()?.parse().ok()
}

/// Whether the endpoint takes new connections: ready (which is also what silence means) and not going away.
pub(crate) fn is_ready(endpoint: &Endpoint, publish_not_ready: bool) -> bool {
    let Some(conditions) = &endpoint.conditions else { return true };
    publish_not_ready
        || (conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false))
}

/// EndpointSlices by the Service they belong to.
pub(crate) struct SliceIndex<'a> {
    by_service: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a EndpointSlice>>>,
}

impl<'a> SliceIndex<'a> {
    pub(crate) fn new(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Self {
        let mut by_service: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for slice in slices {
            if let Some((namespace, service)) = owner(slice)
                && slice.address_type == "IPv4"
            {
                let of_namespace = by_service.entry(namespace).or_default();
                of_namespace.entry(service).or_default().push(slice);
            }
        }
        Self { by_service }
    }

    pub(crate) fn of(&self, namespace: &str, service: &str) -> &[&'a EndpointSlice] {
        let slices = self.by_service.get(namespace).and_then(|names| names.get(service));
        slices.map_or(&[], Vec::as_slice)
    }

    fn ready(
        &self,
        namespace: &str,
        service: &str,
        port: &ServicePort,
        protocol: Protocol,
    ) -> Vec<(SocketAddrV4, Option<&'a str>)> {
        let mut found = Vec::new();
        for slice in self.of(namespace, service) {
            let Some(number) = slice_port(slice, port.name.as_deref(), protocol) else { continue };
            for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e, false)) {
                let node = endpoint.node_name.as_deref();
                found.extend(
                    addresses(endpoint).map(|address| (SocketAddrV4::new(address, number), node)),
                );
            }
        }
        found
    }
}

/// The endpoint's IPv4 addresses; anything else in the list is passed over.
pub(crate) fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = Ipv4Addr> + '_ {
    endpoint.addresses.iter().filter_map(|address| address.parse().ok())
}

/// The port number that the slice gives to the Service port of that name and transport.
pub(crate) fn slice_port(
    slice: &EndpointSlice,
    name: Option<&str>,
    protocol: Protocol,
) -> Option<u16> {
    let wanted = name.unwrap_or_default();
    let port = slice.ports.iter().flatten().find(|port| {
        port.name.as_deref().unwrap_or_default() == wanted
            && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
    })?;
    port.port.and_then(|number| u16::try_from(number).ok()).filter(|&number| number != 0)
}

fn owner(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let namespace = slice.metadata.namespace.as_deref()?;
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((namespace, service))
}

#[cfg(test)]
mod tests;
