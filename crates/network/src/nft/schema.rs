//! The fixed part of the services' table: its sets, its hooks, and the few chains between them.
//!
//! ```text
//! prerouting, output (nat)   → dispatch: destinations → service-…
//!                                        own address → host ports, node-ports → service-… or external-…
//! postrouting (nat)          marked, hairpin, or a pod's packet that leaves the cluster: masquerade
//! forward, input, output     → refuse: a service without backends, an address of no service
//! ```

use super::batch::{Batch, Hook, SetSpec, Values};
use super::element::Field;
use super::rule::{End, KEY, SetRef, TARGET, Verdict};
use super::table::ServiceTable;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// address . protocol . port of a service → its chain.
pub(super) const DESTINATIONS: &str = "services";
/// protocol . port on this node → a chain.
pub(super) const NODE_PORTS: &str = "node-ports";
/// protocol . port on this node → a pod's address . port.
pub(super) const HOST_PORTS: &str = "host-ports";
/// The same on one of the node's addresses.
pub(super) const HOST_PORTS_AT: &str = "host-ports-at";
/// backend . backend: a connection that comes from where it was sent.
pub(super) const HAIRPIN: &str = "hairpin";
/// Services without backends.
pub(super) const REFUSED: &str = "refused";
/// Their node ports.
pub(super) const REFUSED_PORTS: &str = "refused-ports";
/// Node ports that are for backends on this node, where there are none.
pub(super) const DROPPED_PORTS: &str = "dropped-ports";

const PREROUTING: &str = "nat-prerouting";
const OUTPUT: &str = "nat-output";
const POSTROUTING: &str = "nat-postrouting";
const FILTERS: [(&str, i32); 3] = [
    ("filter-forward", libc::NF_INET_FORWARD),
    ("filter-input", libc::NF_INET_LOCAL_IN),
    ("filter-output", libc::NF_INET_LOCAL_OUT),
];
const DISPATCH: &str = "dispatch";
const OWN_ADDRESS: &str = "own-address";
const REFUSE: &str = "refuse";

const DESTINATION: &[Field] = &[Field::Address, Field::Protocol, Field::Port];
const LOCAL: &[Field] = &[Field::Protocol, Field::Port];

/// Loopback's addresses never lead to a pod: its answer could not come back without `route_localnet`.
fn loopback() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)
}

/// Adds the fixed part to an empty table.
pub(super) fn add(batch: &mut Batch, table: &ServiceTable) {
    add_sets(batch);
    for chain in [DISPATCH, OWN_ADDRESS, REFUSE] {
        batch.add_chain(chain);
    }
    add_dispatch(batch);
    add_refusal(batch, table.service_cidr);
    add_masquerade(batch, table.cluster_cidr);
    add_hooks(batch);
}

fn add_sets(batch: &mut Batch) {
    let sets = [
        (DESTINATIONS, DESTINATION, Values::Verdicts),
        (NODE_PORTS, LOCAL, Values::Verdicts),
        (HOST_PORTS, LOCAL, Values::Targets),
        (HOST_PORTS_AT, DESTINATION, Values::Targets),
        (HAIRPIN, &[Field::Address, Field::Address], Values::None),
        (REFUSED, DESTINATION, Values::None),
        (REFUSED_PORTS, LOCAL, Values::None),
        (DROPPED_PORTS, LOCAL, Values::None),
    ];
    for (name, key, values) in sets {
        batch.add_set(SetSpec { name, key, values, timeout: None });
    }
}

fn add_dispatch(batch: &mut Batch) {
    batch.add_rule(DISPATCH, |rule| {
        rule.destination(KEY).dispatch(SetRef::Named(DESTINATIONS), KEY);
    });
    batch.add_rule(DISPATCH, |rule| {
        rule.if_own(End::Destination)
            .if_in(End::Destination, loopback(), false)
            .verdict(Verdict::Goto(OWN_ADDRESS));
    });
    batch.add_rule(OWN_ADDRESS, |rule| {
        rule.destination(KEY).lookup(SetRef::Named(HOST_PORTS_AT), KEY, TARGET).send_to(TARGET);
    });
    batch.add_rule(OWN_ADDRESS, |rule| {
        rule.local(KEY).lookup(SetRef::Named(HOST_PORTS), KEY, TARGET).send_to(TARGET);
    });
    batch.add_rule(OWN_ADDRESS, |rule| {
        rule.local(KEY).dispatch(SetRef::Named(NODE_PORTS), KEY);
    });
}

fn add_refusal(batch: &mut Batch, service_cidr: Option<Ipv4Net>) {
    batch.add_rule(REFUSE, |rule| {
        rule.destination(KEY).if_member(SetRef::Named(REFUSED), KEY).reject();
    });
    if let Some(range) = service_cidr {
        batch.add_rule(REFUSE, |rule| {
            rule.if_in(End::Destination, range, true).reject();
        });
    }
    for (set, drop) in [(REFUSED_PORTS, false), (DROPPED_PORTS, true)] {
        batch.add_rule(REFUSE, |rule| {
            rule.local(KEY).if_member(SetRef::Named(set), KEY).if_own(End::Destination).if_in(
                End::Destination,
                loopback(),
                false,
            );
            if drop {
                rule.verdict(Verdict::Drop);
            } else {
                rule.reject();
            }
        });
    }
}

fn add_masquerade(batch: &mut Batch, cluster: Ipv4Net) {
    batch.add_hook(Hook {
        chain: POSTROUTING,
        kind: "nat",
        number: libc::NF_INET_POST_ROUTING,
        priority: libc::NF_IP_PRI_NAT_SRC,
    });
    batch.add_rule(POSTROUTING, |rule| {
        rule.if_by_loopback().verdict(Verdict::Accept);
    });
    batch.add_rule(POSTROUTING, |rule| {
        rule.if_marked().masquerade();
    });
    batch.add_rule(POSTROUTING, |rule| {
        rule.address_pair(KEY).if_member(SetRef::Named(HAIRPIN), KEY).masquerade();
    });
    batch.add_rule(POSTROUTING, |rule| {
        rule.if_in(End::Source, cluster, true).if_in(End::Destination, cluster, false).masquerade();
    });
}

fn add_hooks(batch: &mut Batch) {
    let nat = [(PREROUTING, libc::NF_INET_PRE_ROUTING), (OUTPUT, libc::NF_INET_LOCAL_OUT)];
    for (chain, number) in nat {
        batch.add_hook(Hook { chain, kind: "nat", number, priority: libc::NF_IP_PRI_NAT_DST });
        batch.add_rule(chain, |rule| {
            rule.verdict(Verdict::Jump(DISPATCH));
        });
    }
    for (chain, number) in FILTERS {
        batch.add_hook(Hook { chain, kind: "filter", number, priority: libc::NF_IP_PRI_FILTER });
        batch.add_rule(chain, |rule| {
            rule.if_new().verdict(Verdict::Jump(REFUSE));
        });
    }
}
