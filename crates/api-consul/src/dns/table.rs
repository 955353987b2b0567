//! All that DNS can answer, computed from the catalog once and looked up by name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData};

use super::name::{Zone, host_name};
use crate::catalog::record::{Node, Service, Status, Texts, Weights};
use crate::catalog::state::{Catalog, Entry, worst};
use crate::permit::{Permit, Wish};
use crate::prepared::Query;

/// The most bytes of one text in a TXT record.
const TEXT_BYTES: usize = 255;
/// A key of a node's metadata that begins so has its value shown alone.
const BARE: &str = "rfc1035-";

/// What DNS can answer. Never changed; a new one is put in its place.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Nodes, services and queries by their names in lower case.
    pub(super) nodes: HashMap<String, Arc<NodeNames>>,
    pub(super) services: HashMap<String, Selection>,
    pub(super) queries: HashMap<String, Arc<Selection>>,
    pub(super) by_address: HashMap<IpAddr, Name>,
    /// The nodes that are servers.
    pub(super) servers: Vec<Arc<NodeNames>>,
}

/// A node.
#[derive(Debug)]
pub(super) struct NodeNames {
    /// None if the node's name can be in no name.
    pub(super) full: Option<Name>,
    pub(super) place: Place,
    /// Its metadata.
    pub(super) texts: Vec<RData>,
}

/// Where something is, by who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
    /// For who takes either.
    pub(super) any: Option<IpAddr>,
    /// The host that it is on, if no address is known.
    pub(super) alias: Option<Name>,
}

/// Instances of a service.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) instances: Vec<Instance>,
    pub(super) ttl_seconds: u32,
    /// They are in the order in which they are to be told; otherwise each time in another one.
    pub(super) is_sorted: bool,
}

/// An instance that is not critical.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) place: Place,
    pub(super) port: u16,
    pub(super) weight: u16,
    /// What SRV records name.
    pub(super) target: Name,
    /// In lower case.
    pub(super) tags: Vec<String>,
    pub(super) node: Arc<NodeNames>,
}

/// What a table is made from.
pub(super) struct Sources<'s> {
    pub(super) zone: &'s Zone,
    pub(super) catalog: &'s Catalog,
    pub(super) queries: &'s [Query],
    pub(super) permit: &'s dyn Permit,
    /// The names of the servers.
    pub(super) servers: &'s [String],
    /// The name of the node that answers.
    pub(super) own_node: &'s str,
}

impl Table {
    pub(super) fn of(sources: &Sources<'_>) -> Table {
        let mut table = Table::default();
        let seen = |entry: &&Entry| sources.permit.allows(Wish::NodeRead(&entry.node.name));
        for entry in sources.catalog.nodes().filter(seen) {
            let node = Arc::new(NodeNames::of(&entry.node, sources.zone));
            if let (Ok(address), Some(full)) = (entry.node.address.parse(), &node.full) {
                table.by_address.entry(address).or_insert_with(|| full.clone());
            }
            table.nodes.insert(entry.node.name.to_lowercase(), node);
        }
        for entry in sources.catalog.nodes().filter(seen) {
            for service in entry.services.values() {
                if sources.permit.allows(Wish::ServiceRead(&service.name)) {
                    table.add(entry, service, sources.zone);
                }
            }
        }
        for query in sources.queries {
            let selection = Arc::new(table.selection(query, sources));
            table.queries.insert(query.id_text(), Arc::clone(&selection));
            table.queries.insert(query.name().to_lowercase(), selection);
        }
        let servers = sources.servers.iter();
        table.servers =
            servers.filter_map(|name| table.nodes.get(&name.to_lowercase()).cloned()).collect();
        table
    }

    fn add(&mut self, entry: &Entry, service: &Service, zone: &Zone) {
        if let Ok(address) = service.address.parse::<IpAddr>()
            && let Some(name) = zone.full(&service.name, "service")
        {
            self.by_address.entry(address).or_insert(name);
        }
        let health = worst(entry.checks_of(service));
        if health == Status::Critical {
            return;
        }
        if let Some(instance) = self.instance(entry, service, health, zone) {
            let of_name = self.services.entry(service.name.to_lowercase()).or_default();
            of_name.instances.push(instance);
        }
    }

    /// None for one that nobody could be told how to reach.
    fn instance(
        &self,
        entry: &Entry,
        service: &Service,
        health: Status,
        zone: &Zone,
    ) -> Option<Instance> {
        let node = self.nodes.get(&entry.node.name.to_lowercase())?;
        let has_own = !service.address.is_empty() || !service.tagged_addresses.is_empty();
        let place = match has_own {
            true => {
                let address = match service.address.as_str() {
                    "" => &entry.node.address,
                    address => address,
                };
                Place::of(address, |tag| Some(service.tagged_addresses.get(tag)?.address.as_str()))
            }
            false => node.place.clone(),
        };
        let is_at_node = |address: IpAddr| entry.node.address.parse() == Ok(address);
        let target = match (place.any, &node.full) {
            (Some(address), Some(full)) if !has_own && is_at_node(address) => full.clone(),
            (Some(address), _) => zone.of_address(address)?,
            (None, _) => place.alias.clone()?,
        };
        Some(Instance {
            port: service.port,
            weight: weight(service.weights, health),
            target,
            tags: service.tags.iter().map(|tag| tag.to_lowercase()).collect(),
            node: Arc::clone(node),
            place,
        })
    }

    fn selection(&self, query: &Query, sources: &Sources<'_>) -> Selection {
        let found = query.instances(sources.catalog, sources.permit, sources.own_node);
        let instances = found.into_iter().filter_map(|(entry, service)| {
            self.instance(entry, service, worst(entry.checks_of(service)), sources.zone)
        });
        Selection {
            instances: instances.collect(),
            ttl_seconds: query.ttl_seconds(),
            is_sorted: query.is_near(),
        }
    }
}

impl NodeNames {
    fn of(node: &Node, zone: &Zone) -> NodeNames {
        NodeNames {
            full: zone.full(&node.name, "node"),
            place: Place::of(&node.address, |tag| Some(node.tagged_addresses.get(tag)?.as_str())),
            texts: texts(&node.meta),
        }
    }
}

impl Place {
    pub(super) fn at(address: IpAddr) -> Place {
        let (v4, v6) = match address {
            IpAddr::V4(address) => (Some(address), None),
            IpAddr::V6(address) => (None, Some(address)),
        };
        Place { v4, v6, any: Some(address), alias: None }
    }

    /// An address for whoever asks, unless there is a tagged one for his family.
    fn of<'a>(address: &str, tagged: impl Fn(&str) -> Option<&'a str>) -> Place {
        let own = address.parse().map(Place::at).unwrap_or_default();
        let tagged_v4: Option<Ipv4Addr> = tagged("lan_ipv4").and_then(|text| text.parse().ok());
        let tagged_v6: Option<Ipv6Addr> = tagged("lan_ipv6").and_then(|text| text.parse().ok());
        // The order is Consul's.
        let any = tagged_v6.map(IpAddr::V6).or(tagged_v4.map(IpAddr::V4)).or(own.any);
        Place {
            v4: tagged_v4.or(own.v4),
            v6: tagged_v6.or(own.v6),
            any,
            alias: if any.is_none() { host_name(address) } else { None },
        }
    }
}

/// None has less than one: who is in the answer shall be found by it.
fn weight(weights: Weights, health: Status) -> u16 {
    let weight = match health {
        Status::Warning => weights.warning,
        Status::Passing | Status::Critical => weights.passing,
    };
    u16::try_from(weight).unwrap_or(u16::MAX).max(1)
}

/// One record for each key, of as many texts as it takes.
fn texts(meta: &Texts) -> Vec<RData> {
    let shown = meta.iter().map(|(key, value)| match key.to_lowercase().starts_with(BARE) {
        true => value.clone(),
        false => format!("{key}={value}"),
    });
    let record = |text: String| {
        let parts: Vec<&[u8]> = match text.is_empty() {
            true => vec![b""],
            false => text.as_bytes().chunks(TEXT_BYTES).collect(),
        };
        RData::TXT(TXT::from_bytes(parts))
    };
    shown.map(record).collect()
}
