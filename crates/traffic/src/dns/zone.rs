//! The zone: every name of the cluster as one immutable table, built from objects and looked up by key.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use hickory_proto::rr::Name;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::question::{Question, classify, lower_case};
use super::records::{Entry, Records, absolute};
use crate::tables::SliceIndex;

/// The objects a zone is made of. Pods need only be those that the node knows of; others are found by their
/// node's address range.
pub struct ZoneSource<'a> {
    /// The cluster's domain without a dot at its end, such as `cluster.local`.
    pub domain: &'a str,
    /// Ranges whose addresses are the cluster's own besides the nodes' pod ranges: the service range.
    pub ranges: &'a [Ipv4Net],
    /// All Services.
    pub services: Vec<&'a Service>,
    /// All EndpointSlices.
    pub slices: Vec<&'a EndpointSlice>,
    /// Pods known here.
    pub pods: Vec<&'a Pod>,
    /// All Nodes, for their pod ranges.
    pub nodes: Vec<&'a Node>,
}

/// All names of the cluster at one moment. Never changed; a new one is put in its place.
#[derive(Debug)]
pub struct Zone {
    domain: String,
    apex: Name,
    by_key: HashMap<Box<str>, Entry>,
    by_address: HashMap<Ipv4Addr, Vec<Name>>,
    pods: HashSet<(Ipv4Addr, Box<str>)>,
    ranges: Vec<Ipv4Net>,
}

/// What the zone has for a name.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// The name exists, with these records (perhaps none).
    Name(&'a Entry),
    /// A pod's address.
    Pod(Ipv4Addr),
    /// The names of an address of the cluster.
    Address(&'a [Name]),
    /// The name exists and has no records of its own.
    Empty,
    /// The name is ours to deny.
    Nothing,
    /// Not ours.
    Foreign,
}

impl Zone {
    /// A zone with nothing but its domain: what a server starts with. Text that is no domain name gives a zone
    /// for which every name is foreign.
    pub fn empty(domain: &str) -> Self {
        Self::build(&ZoneSource {
            domain,
            ranges: &[],
            services: Vec::new(),
            slices: Vec::new(),
            pods: Vec::new(),
            nodes: Vec::new(),
        })
    }

    /// The zone that these objects make. Objects with impossible names or addresses add nothing.
    pub fn build(source: &ZoneSource<'_>) -> Self {
        let domain = source.domain.trim_end_matches('.').to_ascii_lowercase();
        let mut records =
            Records { domain: &domain, by_key: HashMap::new(), by_address: HashMap::new() };
        let slices = SliceIndex::new(source.slices.iter().copied());
        for service in &source.services {
            records.add_service(service, &slices);
        }
        let Records { by_key, by_address, .. } = records;
        Self {
            apex: absolute(&domain).unwrap_or_else(Name::root),
            by_key,
            by_address,
            pods: source.pods.iter().copied().flat_map(pod_addresses).collect(),
            ranges: source
                .nodes
                .iter()
                .copied()
                .flat_map(pod_ranges)
                .chain(source.ranges.iter().copied())
                .collect(),
            domain,
        }
    }

    /// The domain's own name, the owner of its SOA record.
    pub(super) fn apex(&self) -> &Name {
        &self.apex
    }

    pub(super) fn find(&self, name: &Name) -> Found<'_> {
        let Some(text) = lower_case(name) else {
            return if self.apex.zone_of(name) { Found::Nothing } else { Found::Foreign };
        };
        match classify(&text, &self.domain) {
            Question::Ours(key) => self.by_key.get(key).map_or(Found::Nothing, Found::Name),
            Question::Perhaps(key) => self.by_key.get(key).map_or(Found::Foreign, Found::Name),
            Question::Pod { address, namespace } if self.has_pod(address, namespace) => {
                Found::Pod(address)
            }
            Question::Pod { .. } | Question::Nowhere => Found::Nothing,
            Question::Apex => Found::Empty,
            Question::Reverse(address) => match self.by_address.get(&address) {
                Some(names) => Found::Address(names),
                None if self.ranges.iter().any(|range| range.contains(&address)) => Found::Nothing,
                None => Found::Foreign,
            },
            Question::Foreign => Found::Foreign,
        }
    }

    /// A pod that this node does not know is believed when its address is one that a node could have given it, as
    /// CoreDNS does with `pods insecure`.
    fn has_pod(&self, address: Ipv4Addr, namespace: &str) -> bool {
        self.pods.contains(&(address, namespace.into()))
            || self.ranges.iter().any(|range| range.contains(&address))
    }
}

fn pod_addresses(pod: &Pod) -> Vec<(Ipv4Addr, Box<str>)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(status) = &pod.status else { return Vec::new() };
    status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| Some((ip.parse().ok()?, namespace.into())))
        .collect()
}

fn pod_ranges(node: &Node) -> Vec<Ipv4Net> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().map(String::as_str).chain(spec.pod_cidr.as_deref());
    let mut ranges: Vec<Ipv4Net> = all.filter_map(|range| range.parse().ok()).collect();
    ranges.dedup();
    ranges
}
