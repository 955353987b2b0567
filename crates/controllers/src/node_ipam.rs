//! Every node gets a part of the cluster's address range for its pods.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use pontoon_model::resource;
use serde_json::json;

use crate::cache::{Cache, Change};
use crate::edit;
use crate::key::Key;
use crate::plan::{EventType, Plan, Sub};
use crate::pod_state;

/// All nodes are seen to together: two plans for two nodes could choose the same range.
pub(crate) fn keys(change: &Change, _cache: &Cache) -> Vec<Key> {
    let lacks =
        change.new.as_ref().and_then(|e| e.get::<Node>()).is_some_and(|n| cidr(n).is_none());
    // A range that has become free may be what another node waits for.
    let gone = change.new.is_none();
    if lacks || gone { vec![Key::new(resource::NODES, None, "")] } else { Vec::new() }
}

/// Gives a range to each node that has none.
pub(crate) fn reconcile(_now: Timestamp, _key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let waiting: Vec<&Node> = cache
        .list::<Node>(None)
        .map(AsRef::as_ref)
        .filter(|n| cidr(n).is_none() && n.metadata.deletion_timestamp.is_none())
        .collect();
    if waiting.is_empty() {
        return plan;
    }
    let taken = taken(cache);
    let settings = &cache.settings;
    let subnets = settings.cluster_cidr.subnets(settings.node_prefix);
    let mut free = subnets.into_iter().flatten().filter(|s| !taken.contains(s));
    for node in waiting {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let key = Key::new(resource::NODES, None, name);
        if let Some(range) = free.next() {
            let range = range.to_string();
            let patch = json!({"spec": {"podCIDR": range, "podCIDRs": [range]}});
            plan.push(edit::patch(&key, &node.metadata, Sub::Whole, patch));
        } else {
            let message = format!("No part of {} is left for the node", settings.cluster_cidr);
            let regarding = edit::reference(cache, &key);
            plan.event(&regarding, EventType::Warning, "CIDRNotAvailable", message);
        }
    }
    plan
}

fn cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|c| !c.is_empty())
}

/// The ranges that nodes have, and those where pods of deleted nodes still have addresses.
fn taken(cache: &Cache) -> BTreeSet<Ipv4Net> {
    let prefix = cache.settings.node_prefix;
    let range = |address: Ipv4Addr| Ipv4Net::new(address, prefix).ok().map(|n| n.trunc());
    let nodes = cache.list::<Node>(None).filter_map(|n| cidr(n)?.parse::<Ipv4Net>().ok());
    let mut taken: BTreeSet<Ipv4Net> = nodes.filter_map(|n| range(n.network())).collect();
    for node in cache.nodes_with_pods().filter(|n| cache.node(n).is_none()) {
        let addresses = cache
            .pods_on(node)
            .filter_map(|p: &std::sync::Arc<Pod>| pod_state::address(p)?.parse::<Ipv4Addr>().ok());
        taken.extend(addresses.filter_map(range));
    }
    taken
}
