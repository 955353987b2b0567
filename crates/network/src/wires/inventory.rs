//! What is there: for recovery, for the choice of an address, and for leaving nothing behind.

use super::Wires;
use crate::rtnl::{address, link, route};
use crate::{Attached, HostAddress, Link, LinkKind, Result, Route};
use std::collections::BTreeSet;

impl Wires {
    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        Ok(link::list(&mut self.socket())?.into_iter().map(|found| found.link).collect())
    }

    pub(crate) fn routes(&self) -> Result<Vec<Route>> {
        route::list(&mut self.socket())
    }

    pub(crate) fn attachments(&self) -> Result<Vec<Attached>> {
        let veths = self.links()?.into_iter().filter(|link| link.kind == LinkKind::Veth);
        let ours = veths.filter_map(|link| {
            let tag = self.tag(link.alias.as_deref()?)?.to_owned();
            Some(Attached { host_ifname: link.name, tag })
        });
        Ok(ours.collect())
    }

    pub(crate) fn addresses(&self) -> Result<Vec<HostAddress>> {
        let links = self.links()?;
        let found = address::list(&mut self.socket())?;
        Ok(found.iter().filter_map(|found| host_address(&links, found)).collect())
    }

    pub(crate) fn default_address(&self) -> Result<Option<HostAddress>> {
        let links = self.links()?;
        let (routes, addresses) = {
            let mut socket = self.socket();
            (route::list(&mut socket)?, address::list(&mut socket)?)
        };
        let default = routes
            .iter()
            .filter(|route| route.destination.prefix_len() == 0)
            .min_by_key(|route| route.metric);
        let by_route = default.and_then(|route| {
            let on_link = |found: &&address::Found| found.link == route.link && found.global;
            let preferred = |found: &&address::Found| Some(found.address.addr()) == route.source;
            let mut candidates = addresses.iter().filter(on_link);
            candidates.clone().find(preferred).or_else(|| candidates.next())
        });
        let by_device = || {
            let usable = |link: &&Link| {
                link.up && !link.loopback && matches!(link.kind, LinkKind::Device | LinkKind::Veth)
            };
            let mut devices: Vec<&Link> = links.iter().filter(usable).collect();
            devices.sort_by_key(|link| link.index);
            devices.iter().find_map(|link| {
                addresses.iter().find(|found| found.link == link.index && found.global)
            })
        };
        Ok(by_route.or_else(by_device).and_then(|found| host_address(&links, found)))
    }

    /// Removes this owner's links, and what is plugged into its bridges but was not marked in time.
    pub(crate) fn cleanup(&self) -> Result<usize> {
        let links = self.links()?;
        let ours = |link: &&Link| link.alias.as_deref().and_then(|alias| self.tag(alias)).is_some();
        let bridges: BTreeSet<u32> = links
            .iter()
            .filter(ours)
            .filter(|link| link.kind == LinkKind::Bridge)
            .map(|link| link.index)
            .collect();
        let plugged = |link: &&Link| {
            link.kind == LinkKind::Veth
                && link.master.is_some_and(|bridge| bridges.contains(&bridge))
        };
        let mut removed = 0;
        for link in links.iter().filter(|link| ours(link) || plugged(link)) {
            removed += usize::from(self.detach(&link.name)?);
        }
        Ok(removed)
    }
}

fn host_address(links: &[Link], found: &address::Found) -> Option<HostAddress> {
    let link = links.iter().find(|link| link.index == found.link)?;
    Some(HostAddress { address: found.address, link: link.name.clone(), mtu: link.mtu })
}
