//! The records of one name, and the names that the zone builder makes for a Service and its endpoints.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::Endpoint;

use crate::tables::{Protocol, SliceIndex, addresses, cluster_address, is_ready, slice_port};

/// What one name has.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Entry {
    pub addresses: Vec<Ipv4Addr>,
    pub ports: Vec<Port>,
    pub alias: Option<Name>,
}

/// One SRV record with the address of its target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Port {
    pub number: u16,
    pub target: Name,
    pub address: Ipv4Addr,
}

/// The growing tables of a zone.
pub(super) struct Records<'a> {
    pub domain: &'a str,
    pub by_key: HashMap<Box<str>, Entry>,
    pub by_address: HashMap<Ipv4Addr, Vec<Name>>,
}

impl Records<'_> {
    /// Adds every name of `service`.
    pub(super) fn add_service(&mut self, service: &Service, slices: &SliceIndex<'_>) {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name)
        else {
            return;
        };
        let key = format!("{name}.{namespace}").to_ascii_lowercase();
        // The namespace exists as a name without records.
        self.entry(&namespace.to_ascii_lowercase());
        self.entry(&key);
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            self.entry(&key).alias = absolute(target);
            return;
        }
        let endpoints = Endpoints::collect(service, slices.of(namespace, name));
        self.add_tasks(&key, &endpoints);
        match cluster_address(service) {
            Some(address) => self.add_address(&key, address, service),
            None if spec.cluster_ip.as_deref() == Some("None") => {
                self.add_headless(&key, &endpoints);
            }
            None => {}
        }
    }

    fn entry(&mut self, key: &str) -> &mut Entry {
        self.by_key.entry(key.into()).or_default()
    }

    fn full_name(&self, key: &str) -> Option<Name> {
        absolute(&format!("{key}.svc.{}", self.domain))
    }

    fn add_address(&mut self, key: &str, address: Ipv4Addr, service: &Service) {
        self.entry(key).addresses = vec![address];
        let Some(target) = self.full_name(key) else { return };
        self.by_address.entry(address).or_default().push(target.clone());
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
            let Ok(number) = u16::try_from(port.port) else { continue };
            let record = Port { number, target: target.clone(), address };
            self.add_port(key, port.name.as_deref(), protocol, record);
        }
    }

    fn add_headless(&mut self, key: &str, endpoints: &Endpoints<'_>) {
        self.entry(key).addresses = endpoints.distinct();
        for one in &endpoints.ready {
            let host = one.host();
            let below = format!("{host}.{key}");
            let Some(target) = self.full_name(&below) else { continue };
            let entry = self.entry(&below);
            if !entry.addresses.contains(&one.address) {
                entry.addresses.push(one.address);
                self.by_address.entry(one.address).or_default().push(target.clone());
            }
            for (name, protocol, number) in &one.ports {
                let record = Port { number: *number, target: target.clone(), address: one.address };
                self.add_port(key, name.as_deref(), *protocol, record);
            }
        }
    }

    /// `tasks.<service>`, unless a pod of a headless Service calls itself so.
    fn add_tasks(&mut self, key: &str, endpoints: &Endpoints<'_>) {
        let named_tasks = endpoints.ready.iter().any(|one| one.hostname == Some("tasks"));
        if !named_tasks {
            self.entry(&format!("tasks.{key}")).addresses = endpoints.distinct();
        }
    }

    fn add_port(&mut self, key: &str, name: Option<&str>, protocol: Protocol, record: Port) {
        // `_tcp.service` exists as a name even when its ports have none.
        let transport = format!("_{}.{key}", protocol.word());
        self.entry(&transport);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let below = format!("_{}.{transport}", name.to_ascii_lowercase());
            push_new(&mut self.entry(&below).ports, record.clone());
        }
        push_new(&mut self.entry(key).ports, record);
    }
}

fn push_new(ports: &mut Vec<Port>, record: Port) {
    if !ports.contains(&record) {
        ports.push(record);
    }
}

/// An absolute name, or `None` for text that is none.
pub(super) fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text.trim_end_matches('.')).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

/// The ready endpoints of one Service.
struct Endpoints<'a> {
    ready: Vec<OneEndpoint<'a>>,
}

struct OneEndpoint<'a> {
    address: Ipv4Addr,
    hostname: Option<&'a str>,
    ports: Vec<(Option<String>, Protocol, u16)>,
}

impl OneEndpoint<'_> {
    /// The endpoint's own label below the Service: its host name or its address with dashes.
    fn host(&self) -> String {
        match self.hostname {
            Some(hostname) => hostname.to_ascii_lowercase(),
            None => self.address.to_string().replace('.', "-"),
        }
    }
}

impl<'a> Endpoints<'a> {
    fn collect(
        service: &Service,
        slices: &[&'a k8s_openapi::api::discovery::v1::EndpointSlice],
    ) -> Self {
        let all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses);
        let mut ready = Vec::new();
        for slice in slices {
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|port| {
                    let protocol = Protocol::parse(port.protocol.as_deref())?;
                    let number = slice_port(slice, port.name.as_deref(), protocol)?;
                    Some((port.name.clone(), protocol, number))
                })
                .collect();
            let taken = |endpoint: &&Endpoint| is_ready(endpoint, all.unwrap_or(false));
            for endpoint in slice.endpoints.iter().flatten().filter(taken) {
                let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
                ready.extend(addresses(endpoint).map(|address| OneEndpoint {
                    address,
                    hostname,
                    ports: ports.clone(),
                }));
            }
        }
        Self { ready }
    }

    fn distinct(&self) -> Vec<Ipv4Addr> {
        let mut addresses: Vec<_> = self.ready.iter().map(|one| one.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}
