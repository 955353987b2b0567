//! The overlay: one VXLAN device that learns nothing, and for each other node a route, an ARP and a
//! forwarding entry.

use super::{Wires, check_mtu, check_name};
use crate::netlink::Socket;
use crate::rtnl::link::{self, VxlanParameters};
use crate::rtnl::neighbour::{self, Neighbour, Table};
use crate::rtnl::{address, route};
use crate::{NetworkError, Peer, PeerChange, Result, Route, Vxlan, mac};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};

/// VXLAN identifiers have 24 bits.
const VNI_END: u32 = 1 << 24;

impl Wires {
    pub(crate) fn ensure_vxlan(&self, vxlan: &Vxlan) -> Result<()> {
        check_name(&vxlan.name)?;
        check_mtu(vxlan.mtu)?;
        if vxlan.vni >= VNI_END {
            let problem = format!("{} does not fit in 24 bits", vxlan.vni);
            return Err(NetworkError::Invalid { field: "vni", problem });
        }
        let wanted = VxlanParameters { vni: vxlan.vni, local: vxlan.local, port: vxlan.port };
        let mac = mac::of(vxlan.subnet.network());
        let mut socket = self.socket();
        match link::find(&mut socket, &vxlan.name)? {
            Some(found) if found.vxlan == Some(wanted) => {
                // Setting even the same MAC makes the kernel forget the neighbours.
                if (found.link.mac, found.link.mtu) != (Some(mac), vxlan.mtu) {
                    link::set_mac_and_mtu(&mut socket, found.link.index, mac, vxlan.mtu)?;
                }
            }
            found => {
                if let Some(found) = found {
                    // None of what tells devices apart can be changed on one that exists.
                    link::delete(&mut socket, found.link.index, &vxlan.name)?;
                }
                link::add_vxlan(&mut socket, &vxlan.name, mac, vxlan.mtu, wanted)?;
            }
        }
        let index = link::index(&mut socket, &vxlan.name)?;
        link::set_alias(&mut socket, index, &self.alias(""))?;
        link::set_up(&mut socket, index, true)?;
        address::set(&mut socket, index, Ipv4Net::from(vxlan.subnet.network()))?;
        drop(socket);
        self.tune(&vxlan.name, "2")
    }

    pub(crate) fn set_peers(&self, name: &str, peers: &[Peer]) -> Result<PeerChange> {
        let wanted: BTreeMap<Ipv4Net, Peer> =
            peers.iter().map(|peer| (peer.subnet.trunc(), *peer)).collect();
        let mut socket = self.socket();
        let index = link::index(&mut socket, name)?;
        let found = Overlay::read(&mut socket, index)?;
        let removed = found.remove_others(&mut socket, index, &wanted)?;
        let mut added = 0;
        for peer in wanted.values().filter(|peer| !found.has(peer)) {
            add_peer(&mut socket, index, peer)?;
            added += 1;
        }
        Ok(PeerChange { added, removed })
    }
}

/// A peer's three entries; the route comes last, when the packets that it attracts can go on.
fn add_peer(socket: &mut Socket, index: u32, peer: &Peer) -> Result<()> {
    let [arp, forwarding] = entries(peer);
    neighbour::add(socket, Table::Forwarding, index, forwarding)?;
    neighbour::add(socket, Table::Arp, index, arp)?;
    route::add(socket, peer.subnet.trunc(), index, Some(peer.subnet.network()))
}

fn entries(peer: &Peer) -> [Neighbour; 2] {
    let mac = mac::of(peer.subnet.network());
    [Neighbour { address: peer.subnet.network(), mac }, Neighbour { address: peer.underlay, mac }]
}

/// What the kernel has of the overlay.
struct Overlay {
    routes: Vec<Route>,
    arp: Vec<Neighbour>,
    forwarding: Vec<Neighbour>,
}

impl Overlay {
    fn read(socket: &mut Socket, index: u32) -> Result<Self> {
        let mut routes = route::list(socket)?;
        routes.retain(|route| route.link == index && route.gateway.is_some());
        Ok(Self {
            routes,
            arp: neighbour::list(socket, Table::Arp, index)?,
            forwarding: neighbour::list(socket, Table::Forwarding, index)?,
        })
    }

    fn has(&self, peer: &Peer) -> bool {
        let [arp, forwarding] = entries(peer);
        let route = |route: &Route| {
            route.destination == peer.subnet.trunc() && route.gateway == Some(peer.subnet.network())
        };
        self.routes.iter().any(route)
            && self.arp.contains(&arp)
            && self.forwarding.contains(&forwarding)
    }

    /// Removes what belongs to no wanted peer; answers how many peers that were.
    fn remove_others(
        &self,
        socket: &mut Socket,
        index: u32,
        wanted: &BTreeMap<Ipv4Net, Peer>,
    ) -> Result<usize> {
        let mut gone = BTreeSet::new();
        for route in self.routes.iter().filter(|route| !wanted.contains_key(&route.destination)) {
            route::delete(socket, route.destination, index)?;
            gone.insert(mac::of(route.destination.network()));
        }
        let macs: BTreeSet<[u8; 6]> =
            wanted.values().map(|peer| mac::of(peer.subnet.network())).collect();
        for (table, entries) in [(Table::Arp, &self.arp), (Table::Forwarding, &self.forwarding)] {
            for entry in entries.iter().filter(|entry| !macs.contains(&entry.mac)) {
                neighbour::delete(socket, table, index, *entry)?;
                gone.insert(entry.mac);
            }
        }
        Ok(gone.len())
    }
}
