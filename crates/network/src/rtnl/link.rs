//! Links: bridges, veth pairs, VXLAN devices, and what is common to all interfaces.

use super::{BRIDGE, DUMP, NEW};
use crate::netlink::{Answer, Message, Socket, attributes, be_u16, ipv4, ne_u32, text};
use crate::types::{Link, LinkKind};
use crate::{NetworkError, Result};
use libc::{
    IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_PROTINFO, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK,
    RTM_SETLINK,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
/// The bridge port's switch that sends a frame back out of the port it came from.
const IFLA_BRPORT_MODE: u16 = 4;
const UP: u32 = libc::IFF_UP as u32;
const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
/// Bytes of `ifinfomsg`.
const INFO: usize = 16;

/// What makes one VXLAN device another than one wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VxlanParameters {
    pub(crate) vni: u32,
    pub(crate) local: Ipv4Addr,
    pub(crate) port: u16,
}

/// A link with its kind's parameters.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) link: Link,
    pub(crate) vxlan: Option<VxlanParameters>,
}

/// One end of a veth pair to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: [u8; 6],
}

/// The pair as a whole: its host's end is up and in a bridge, its other end in another namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) inside: VethEnd<'a>,
    pub(crate) netns: BorrowedFd<'a>,
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Found>> {
    let message = Message::new(RTM_GETLINK, DUMP, &header(0, 0, 0), "list the network interfaces");
    socket.dump(message, parse)
}

/// The link of that name, if there is one.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Option<Found>> {
    let what = format!("look for the network interface {name}");
    let mut message = Message::new(RTM_GETLINK, 0, &header(0, 0, 0), what);
    message.put_text(IFLA_IFNAME, name);
    let mut found = None;
    match socket.ask(message, |answer| found = parse(answer)) {
        Ok(()) => Ok(found),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The index of a link that must be there.
pub(crate) fn index(socket: &mut Socket, name: &str) -> Result<u32> {
    match find(socket, name)? {
        Some(found) => Ok(found.link.index),
        None => Err(NetworkError::NoSuchLink(name.to_owned())),
    }
}

pub(crate) fn add_bridge(socket: &mut Socket, name: &str, mac: [u8; 6], mtu: u32) -> Result<()> {
    let mut message = add(name, format!("add the bridge {name}"));
    message.put(IFLA_ADDRESS, &mac).put_u32(IFLA_MTU, mtu);
    message.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_KIND, "bridge");
    });
    socket.request(message)
}

pub(crate) fn add_vxlan(
    socket: &mut Socket,
    name: &str,
    mac: [u8; 6],
    mtu: u32,
    vxlan: VxlanParameters,
) -> Result<()> {
    let what = format!("add the VXLAN device {name} ({}, port {})", vxlan.local, vxlan.port);
    let mut message = add(name, what);
    message.put(IFLA_ADDRESS, &mac).put_u32(IFLA_MTU, mtu);
    message.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |data| {
            data.put_u32(IFLA_VXLAN_ID, vxlan.vni).put_ipv4(IFLA_VXLAN_LOCAL, vxlan.local);
            data.put_u8(IFLA_VXLAN_LEARNING, 0).put(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
        });
    });
    socket.request(message)
}

pub(crate) fn add_veth(socket: &mut Socket, veth: Veth<'_>) -> Result<()> {
    let what = format!("add the veth pair {} and {}", veth.host, veth.inside.name);
    let mut message = add(veth.host, what);
    message.put_u32(IFLA_MTU, veth.mtu).put_u32(IFLA_MASTER, veth.bridge);
    message.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&header(0, 0, 0)).put_text(IFLA_IFNAME, veth.inside.name);
                peer.put_u32(IFLA_MTU, veth.mtu).put(IFLA_ADDRESS, &veth.inside.mac);
                peer.put(IFLA_NET_NS_FD, &veth.netns.as_raw_fd().to_ne_bytes());
            });
        });
    });
    socket.request(message)
}

pub(crate) fn set_up(socket: &mut Socket, index: u32, up: bool) -> Result<()> {
    let verb = if up { "up" } else { "down" };
    let flags = if up { UP } else { 0 };
    let what = format!("set the network interface with index {index} {verb}");
    socket.request(Message::new(RTM_NEWLINK, 0, &header(index, flags, UP), what))
}

/// Puts free text on a link.
pub(crate) fn set_alias(socket: &mut Socket, index: u32, alias: &str) -> Result<()> {
    let what = format!("mark the network interface with index {index}");
    let mut message = Message::new(RTM_SETLINK, 0, &header(index, 0, 0), what);
    message.put(IFLA_IFALIAS, alias.as_bytes());
    socket.request(message)
}

pub(crate) fn set_mac_and_mtu(
    socket: &mut Socket,
    index: u32,
    mac: [u8; 6],
    mtu: u32,
) -> Result<()> {
    let what = format!("set the MTU of the network interface with index {index} to {mtu}");
    let mut message = Message::new(RTM_SETLINK, 0, &header(index, 0, 0), what);
    message.put(IFLA_ADDRESS, &mac).put_u32(IFLA_MTU, mtu);
    socket.request(message)
}

/// Lets a bridge send a frame back where it came from: a pod that reaches itself through its service, where the
/// kernel translates addresses inside the bridge.
pub(crate) fn set_hairpin(socket: &mut Socket, index: u32) -> Result<()> {
    let mut header = header(index, 0, 0);
    header[0] = BRIDGE;
    let what = format!("set the bridge port with index {index} to hairpin mode");
    let mut message = Message::new(RTM_SETLINK, 0, &header, what);
    message.nest(IFLA_PROTINFO, |port| {
        port.put_u8(IFLA_BRPORT_MODE, 1);
    });
    socket.request(message)
}

/// Removes a link, with a veth its other end too.
pub(crate) fn delete(socket: &mut Socket, index: u32, name: &str) -> Result<()> {
    let what = format!("remove the network interface {name}");
    socket.request(Message::new(RTM_DELLINK, 0, &header(index, 0, 0), what))
}

fn add(name: &str, what: String) -> Message {
    let mut message = Message::new(RTM_NEWLINK, NEW, &header(0, UP, UP), what);
    message.put_text(IFLA_IFNAME, name);
    message
}

/// `ifinfomsg`: family, type, index, flags, and which flags to change.
fn header(index: u32, flags: u32, change: u32) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn parse(answer: Answer<'_>) -> Option<Found> {
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let (info, rest) = answer.payload.split_at_checked(INFO)?;
    let flags = ne_u32(&info[8..]);
    let mut link = Link {
        index: ne_u32(&info[4..]),
        name: String::new(),
        kind: LinkKind::Device,
        mtu: 0,
        up: flags & UP != 0,
        loopback: flags & LOOPBACK != 0,
        master: None,
        mac: None,
        alias: None,
    };
    let mut vxlan = None;
    for attribute in attributes(rest) {
        match attribute.kind {
            IFLA_IFNAME => link.name = text(attribute.value),
            IFLA_MTU => link.mtu = ne_u32(attribute.value),
            IFLA_MASTER => link.master = Some(ne_u32(attribute.value)),
            IFLA_ADDRESS => link.mac = attribute.value.try_into().ok(),
            IFLA_IFALIAS => link.alias = Some(text(attribute.value)),
            IFLA_LINKINFO => (link.kind, vxlan) = parse_kind(attribute.value),
            _ => {}
        }
    }
    Some(Found { link, vxlan })
}

fn parse_kind(info: &[u8]) -> (LinkKind, Option<VxlanParameters>) {
    let name = attributes(info).find(|a| a.kind == IFLA_INFO_KIND).map(|a| text(a.value));
    let data = attributes(info).find(|a| a.kind == IFLA_INFO_DATA).map(|a| a.value);
    match name.as_deref() {
        None => (LinkKind::Device, None),
        Some("bridge") => (LinkKind::Bridge, None),
        Some("veth") => (LinkKind::Veth, None),
        Some("vxlan") => (LinkKind::Vxlan, data.map(parse_vxlan)),
        Some(other) => (LinkKind::Other(other.to_owned()), None),
    }
}

fn parse_vxlan(data: &[u8]) -> VxlanParameters {
    let mut found = VxlanParameters { vni: 0, local: Ipv4Addr::UNSPECIFIED, port: 0 };
    for attribute in attributes(data) {
        match attribute.kind {
            IFLA_VXLAN_ID => found.vni = ne_u32(attribute.value),
            IFLA_VXLAN_LOCAL => found.local = ipv4(attribute.value).unwrap_or(found.local),
            IFLA_VXLAN_PORT => found.port = be_u16(attribute.value),
            _ => {}
        }
    }
    found
}
