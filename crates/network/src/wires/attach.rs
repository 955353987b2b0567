//! A namespace plugged into a bridge: a veth pair, its far end named and addressed on a thread in there.

use super::{TAG, Wires, check_mtu, check_name};
use crate::netlink::{Family, Socket};
use crate::rtnl::link::{self, Veth, VethEnd};
use crate::rtnl::{address, route};
use crate::sysctl::Setting;
use crate::{Attachment, LinkKind, MachineLink, Netns, NetworkError, Result, mac};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// The name of the loopback device in every namespace.
const LOOPBACK: &str = "lo";

/// What an attachment of either sort needs on the host.
struct Plug<'a> {
    netns: &'a Netns,
    host: &'a str,
    inside: &'a str,
    address: Ipv4Addr,
    mtu: u32,
    bridge: &'a str,
    /// A pod's port: it may come back out of where it went in, and speaks IPv4 only.
    pod: bool,
}

impl Wires {
    pub(crate) fn attach(&self, wanted: &Attachment) -> Result<()> {
        if wanted.tag.len() > TAG {
            let problem = format!("{} bytes are more than {TAG}", wanted.tag.len());
            return Err(NetworkError::Invalid { field: "tag", problem });
        }
        let netns = Netns::open(&wanted.netns)?;
        let own = wanted.address.addr();
        let plug = Plug {
            netns: &netns,
            host: &wanted.host_ifname,
            inside: &wanted.ifname,
            address: own,
            mtu: wanted.mtu,
            bridge: &wanted.bridge,
            pod: true,
        };
        self.plug(&plug, &wanted.tag, |socket, index| {
            address::set(socket, index, Ipv4Net::from(own))?;
            route::add(socket, Ipv4Net::from(wanted.gateway), index, None)?;
            route::add(socket, Ipv4Net::default(), index, Some(wanted.gateway))
        })
    }

    pub(crate) fn attach_machine(&self, wanted: &MachineLink) -> Result<()> {
        let netns = Netns::open(&wanted.netns)?;
        let plug = Plug {
            netns: &netns,
            host: &wanted.host_ifname,
            inside: &wanted.ifname,
            address: wanted.address.addr(),
            mtu: wanted.mtu,
            bridge: &wanted.bridge,
            pod: false,
        };
        self.plug(&plug, "", |socket, index| {
            address::set(socket, index, wanted.address)?;
            match wanted.gateway {
                Some(gateway) => route::add(socket, Ipv4Net::default(), index, Some(gateway)),
                None => Ok(()),
            }
        })
    }

    /// Makes the pair and lets `address` do the rest inside; a failure leaves nothing.
    fn plug(
        &self,
        plug: &Plug<'_>,
        tag: &str,
        address: impl FnOnce(&mut Socket, u32) -> Result<()> + Send,
    ) -> Result<()> {
        check_name(plug.host)?;
        check_name(plug.inside)?;
        check_mtu(plug.mtu)?;
        self.add_pair(plug)?;
        let result = self.mark_port(plug, tag).and_then(|()| {
            plug.netns.run(|| {
                let mut socket = Socket::open(Family::Route)?;
                let loopback = link::index(&mut socket, LOOPBACK)?;
                link::set_up(&mut socket, loopback, true)?;
                let index = link::index(&mut socket, plug.inside)?;
                if plug.pod {
                    // No pod has an IPv6 address, and on a hairpin port each would find its own link-local one
                    // taken: by itself.
                    Setting::new(format!("ipv6/conf/{}/disable_ipv6", plug.inside), "1").prefer();
                }
                link::set_up(&mut socket, index, true)?;
                address(&mut socket, index)
            })?
        });
        if result.is_err()
            && let Err(error) = self.detach(plug.host)
        {
            tracing::warn!(%error, link = plug.host, "a half-made veth pair stays");
        }
        result
    }

    fn add_pair(&self, plug: &Plug<'_>) -> Result<()> {
        use std::os::fd::AsFd;
        let mut socket = self.socket();
        let bridge = link::index(&mut socket, plug.bridge)?;
        if let Some(found) = link::find(&mut socket, plug.host)? {
            if found.link.kind != LinkKind::Veth {
                let problem = format!("{:?} is there and is no veth", plug.host);
                return Err(NetworkError::Invalid { field: "host_ifname", problem });
            }
            link::delete(&mut socket, found.link.index, plug.host)?;
        }
        let inside = VethEnd { name: plug.inside, mac: mac::of(plug.address) };
        let netns = plug.netns.as_fd();
        link::add_veth(&mut socket, Veth { host: plug.host, bridge, mtu: plug.mtu, inside, netns })
    }

    fn mark_port(&self, plug: &Plug<'_>, tag: &str) -> Result<()> {
        let mut socket = self.socket();
        let port = link::index(&mut socket, plug.host)?;
        link::set_alias(&mut socket, port, &self.alias(tag))?;
        if plug.pod { link::set_hairpin(&mut socket, port) } else { Ok(()) }
    }
}
